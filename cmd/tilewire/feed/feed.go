// Package feed cuts a byte stream into messages and publishes each.
package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/httpsrv/ws"
)

// Framing says where a message ends in the input.
type Framing string

// The framings.
const (
	Line  Framing = "line"  // at LF; a CR before it goes too
	Nul   Framing = "nul"   // at a zero byte
	Len32 Framing = "len32" // after as many bytes as the 4 before it say (big endian)
)

var (
	// ErrFraming: the framing is none of line, nul and len32.
	ErrFraming = errors.New("unknown framing")
	// ErrTruncated: the input ended inside a len32 message; nothing of it was published.
	ErrTruncated = errors.New("input ended inside a message")
)

// ParseFraming returns the framing called s, or ErrFraming.
func ParseFraming(s string) (Framing, error) {
	switch f := Framing(s); f {
	case Line, Nul, Len32:
		return f, nil
	}
	return "", fmt.Errorf("%w %q: one of line, nul, len32", ErrFraming, s)
}

// Stats count what went through a Feeder.
type Stats struct {
	Messages uint64 // published
	Bytes    uint64 // of them
	Binary   uint64 // of them not UTF-8, and sent as binary messages
	TooLarge uint64 // larger than the ring, and not sent
	Largest  uint64 // bytes of the largest of those
	Lost     uint64 // not sent for another reason (ring busy beyond the bound)
}

// Feeder is an io.Writer that stages what is written to it in the ring, and
// publishes whenever a message is whole. A message that does not fit the ring
// is counted and left out whole, never cut.
type Feeder struct {
	st    stage
	frame Framing
	Stats Stats

	utf8 ws.UTF8
	text bool   // valid so far
	size uint64 // bytes of the message in progress
	cr   bool   // a CR was held back: it may belong to the line's end
	head [4]byte
	have int    // bytes of head
	left uint64 // bytes of a len32 message to come
}

// stage is httpsrv.Stage, as far as it is used here; tests keep what is published.
type stage interface {
	io.Writer
	Err() error
	Unstage()
	Cork()
	Uncork()
	WsBroadcast(op byte) (httpsrv.Seq, error)
}

// New returns a Feeder that publishes through st.
func New(st *httpsrv.Stage, f Framing) *Feeder {
	return &Feeder{st: st, frame: f, text: true}
}

// Write takes the next bytes of the stream. It never fails.
func (f *Feeder) Write(p []byte) (int, error) {
	n := len(p)
	f.st.Cork() // what came at once is delivered at once
	defer f.st.Uncork()
	switch f.frame {
	case Len32:
		f.len32(p)
	case Nul:
		f.split(p, 0)
	default:
		f.split(p, '\n')
	}
	return n, nil
}

func (f *Feeder) split(p []byte, end byte) {
	for {
		i := bytes.IndexByte(p, end)
		if i < 0 {
			f.part(p)
			return
		}
		f.part(p[:i])
		f.cr = false // the CR before the end
		f.publish()
		p = p[i+1:]
	}
}

// part stages bytes of a message, holding a CR at the end of a line back.
func (f *Feeder) part(p []byte) {
	if len(p) == 0 {
		return
	}
	if f.cr {
		f.cr = false
		f.stage([]byte{'\r'})
	}
	if f.frame == Line && p[len(p)-1] == '\r' {
		f.cr = true
		p = p[:len(p)-1]
	}
	f.stage(p)
}

func (f *Feeder) len32(p []byte) {
	for len(p) > 0 {
		if f.have < 4 {
			n := copy(f.head[f.have:], p)
			f.have += n
			p = p[n:]
			if f.have < 4 {
				return
			}
			f.left = uint64(binary.BigEndian.Uint32(f.head[:]))
		}
		n := min(f.left, uint64(len(p)))
		f.stage(p[:n])
		p = p[n:]
		if f.left -= n; f.left == 0 {
			f.have = 0
			f.publish()
		}
	}
}

func (f *Feeder) stage(p []byte) {
	if len(p) == 0 {
		return
	}
	f.size += uint64(len(p))
	if f.text = f.text && f.utf8.Write(p); f.st.Err() == nil {
		_, _ = f.st.Write(p) // the error is sticky and told by the send
	}
}

func (f *Feeder) publish() {
	op := byte(httpsrv.OpText)
	if !f.text || !f.utf8.Done() {
		op = httpsrv.OpBinary
	}
	switch _, err := f.st.WsBroadcast(op); {
	case err == nil:
		f.Stats.Messages++
		f.Stats.Bytes += f.size
		if op == httpsrv.OpBinary {
			f.Stats.Binary++
		}
	case errors.Is(err, httpsrv.ErrTooLarge):
		f.Stats.TooLarge++
		f.Stats.Largest = max(f.Stats.Largest, f.size)
	default:
		f.Stats.Lost++
	}
	f.utf8.Reset()
	f.text, f.size = true, 0
}

// Close publishes what the end of input left without an end, as grep and wc
// count a last line without LF. ErrTruncated: a len32 message was not whole.
func (f *Feeder) Close() error {
	if f.frame == Len32 {
		if f.have > 0 {
			f.st.Unstage()
			return fmt.Errorf("%w: %d of its bytes are missing", ErrTruncated, max(f.left, uint64(4-f.have)))
		}
		return nil
	}
	if f.cr {
		f.cr = false
		f.stage([]byte{'\r'})
	}
	if f.size > 0 {
		f.publish()
	}
	return nil
}

var _ io.Writer = (*Feeder)(nil)
