package httpsrv

import (
	"cmp"
	"fmt"
	"slices"
)

// A tile's successor finds the connection table as its predecessor's death left
// it, between any two stores, and the sockets open under the numbers that are in
// the table. The kernel's counts tell the rest to the byte (docs/survive.md):
//
//   - tx, the bytes that it was given, less those that the plan in force counts
//     (conn.pos) are what the last send took from the plan's source;
//   - rx, the bytes that were taken from it, less those that count as received
//     (rxPos.end) lie behind these already.
//
// What else was under way is either done again, from states that change by one
// store each, or found to be done: by where a message's entry or an event came
// from, or where an answered ping ended.

// heritage is what a predecessor left.
type heritage struct {
	keep  []uint32
	lost  []lostConn
	fds   map[int]bool // sockets that are open here; true: of a connection in the table
	used  [poolCnt]map[uint32]bool
	fatal ConnID  // that must not be carried on, 0: none
	tagOf []event // the last event in each application's queue
}

type lostConn struct {
	slot  uint32
	why   CloseReason
	reset bool // its stream cannot be told to end in order
}

const (
	poolReq = iota
	poolHead
	poolRecv
	poolMsg
	poolPend
	poolCnt
)

func (t *NetTile) pool(i int) *pool {
	return [poolCnt]*pool{&t.req, &t.head, &t.recv, &t.msg, &t.pends}[i]
}

// inherit mends the table: afterwards every connection in it can be carried on,
// or is among the lost. The pools hold back what the former hold.
// Errors: the system does not tell what is open here; nothing was touched.
func (t *NetTile) inherit() (heritage, error) {
	h := heritage{fds: map[int]bool{}, tagOf: make([]event, t.srv.params.AppCnt)}
	open, err := sys.inherited()
	if err != nil {
		return h, fmt.Errorf("httpsrv: inherited sockets: %w", err)
	}
	for _, fd := range open {
		h.fds[fd] = false
	}
	for i := range h.tagOf {
		if q, err := t.srv.queue(t.id, i); err == nil {
			h.tagOf[i], _ = q.latest()
		}
	}
	for i := range h.used {
		h.used[i] = map[uint32]bool{}
	}
	h.fatal = t.fatal()
	for i := range t.conns {
		c := &t.conns[i]
		if c.state == stFree { // or its entry was being written
			c.forget()
			continue
		}
		slot := uint32(i)
		if why, reset, ok := t.mend(slot, c, &h); !ok {
			c.forget()
			h.lost = append(h.lost, lostConn{slot, why, reset})
		} else {
			h.keep = append(h.keep, slot)
		}
	}
	for i := range h.used {
		t.pool(i).keep(h.used[i])
	}
	return h, nil
}

// fatalMost is how many processes in a row may die while their callback handles the same connection's request or message.
const fatalMost = 3

// fatal returns the connection that must not be carried on: its request or message would kill this process as it did those before.
func (t *NetTile) fatal() ConnID {
	s := t.slot
	busy := s.busy.Load()
	if busy == 0 || busy != s.suspect {
		s.deaths = 0
	}
	s.suspect = busy
	s.busy.Store(0)
	if busy == 0 {
		return 0
	}
	if s.deaths++; s.deaths < fatalMost {
		return 0
	}
	return ConnID(busy)
}

// forget lets go of all buffers, which nobody has claimed.
func (c *conn) forget() {
	c.rxNow().buf, c.headBuf, c.recvBuf, c.msgBuf = 0, 0, 0, 0
	c.pendHead, c.pendTail, c.pendCnt = 0, 0, 0
	c.ctlLen = [ctlSlots]uint16{}
	c.bound, c.ping = 0, 0
}

// takeOver counts what is in the table.
func (t *NetTile) takeOver(h *heritage) {
	for i := len(t.conns); i > 0; i-- {
		switch c := &t.conns[i-1]; {
		case c.state == stFree:
			t.free = append(t.free, uint32(i-1))
		case c.flags&flStreams != 0:
			t.wsNow++
		default:
			t.httpNow++
		}
	}
	t.cnt.Cell(cntConnsNow).Set(uint64(t.httpNow + t.wsNow))
	t.cnt.Cell(cntWsNow).Set(uint64(t.wsNow))
	t.cnt.Cell(cntBlockedNow).Set(0)
	if len(h.keep) == 0 {
		for _, rd := range t.rd { // there is nobody to whom it would matter
			rd.overruns = 0
			rd.toHead()
		}
	}
	for fd, mine := range h.fds {
		if !mine {
			t.orphans = append(t.orphans, fd)
		}
	}
	slices.Sort(t.orphans)
}

// carryOn goes on with every connection: what is to be sent is sent, and what
// came meanwhile is read, in the Poll that follows.
func (t *NetTile) carryOn(h *heritage) {
	cb := t.cb
	t.cb = Callbacks{} // as long as the caller has no tile to act on
	defer func() { t.cb = cb }()
	for _, l := range h.lost {
		if l.reset && t.conns[l.slot].fd >= 0 {
			t.reset(l.slot, l.why)
		} else {
			t.drop(l.slot, l.why)
		}
	}
	t.requeue(h)
	for _, slot := range h.keep {
		c := &t.conns[slot]
		if c.state == stFree {
			continue
		}
		if err := t.watchConn(slot, c); err != nil { // ENOMEM, ENOSPC: nobody would tell of it
			t.reset(slot, CloseTileLost)
			continue
		}
		t.cnt.Cell(cntCarried).Inc()
		if c.pos().src() == srcPend {
			t.popSent(c)
		}
		if p := t.port(c); p != nil && c.state == stStream && c.evUnits == evUnitsBound { // the application was not told yet
			t.putOpen(slot, c, p)
		}
		if c.state == stStream && c.ping == 0 { // nor was the first ping's time set
			t.pingFirst(slot, c)
		}
		switch {
		case c.state == stLinger:
			if sys.shutWr(int(c.fd)) != nil { // it may have been to come
				t.drop(slot, c.reason)
				continue
			}
		case c.state == stStream && c.ring >= 0:
			t.list(slot, listActive)
		case c.state == stAwait && c.tag == noTag:
			t.putAgain(slot, c)
		}
		if c.flags&flMore != 0 || c.state == stRequest || c.state == stLinger {
			t.later(slot)
		}
		t.touch(slot)
	}
	for i, rd := range t.rd {
		if rd.overruns > 0 {
			t.cnt.Cell(cntOverruns).Add(rd.overruns)
			t.overrun(i, rd.own)
			rd.settled()
		}
	}
}

// putAgain puts a request whose event the predecessor did not come to put.
func (t *NetTile) putAgain(slot uint32, c *conn) {
	p := t.port(c)
	if p == nil {
		t.refuse(slot, 500, CloseInternal)
		return
	}
	t.forwardAgain(slot, c, p)
}

// requeue brings the replies that wait into the order of their bytes.
func (t *NetTile) requeue(h *heritage) {
	if t.rep.link == nil {
		return
	}
	type entry struct {
		i, slot uint32
		off     uint64
	}
	var all []entry
	for _, slot := range h.keep {
		for i := t.conns[slot].pendHead; i != 0; i = t.pend[i-1].next {
			if e := &t.pend[i-1]; int(e.ring) == t.replyRing() {
				all = append(all, entry{i, slot, e.off})
			}
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.off, b.off) })
	rd := t.rd[t.replyRing()]
	seq, m := rd.r.oldest(rd.seen), message{}
	for _, e := range all {
		for seq != rd.seen && (!rd.r.read(seq, &m) || m.end[areaSide] <= e.off) {
			seq++
		}
		t.rep.push(e.i, e.slot, seq)
	}
}

// Each calls f for every connection, and says whether it is a WebSocket that
// Callbacks.WsOpen was called for, by this process or a predecessor: what a
// process that carries them on has no other way to know.
func (t *NetTile) Each(f func(id ConnID, ws bool)) {
	for i := range t.conns {
		if c := &t.conns[i]; c.state != stFree {
			f(t.connID(uint32(i)), c.flags&flWs != 0)
		}
	}
}

// HandOver ends the role and leaves every connection to a successor that takes
// it with TileOptions.Survive and these sockets open: nothing is closed but what
// is the process's own. It is called between two Polls; death does it as well.
func (t *NetTile) HandOver() {
	t.conns, t.listeners = nil, nil // Release leaves them alone
	t.Release()
}
