package httpsrv

import (
	"fmt"

	"github.com/tilewire/tilewire/httpsrv/ws"
	"github.com/tilewire/tilewire/shmem"
)

// Follower reads the messages of a producers' ring in any process, without a
// role: it copies each one and looks afterwards whether its place was reused
// meanwhile. It holds nobody up; who reads too slowly loses messages, and is told
// how many. It needs no more than read-only memory, and belongs to one goroutine.
type Follower struct {
	r   *ring
	seq uint64 // last one read, or passed by
	m   message
	buf []byte
}

// Message is a message of a ring.
type Message struct {
	Seq  Seq
	Op   byte   // OpText or OpBinary
	Data []byte // valid until the next call
	Time int64  // CLOCK_MONOTONIC ns of publishing
}

// Follow returns a reader of a producers' ring that begins behind what is
// published now. ErrParams for a ring that is not there.
func (s *Server) Follow(ring int) (*Follower, error) {
	if ring < 0 || ring >= len(s.rings) {
		return nil, fmt.Errorf("%w: ring %d of %d", ErrParams, ring, len(s.rings))
	}
	r := s.rings[ring]
	return &Follower{r: r, seq: r.hdr.head.Load()}, nil
}

// FollowFrom returns a reader that begins with seq, or with the oldest message that
// is left, of which Next then says how many are lost; with what comes next if seq
// is beyond that. ErrParams as of Follow.
func (s *Server) FollowFrom(ring int, seq Seq) (*Follower, error) {
	f, err := s.Follow(ring)
	if err == nil && seq.Diff(Seq(f.seq)+1) < 0 {
		f.seq = uint64(seq) - 1
		if start := f.r.hdr.seq0; Seq(f.seq).Diff(Seq(start)) < 0 {
			f.seq = start
		}
	}
	return f, err
}

// FollowLast returns a reader that begins with the last n messages, or as many of
// them as are left. ErrParams as of Follow.
func (s *Server) FollowLast(ring int, n uint64) (*Follower, error) {
	f, err := s.Follow(ring)
	if err != nil || n == 0 {
		return f, err
	}
	tail, _ := s.RingTail(ring)
	have := uint64(max(Seq(f.seq).Diff(tail)+1, 0))
	f.seq -= min(n, have)
	return f, nil
}

// Next returns the next broadcast message, if there is one, and how many numbers
// went by unread before it because their place was reused; messages to single
// clients have a number as well, and are passed over. Its buffer grows to the
// largest message met.
func (f *Follower) Next() (m Message, lost uint64, ok bool) {
	for {
		head := f.r.hdr.head.Load()
		if head == f.seq {
			return Message{}, lost, false
		}
		if n := head - f.seq; n > f.r.mask { // no descriptor of these can be left
			lost += n - f.r.mask/2
			f.seq = head - f.r.mask/2
		}
		next := f.seq + 1
		f.seq = next
		if !f.r.read(next, &f.m) {
			lost++
			continue
		}
		if f.m.area != areaBroadcast {
			continue
		}
		if !f.take() {
			lost++
			continue
		}
		var h ws.Header
		if !ws.ParseHeader(f.buf, &h) || uint64(h.HdrLen)+h.Len != uint64(len(f.buf)) {
			lost++
			continue
		}
		return Message{Seq: Seq(next), Op: f.m.op, Data: f.buf[h.HdrLen:], Time: f.m.time}, lost, true
	}
}

// take copies the frame that f.m describes, and reports whether it was there
// all the time: a producer raises its limit above a message before it
// overwrites the first byte of it (docs/reclaim.md).
func (f *Follower) take() bool {
	data, n := f.r.data[areaBroadcast], uint64(f.m.len)
	at := f.r.phys(areaBroadcast, f.m.off)
	if limit := &f.r.hdr.limit[areaBroadcast]; at+n > uint64(len(data)) || limit.Load() > f.m.off {
		return false
	}
	if uint64(cap(f.buf)) < n {
		f.buf = make([]byte, n)
	}
	f.buf = f.buf[:n]
	shmem.SpecCopy(f.buf, data[at:at+n])
	return f.r.hdr.limit[areaBroadcast].Load() <= f.m.off
}
