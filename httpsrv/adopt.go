package httpsrv

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/h1"
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

// mend brings one connection to a state that its tile could have been in. false:
// it is lost, and why.
func (t *NetTile) mend(slot uint32, c *conn, h *heritage) (why CloseReason, reset, ok bool) {
	if c.evFlags&^(evWaits|evClosed|evKeeps) != 0 || int(c.app) > len(h.tagOf) {
		c.app, c.evUnits, c.evFlags = 0, 0, 0
		return CloseInternal, true, false
	}
	t.mendEvents(slot, c, h)
	mine, open := h.fds[int(c.fd)]
	if !open || mine { // closed, and not freed yet
		if c.fd = -1; c.state == stClosing || c.state == stLinger {
			return c.reason, false, false
		}
		return CloseTileLost, false, false
	}
	h.fds[int(c.fd)] = true
	if t.connID(slot) == h.fatal {
		return CloseInternal, true, false
	}
	tx, rx, state, err := sys.position(int(c.fd))
	if err != nil { // a unix socket: EOPNOTSUPP
		return CloseTileLost, true, false
	}
	if state == tcpClose {
		return c.lostReason(), false, false
	}
	if !t.mendState(c) || !t.claim(c, h) || !t.mendRx(c, rx) || !t.mendTx(c, tx) {
		return CloseInternal, true, false
	}
	return 0, false, true
}

// mendEvents finishes what an event that was put last was a part of.
func (t *NetTile) mendEvents(slot uint32, c *conn, h *heritage) {
	c.evFlags &^= evWaits
	if c.app == 0 {
		return
	}
	c.evUnits = min(c.evUnits, evUnitsBound)
	e := &h.tagOf[c.app-1]
	if e.conn != uint64(t.connID(slot)) {
		return
	}
	switch e.kind {
	case evRequest:
		if c.state == stAwait && c.tag == noTag {
			c.tag = e.pos
		}
	case evOpen:
		c.evUnits = min(c.evUnits, evUnitsBound-1)
	case evMessage:
		if rx := *c.rxNow(); (c.state == stStream || c.state == stClosing) && rx.done < e.end && e.end <= rx.end {
			rx.done, rx.left, rx.inData = e.end, 0, false
			rx.msgOp, rx.msgLen, rx.utf8 = 0, 0, 0
			c.rxCommit(&rx)
		}
	case evClose:
		c.evUnits = 0
	}
}

// mendState undoes what did not come to the store of the next state.
func (t *NetTile) mendState(c *conn) bool {
	c.flags &^= flWaitBuf | flBlocked | flRetry
	switch c.state {
	case stRequest, stAwait: // an answer is begun anew
		c.pendHead, c.headBuf = 0, 0
		c.ctlLen = [ctlSlots]uint16{}
		c.flags &^= flKeep
		c.rxNow().scan = 0
		c.ring = NoRing
	case stRespond:
		if c.flags&flKeep == 0 {
			c.rxNow().buf = 0
		}
	case stUpgrade:
		end := c.rxNow().end
		c.rxCommit(&rxPos{base: end, end: end, done: end})
		c.ctlLen[ctlClose] = 0
		c.flags |= flStreams
	case stStream:
		c.flags = c.flags&^(flPeerClose|flFailed|flSentClose) | flStreams | flMore
		if c.app == 0 {
			c.flags |= flWs
		}
		c.ctlLen[ctlClose] = 0
		if c.pingAt != 0 { // the time without a tile is not the client's
			c.ping = max(c.ping, t.now+t.opt.PongTimeout.Nanoseconds())
		}
	case stClosing:
		c.flags |= flStreams | flMore
		if c.ctlLen[ctlClose] == 0 {
			c.flags |= flSentClose
		}
	case stLinger:
		c.rxNow().buf, c.headBuf, c.recvBuf, c.msgBuf, c.pendHead = 0, 0, 0, 0, 0
		c.ctlLen = [ctlSlots]uint16{}
	default:
		return false
	}
	if c.deadline == 0 && c.state != stStream {
		c.deadline = t.now + [stStates]time.Duration{
			stRequest: t.opt.RequestTimeout, stAwait: t.opt.AppTimeout, stRespond: t.opt.WriteTimeout, stUpgrade: t.opt.WriteTimeout,
			stClosing: t.opt.CloseTimeout, stLinger: t.opt.CloseTimeout,
		}[c.state].Nanoseconds()
	}
	if c.ctlLen == [ctlSlots]uint16{} && c.pos().src() != srcCtl {
		c.headBuf = 0
	}
	if rx := c.rxNow(); c.state == stStream && rx.msgOp == 0 && !rx.inData {
		c.msgBuf = 0
	}
	return true
}

// claim checks every index before it is used, and takes the buffers that it names
// out of the free ones.
func (t *NetTile) claim(c *conn, h *heritage) bool {
	rx := c.rxNow()
	needsReq := c.state == stRequest || c.state == stAwait || c.state == stRespond && c.flags&flKeep != 0
	if (rx.buf != 0) != needsReq && c.state != stUpgrade || c.ring < NoRing || int(c.ring) >= len(t.srv.rings) ||
		rx.base > rx.done || rx.done > rx.end || c.state >= stStates {
		return false
	}
	switch room := rx.end - rx.base; {
	case rx.buf != 0 && room > uint64(t.srv.params.MaxRequestLen), rx.buf == 0 && room > recvBufSz,
		uint64(rx.msgLen) > uint64(t.srv.params.MaxWsRecvFrameLen), rx.inData && rx.left > uint64(t.srv.params.MaxWsRecvFrameLen)-uint64(rx.msgLen):
		return false
	}
	for i, n := range c.ctlLen {
		most := ctlSlot
		if i == ctlHead {
			most = headBufSz
		}
		if int(n) > most || n != 0 && c.headBuf == 0 {
			return false
		}
	}
	if c.pos().src() == srcCtl && c.headBuf == 0 {
		return false
	}
	for i, b := range [...]uint32{poolReq: rx.buf, poolHead: c.headBuf, poolRecv: c.recvBuf, poolMsg: c.msgBuf} {
		if !t.pool(i).claim(h.used[i], b) {
			return false
		}
	}
	return t.claimPend(c, h)
}

// claimPend walks the messages that wait for the connection, and counts them anew.
func (t *NetTile) claimPend(c *conn, h *heritage) bool {
	c.pendTail, c.pendCnt = 0, 0
	for i := c.pendHead; i != 0; i = t.pend[i-1].next {
		if !t.pends.claim(h.used[poolPend], i) {
			return false
		}
		e := &t.pend[i-1]
		switch {
		case e.ring == staticRing:
			if e.off > uint64(len(t.static)) || uint64(e.len) > uint64(len(t.static))-e.off {
				return false
			}
		case e.ring < 0 || int(e.ring) >= len(t.rd):
			return false
		default:
			if size := t.rd[e.ring].r.size[areaSide]; e.off&(size-1)+uint64(e.len) > size {
				return false
			}
		}
		if c.pendTail == 0 {
			c.pendPos = max(c.pendPos, e.start) // what was before it is dropped
		} else if e.start != c.pendEnd {
			return false
		}
		c.pendTail, c.pendEnd = i, e.start+uint64(e.len)
		c.pendCnt++
	}
	if c.pendTail == 0 {
		c.pendEnd = max(c.pendEnd, c.pendPos)
		c.pendPos = c.pendEnd
	}
	return true
}

// mendRx counts the bytes as received that the kernel has handed over.
func (t *NetTile) mendRx(c *conn, got uint64) bool {
	r := c.rxNow()
	room := uint64(0)
	switch {
	case c.state == stLinger:
		return true // nobody looks at them any more
	case c.state == stRequest:
		room = uint64(t.srv.params.MaxRequestLen) - (r.end - r.base)
	case c.recvBuf != 0:
		room = recvBufSz - (r.end - r.base)
	}
	if got < r.end || got-r.end > room {
		return false
	}
	r.end = got
	for piece := ctlPongA; piece <= ctlPongB && c.headBuf != 0; piece++ {
		if end, ok := t.answeredPing(c, piece); ok && end > r.done && end <= r.end {
			rx := *r
			rx.done = end
			c.rxCommit(&rx)
			r = c.rxNow()
		}
	}
	if rx := *r; rx.buf == 0 && rx.done == rx.end { // a buffer may have been taken, and this not said yet
		rx.base = rx.end
		c.rxCommit(&rx)
	}
	return true
}

// mendTx has the stream go on with the byte behind the last one that the kernel took.
func (t *NetTile) mendTx(c *conn, took uint64) bool {
	p := c.pos()
	n := counted(took - p.pos)
	if took < p.pos {
		return false
	}
	ok := true
	switch {
	case c.state == stRequest || c.state == stAwait:
		ok = n == 0 || n == uint64(len(h1.Continue))
		c.commit(txPos{took, p.at})
	case c.state == stLinger:
	case p.src() == srcRing:
		ok = t.mendRing(c, p, n)
	case p.src() == srcCtl:
		ok = t.mendCtl(c, p, n)
	case p.src() == srcPend:
		ok = p.off()+n <= c.pendEnd
		c.pendPos = p.off() + n
		c.commit(txPos{took, at(srcPend, c.pendPos)})
	default:
		ok = false
	}
	c.slow &= slowMid
	if c.ctlLen != [ctlSlots]uint16{} {
		c.slow |= slowCtl
	}
	if c.pendHead != 0 || c.pos().src() != srcRing { // the fast way takes it for granted that it stands in the ring
		c.slow |= slowPend
	}
	if c.state == stClosing || c.state == stLinger {
		c.slow |= slowStop
	}
	if c.state != stStream {
		c.slow |= slowState
	}
	return ok
}

func (t *NetTile) mendRing(c *conn, p txPos, n uint64) bool {
	if c.state == stUpgrade || c.state == stRespond || c.ring < 0 {
		c.slow = 0
		return n == 0
	}
	rd := t.rd[c.ring]
	cur := rd.after(p.off(), n)
	if cur > rd.end {
		return false
	}
	if n > 0 {
		c.flags &^= flFresh
	}
	// Whether it stands inside a frame is asked where that is still known.
	c.slow |= slowMid
	if b, ok := rd.boundary(cur); ok && b == cur {
		c.slow &^= slowMid
	}
	c.commit(txPos{p.pos + n, at(srcRing, cur)})
	c.done = uint32(rd.msgs)
	var m message
	if cur < rd.end && rd.find(cur+1, &m) {
		c.done -= uint32(rd.seen - m.seq + 1)
	}
	return true
}

func (t *NetTile) mendCtl(c *conn, p txPos, n uint64) bool {
	piece, off := int(p.off()>>16), p.off()&0xffff+n
	if piece >= ctlSlots || c.ctlLen[piece] != 0 && off > uint64(c.ctlLen[piece]) || off > headBufSz {
		return false
	}
	if off < uint64(c.ctlLen[piece]) {
		c.commit(txPos{p.pos + n, at(srcCtl, uint64(piece)<<16+off)})
		return true
	}
	c.ctlLen[piece] = 0
	if piece == ctlClose {
		c.flags |= flSentClose
	}
	c.commit(txPos{p.pos + n, at(srcRing, c.cursor)})
	return true
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

// adoptOrphans admits the connections of listener fd that were accepted and came
// to no entry. Those that were answered already are of the refused, and let go.
func (t *NetTile) adoptOrphans(fd int) {
	rest := t.orphans[:0]
	for _, o := range t.orphans {
		if !sameAddress(o, fd) {
			rest = append(rest, o)
			continue
		}
		tx, _, state, err := sys.position(o)
		if err != nil || tx > 0 || state != tcpEstablished && state != tcpCloseWait || !t.setPeerOf(o) {
			sys.close(o)
			continue
		}
		t.admit(o)
	}
	t.orphans = rest
}

// sameAddress reports whether a connection came by a listener: by its port, or the name of its unix socket.
func sameAddress(conn, listener int) bool {
	of := func(fd int) any {
		sa, err := sys.sockname(fd)
		if err != nil {
			return nil
		}
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			return sa.Port
		case *unix.SockaddrInet6:
			return sa.Port
		case *unix.SockaddrUnix:
			return sa.Name
		}
		return nil
	}
	a := of(conn)
	return a != nil && a == of(listener)
}

// setPeerOf puts the address of a connection's peer where accept leaves it.
func (t *NetTile) setPeerOf(fd int) bool {
	sa, err := sys.peername(fd)
	if err != nil {
		return false
	}
	a := &t.accepted
	*a = unix.RawSockaddrAny{}
	port := func(p int) { a.Addr.Data[0], a.Addr.Data[1] = int8(p>>8), int8(p) }
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		a.Addr.Family = unix.AF_INET
		port(sa.Port)
		for i, b := range sa.Addr {
			a.Addr.Data[2+i] = int8(b)
		}
	case *unix.SockaddrInet6:
		a.Addr.Family = unix.AF_INET6
		port(sa.Port)
		for i, b := range sa.Addr[:8] {
			a.Addr.Data[6+i] = int8(b)
		}
		for i, b := range sa.Addr[8:] {
			a.Pad[i] = int8(b)
		}
	default:
		return false
	}
	return true
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
