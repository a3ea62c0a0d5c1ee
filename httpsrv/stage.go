package httpsrv

import (
	"fmt"
	"sync/atomic"

	"github.com/tilewire/tilewire/httpsrv/ws"
	"github.com/tilewire/tilewire/shmem"
)

// Opcodes of data messages (RFC 6455 section 5.2).
const (
	OpText   = ws.OpText
	OpBinary = ws.OpBinary
)

// Stage is the producer's role of one ring: it stages one message at a time in
// the ring's memory and publishes it. Staged bytes are invisible to readers;
// publishing costs the same whatever the number of clients. A Stage belongs to
// one goroutine, allocates nothing after it was made (Printf may box its
// arguments), and never waits longer than its bound.
//
// The first failure while staging is kept: what follows does nothing, and the
// next send reports it and clears it.
//
// The payload lies behind room for its frame header, so that header and payload
// are contiguous without a copy:
//
//	start        start+room            start+room+n
//	|  room      |  payload, n bytes   |  free
type Stage struct {
	r     *ring
	lock  *shmem.Lock
	bells []tileBell
	bound int64 // ns that sends in progress are waited for, for one message

	corked   bool   // bells wait for Uncork
	held     uint64 // bytes published since the bells were rung last
	heldMsgs uint64 // messages of these

	seq   uint64          // last published message
	end   [areaCnt]uint64 // where both areas end, as published
	grant [areaCnt]uint64 // bytes below were reclaimed and verified against all pins
	dead  []bool          // explore only: see ruleDeadNow

	area   int    // area staged in
	home   int    // area that staging begins in
	room   uint64 // header room before the payload
	most   uint64 // payload bytes of a message, 0: as many as the ring takes
	short  uint64 // payload bytes that are checked no further: the lesser of most and 65,535
	room0  uint64 // header room that staging begins with; 0 for bodies
	start  uint64 // stream offset where the room begins
	waited int64  // ns of bound used up
	n      uint64 // payload bytes staged
	err    error

	answers []*atomic.Uint64 // of an application's reply ring: what each tile has taken over (evqHdr.walked)

	closed error // ErrClosed once the role was given back: nothing is staged any more
}

// newStage takes the producer's view of r up where the last producer left it.
// The caller holds the role.
func newStage(r *ring, home int, boundNs int64) (*Stage, error) {
	s := &Stage{r: r, home: home, bound: boundNs, room0: roomShort, short: 65535}
	step(ptTakeover)
	var m message
	s.seq = r.hdr.head.Load()
	if !r.read(s.seq, &m) {
		return nil, fmt.Errorf("%w: descriptor of head %d holds %d", ErrCorrupt, s.seq, r.descs[s.seq&r.mask].seq.Load())
	}
	s.end = m.end
	for a := range areaCnt {
		// A limit is a request. What the last producer had been granted
		// is not known, so everything is asked for again.
		if !holds(ruleLimitIsNoGrant) {
			s.grant[a] = r.hdr.limit[a].Load()
		}
	}
	s.reset()
	return s, nil
}

func (s *Stage) reset() {
	s.area, s.room, s.n, s.err = s.home, s.room0, 0, s.closed
	s.start, s.waited = s.end[s.area], 0
	for a := range areaCnt { // what a dropped message was granted beyond the head
		s.grant[a] = min(s.grant[a], s.end[a])
	}
}

// Len returns the number of payload bytes staged.
func (s *Stage) Len() int { return int(s.n) }

// Err returns the staging error that the next send will report, or nil.
func (s *Stage) Err() error { return s.err }

// Seq returns the sequence number of the last published message.
func (s *Stage) Seq() Seq { return Seq(s.seq) }

// Limit has messages of more than n bytes of payload refused (ErrTooLarge) from the next one on; 0: none but those that the ring
// does not take.
func (s *Stage) Limit(n int) {
	s.most = uint64(max(n, 0))
	if s.short = 65535; s.most > 0 {
		s.short = min(s.short, s.most)
	}
}

// Max returns the greatest payload that the ring takes and Limit allows, in bytes.
func (s *Stage) Max() int {
	n := s.r.size[s.home]
	if n < roomShort {
		return 0
	}
	if n -= roomShort; n > 65535 {
		n = max(n+roomShort-roomLong, 65535)
	}
	if s.most > 0 {
		n = min(n, s.most)
	}
	return int(n)
}

// Unstage drops what is staged, and the staging error. Nobody is evicted by it.
func (s *Stage) Unstage() { s.reset() }

// Trunc shortens what is staged to n bytes; n beyond Len is an error at the next send.
func (s *Stage) Trunc(n int) {
	if s.err != nil {
		return
	}
	if n < 0 || uint64(n) > s.n {
		s.fail(fmt.Errorf("%w: Trunc(%d) of %d staged bytes", ErrParams, n, s.n), stageErrOther)
		return
	}
	s.n = uint64(n)
}

// Write appends p to the staged message. It returns the staging error, if any:
// then nothing of p was staged. It implements io.Writer.
func (s *Stage) Write(p []byte) (int, error) {
	if !s.grow(uint64(len(p))) {
		return 0, s.err
	}
	copy(s.free(), p)
	s.n += uint64(len(p))
	step(ptStaged)
	return len(p), nil
}

// WriteString is Write for a string.
func (s *Stage) WriteString(p string) (int, error) {
	if !s.grow(uint64(len(p))) {
		return 0, s.err
	}
	copy(s.free(), p)
	s.n += uint64(len(p))
	return len(p), nil
}

// Printf appends formatted text. The arguments may be boxed; the text is
// written in place.
func (s *Stage) Printf(format string, args ...any) {
	if !s.grow(0) {
		return
	}
	free := s.free()
	out := fmt.Appendf(free[:0:len(free)], format, args...)
	if len(out) <= len(free) {
		// Appendf wrote in place. If it had outgrown free it would have
		// moved to the heap, and free would be what it was.
		s.n += uint64(len(out))
		return
	}
	_, _ = s.Write(out)
}

// Append returns n bytes of the ring to write the next part of the message
// into; Commit tells how many of them count. nil means a staging error. The
// bytes are valid until the next call.
func (s *Stage) Append(n int) []byte {
	if n < 0 || !s.grow(uint64(n)) {
		return nil
	}
	return s.free()[:n:n]
}

// Commit adds the first n bytes of what Append returned to the message.
func (s *Stage) Commit(n int) {
	if s.err != nil {
		return
	}
	if n < 0 || n > len(s.free()) {
		s.fail(fmt.Errorf("%w: Commit(%d), at most %d", ErrParams, n, len(s.free())), stageErrOther)
		return
	}
	s.n += uint64(n)
}

// payload returns the staged bytes.
func (s *Stage) payload() []byte {
	at := s.r.phys(s.area, s.start) + s.room
	return s.r.data[s.area][at : at+s.n]
}

// free returns the bytes behind the payload that are reclaimed and contiguous.
func (s *Stage) free() []byte {
	if s.start+s.room+s.n > s.granted(s.area) {
		return nil
	}
	at := s.r.phys(s.area, s.start) + s.room + s.n
	room := s.granted(s.area) - (s.start + s.room + s.n)
	return s.r.data[s.area][at:min(at+room, s.r.size[s.area])]
}

// granted returns the stream offset up to which the area may be written.
func (s *Stage) granted(area int) uint64 { return s.grant[area] + s.r.size[area] }

func (s *Stage) fail(err error, kind int) {
	s.err = err
	c := &s.r.hdr.errTotal[kind]
	c.Store(c.Load() + 1)
}

// grow makes place for more payload bytes behind the staged ones. A message
// never splits: one that does not fit before the area's end moves to its start.
func (s *Stage) grow(more uint64) bool {
	if s.err != nil {
		return false
	}
	end := s.start + s.room + s.n + more
	if s.n+more <= s.short && end <= s.granted(s.area) &&
		s.r.phys(s.area, s.start)+(end-s.start) <= s.r.size[s.area] {
		return true
	}
	return s.growSlow(more)
}

func (s *Stage) growSlow(more uint64) bool {
	size, room := s.r.size[s.area], s.room
	if room == roomShort && s.n+more > 65535 {
		room = roomLong
	}
	if s.most > 0 && (more > s.most || s.n+more > s.most) {
		s.fail(fmt.Errorf("%w: %d bytes, and %d are allowed", ErrTooLarge, s.n+more, s.most), stageErrTooLarge)
		return false
	}
	need := room + s.n + more
	if more > size || need > size {
		s.fail(fmt.Errorf("%w: %d bytes and their header into %d", ErrTooLarge, s.n+more, size), stageErrTooLarge)
		return false
	}
	start := s.start
	if s.r.phys(s.area, start)+need > size {
		start = (start | (size - 1)) + 1
	}
	if err := s.reclaim(s.area, start+need); err != nil {
		s.fail(err, stageErrBusy)
		return false
	}
	if start != s.start || room != s.room {
		if s.n > 0 { // without payload the room may reach over the area's end
			at := s.r.phys(s.area, start) + room
			copy(s.r.data[s.area][at:], s.payload())
		}
		s.start, s.room = start, room
	}
	return true
}

// reclaim makes the bytes of an area up to the stream offset to writable: it
// raises the limit and waits for the sends that may be reading below it. On an
// error nothing may be written and the limit stays raised: a limit is a
// request, not a grant.
func (s *Stage) reclaim(area int, to uint64) error {
	if to <= s.granted(area) {
		return nil
	}
	// A little more than needed, so that pins are read once in a while
	// and not once a message; never what was published last.
	x := to - s.r.size[area]
	x = max(x, min(x+s.r.size[area]/64, s.end[area]))
	return s.raise(area, x)
}

// raise raises the limit of an area to x and verifies all pins against it.
//
// The limit never passes what is published, where the clients stand that have
// got everything: nobody reads beyond that, so it is granted along, until the
// message is published or dropped.
func (s *Stage) raise(area int, x uint64) error {
	limit := &s.r.hdr.limit[area]
	if x <= s.grant[area] {
		return nil
	}
	beyond := x
	if holds(ruleHeadStays) {
		x = min(x, s.end[area])
	}
	for t, walked := range s.answers {
		if walked.Load() < x {
			if err := s.waitWalk(t, x); err != nil {
				return err
			}
		}
	}
	if !holds(ruleRaiseThenPins) {
		if err := s.verify(area, x); err != nil {
			return err
		}
	}
	if limit.Load() < x {
		limit.Store(x)
	} else {
		x = limit.Load() // of a producer before us, or of a wait that failed
	}
	step(ptLimitRaised)
	if holds(ruleRaiseThenPins) {
		if err := s.verify(area, x); err != nil {
			if !holds(ruleFailedWait) {
				s.grant[area] = x
			}
			return err
		}
	}
	s.grant[area] = max(x, beyond)
	step(ptReclaimed)
	return nil
}

// verify returns nil when no tile reads below x.
func (s *Stage) verify(area int, x uint64) error {
	if area == areaSide && !holds(ruleSidePins) {
		return nil
	}
	for t, line := range s.r.pins {
		pin := &line.pin[area]
		if pin.Load() >= x {
			step(ptPinRead)
			continue
		}
		if err := s.waitPin(t, area, x); err != nil {
			return err
		}
	}
	return nil
}

// waitPin waits until tile t reads nothing below x, is dead, or the bound has
// passed. Death is asked of the kernel each time and never remembered: the
// slot may have a new tile that pins again.
func (s *Stage) waitPin(t, area int, x uint64) error {
	pin := &s.r.pins[t].pin[area]
	if !holds(ruleWaitForPins) {
		return nil
	}
	if !holds(ruleDeadNow) && s.dead != nil && s.dead[t] {
		return nil
	}
	s.r.hdr.waits.Store(s.r.hdr.waits.Load() + 1)
	begin := sys.now() - s.waited
	for spin := 0; pin.Load() < x; spin++ {
		step(ptPinWait)
		if spin%64 == 0 {
			if !s.r.roles[t].held() {
				if !holds(ruleDeadNow) && s.dead != nil {
					s.dead[t] = true
				}
				return nil
			}
			if pin.Load() < x && sys.now()-begin >= s.bound {
				return ErrBusy
			}
		}
		spinWait(spin)
	}
	s.waited = sys.now() - begin
	return nil
}

// waitWalk waits until tile t has taken over the messages that end before x, and
// sent what their clients take, is dead, or the bound has passed. The limit is
// raised afterwards only: an application's answers are never lost, and no client
// is evicted, because a tile is late.
func (s *Stage) waitWalk(t int, x uint64) error {
	walked := s.answers[t]
	begin := sys.now() - s.waited
	for spin := 0; walked.Load() < x; spin++ {
		if spin%64 == 0 {
			if !s.r.roles[t].held() {
				return nil
			}
			s.bells[t].ring()
			if sys.now()-begin >= s.bound {
				return ErrBusy
			}
		}
		spinWait(spin)
	}
	s.waited = sys.now() - begin
	return nil
}

// Close releases the role; what is staged is dropped. The ring and what is
// published stay, and another producer may go on. What is staged afterwards is
// ErrClosed at the send.
func (s *Stage) Close() error {
	if s.lock == nil {
		return ErrClosed
	}
	s.Uncork() // what is published is delivered, whoever comes next
	s.closed = ErrClosed
	s.reset()
	for i := range s.bells {
		s.bells[i].leave()
	}
	s.r.hdr.pid.Store(0)
	err := s.lock.Unlock()
	s.lock = nil
	return err
}
