package httpsrv

import (
	"time"

	"github.com/tilewire/tilewire/httpsrv/h1"
)

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
		if c.state == stAwait && c.tag == noTag && e.end > c.rxNow().done { // else it is that of the connection's request before
			c.tag = e.pos
		}
	case evOpen:
		c.evUnits = min(c.evUnits, evUnitsBound-1)
	case evMessage:
		if rx := *c.rxNow(); (c.state == stStream || c.state == stClosing) && rx.done <= e.end && e.end <= rx.end {
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
	if c.state != stStream {
		end := t.now + [stStates]time.Duration{
			stRequest: t.opt.RequestTimeout, stAwait: t.opt.AppTimeout, stRespond: t.opt.WriteTimeout, stUpgrade: t.opt.WriteTimeout,
			stClosing: t.opt.CloseTimeout, stLinger: t.opt.CloseTimeout,
		}[c.state].Nanoseconds()
		before := (c.state == stRespond || c.state == stUpgrade) && c.deadline > end || c.state == stAwait && c.tag == noTag
		if c.deadline == 0 || before { // none, or that of the state before
			c.deadline = end
		}
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
