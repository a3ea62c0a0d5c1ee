package httpsrv

import (
	"github.com/tilewire/tilewire/httpsrv/h1"
)

// appPort is a tile's side of one application in another process: the queue
// that its events go into, and what is known of it. All of it but the queue is
// rebuilt from the connections.
type appPort struct {
	id       int
	q        *evq
	bell     tileBell
	put      bool   // events were put since its doorbell was rung
	reserved uint64 // bytes kept free for opens and closes: evUnits of all connections
	bound    int    // connections that are its

	first, last uint32 // those that wait for room, slot+1
	need        uint64 // bytes that the first one needs, 0: unknown
	seen        uint64 // tail when they were looked at last

	walked uint64 // side offset that its reply ring was taken over to, as told
	run    uint64 // of the process that has the role, as far as is known
	goneAt int64  // since when nobody has it, 0: somebody does
	unsure bool   // or since later
	lookAt int64  // when the kernel is asked next
}

// appLook is how often (ns) a tile asks whether an application that has
// connections is alive, besides at each request for it.
const appLook = 50e6

// openPorts takes up the event queues. The connections in the table are those
// that a predecessor left.
func (t *NetTile) openPorts() error {
	t.ports = make([]appPort, t.srv.params.AppCnt)
	for i := range t.ports {
		p := &t.ports[i]
		q, err := t.srv.queue(t.id, i)
		if err != nil {
			return err
		}
		m, err := t.srv.appBellMem(i)
		if err != nil {
			return err
		}
		*p = appPort{id: i, q: q, run: q.hdr.run.Load(), walked: noPin, bell: tileBell{mem: m, runs: &t.srv.appSlot(i).runs}}
		q.hdr.want.Store(0)
		if q.head != q.tail { // a predecessor may have died before it rang
			p.put, t.rings = true, true
		}
		if t.opt.Survive { // it may have died and come again meanwhile: the first look tells
			p.run--
		}
	}
	for i := range t.conns {
		if c := &t.conns[i]; c.state != stFree && c.app != 0 {
			if p := t.port(c); p != nil {
				c.evFlags &^= evWaits
				p.bound++
				p.reserved += uint64(c.evUnits) * evSz
			}
		}
	}
	return nil
}

// port returns the application that the connection is bound to, or nil.
func (t *NetTile) port(c *conn) *appPort {
	if i := int(c.app) - 1; i >= 0 && i < len(t.ports) {
		return &t.ports[i]
	}
	return nil
}

// noTag is the tag of a connection whose request is yet to be put.
const noTag = ^uint64(0)

// forward hands a whole request to an application, which answers it. Until then
// the connection keeps its request buffer and is not read from.
func (t *NetTile) forward(slot uint32, c *conn, h *h1.Head, raw []byte, r *Response) {
	headOnly, keep := h.Method == MethodHead, !r.Close && t.keeps(h)
	if r.App < 0 || r.App >= len(t.ports) {
		t.refuse(slot, 500, CloseInternal)
		return
	}
	p := &t.ports[r.App]
	t.look(p)
	if p.goneAt != 0 {
		if r.Forward = false; r.Status != 0 {
			t.respond(slot, c, r, headOnly, keep)
			return
		}
		t.cnt.Cell(cntAppLost).Inc()
		t.refuseAs(slot, 503, CloseAppGone, h1.Served, headOnly)
		return
	}
	t.bind(slot, c, p)
	if c.flags &^= flHead; headOnly {
		c.flags |= flHead
	}
	if c.evFlags &^= evKeeps; keep {
		c.evFlags |= evKeeps
	}
	c.tag, c.bound = noTag, 0
	step(ptAnswered)
	c.state = stAwait
	step(ptAnswered)
	t.setDeadline(slot, t.opt.AppTimeout.Nanoseconds())
	if p.first != 0 || !t.putRequest(slot, c, p, raw) {
		t.waitRoom(slot, c, p, evLen(len(raw)))
	}
}

// bind makes p the application that gets the connection's events.
func (t *NetTile) bind(slot uint32, c *conn, p *appPort) {
	if t.port(c) == p {
		return
	}
	t.unbind(slot, c, CloseOK)
	c.app = uint8(p.id + 1)
	p.bound++
}

// unbind tells the application, if it knows of the connection, that it is gone.
func (t *NetTile) unbind(slot uint32, c *conn, why CloseReason) {
	p := t.port(c)
	if p == nil {
		c.app = 0
		return
	}
	t.unwait(slot, c)
	if c.evUnits > 0 {
		// The flag first: an application that joins now must not take the
		// connection for a living one once this event is behind it.
		c.evFlags |= evClosed
		t.putEvent(slot, c, p, &event{kind: evClose, reason: why}, nil, p.reserved-uint64(c.evUnits)*evSz)
		p.reserved -= uint64(c.evUnits) * evSz
	}
	p.bound--
	c.evUnits, c.evFlags, c.app, c.tag = 0, 0, 0, 0
}

// putRequest puts a whole request, if there is room for it and for what is kept
// for the connection from now on.
func (t *NetTile) putRequest(slot uint32, c *conn, p *appPort, raw []byte) bool {
	more := evUnitsBound - c.evUnits
	c.evUnits = evUnitsBound
	p.reserved += uint64(more) * evSz
	e := event{kind: evRequest, end: c.rxNow().done + uint64(len(raw)), keep: c.evFlags & evKeeps}
	if !t.putEvent(slot, c, p, &e, raw, p.reserved) {
		c.evUnits -= more
		p.reserved -= uint64(more) * evSz
		return false
	}
	c.tag = t.ev.pos
	return true
}

// putOpen tells that the connection streams.
func (t *NetTile) putOpen(slot uint32, c *conn, p *appPort) {
	t.putEvent(slot, c, p, &event{kind: evOpen}, nil, p.reserved-evSz)
	c.evUnits--
	p.reserved -= evSz
}

// putMessage puts a whole message that ends at end, or has the connection wait
// for room: then nothing of the message is committed, and its last bytes are
// taken again.
func (t *NetTile) putMessage(slot uint32, c *conn, p *appPort, op byte, end uint64, data []byte) bool {
	if t.putEvent(slot, c, p, &event{kind: evMessage, op: op, end: end}, data, p.reserved) {
		return true
	}
	t.waitRoom(slot, c, p, evLen(len(data)))
	return false
}

// putEvent puts an event unless less than keep bytes were left free.
func (t *NetTile) putEvent(slot uint32, c *conn, p *appPort, e *event, payload []byte, keep uint64) bool {
	t.ev = *e
	if e = &t.ev; e.end == 0 {
		e.end = c.rxNow().done
	}
	if e.conn = uint64(t.connID(slot)); c.flags&flStreams != 0 {
		e.tag = c.tag
	}
	if !p.q.put(e, payload, keep) {
		return false
	}
	step(ptEvent)
	p.put, t.rings = true, true
	t.cnt.Cell(cntAppEvents).Inc()
	return true
}

// ringApps wakes the applications that events were put for.
func (t *NetTile) ringApps() {
	t.rings = false
	for i := range t.ports {
		if p := &t.ports[i]; p.put {
			p.put = false
			p.bell.ring()
		}
	}
}

// waitRoom leaves a connection unread until there is room for its next event.
// It keeps its place if its turn had come.
func (t *NetTile) waitRoom(slot uint32, c *conn, p *appPort, need uint64) {
	if c.evFlags&evWaits != 0 {
		return
	}
	c.evFlags |= evWaits
	l := &t.local[slot]
	l.evNext, l.evPrev = 0, 0
	switch {
	case p.first == 0:
		p.first, p.last = slot+1, slot+1
		p.need, p.seen = need, p.q.tail
		p.q.hdr.want.Store(1) // behind looks at the tail once more before the tile sleeps
	case t.evTurn == slot+1:
		l.evNext, t.local[p.first-1].evPrev = p.first, slot+1
		p.first, p.need = slot+1, need
	default:
		l.evPrev, t.local[p.last-1].evNext = p.last, slot+1
		p.last = slot + 1
	}
	if t.evTurn != slot+1 {
		t.cnt.Cell(cntAppWaits).Inc()
	}
}

// unwait takes a connection out of those that wait for room.
func (t *NetTile) unwait(slot uint32, c *conn) {
	if c.evFlags&evWaits == 0 {
		return
	}
	c.evFlags &^= evWaits
	p, l := t.port(c), &t.local[slot]
	if p.first == slot+1 {
		p.first, p.need = l.evNext, 0
	} else {
		t.local[l.evPrev-1].evNext = l.evNext
	}
	if l.evNext != 0 {
		t.local[l.evNext-1].evPrev = l.evPrev
	} else {
		p.last = l.evPrev
	}
	l.evNext, l.evPrev = 0, 0
	if p.first == 0 {
		p.q.hdr.want.Store(0)
	}
}

// holdsBack leaves a stream unread, without buffers of its own, while others
// wait for room in its application's queue.
func (t *NetTile) holdsBack(slot uint32, c *conn) bool {
	p := t.port(c)
	if p == nil || c.state != stStream || p.first == 0 || t.evTurn == slot+1 {
		return false
	}
	t.waitRoom(slot, c, p, 0)
	return true
}

// spares reports whether a connection may take one of a pool's buffers and leave
// so many more: those of applications leave half of each pool to the tile's own,
// which must not wait for an application that is slow. Where either pool is too small
// for that neither is shared: who holds one's buffer would wait for ever for the other's.
func (t *NetTile) spares(c *conn, p *pool, more int) bool {
	return c.app == 0 || min(t.recv.cnt, t.msg.cnt) < 4 || len(p.free) > int(p.cnt/2)+more
}

// resumeApps goes on with those that wait for room, in their order, as far as
// there is some again.
func (t *NetTile) resumeApps() (work int) {
	for i := range t.ports {
		p := &t.ports[i]
		if p.first == 0 {
			continue
		}
		tail := p.q.hdr.tail.Load()
		if tail == p.seen {
			continue
		}
		p.seen = tail
		for n := 0; p.first != 0 && p.q.fits(max(p.need, evSz), p.reserved); n++ {
			if n == acceptBatch { // the others next time
				p.seen = tail - 1
				break
			}
			slot := p.first - 1
			c := &t.conns[slot]
			t.unwait(slot, c)
			t.evTurn = slot + 1
			work++
			if c.state == stAwait {
				t.forwardAgain(slot, c, p)
			} else {
				t.receive(slot)
			}
			t.evTurn = 0
			if c.evFlags&evWaits != 0 && p.first == slot+1 {
				break
			}
		}
	}
	return work
}

// forwardAgain puts a request that had to wait.
func (t *NetTile) forwardAgain(slot uint32, c *conn, p *appPort) {
	raw, _, ok := t.heldRequest(c)
	if !ok {
		t.refuse(slot, 500, CloseInternal)
		return
	}
	if !t.putRequest(slot, c, p, raw) {
		t.waitRoom(slot, c, p, evLen(len(raw)))
	}
}

// heldRequest takes the request that a connection still holds apart again, into
// t.appHead; all has what was received behind it as well.
func (t *NetTile) heldRequest(c *conn) (raw, all []byte, ok bool) {
	rx, lim := c.rxNow(), t.limits()
	b := t.req.buf(rx.buf)[rx.done-rx.base : rx.end-rx.base]
	if _, v := h1.Parse(b, 0, &lim, &t.appHead); !v.OK() {
		return nil, nil, false
	}
	n := t.appHead.Len + int(t.appHead.BodyLen())
	if n > len(b) {
		return nil, nil, false
	}
	return b[:n], b, true
}

// appsIn shortens a wait to the next look at the applications that have connections.
func (t *NetTile) appsIn(timeoutMs int) int {
	for i := range t.ports {
		if p := &t.ports[i]; p.bound > 0 {
			if ms := int(max(p.lookAt-t.now, 0)/1e6) + 1; timeoutMs < 0 || ms < timeoutMs {
				timeoutMs = ms
			}
		}
	}
	return timeoutMs
}

// roomCame reports whether somebody waits for room and there may be some.
func (t *NetTile) roomCame() bool {
	for i := range t.ports {
		if p := &t.ports[i]; p.first != 0 && p.q.hdr.tail.Load() != p.seen {
			return true
		}
	}
	return false
}

// lookApps looks at those whose time has come.
func (t *NetTile) lookApps() {
	for i := range t.ports {
		if p := &t.ports[i]; p.bound > 0 && t.now >= p.lookAt {
			t.look(p)
		}
	}
}

// look asks the kernel whether anybody has the application's role, and does
// what follows: requests that a process did not answer before it died get 503;
// its WebSockets wait for a successor for AppGrace, then get 1013.
func (t *NetTile) look(p *appPort) {
	p.lookAt = t.now + appLook
	held := t.srv.AppHeld(p.id)
	run := p.q.hdr.run.Load()
	if run != p.run { // it came since the last look, and may be gone again
		p.run, p.goneAt = run, 0
		from := p.q.hdr.from.Load()
		t.loseRequests(p, func(c *conn) bool { return int64(c.tag-from) < 0 })
	}
	switch {
	case held:
	case p.goneAt == 0:
		p.goneAt, p.unsure = t.now, true
		t.loseRequests(p, func(*conn) bool { return true })
	case p.unsure: // that time was from before this tile may have stood still
		p.goneAt, p.unsure = t.now, false
	case t.now-p.goneAt > t.opt.AppGrace.Nanoseconds() && p.bound > 0:
		t.loseStreams(p)
	}
}

// loseRequests answers 503 to what nobody will answer, once the answers that
// were given are taken over.
func (t *NetTile) loseRequests(p *appPort, lost func(*conn) bool) {
	if i := t.replyRing() + 1 + p.id; t.rd[i].behind() {
		t.deliverRing(i)
	}
	for i := range t.conns {
		c := &t.conns[i]
		if c.state == stAwait && t.port(c) == p && (c.evFlags&evWaits == 0 || p.goneAt != 0) && lost(c) {
			t.loseRequest(uint32(i), c)
		}
	}
}

func (t *NetTile) loseRequest(slot uint32, c *conn) {
	t.unwait(slot, c)
	t.cnt.Cell(cntAppLost).Inc()
	t.refuseAs(slot, 503, CloseAppGone, h1.Served, c.flags&flHead != 0)
}

// loseStreams closes the application's WebSockets, as many as there are buffers
// for close frames; the next look goes on.
func (t *NetTile) loseStreams(p *appPort) {
	for i := range t.conns {
		c := &t.conns[i]
		if t.port(c) != p || c.state != stStream && c.state != stUpgrade {
			continue
		}
		if c.headBuf == 0 && len(t.head.free) == 0 {
			return
		}
		t.closeSoon(uint32(i), CodeOverloaded, CloseAppGone.String(), CloseAppGone)
	}
}
