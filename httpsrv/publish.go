package httpsrv

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// Cork holds the doorbells until Uncork: for a burst of messages, of which the
// first would else wake a tile that sleeps, and, where producer and tile share a
// CPU, let it send that one alone to everybody. Tiles that are awake see each
// message at once all the same, and one that sleeps is not left behind by more
// than a sixteenth of the ring.
func (s *Stage) Cork() { s.corked = true }

// Uncork rings the doorbells if anything was published since Cork.
func (s *Stage) Uncork() {
	s.corked = false
	if s.heldMsgs > 0 {
		s.ring()
	}
}

func (s *Stage) ring() {
	s.held, s.heldMsgs = 0, 0
	for i := range s.bells {
		s.bells[i].ring()
	}
}

// Opcodes of descriptors that are no messages to a client.
const (
	opBody     = 0xff // a response body for one connection; or
	opResponse = 0xfe // an application's answer to the tile (answer.go): a response,
	opUpgrade  = 0xfd // that the connection becomes a WebSocket,
	opClose    = 0xfc // its end
)

// WsBroadcast publishes the staged message to every client that follows the
// ring, as a text or binary message, and returns its sequence number. On an
// error (the staging error, ErrOpcode, ErrNoArea, ErrBusy) the message is
// dropped and the stage is clear again.
func (s *Stage) WsBroadcast(op byte) (Seq, error) {
	if err := s.ready(op); err != nil {
		return 0, err
	}
	if s.area != areaBroadcast {
		s.reset()
		return 0, fmt.Errorf("%w: broadcast on a reply ring", ErrNoArea)
	}
	off, n := s.frame(op)
	return s.publish(areaBroadcast, off, n, 0, op)
}

// WsSend publishes the staged message to one client. It keeps its order with
// the broadcasts of this ring, and costs the other clients nothing. Errors are
// those of WsBroadcast, and ErrConn for an id that was never given out.
func (s *Stage) WsSend(to ConnID, op byte) (Seq, error) {
	if err := s.ready(op); err != nil {
		return 0, err
	}
	if to == 0 {
		s.reset()
		return 0, fmt.Errorf("%w: %v", ErrConn, to)
	}
	if s.area != areaSide {
		if err := s.toSide(); err != nil {
			s.reset()
			return 0, err
		}
	}
	off, n := s.frame(op)
	return s.publish(areaSide, off, n, uint64(to), op)
}

// Body makes the staged bytes the body of r, which answers a request of the
// connection r was made for. It is an error (and the stage is clear again) when
// staging failed, or when the ring is not the tile's reply ring.
func (s *Stage) Body(r *Response) error {
	if s.err != nil {
		err := s.err
		s.reset()
		return err
	}
	if s.area != areaSide {
		s.reset()
		return fmt.Errorf("%w: body on a broadcast ring", ErrNoArea)
	}
	if s.answers != nil { // goes out behind its head, as one message
		r.bodyLen, r.staged = uint32(s.n), true
		s.err = ErrStaged
		return nil
	}
	if s.n == 0 {
		s.reset()
		r.bodyOff, r.bodyLen = 0, 0
		return nil
	}
	off, n := s.start+s.room, s.n
	if _, err := s.publish(areaSide, off, n, 0, opBody); err != nil {
		return err
	}
	r.bodyOff, r.bodyLen, r.staged = off, uint32(n), true
	return nil
}

// ready reports the staging error and clears it.
func (s *Stage) ready(op byte) error {
	err := s.err
	if err == nil && op != OpText && op != OpBinary {
		err = fmt.Errorf("%w: %#x", ErrOpcode, op)
	}
	if err == nil && s.n == 0 && !s.grow(0) { // the header alone needs its place
		err = s.err
	}
	if err != nil {
		s.reset()
	}
	return err
}

// toSide copies the staged payload into the side area.
func (s *Stage) toSide() error {
	p := s.payload()
	s.area, s.room, s.n = areaSide, roomShort, 0
	s.start = s.end[areaSide]
	_, err := s.Write(p)
	return err
}

// frame puts the header before the payload, which moves if its header is not
// as long as the room left for it, and returns the frame's offset and length.
// A frame begins where the area ended, with nothing in between.
func (s *Stage) frame(op byte) (off, n uint64) {
	hl := uint64(ws.HeaderLen(s.n))
	if hl > s.room { // staged as a body, sent as a frame
		if room := s.room; !s.grow(hl - room) {
			return s.start, 0
		}
	}
	d := s.r.data[s.area]
	at := s.r.phys(s.area, s.start)
	if hl != s.room {
		copy(d[at+hl:at+hl+s.n], d[at+s.room:at+s.room+s.n])
	}
	ws.PutHeader(d[at:at+hl], op, true, s.n)
	return s.start, hl + s.n
}

// publish writes the descriptor and moves head. dest 0 is everybody.
func (s *Stage) publish(area int, off, n, dest uint64, op byte) (Seq, error) {
	r := s.r
	if s.err != nil { // place for the header ran out
		err := s.err
		s.reset()
		return 0, err
	}
	seq := s.seq + 1
	d := &r.descs[seq&r.mask]
	if err := s.reuse(seq); err != nil {
		s.reset()
		return 0, err
	}
	if !holds(ruleUnpublishedHidden) {
		d.seq.Store(seq)
		r.hdr.head.Store(seq)
		step(ptPublished)
	}
	d.seq.Store(seq - r.mask - 2) // neither the old message nor the new one
	step(ptDescCleared)
	end := off + n
	if area == areaBroadcast {
		lap := s.end[area] >> r.shift
		if off != s.end[area] {
			r.hdr.gap[lap%gapLaps].Store(s.end[area])
		}
		if lap = off >> r.shift; end>>r.shift != lap {
			r.hdr.gap[lap%gapLaps].Store(end) // ends exactly at the area's end
		}
	}
	s.end[area] = end
	d.off, d.end, d.time, d.dest = off, s.end, sys.now(), dest
	d.key, d.len, d.op, d.area = 0, uint32(n), op, uint8(area)
	d.seq.Store(seq)
	step(ptDescWritten)
	r.hdr.bytes.Store(r.hdr.bytes.Load() + s.n)
	r.hdr.head.Store(seq)
	s.seq = seq
	step(ptPublished)
	s.reset()
	s.held += n
	if s.heldMsgs++; !s.corked || s.held > r.size[area]/16 || s.heldMsgs > r.mask/16 {
		s.ring()
	}
	return Seq(seq), nil
}

// reuse makes the descriptor slot of seq free: the message that it described
// counts as reclaimed, whatever its bytes.
func (s *Stage) reuse(seq uint64) error {
	r := s.r
	if seq-r.hdr.seq0 <= r.mask || !holds(ruleDescRaises) {
		return nil
	}
	var m message
	old := seq - r.mask - 1
	if !r.read(old, &m) {
		return nil // a producer before us had already reclaimed it
	}
	for a := range areaCnt {
		if m.end[a] <= s.grant[a] {
			continue
		}
		x := m.end[a]
		if r.read(old+r.mask/64, &m) { // as in reclaim: ahead, to read pins less often
			x = m.end[a]
		}
		if err := s.raise(a, x); err != nil {
			return err
		}
		r.read(old, &m)
	}
	return nil
}

// spinWait passes the time between two looks at a word that another process
// is about to change; that process may need this CPU for it.
func spinWait(i int) {
	if i%16 == 15 {
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
}
