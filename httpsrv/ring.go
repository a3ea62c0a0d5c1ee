package httpsrv

import (
	"fmt"
	"structs"
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// Seq is the sequence number of a message in its ring. The first message has
// the ring's start + 1; the start itself belongs to a sentinel, so that "what
// is published now" always exists.
type Seq = tile.Seq

// Area of a ring's data.
const (
	areaBroadcast = iota
	areaSide
	areaCnt
)

const (
	noPin     = ^uint64(0) // a pin that holds nothing
	gapLaps   = 4          // laps whose end is remembered; a live cursor is at most one lap behind
	descSz    = 64
	linePair  = 128 // bytes that one writer has to itself (adjacent-line prefetch)
	roomShort = 4   // header room before a payload up to 65,535 bytes
	roomLong  = 10  // and above
)

// ringHdr is the head of a ring. Line pairs, each with one writer:
//
//	  0  constants, written by New; the byte at offset 0 bears the producer's role lock
//	128  head                              writer: producer
//	256  limits, gaps                      writer: producer
//	384  producer's identity and counters  writer: producer
//	512  pins of tile 0, 640 tile 1, ...   writer: that tile
//	     descriptors, broadcast area, side area
type ringHdr struct {
	_ structs.HostLayout

	role     uint64 // lock byte; value unused
	depth    uint64 // descriptors, power of two
	size     [areaCnt]uint64
	seq0     uint64
	epoch    uint64 // tells this ring from one formatted earlier under the same name
	tileCnt  uint32
	id       uint32
	_        [72]byte
	head     atomic.Uint64 // Seq of the last published message
	_        [120]byte
	limit    [areaCnt]atomic.Uint64 // bytes below are reclaimed or about to be
	gap      [gapLaps]atomic.Uint64 // broadcast offset at which lap n ended, at n % gapLaps
	_        [80]byte
	pid      atomic.Uint64 // of the producer, for messages to people; locks decide
	errTotal [stageErrCnt]atomic.Uint64
	bytes    atomic.Uint64 // payload bytes published
	waits    atomic.Uint64 // times the producer waited for a pin
	_        [80]byte
}

// Errors that a ring counts.
const (
	stageErrTooLarge = iota
	stageErrBusy
	stageErrOther
	stageErrCnt
)

const ringHdrSz = 512

// pinLine holds what one tile may be reading now. writer: the tile
type pinLine struct {
	_   structs.HostLayout
	pin [areaCnt]atomic.Uint64 // lowest offset in use, or noPin

	// Last descriptor that the tile has walked, and done what it asks for: its
	// successor goes on behind it. Who paces himself looks at it (Server.Walked).
	seen uint64
	side uint64 // where the side area ends there, or further on
	_    [96]byte
}

// desc describes one message. It is written whole before head moves to it; a
// reader copies it and checks seq before and after.
type desc struct {
	_    structs.HostLayout
	seq  atomic.Uint64   // of the message; any other value: being rewritten
	off  uint64          // offset of the frame's first byte in its area
	end  [areaCnt]uint64 // where both areas end after this message
	time int64           // CLOCK_MONOTONIC ns of publishing
	dest uint64          // ConnID, or 0 for everybody
	key  uint64          // reserved
	len  uint32          // bytes in the area, header included
	op   uint8           // opcode
	area uint8
	_    uint16
}

// ring is a process's view of a ring in shared memory.
type ring struct {
	hdr   *ringHdr
	mem   shmem.Mem
	mask  uint64 // depth - 1
	size  [areaCnt]uint64
	shift uint // log2(size[areaBroadcast])
	pins  []*pinLine
	descs []desc
	data  [areaCnt][]byte
	roles []roleProbe // per tile slot: is its role held now?
}

// roleProbe asks the kernel whether a role is held.
type roleProbe struct {
	mem shmem.Mem
	off uint64
}

func (p roleProbe) held() bool { return p.mem.Locked(p.off) }

// ringParams are the shape of one ring.
type ringParams struct {
	depth   uint64
	size    [areaCnt]uint64
	tileCnt uint32
}

// footprint returns the ring's bytes, a multiple of linePair.
func (p ringParams) footprint() uint64 {
	n := uint64(ringHdrSz) + uint64(p.tileCnt)*linePair + p.depth*descSz
	return shmem.Align(n, 4096) + shmem.Align(p.size[areaBroadcast], 4096) + shmem.Align(p.size[areaSide], 4096)
}

// ringNew formats a ring. mem is zeroed or anything.
func ringNew(mem shmem.Mem, p ringParams, id uint32, epoch, seq0 uint64) error {
	h, err := shmem.At[ringHdr](mem, 0)
	if err != nil {
		return err
	}
	h.depth, h.size, h.tileCnt, h.id = p.depth, p.size, p.tileCnt, id
	h.seq0, h.epoch = seq0, epoch
	r, err := ringJoin(mem, p)
	if err != nil {
		return err
	}
	for a := range areaCnt {
		h.limit[a].Store(0)
	}
	for i := range h.errTotal {
		h.errTotal[i].Store(0)
	}
	h.pid.Store(0)
	h.bytes.Store(0)
	h.waits.Store(0)
	for i := range h.gap {
		h.gap[i].Store(0)
	}
	for _, pl := range r.pins {
		for a := range pl.pin {
			pl.pin[a].Store(noPin)
		}
		pl.seen = seq0
	}
	// The sentinel: what is published now always exists. Every other
	// descriptor bears a number that no reader asks for.
	for i := range r.descs {
		r.descs[i].seq.Store(seq0 - uint64(len(r.descs)))
	}
	s := &r.descs[seq0&r.mask]
	s.off, s.end, s.len, s.dest = 0, [areaCnt]uint64{}, 0, 0
	s.time, s.op, s.area = 0, 0, areaBroadcast
	s.seq.Store(seq0)
	h.head.Store(seq0)
	return nil
}

// ringJoin returns a view of the ring in mem, which must have the shape p.
func ringJoin(mem shmem.Mem, p ringParams) (*ring, error) {
	h, err := shmem.At[ringHdr](mem, 0)
	if err != nil {
		return nil, err
	}
	if h.depth != p.depth || h.size != p.size || h.tileCnt != p.tileCnt {
		return nil, fmt.Errorf("%w: ring has depth %d, areas %v, %d tiles; the server's parameters say %d, %v, %d",
			ErrCorrupt, h.depth, h.size, h.tileCnt, p.depth, p.size, p.tileCnt)
	}
	r := &ring{hdr: h, mem: mem, mask: p.depth - 1, size: p.size}
	for v := p.size[areaBroadcast]; v > 1; v >>= 1 {
		r.shift++
	}
	off := uint64(ringHdrSz)
	for range p.tileCnt {
		pl, err := shmem.At[pinLine](mem, off)
		if err != nil {
			return nil, err
		}
		r.pins = append(r.pins, pl)
		off += linePair
	}
	if r.descs, err = shmem.SliceAt[desc](mem, off, p.depth); err != nil {
		return nil, err
	}
	off = shmem.Align(off+p.depth*descSz, 4096)
	for a := range areaCnt {
		m, err := mem.Slice(off, p.size[a])
		if err != nil {
			return nil, err
		}
		r.data[a] = m.Bytes()
		off += shmem.Align(p.size[a], 4096)
	}
	return r, nil
}

// message is a process's own copy of a descriptor.
type message struct {
	seq  uint64
	off  uint64
	end  [areaCnt]uint64
	time int64
	dest uint64
	len  uint32
	op   uint8
	area uint8
}

// start returns the broadcast offset at which a client that shall get m as its
// first message joins.
func (m *message) start() uint64 {
	if m.area == areaBroadcast {
		return m.off
	}
	return m.end[areaBroadcast]
}

// read copies the descriptor of seq into m and reports whether it was that of
// seq during the whole copy; false means that it has been reused.
//
// Go keeps the plain loads between the two atomic ones, and amd64 keeps their
// order; -race sees nothing of mapped memory, and heap-backed tests run one
// actor at a time.
func (r *ring) read(seq uint64, m *message) bool {
	d := &r.descs[seq&r.mask]
	if d.seq.Load() != seq {
		return false
	}
	step(ptDescRead)
	m.seq, m.off, m.end, m.time = seq, d.off, d.end, d.time
	m.dest, m.len, m.op, m.area = d.dest, d.len, d.op, d.area
	if holds(ruleCopyThenCheck) && d.seq.Load() != seq {
		return false
	}
	return true
}

// phys returns the place of stream offset off in an area.
func (r *ring) phys(area int, off uint64) uint64 { return off & (r.size[area] - 1) }

// oldest returns the lowest sequence number whose descriptor may still be there.
func (r *ring) oldest(head uint64) uint64 {
	if n := head - r.hdr.seq0; n < r.mask {
		return r.hdr.seq0
	}
	return head - r.mask
}
