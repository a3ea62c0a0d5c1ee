package httpsrv

import (
	"fmt"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// Params are the limits of a server. They fix its footprint. Zero fields with a
// default named below take it.
type Params struct {
	// Per network tile.
	MaxConnectionCnt   uint32 // connections that await a request or its answer; 1 to 65,536
	MaxWsConnectionCnt uint32 // connections that stream; 0 to 1,048,576
	MaxRequestLen      uint32 // bytes of a request, head and body; 64 to 1 GiB. One of this length is refused
	MaxWsRecvFrameLen  uint32 // bytes of a client's message; MaxRequestLen to 1 GiB
	MaxWsSendFrameCnt  uint64 // greatest lag in messages before a client is evicted; 7/8 of RingDepth at most, which is the default

	// Per ring.
	OutgoingBufferSz uint64 // broadcast area; a power of two, 8 B to 1 TiB
	SideBufferSz     uint64 // area for messages to one client; a power of two; default OutgoingBufferSz/4, at least 4 KiB
	RingDepth        uint64 // descriptors; a power of two, 4 to 2^32; default 65,536
	ReplyBufferSz    uint64 // side area of each reply ring; a power of two; default 1 MiB, at least MaxWsRecvFrameLen
	ReplyDepth       uint64 // descriptors of each reply ring; default 4,096

	// Rings are the sizes of the first producers' rings, where they differ: zero fields, and the rings beyond, are as above.
	Rings [32]RingSize

	TileCnt uint32 // network tiles; 1 to 255
	RingCnt uint32 // producers' rings; 1 to 1,024
	AppCnt  uint32 // applications in other processes, with a reply ring of their own; 0 to 64

	// Pools of each tile, in buffers that are held only while bytes are unfinished.
	HeadBufCnt uint32 // 1 KiB each: response heads, pongs, close frames; default MaxConnectionCnt + MaxWsConnectionCnt/16
	RecvBufCnt uint32 // 16 KiB each: bytes received from WebSocket clients; at least 2; default 64
	MsgBufCnt  uint32 // MaxWsRecvFrameLen each: messages being received; default 32
	PendingCnt uint32 // messages to one client that wait for their turn; default MaxWsConnectionCnt/4 + 4,096

	StaticSz uint64 // bytes for static bodies; default 256 KiB

	// Bytes of the event queue that each application has in each tile; a power of two. Default, and least: 128 for each
	// connection, for its open and its close, and room for two of the largest requests or messages.
	EventBufferSz uint64
}

// RingSize is the shape of one producers' ring; the fields are those of Params.
type RingSize struct{ OutgoingBufferSz, SideBufferSz, RingDepth uint64 }

// ring returns the shape of producers' ring i.
func (p *Params) ring(i int) RingSize {
	if i < len(p.Rings) {
		return p.Rings[i]
	}
	return RingSize{p.OutgoingBufferSz, p.SideBufferSz, p.RingDepth}
}

const (
	headBufSz = 1024
	recvBufSz = 16 << 10
	staticMax = 64 // static bodies
)

// complete returns p with its defaults filled in, or what is out of range.
func (p Params) complete() (Params, error) {
	def := func(v *uint32, d uint32) {
		if *v == 0 {
			*v = d
		}
	}
	def64 := func(v *uint64, d uint64) {
		if *v == 0 {
			*v = d
		}
	}
	def64(&p.SideBufferSz, max(p.OutgoingBufferSz/4, 4096))
	def64(&p.RingDepth, 65536)
	def64(&p.ReplyDepth, 4096)
	deepest := p.RingDepth
	for i := range min(int(p.RingCnt), len(p.Rings)) {
		r := &p.Rings[i]
		if r.OutgoingBufferSz == 0 {
			def64(&r.SideBufferSz, p.SideBufferSz)
		}
		def64(&r.OutgoingBufferSz, p.OutgoingBufferSz)
		def64(&r.SideBufferSz, max(r.OutgoingBufferSz/4, 4096))
		def64(&r.RingDepth, p.RingDepth)
		deepest = max(deepest, r.RingDepth)
	}
	reply := uint64(1 << 20)
	for reply < 2*uint64(p.MaxWsRecvFrameLen) {
		reply <<= 1
	}
	def64(&p.ReplyBufferSz, reply)
	def64(&p.MaxWsSendFrameCnt, deepest)
	def(&p.HeadBufCnt, p.MaxConnectionCnt+p.MaxWsConnectionCnt/16+1)
	def(&p.RecvBufCnt, 64)
	def(&p.MsgBufCnt, 32)
	def(&p.PendingCnt, p.MaxWsConnectionCnt/4+4096)
	def64(&p.StaticSz, 256<<10)
	events := p.leastEvents()
	def64(&p.EventBufferSz, events)

	type bound struct {
		name      string
		v, lo, hi uint64
		pow2      bool
	}
	bounds := []bound{
		{"MaxConnectionCnt", uint64(p.MaxConnectionCnt), 1, 1 << 16, false},
		{"MaxWsConnectionCnt", uint64(p.MaxWsConnectionCnt), 0, 1 << 20, false},
		{"MaxRequestLen", uint64(p.MaxRequestLen), 64, 1 << 30, false},
		{"MaxWsRecvFrameLen", uint64(p.MaxWsRecvFrameLen), uint64(p.MaxRequestLen), 1 << 30, false},
		{"OutgoingBufferSz", p.OutgoingBufferSz, 8, 1 << 40, true},
		{"SideBufferSz", p.SideBufferSz, 8, 1 << 40, true},
		{"RingDepth", p.RingDepth, 4, 1 << 32, true},
		{"MaxWsSendFrameCnt", p.MaxWsSendFrameCnt, 1, 1 << 32, false}, // behind its default
		{"ReplyBufferSz", p.ReplyBufferSz, 8, 1 << 40, true},
		{"ReplyDepth", p.ReplyDepth, 4, 1 << 32, true},
		{"TileCnt", uint64(p.TileCnt), 1, 255, false},
		{"RingCnt", uint64(p.RingCnt), 1, 1024, false},
		{"AppCnt", uint64(p.AppCnt), 0, 64, false},
		{"HeadBufCnt", uint64(p.HeadBufCnt), 1, 1 << 22, false},
		{"RecvBufCnt", uint64(p.RecvBufCnt), 2, 1 << 20, false}, // the last one: see readFrames
		{"MsgBufCnt", uint64(p.MsgBufCnt), 1, 1 << 20, false},
		{"PendingCnt", uint64(p.PendingCnt), 1, 1 << 24, false},
		{"StaticSz", p.StaticSz, 0, 1 << 30, false},
		{"EventBufferSz", p.EventBufferSz, events, 1 << 40, true},
	}
	for i, r := range p.Rings {
		name := func(f string) string { return fmt.Sprintf("Rings[%d].%s", i, f) }
		if i >= int(p.RingCnt) {
			if r != (RingSize{}) {
				return p, fmt.Errorf("%w: Rings[%d] is set, and there are %d rings", ErrParams, i, p.RingCnt)
			}
			continue
		}
		bounds = append(bounds, bound{name("OutgoingBufferSz"), r.OutgoingBufferSz, 8, 1 << 40, true},
			bound{name("SideBufferSz"), r.SideBufferSz, 8, 1 << 40, true}, bound{name("RingDepth"), r.RingDepth, 4, 1 << 32, true})
	}
	for _, b := range bounds {
		if b.v < b.lo || b.v > b.hi {
			return p, fmt.Errorf("%w: %s is %d, must be %d to %d", ErrParams, b.name, b.v, b.lo, b.hi)
		}
		if b.pow2 && !shmem.IsPow2(b.v) {
			return p, fmt.Errorf("%w: %s is %d, must be a power of two", ErrParams, b.name, b.v)
		}
	}
	return p, nil
}

// leastEvents returns the least size of an event queue: every connection has
// the room that is kept for it, and the largest event fits besides, whatever pad
// goes before it at the area's end.
func (p Params) leastEvents() uint64 {
	conns := min(uint64(p.MaxConnectionCnt)+uint64(p.MaxWsConnectionCnt), 1<<21) // what is beyond is refused
	least := conns*evUnitsBound*evSz + 2*evLen(int(min(max(p.MaxRequestLen, p.MaxWsRecvFrameLen), 1<<30)))
	size := uint64(4096)
	for size < least {
		size <<= 1
	}
	return size
}

// layout tells where everything lies in a server's memory, from its start.
//
//	header | static bodies | rings | reply rings (tiles, then applications) | applications | tiles
//
// and in a tile, from its start:
//
//	slot (role, bell, pins are in the rings) | counters | closed connections | connections |
//	pending entries | request, head, receive and message buffers | event queues
type layout struct {
	static          uint64
	ring0           uint64
	reply0, replySz uint64
	app0            uint64
	tile0, tileSz   uint64
	total           uint64
	rings           []ringSpot // the producers'
	reply           ringParams
	counters        uint64 // from here on relative to the tile
	closed, conns   uint64
	pending         uint64
	req, head       uint64
	recv, msg       uint64
	evq0, evqSz     uint64
	connCnt         uint32
	reqSz           uint64
	msgSz           uint64
}

// ringSpot is where a ring lies, its bytes, and its shape.
type ringSpot struct {
	off, sz uint64
	ringParams
}

func (p Params) layout() (layout, error) {
	var l layout
	const page = 4096
	l.reply = ringParams{depth: p.ReplyDepth, size: [areaCnt]uint64{0, p.ReplyBufferSz}, tileCnt: p.TileCnt}
	l.static = page
	l.ring0 = l.static + shmem.Align(staticMax*staticEntrySz+p.StaticSz, page)
	l.reply0 = l.ring0
	for i := range int(p.RingCnt) {
		r := p.ring(i)
		rp := ringParams{depth: r.RingDepth, size: [areaCnt]uint64{r.OutgoingBufferSz, r.SideBufferSz}, tileCnt: p.TileCnt}
		sz := shmem.Align(rp.footprint(), page)
		l.rings = append(l.rings, ringSpot{l.reply0, sz, rp})
		l.reply0 += sz
	}
	l.replySz = shmem.Align(l.reply.footprint(), page)
	l.app0 = l.reply0 + uint64(p.TileCnt+p.AppCnt)*l.replySz
	l.tile0 = l.app0 + shmem.Align(uint64(p.AppCnt)*appSlotSz, page)

	csz, err := tile.CountersFootprint(CounterNames())
	if err != nil {
		return l, err
	}
	l.connCnt = p.MaxConnectionCnt + p.MaxWsConnectionCnt
	l.reqSz = shmem.Align(uint64(p.MaxRequestLen), 64)
	l.msgSz = shmem.Align(uint64(p.MaxWsRecvFrameLen), 64)
	l.counters = tileSlotSz
	l.closed = shmem.Align(l.counters+csz, page)
	l.conns = l.closed + shmem.Align(closedHdrSz+closedCnt*closedSz, page)
	l.pending = l.conns + uint64(l.connCnt)*connSz
	l.req = shmem.Align(l.pending+uint64(p.PendingCnt)*pendingSz, page)
	l.head = shmem.Align(l.req+uint64(p.MaxConnectionCnt+1)*l.reqSz, page) // one spare: makeRoom
	l.recv = shmem.Align(l.head+uint64(p.HeadBufCnt)*headBufSz, page)
	l.msg = l.recv + uint64(p.RecvBufCnt)*recvBufSz
	l.evq0 = shmem.Align(l.msg+uint64(p.MsgBufCnt)*l.msgSz, page)
	l.evqSz = shmem.Align(evqHdr0+p.EventBufferSz, page)
	l.tileSz = l.evq0 + uint64(p.AppCnt)*l.evqSz
	l.total = l.tile0 + uint64(p.TileCnt)*l.tileSz
	return l, nil
}

// Align returns the alignment of a server's memory in bytes.
func Align() uint64 { return 4096 }

// Footprint returns the bytes of memory that a server with these limits needs,
// a multiple of Align. ErrParams names what is out of range.
func Footprint(p Params) (uint64, error) {
	p, err := p.complete()
	if err != nil {
		return 0, err
	}
	l, err := p.layout()
	return l.total, err
}
