package httpsrv

import (
	"fmt"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// Codes of close frames (RFC 6455 section 7.4, and the server's own).
const (
	CodeNormal      = 1000
	CodeGoingAway   = 1001
	CodeProtocol    = 1002
	CodeUnsupported = 1003
	CodeBadUTF8     = 1007
	CodePolicy      = 1008
	CodeTooBig      = 1009
	CodeInternal    = 1011
	CodeRestart     = 1012
	CodeOverloaded  = 1013
	CodeLagged      = 4001
	CodeNoPong      = 4002
	CodeKicked      = 4004
)

// code returns the close code that tells a client the reason.
func (r CloseReason) code() uint16 {
	switch r {
	case CloseOK:
		return CodeNormal
	case CloseShutdown, CloseExpectedEOF:
		return CodeGoingAway
	case CloseDrain, CloseTileLost:
		return CodeRestart
	case CloseEvicted, CloseLimit, CloseAppGone:
		return CodeOverloaded
	case CloseTooSlow, CloseWsClientTooSlow:
		return CodeLagged
	case CloseBadUTF8:
		return CodeBadUTF8
	case CloseWsOversizeFrame, CloseLargeRequest:
		return CodeTooBig
	case CloseNoPong:
		return CodeNoPong
	case CloseOperator:
		return CodeKicked
	case CloseInternal:
		return CodeInternal
	case CloseWsBadMask, CloseWsUnknownOpcode, CloseWsExpectedContOpcode, CloseWsExpectedTextOpcode,
		CloseWsControlFrameTooLarge, CloseProtocol:
		return CodeProtocol
	}
	return CodePolicy
}

// lookup returns the slot of a connection that is open.
func (t *NetTile) lookup(id ConnID) (uint32, bool) {
	slot := id.Slot()
	if id == 0 || id.Tile() != t.id || int(slot) >= len(t.conns) {
		return 0, false
	}
	c := &t.conns[slot]
	return slot, c.state != stFree && c.gen.Load() == id.Gen()
}

// Close ends a connection at once, whatever it is, with a reason that the
// Close or WsClose callback gets. ErrConn: it is closed already.
func (t *NetTile) Close(id ConnID, why CloseReason) error {
	slot, ok := t.lookup(id)
	if !ok {
		return fmt.Errorf("%w: %v", ErrConn, id)
	}
	t.drop(slot, why)
	return nil
}

// WsClose ends a WebSocket with a close frame that tells the reason, after the
// message that it is being sent; what was published since is not sent. ErrConn:
// it is closed, closing, or no WebSocket.
func (t *NetTile) WsClose(id ConnID, why CloseReason) error {
	slot, ok := t.lookup(id)
	if !ok || t.conns[slot].state != stStream && t.conns[slot].state != stUpgrade {
		return fmt.Errorf("%w: %v", ErrConn, id)
	}
	t.closeSoon(slot, why.code(), why.String(), why)
	return nil
}

// closeSoon closes at the first frame boundary, or resets where its bytes are gone.
func (t *NetTile) closeSoon(slot uint32, code uint16, text string, why CloseReason) {
	c := &t.conns[slot]
	stop, ok := t.frameEnd(c)
	if !ok {
		t.reset(slot, why)
		return
	}
	t.beginClose(slot, code, text, why, stop)
}

// evict closes a client that is too slow: with a close frame if the rest of the
// frame that it stands in is still there, else by a reset.
func (t *NetTile) evict(slot uint32) {
	c := &t.conns[slot]
	if c.state == stClosing || c.state == stLinger {
		t.reset(slot, c.reason) // had its time
		return
	}
	if c.ring < 0 {
		t.closeSoon(slot, CodeLagged, "lagged: replies were not read", CloseWsClientTooSlow)
		return
	}
	rd := t.rd[c.ring]
	cur := c.ringPos()
	if cur < rd.r.hdr.limit[areaBroadcast].Load() && c.slow&slowMid != 0 {
		t.reset(slot, CloseWsClientTooSlow)
		return
	}
	text := ""
	var m message
	if rd.find(cur, &m) {
		text = fmt.Sprintf("lagged %d messages, epoch %x, seq %d", rd.seen-m.seq, rd.r.hdr.epoch, m.seq)
	} else {
		text = fmt.Sprintf("lagged %d bytes, epoch %x", rd.end-cur, rd.r.hdr.epoch)
	}
	t.closeSoon(slot, CodeLagged, text, CloseWsClientTooSlow)
}

// beginClose has the stream end at stop, a frame boundary, with a close frame.
// From here on the client has closeWithin.
func (t *NetTile) beginClose(slot uint32, code uint16, text string, why CloseReason, stop uint64) {
	c := &t.conns[slot]
	if c.state != stStream && c.state != stUpgrade {
		return
	}
	if c.headBuf == 0 {
		if c.headBuf = t.head.get(); c.headBuf == 0 {
			t.cnt.Cell(cntBufWaits).Inc()
			t.reset(slot, why)
			return
		}
	}
	quiet := c.state == stUpgrade // nobody was told of it: nothing but the close frame follows the 101
	if quiet {
		stop = 0
	}
	if c.evFlags&evWaits != 0 { // what it waited with goes nowhere; the peer's close is to be read
		t.unwait(slot, c)
		c.flags |= flMore
	}
	t.drain.left--
	t.list(slot, listNone)
	c.ctlLen[ctlClose] = uint16(ws.PutClose(t.head.buf(c.headBuf)[ctlClose*ctlSlot:], code, text))
	c.stop, c.reason = stop, why
	c.slow |= slowStop | slowState
	c.bound, c.ping = 0, 0
	step(ptAnswered)
	c.state = stClosing // from here on a successor sends what lies there
	step(ptAnswered)
	if quiet {
		c.ring = NoRing
		t.dropPend(c)
	}
	t.setDeadline(slot, t.closeWithin.Nanoseconds())
	t.touch(slot)
}

// closeSent: everything before the close frame and the frame itself are with
// the kernel.
func (t *NetTile) closeSent(slot uint32, c *conn) {
	if c.flags&flSentClose == 0 {
		return // the ring has not reached stop yet
	}
	t.putBuf(&t.head, &c.headBuf)
	if c.flags&(flPeerClose|flFailed) != 0 {
		t.linger(slot, c)
		return
	}
	if end := t.now + t.opt.CloseTimeout.Nanoseconds(); c.deadline > end { // for its answer
		t.setDeadline(slot, t.opt.CloseTimeout.Nanoseconds())
	}
}

// linger ends our side and waits for the peer to end its own, so that bytes on
// their way are not answered by a reset, which would take ours along.
func (t *NetTile) linger(slot uint32, c *conn) {
	c.state, c.bound = stLinger, 0
	c.slow |= slowState
	if err := sys.shutWr(int(c.fd)); err != nil {
		t.drop(slot, c.reason)
		return
	}
	t.putBuf(&t.recv, &c.recvBuf)
	t.putBuf(&t.msg, &c.msgBuf)
	t.setDeadline(slot, t.opt.CloseTimeout.Nanoseconds())
	t.later(slot)
}

// reset closes at once with RST, so that nothing of ours is sent any more.
func (t *NetTile) reset(slot uint32, why CloseReason) {
	sys.resetAtClose(int(t.conns[slot].fd))
	t.drop(slot, why)
}

// lostReason is why a connection ends whose socket failed: one that was being
// closed keeps the reason that it was closed for.
func (c *conn) lostReason() CloseReason {
	if c.state == stClosing || c.state == stLinger {
		return c.reason
	}
	return ClosePeerReset
}

// drop closes the socket, then frees the slot.
func (t *NetTile) drop(slot uint32, why CloseReason) {
	c := &t.conns[slot]
	if c.state == stFree {
		return
	}
	if c.open() {
		t.drain.left--
	}
	t.list(slot, listNone)
	t.wheel.remove(slot)
	if c.fd >= 0 { // else a predecessor did
		sys.close(int(c.fd))
	}
	step(ptClosed)
	if why >= closeReasonCnt {
		why = CloseApplication
	}
	t.noteClosed(slot, c, why)
	t.unbind(slot, c, why)
	id, isWs := t.connID(slot), c.flags&flWs != 0
	t.dropPend(c)
	t.putBuf(&t.req, &c.rxNow().buf)
	t.putBuf(&t.head, &c.headBuf)
	t.putBuf(&t.recv, &c.recvBuf)
	t.putBuf(&t.msg, &c.msgBuf)
	step(ptClosed)
	c.state, c.fd = stFree, -1
	t.free = append(t.free, slot)
	t.order.remove(c.queue(), slot)
	t.uncount(c)
	if t.reserve < 0 {
		t.reserve = openReserve()
	}
	if c.flags&flStreams != 0 {
		t.wsNow--
		t.cnt.Cell(cntWsNow).Sub(1)
	} else {
		t.httpNow--
	}
	t.cnt.Cell(cntConnsNow).Sub(1)
	t.tellLoad()
	t.cnt.Cell(cntClosed0 + int(why)).Inc()
	for i := range t.listeners {
		t.listeners[i].retryAt = 0 // a descriptor is free
	}
	switch {
	case isWs && t.cb.WsClose != nil:
		t.cb.WsClose(id, why)
	case !isWs && t.cb.Close != nil:
		t.cb.Close(id, why)
	}
}

// streams has a connection count against MaxWsConnectionCnt from now on.
func (t *NetTile) streams(slot uint32, c *conn) {
	t.order.remove(queueHTTP, slot)
	t.order.push(queueWs, slot)
	c.flags |= flStreams
	t.httpNow--
	t.wsNow++
	t.cnt.Cell(cntWsNow).Inc()
}
