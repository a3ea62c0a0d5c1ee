package httpsrv

import (
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/h1"
	"github.com/tilewire/tilewire/httpsrv/proxy"
	"github.com/tilewire/tilewire/httpsrv/steer"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// TileOptions are a process's own part of a network tile.
type TileOptions struct {
	Callbacks Callbacks
	BellPath  string // of the FIFO that wakes the tile (tile.Bell); made if it is not there

	SndBuf   int    // bytes of each socket's send buffer; 0: 256 KiB; it bounds what a stalled client pins
	Headroom uint64 // bytes of a ring kept free of blocked clients; 0: an eighth of the ring
	// Timeouts. 0 takes the default; docs/hostile.md tells what each is measured from.
	RequestTimeout time.Duration // from accept to a request's whole head; 0: 10 s
	BodyTimeout    time.Duration // for the next bytes of a request's body, which has bodyRate besides; 0: 10 s
	IdleTimeout    time.Duration // with KeepAlive, from a response to the next request's first byte; 0: 60 s
	WriteTimeout   time.Duration // while bytes wait to be sent and the client takes none; 0: 10 s
	CloseTimeout   time.Duration // for the end of a closing handshake; 0: 1 s
	PingInterval   time.Duration // from one ping to a WebSocket to the next; 0: 25 s, negative: no pings
	PongTimeout    time.Duration // for its pong, from the last byte received on; 0: 10 s

	KeepAlive  bool // HTTP/1.1 connections live on after a response, also pipelined ones; else each ends with it
	PollEvents int  // sockets served in one Poll, at most; 0: 256, which is the most

	// ReplyWait has clients wait, unread, while the reply ring is full of what others have yet to take: no reply is
	// lost because another client is slow. Who holds the others up for longer than this is closed (4001, or a reset);
	// requests with a body get 503 meanwhile. 0: nobody waits, and whose replies are overwritten is closed. Either way
	// nobody's own requests overwrite its replies.
	ReplyWait time.Duration

	// Limits besides those of Params.
	MaxConnectionsPerIP int           // an IPv6 /64 counts as one; unix sockets don't count; 0: none
	AcceptRate          int           // connections per second, as many at once; those beyond wait in the backlog; 0: none
	OnFull              OnFull        // what happens to a newcomer when all slots are taken
	OnLag               OnLag         // what happens to a client that is too far behind its ring
	MaxLagBytes         uint64        // how far that is; 0: what the ring holds
	MaxLag              time.Duration // how old what it has yet to get may be; 0: as old as the ring holds

	// AllowOrigins are the origins ("https://example.com", scheme and port as
	// browsers send them) whose pages may open WebSockets, besides those of
	// the server's own address; "*" allows all.
	AllowOrigins []string
	// TrustedProxies are who is believed: addresses ("10.0.0.1"), networks ("10.0.0.0/8"), "unix" for all who come by a unix
	// socket; at most proxy.TrustMax. Of X-Forwarded-For in their requests the last address that is not in the list is the
	// client's; X-Forwarded-Host and X-Forwarded-Proto tell what a page's origin is compared with. They are not limited by
	// MaxConnectionsPerIP themselves. Of others such fields are not looked at (docs/proxy.md).
	TrustedProxies []string
	// ProxyProtocol: a connection from TrustedProxies begins with this header, which tells its client; without a good one it is
	// closed (CloseProxyHeader). Others are plain clients, closed if they send one. Needs MaxRequestLen of proxy.MinRoom.
	ProxyProtocol ProxyProtocol
	trust         proxy.Trust // TrustedProxies, once complete

	// OnRefusedOrigin is told of each upgrade refused for its Origin; the bytes
	// are valid until it returns. nil: none.
	OnRefusedOrigin func(origin, host []byte)

	// Steering is told how many connections the tile has, so that those who come are steered to the one with the fewest (package
	// steer). nil: nobody is told.
	Steering *steer.Tile

	// Survive has connections outlive the process: their sockets are left open at an exec, and TakeTile carries on what a
	// predecessor left in the table of those sockets that are open here, under the numbers that they had (docs/survive.md).
	// How they come here is not the tile's business (package keeper).
	Survive bool

	AppTimeout time.Duration // for an application's answer to a request, then 503; 0: 30 s
	AppGrace   time.Duration // that WebSockets wait for an application that died to come again, then 1013; 0: 10 s
}

// NetTile is the role of a network tile: one epoll loop over its sockets and
// doorbell. All state of its connections is in the server's memory; what is
// here besides (lists, free lists, the timer wheel) is rebuilt from it. It
// belongs to one goroutine, which the caller locks to its thread.
type NetTile struct {
	srv  *Server
	id   int
	lock *shmem.Lock
	cb   Callbacks
	opt  TileOptions
	slot *tileSlot

	ep        int
	bell      *tile.Bell
	bellFd    int
	listeners []listener
	events    [256]unix.EpollEvent
	accepted  unix.RawSockaddrAny

	conns      []conn
	closed     *closedHdr
	closedRecs []closedRec
	pend       []pending
	free       []uint32 // connection slots
	pends      pool     // pending entries
	req        pool
	head       pool
	recv       pool
	msg        pool
	rep        replies
	freed      bool // a buffer was given back since the waiters were looked at
	static     []byte
	local      []local
	httpNow    uint32 // slots that count against MaxConnectionCnt
	wsNow      uint32

	rd     []*reader // producers' rings, own reply ring, applications' reply rings
	groups []group   // clients that follow them
	walked int       // ring being walked
	side   func(*message)
	due    func(uint32)
	stage  *Stage
	iov    shmem.Iovs

	ports   []appPort // applications in other processes
	rings   bool      // events were put since their doorbells were rung
	evTurn  uint32    // connection whose turn it is after it waited for room, slot+1
	ev      event     // being put; a field, so that none is allocated
	appHead h1.Head   // of a request that an application answers

	dirty   []uint32 // have something to send
	again   []uint32 // have something to read, or to retry
	spare   []uint32
	waiters []uint32 // await a buffer
	waited  []uint32 // did so at the last look
	wheel   wheel
	order   queues
	addrs   addrs // only with MaxConnectionsPerIP
	rate    bucket
	refused refusals
	reserve int // descriptor for turnAway, -1: none

	reqHead h1.Head // of the request being read; a field, so that none is allocated
	reqNow  Request // being answered

	cnt      *tile.Counters
	now      int64
	draining bool
	drain    drainage
	deaf     bool // nobody new is taken in
	dateField

	left    heritage // of a predecessor, until it is taken over
	orphans []int    // sockets that it had accepted and not entered, until their listener is there

	lag         lagLimits
	closeWithin time.Duration // for what a client has yet to get before its close frame
}

// local is what the process knows of a slot besides its conn.
type local struct {
	list       uint8 // listNone, ...
	dirty      bool
	again      bool
	waits      bool   // in waiters, maybe for the slot's connection before
	waitsReply bool   // in rep.waiters, likewise
	at         uint32 // in the list

	evNext, evPrev uint32 // among those that wait for room in their application's queue, slot+1
}

const (
	listNone = iota
	listActive
	listBlocked
)

// group is the clients that follow one ring: those that stand at its head and
// can be written to, and those that the kernel takes nothing more for now. A
// client that is closing is in neither.
type group struct {
	lists    [3][]uint32
	swept    uint64 // ring offset at the last sweep of the blocked
	sweptSeq uint64
	cut      uint64 // offset before which they lagged too far, as of then
}

type listener struct {
	fd      int
	addr    string // of Listen's, whose file is ours to remove
	more    bool   // somebody may be waiting
	retryAt int64  // after an error: not before
}

// The reply ring of this tile follows the producers' rings in NetTile.rd.
func (t *NetTile) replyRing() int { return int(t.srv.params.RingCnt) }

// TakeTile takes the role of network tile id (0 to TileCnt-1). Connections that
// a predecessor left are carried on (TileOptions.Survive), or closed in the table
// (CloseTileLost): their sockets are gone. Errors: ErrRole with the holder, ErrParams, ErrReadOnly, or that of the
// system.
func (s *Server) TakeTile(id int, o TileOptions) (*NetTile, error) {
	if id < 0 || id >= int(s.params.TileCnt) {
		return nil, fmt.Errorf("%w: tile %d of %d", ErrParams, id, s.params.TileCnt)
	}
	lock, err := s.takeRole(s.tileOff(id))
	if err != nil {
		return nil, fmt.Errorf("tile %d, held by process %d: %w", id, s.TilePid(id), err)
	}
	t := &NetTile{srv: s, id: id, lock: lock, cb: o.Callbacks, opt: o, slot: s.slot(id), ep: -1, reserve: -1, now: sys.now()}
	taking(t)
	step(ptTakeover)
	if err = t.attach(); err == nil {
		err = t.open()
	}
	switch {
	case err != nil && o.Survive: // for another attempt
		t.HandOver()
	case err != nil:
		t.Release()
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// attach takes up what of the tile lies in the server's memory.
func (t *NetTile) attach() error {
	s, p, l := t.srv, &t.srv.params, &t.srv.lay
	if err := t.opt.complete(p); err != nil {
		return err
	}
	if t.opt.PollEvents <= 0 || t.opt.PollEvents > len(t.events) {
		t.opt.PollEvents = len(t.events)
	}
	t.lagInit()
	t.closeWithin = t.opt.CloseTimeout
	var err error
	if t.cnt, err = s.Counters(t.id); err != nil {
		return err
	}
	base := s.tileOff(t.id)
	area := func(off, n uint64) []byte { return s.mem.Bytes()[base+off : base+off+n] }
	t.conns, t.static = s.conns[t.id], s.staticData()
	t.closed, t.closedRecs = s.closedMem(t.id)
	if t.pend, err = shmem.SliceAt[pending](s.mem, base+l.pending, uint64(p.PendingCnt)); err != nil {
		return err
	}
	t.pends = newPool(nil, 0, p.PendingCnt)
	t.req = newPool(area(l.req, uint64(p.MaxConnectionCnt+1)*l.reqSz), l.reqSz, p.MaxConnectionCnt+1)
	t.head = newPool(area(l.head, uint64(p.HeadBufCnt)*headBufSz), headBufSz, p.HeadBufCnt)
	t.recv = newPool(area(l.recv, uint64(p.RecvBufCnt)*recvBufSz), recvBufSz, p.RecvBufCnt)
	t.msg = newPool(area(l.msg, uint64(p.MsgBufCnt)*l.msgSz), l.msgSz, p.MsgBufCnt)
	t.local = make([]local, l.connCnt)
	t.free = make([]uint32, 0, l.connCnt)
	t.dirty = make([]uint32, 0, l.connCnt)
	t.again = make([]uint32, 0, l.connCnt)
	t.spare = make([]uint32, 0, l.connCnt)
	t.waiters = make([]uint32, 0, l.connCnt)
	t.waited = make([]uint32, 0, l.connCnt)
	if t.opt.ReplyWait > 0 {
		t.rep = replies{link: make([]replyLink, p.PendingCnt), waiters: make([]uint32, 0, l.connCnt)}
	}
	rings := append(append(slices.Clone(s.rings), s.reply[t.id]), s.reply[p.TileCnt:]...)
	read := newReader
	if t.opt.Survive {
		read = resumeReader
	}
	for _, r := range rings {
		t.rd = append(t.rd, read(r, t.id))
	}
	t.groups = make([]group, len(t.rd))
	if t.opt.Survive {
		if t.left, err = t.inherit(); err != nil {
			return err
		}
	}
	if err := t.openPorts(); err != nil {
		return err
	}
	if t.opt.Survive {
		t.takeOver(&t.left)
	} else {
		t.abandon()
	}
	t.wheel.rebuild(t.conns, t.now)
	t.order = newQueues(t.conns)
	t.recount()
	t.rate = bucket{rate: int64(t.opt.AcceptRate)}
	t.cnt.Cell(cntWalkedSeq).Set(t.rd[0].seen)
	t.cnt.Cell(cntWalkedBytes).Set(t.rd[0].end)
	for i := range t.groups[:p.RingCnt] {
		t.groups[i].lists[listActive] = make([]uint32, 0, p.MaxWsConnectionCnt)
		t.groups[i].lists[listBlocked] = make([]uint32, 0, p.MaxWsConnectionCnt)
	}
	t.side, t.due = t.sideMessage, t.timedOut
	t.stage, err = newStage(s.reply[t.id], areaSide, 0)
	return err
}

// open makes the epoll and the doorbell.
func (t *NetTile) open() (err error) {
	if t.ep, err = sys.epoll(); err != nil {
		return fmt.Errorf("httpsrv: epoll: %w", err)
	}
	if err := t.openBell(); err != nil {
		return err
	}
	t.reserve = openReserve()
	t.carryOn(&t.left)
	t.left = heritage{}
	t.tellLoad()
	t.slot.pid.Store(uint64(os.Getpid()))
	t.slot.runs.Add(1)
	return nil
}

// openBell formats the doorbell, unless the predecessor's is the same one.
func (t *NetTile) openBell() error {
	m, err := t.srv.bellMem(t.id)
	if err != nil {
		return err
	}
	if t.bell, err = openBell(m, t.opt.BellPath); err != nil {
		return err
	}
	if t.bellFd, err = t.bell.Open(); err != nil {
		return err
	}
	return t.watch(t.bellFd, unix.EPOLLIN|unix.EPOLLET, int32(t.bellFd), evBell)
}

func (t *NetTile) watch(fd int, events uint32, about, what int32) error {
	ev := unix.EpollEvent{Events: events, Fd: about, Pad: what}
	if err := sys.watch(t.ep, fd, &ev); err != nil {
		return fmt.Errorf("httpsrv: epoll: %w", err)
	}
	return nil
}

// abandon frees what a predecessor left. Generations go on.
func (t *NetTile) abandon() {
	for i := len(t.conns); i > 0; i-- {
		c := &t.conns[i-1]
		if c.state != stFree {
			t.noteClosed(uint32(i-1), c, CloseTileLost)
			t.unbind(uint32(i-1), c, CloseTileLost)
			gen := c.gen.Load()
			*c = conn{fd: -1}
			c.gen.Store(gen)
			t.cnt.Cell(cntClosed0 + int(CloseTileLost)).Inc()
		}
		t.free = append(t.free, uint32(i-1))
	}
	t.cnt.Cell(cntConnsNow).Set(0)
	t.cnt.Cell(cntWsNow).Set(0)
	t.cnt.Cell(cntBlockedNow).Set(0)
}

// Release gives the role back: every connection is reset and the listeners made
// by Listen are closed. Call Drain first to close clients properly.
func (t *NetTile) Release() {
	for i := range t.conns {
		if t.conns[i].state != stFree && t.cnt != nil && t.local != nil {
			t.reset(uint32(i), CloseShutdown)
		}
	}
	t.ringApps()
	for i := range t.ports {
		t.ports[i].bell.leave()
	}
	t.StopListening()
	t.listeners = nil
	for _, rd := range t.rd {
		rd.unpin()
	}
	if t.bell != nil {
		t.bell.Leave()
		t.bell = nil
	}
	t.refused.expire(0)
	if t.reserve >= 0 {
		sys.close(t.reserve)
		t.reserve = -1
	}
	if t.ep >= 0 {
		sys.close(t.ep)
		t.ep = -1
	}
	if t.lock != nil {
		t.slot.pid.Store(0)
		_ = t.lock.Unlock()
		t.lock = nil
	}
}

// Fd returns the epoll descriptor, which is readable when Poll has something to do.
func (t *NetTile) Fd() int { return t.ep }

// Stage returns the stage of the tile's reply ring, for callbacks: response
// bodies and messages to single clients.
func (t *NetTile) Stage() *Stage { return t.stage }

// Listen makes a listening socket (ListenSocket) and serves it. It returns the
// address, with the port that the kernel chose for port 0. The file of a unix
// socket is removed when listening ends.
func (t *NetTile) Listen(addr string) (string, error) {
	fd, actual, err := ListenSocket(addr, t.opt.SndBuf)
	if err != nil {
		return "", err
	}
	if err := t.ListenFd(fd); err != nil {
		return "", err
	}
	t.listeners[len(t.listeners)-1].addr = actual
	return actual, nil
}

// ListenFd serves a listening socket; the tile owns the descriptor from then on.
func (t *NetTile) ListenFd(fd int) error {
	t.listeners = append(t.listeners, listener{fd: fd, more: true})
	t.adoptOrphans(fd)
	return t.watch(fd, unix.EPOLLIN|unix.EPOLLET, int32(len(t.listeners)-1), evListener)
}

// Conns returns how many connections there are in any state, and how many of
// them stream.
func (t *NetTile) Conns() (all, ws int) { return int(t.httpNow + t.wsNow), int(t.wsNow) }

// tellLoad tells the program that steers connections how many there are.
func (t *NetTile) tellLoad() { t.opt.Steering.SetLoad(uint64(t.httpNow + t.wsNow)) }

// lookMoved has those accepted that came from a listener that is gone: the kernel need not tell of them.
func (t *NetTile) lookMoved() {
	if t.opt.Steering.Moved() {
		for i := range t.listeners {
			t.listeners[i].more = true
		}
	}
}

// StopListening closes the listeners: nobody new gets in.
func (t *NetTile) StopListening() {
	for i := range t.listeners { // maybe from a callback of accept
		if l := &t.listeners[i]; l.fd >= 0 {
			sys.close(l.fd)
			RemoveSocket(l.addr)
			*l = listener{fd: -1}
		}
	}
}

// PauseListening has the tile take nobody new in, or no longer: who connects meanwhile waits, for this tile, for others that
// share the socket, or for a successor.
func (t *NetTile) PauseListening(on bool) {
	t.deaf = on
	for i := range t.listeners {
		t.listeners[i].more = !on
	}
}

// Drain stops listening and closes every client: WebSockets with code and text
// (at most 123 bytes), after what has been published so far, the others after
// their response. It returns at once; Conns tells when all are gone. within
// bounds how long a client may take for that, besides CloseTimeout for its
// answer.
func (t *NetTile) Drain(code uint16, text string, why CloseReason, within time.Duration) {
	t.drainAll(code, text, why, within, false)
}

func (t *NetTile) drainAll(code uint16, text string, why CloseReason, within time.Duration, requests bool) {
	t.draining = true
	t.closeWithin = within
	t.drain.on = false
	t.StopListening()
	t.deliver()
	for i := range t.conns {
		slot := uint32(i)
		switch c := &t.conns[i]; c.state {
		case stRequest:
			if rx := c.rxNow(); !requests || rx.done > 0 && rx.done == rx.end { // or it lies idle after a response
				t.drop(slot, why)
			} else if end := t.now + within.Nanoseconds(); c.deadline == 0 || c.deadline > end {
				t.setDeadline(slot, within.Nanoseconds())
			}
		case stStream, stUpgrade:
			t.sendAway(slot, code, text, why)
		}
	}
	t.flush()
}
