package httpsrv

import (
	"fmt"
	"structs"
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
)

// Kinds of events that a tile puts into an application's queue.
const (
	evPad     = iota + 1 // fills the area's end, so that no event splits
	evRequest            // payload: the request's bytes, head and body
	evOpen               // the connection became a WebSocket
	evMessage            // payload: the message
	evClose              // the connection is gone; the last event about it
	evKinds
)

const (
	evSz    = 64  // of an event's head; its payload follows, padded to a multiple
	evqHdr0 = 384 // bytes before a queue's events

	// Room that a connection keeps in its application's queue from its request
	// on, in heads: one for its open and one for its close, which have no
	// payload and are never refused.
	evUnitsBound = 2
)

// event is the head of an event. writer: the tile
type event struct {
	_      structs.HostLayout
	pos    uint64 // of the head in the queue's stream: any other value is damage
	conn   uint64 // ConnID
	end    uint64 // bytes of the connection's stream received up to the end of what this tells
	tag    uint64 // the application's own, from its upgrade response
	len    uint32 // payload bytes
	kind   uint8
	op     uint8       // of a message
	reason CloseReason // of a close
	keep   uint8       // not 0: the connection may live on after the response to this request
	_      [24]byte
}

// evqHdr is the head of an event queue. Line pairs, each with one writer:
//
//	  0  constants, written by New
//	128  head, want, walked, last    writer: the tile
//	256  tail, run, from       writer: the application
//	384  events
//
// Offsets count the queue's bytes for ever and lie at the offset modulo its size.
type evqHdr struct {
	_      structs.HostLayout
	size   uint64
	_      [120]byte
	head   atomic.Uint64 // events are published up to here
	want   atomic.Uint64 // not 0: connections wait for room; who makes some rings the tile's doorbell
	walked atomic.Uint64 // side offset of the application's reply ring up to which the tile has taken messages over
	last   uint64        // of the last event that was put, or, if it is head, is being put; for the tile's successor
	_      [96]byte
	tail   atomic.Uint64 // events are handled up to here
	run    atomic.Uint64 // counts the application's takeovers
	from   atomic.Uint64 // head at the last one: requests before it are nobody's any more
	_      [104]byte
}

// evq is a process's view of the event queue between one tile (the only
// writer) and one application (the only reader).
type evq struct {
	hdr  *evqHdr
	size uint64
	evs  []event // the area, as heads
	area []byte

	head uint64 // tile: published; never read back from shared memory
	tail uint64 // tile: as last seen; application: handled
}

// evqNew formats a queue whose stream begins at pos, a multiple of evSz.
func evqNew(mem shmem.Mem, size, pos uint64) error {
	h, err := shmem.At[evqHdr](mem, 0)
	if err != nil {
		return err
	}
	h.size, h.last = size, pos
	for _, v := range []*atomic.Uint64{&h.head, &h.tail, &h.from} {
		v.Store(pos)
	}
	for _, v := range []*atomic.Uint64{&h.want, &h.walked, &h.run} {
		v.Store(0)
	}
	return nil
}

// evqJoin returns a view of the queue in mem, whose area has size bytes.
func evqJoin(mem shmem.Mem, size uint64) (*evq, error) {
	h, err := shmem.At[evqHdr](mem, 0)
	if err != nil {
		return nil, err
	}
	if h.size != size {
		return nil, fmt.Errorf("%w: event queue has %d bytes, the server's parameters say %d", ErrCorrupt, h.size, size)
	}
	q := &evq{hdr: h, size: size}
	if q.evs, err = shmem.SliceAt[event](mem, evqHdr0, size/evSz); err != nil {
		return nil, err
	}
	m, err := mem.Slice(evqHdr0, size)
	if err != nil {
		return nil, err
	}
	q.area = m.Bytes()
	q.head = h.head.Load() &^ (evSz - 1)
	q.tail = q.head
	if t := h.tail.Load(); q.sane(t) {
		q.tail = t
	}
	return q, nil
}

// sane reports whether tail may be that of a queue whose head is q.head.
func (q *evq) sane(tail uint64) bool { return q.head-tail <= q.size && tail%evSz == 0 }

// evLen returns the bytes that an event with n bytes of payload takes.
func evLen(n int) uint64 { return evSz + shmem.Align(uint64(n), evSz) }

// phys returns the place of a stream offset in the area.
func (q *evq) phys(pos uint64) uint64 { return pos & (q.size - 1) }

// pad returns the bytes left at the area's end that an event of n bytes does not fit into.
func (q *evq) pad(n uint64) uint64 {
	if at := q.phys(q.head); at+n > q.size {
		return q.size - at
	}
	return 0
}

// fits reports whether an event of n bytes (evLen) can be put so that keep
// bytes stay free. Heads without payload never need a pad, so what is kept for
// them is theirs wherever the area ends. The tile only.
func (q *evq) fits(n, keep uint64) bool {
	need := n + q.pad(n) + keep
	if q.size-(q.head-q.tail) >= need {
		return true
	}
	if t := q.hdr.tail.Load(); q.sane(t) && q.head-t <= q.head-q.tail { // another process's word: forward only
		q.tail = t
	}
	return q.size-(q.head-q.tail) >= need
}

// put publishes *e with its payload, whose len and pos it fills in, unless less
// than keep bytes would be left free. The tile only.
func (q *evq) put(e *event, payload []byte, keep uint64) bool {
	n := evLen(len(payload))
	if !q.fits(n, keep) {
		return false
	}
	head := q.head
	if pad := q.pad(n); pad > 0 {
		q.evs[q.phys(head)/evSz] = event{pos: head, kind: evPad, len: uint32(pad - evSz)}
		head += pad
	}
	e.pos, e.len = head, uint32(len(payload))
	at := q.phys(head)
	q.evs[at/evSz] = *e
	copy(q.area[at+evSz:], payload)
	step(ptEvent)
	q.hdr.last = head
	step(ptEvent)
	q.head = head + n
	q.hdr.head.Store(q.head)
	return true
}

// latest returns the head of the event that was put last. ok is false when none
// was. The tile only, before it puts any.
func (q *evq) latest() (e event, ok bool) {
	if q.head-q.hdr.last > q.size || q.hdr.last == q.head || q.hdr.last%evSz != 0 {
		return event{}, false
	}
	e = q.evs[q.phys(q.hdr.last)/evSz]
	return e, e.pos == q.hdr.last && q.hdr.last+evLen(int(e.len)) == q.head
}

// next copies the event at the tail into e and returns its payload, which lies
// in the queue until done. ok is false when there is none. ErrCorrupt: what
// lies there is no event; what was published so far is given up, and counting
// goes on behind it. The application only.
func (q *evq) next(e *event) (payload []byte, ok bool, err error) {
	for {
		head := q.hdr.head.Load()
		if head == q.tail {
			return nil, false, nil
		}
		used := head - q.tail
		if used > q.size || head%evSz != 0 {
			return nil, false, fmt.Errorf("%w: event queue of %d bytes has its head %d bytes before its tail", ErrCorrupt, q.size, used)
		}
		at := q.phys(q.tail)
		*e = q.evs[at/evSz] // read once: the copy is what is checked and used
		n := evLen(int(e.len))
		if e.pos != q.tail || n > used || at+n > q.size || e.kind == 0 || e.kind >= evKinds {
			err := fmt.Errorf("%w: event of kind %d at %d says %d, %d bytes of %d", ErrCorrupt, e.kind, q.tail, e.pos, n, used)
			q.done(used)
			return nil, false, err
		}
		if e.kind == evPad {
			q.done(n)
			continue
		}
		return q.area[at+evSz : at+evSz+uint64(e.len) : at+n], true, nil
	}
}

// done gives n bytes back to the tile. The application only.
func (q *evq) done(n uint64) {
	q.tail += n
	q.hdr.tail.Store(q.tail)
}
