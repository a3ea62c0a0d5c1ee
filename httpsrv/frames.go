package httpsrv

import (
	"encoding/binary"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// faultReasons maps what the frame checks find.
var faultReasons = map[ws.Fault]CloseReason{
	ws.FaultBadMask:           CloseWsBadMask,
	ws.FaultRsv:               CloseProtocol,
	ws.FaultUnknownOpcode:     CloseWsUnknownOpcode,
	ws.FaultExpectedCont:      CloseWsExpectedContOpcode,
	ws.FaultExpectedText:      CloseWsExpectedTextOpcode,
	ws.FaultControlTooLarge:   CloseWsControlFrameTooLarge,
	ws.FaultControlFragmented: CloseProtocol,
	ws.FaultBadLength:         CloseProtocol,
	ws.FaultOversize:          CloseWsOversizeFrame,
}

// readFrames reads from a WebSocket. Bytes go straight into a receive buffer in
// shared memory and count as received once they are there; payloads are
// unmasked while they are copied on, so that every step can be repeated.
func (t *NetTile) readFrames(slot uint32, c *conn) {
	if c.app != 0 && t.holdsBack(slot, c) {
		return
	}
	for turn := range receiveTurns {
		if t.paused(slot, c) {
			t.rest(c)
			return
		}
		if turn == 0 && c.recvBuf != 0 && !t.parseFrames(slot, c) { // what was left for want of a buffer
			t.rest(c)
			return
		}
		if c.recvBuf == 0 {
			// The last one is for those in the middle of a message: they would
			// else wait for those who wait for their message buffers.
			if c.msgBuf != 0 && t.spares(c, &t.recv, 0) || len(t.recv.free) > 1 && t.spares(c, &t.recv, 1) {
				c.recvBuf = t.recv.get()
			}
			if c.recvBuf == 0 {
				t.waitBuf(slot, c)
				return
			}
			rx := *c.rxNow()
			rx.base = rx.end
			c.rxCommit(&rx)
		}
		rx := c.rxNow()
		space := t.recv.buf(c.recvBuf)[rx.end-rx.base:]
		n, stop := t.read(slot, space)
		if stop {
			t.rest(c)
			return
		}
		rx.end += uint64(n)
		t.alive(c)
		if !t.parseFrames(slot, c) {
			t.rest(c)
			return
		}
		if n < len(space) && c.flags&(flPeerEOF|flUrgent) == 0 {
			// The socket is empty: the next byte brings an event.
			t.rest(c)
			return
		}
	}
	t.later(slot)
}

// rest gives the receive buffer back unless something in it waits to be parsed.
func (t *NetTile) rest(c *conn) {
	if rx := c.rxNow(); rx.done == rx.end && c.evFlags&evWaits == 0 {
		t.putBuf(&t.recv, &c.recvBuf)
	}
}

// parseFrames takes the received bytes apart. false: the connection is gone,
// reads no more, or waits for a buffer.
func (t *NetTile) parseFrames(slot uint32, c *conn) bool {
	max := uint64(t.srv.params.MaxWsRecvFrameLen)
	for {
		if c.state != stStream && c.state != stClosing {
			return false
		}
		rx := *c.rxNow()
		raw := t.recv.buf(c.recvBuf)[rx.done-rx.base : rx.end-rx.base]
		if c.flags&(flPeerClose|flFailed) != 0 { // nothing counts any more
			rx.done, rx.base = rx.end, rx.end
			c.rxCommit(&rx)
			return true
		}
		if rx.inData {
			if len(raw) == 0 && rx.left > 0 {
				break
			}
			if !t.payload(slot, c, &rx, raw) {
				return false
			}
			continue
		}
		if len(raw) == 1 { // as if an empty frame followed: what is wrong then is wrong with the first octet
			if f := ws.CheckStart(raw[0], 0x80, rx.msgOp); f != ws.FaultNone {
				t.fault(slot, f.CloseCode(), faultReasons[f])
				continue
			}
		}
		if len(raw) < 2 {
			break
		}
		if f := ws.CheckStart(raw[0], raw[1], rx.msgOp); f != ws.FaultNone {
			t.fault(slot, f.CloseCode(), faultReasons[f])
			continue
		}
		var h ws.Header
		if !ws.ParseHeader(raw, &h) {
			break
		}
		if f := ws.Check(&h, rx.msgOp, uint64(rx.msgLen), max, max); f != ws.FaultNone {
			t.fault(slot, f.CloseCode(), faultReasons[f])
			continue
		}
		if h.Op >= ws.OpClose {
			whole := h.HdrLen + int(h.Len)
			if len(raw) < whole {
				break
			}
			var payload [ws.MaxControl]byte
			p := payload[:h.Len]
			ws.UnmaskCopy(p, raw[h.HdrLen:whole], h.Mask, 0)
			if !t.control(slot, c, h.Op, p, rx.done+uint64(whole)) {
				return false
			}
			if c.state != stFree {
				rx.done += uint64(whole)
				c.rxCommit(&rx)
			}
			continue
		}
		rx.done += uint64(h.HdrLen)
		rx.inData, rx.left, rx.fin, rx.key, rx.phase = true, h.Len, h.Fin, h.Mask, 0
		if h.Op != ws.OpCont {
			rx.msgOp, rx.msgLen, rx.utf8 = h.Op, 0, 0
		}
		c.rxCommit(&rx)
	}
	t.compact(c)
	return true
}

// compact makes room in the receive buffer for the rest of a header or control
// frame. The bytes kept are few and the room behind them large, so that they
// are still whole at their old place when the new state comes into force.
func (t *NetTile) compact(c *conn) {
	rx := *c.rxNow()
	at, end := rx.done-rx.base, rx.end-rx.base
	if recvBufSz-end >= 1024 || at < end-at {
		return
	}
	buf := t.recv.buf(c.recvBuf)
	copy(buf[:end-at], buf[at:end])
	rx.base = rx.done
	c.rxCommit(&rx)
}

// payload takes bytes of the data frame in progress. false: the connection
// waits for a buffer or is gone.
func (t *NetTile) payload(slot uint32, c *conn, rx *rxPos, raw []byte) bool {
	n := min(rx.left, uint64(len(raw)))
	if n > 0 {
		if c.msgBuf == 0 {
			if t.spares(c, &t.msg, 0) {
				c.msgBuf = t.msg.get()
			}
			if c.msgBuf == 0 {
				t.waitBuf(slot, c)
				return false
			}
		}
		dst := t.msg.buf(c.msgBuf)[rx.msgLen : uint64(rx.msgLen)+n]
		rx.phase = uint8(ws.UnmaskCopy(dst, raw[:n], rx.key, int(rx.phase)))
		if rx.msgOp == ws.OpText {
			u := ws.UTF8{State: rx.utf8}
			if !u.Write(dst) {
				t.fault(slot, CodeBadUTF8, CloseBadUTF8)
				return true
			}
			rx.utf8 = u.State
		}
		rx.msgLen += uint32(n)
		rx.left -= n
		rx.done += n
	}
	if rx.left > 0 {
		c.rxCommit(rx)
		return true
	}
	rx.inData = false
	if !rx.fin {
		c.rxCommit(rx)
		return true
	}
	if u := (ws.UTF8{State: rx.utf8}); rx.msgOp == ws.OpText && !u.Done() {
		t.fault(slot, CodeBadUTF8, CloseBadUTF8)
		return true
	}
	return t.received(slot, c, rx)
}

// received hands a whole message to the application.
func (t *NetTile) received(slot uint32, c *conn, rx *rxPos) bool {
	op, id := rx.msgOp, t.connID(slot)
	if t.makeWay(false); c.state == stFree || t.connID(slot) != id {
		return false
	}
	var data []byte
	if rx.msgLen > 0 {
		data = t.msg.buf(c.msgBuf)[:rx.msgLen]
	}
	if p := t.port(c); p != nil && c.state == stStream {
		if !t.putMessage(slot, c, p, op, rx.done, data) {
			return false
		}
	} else if t.cb.WsMessage != nil && c.state == stStream {
		t.slot.busy.Store(uint64(id))
		t.cb.WsMessage(id, op, data)
		t.slot.busy.Store(0)
		t.afterCallback()
	}
	t.cnt.Cell(cntMessages).Inc()
	if c.state == stFree || t.connID(slot) != id {
		return false
	}
	rx.msgOp, rx.msgLen, rx.utf8 = 0, 0, 0
	c.rxCommit(rx)
	t.putBuf(&t.msg, &c.msgBuf)
	if c.state == stStream { // unless the callback closed it
		c.deadline = 0 // a whole message: the next one has its own time
	}
	return !t.paused(slot, c) // or its replies first
}

// control answers a control frame that ends at end. false: it waits for a buffer.
func (t *NetTile) control(slot uint32, c *conn, op byte, p []byte, end uint64) bool {
	switch op {
	case ws.OpPing:
		return t.pong(slot, c, p, end)
	case ws.OpPong:
		t.ponged(slot, c, p)
	case ws.OpClose:
		code, _, fail := ws.ParseClose(p)
		if fail != 0 {
			why := CloseProtocol
			if fail == CodeBadUTF8 {
				why = CloseBadUTF8
			}
			t.fault(slot, fail, why)
			return true
		}
		c.closeGot = code
		c.flags |= flPeerClose
		if c.state == stClosing { // the answer to ours, or both at once
			if c.flags&flSentClose != 0 {
				t.linger(slot, c)
			}
			return true
		}
		stop := uint64(0)
		if c.ring >= 0 { // what was published before is still delivered
			stop = t.rd[c.ring].end
		}
		t.beginClose(slot, code, "", CloseOK, stop)
	}
	return true
}

// pong answers a ping at the next frame boundary. Answers that were not sent yet
// go together, as many as there is room for; of a client that takes nothing they
// are replaced by the latest (RFC 6455 section 5.5.3). One that is half sent goes on.
//
// Where the ping ended lies behind the answers, so that a successor that finds the
// answer there and the ping not yet taken off does not answer it twice.
func (t *NetTile) pong(slot uint32, c *conn, p []byte, end uint64) bool {
	if most := max(c.ctlLen[ctlPongA], c.ctlLen[ctlPongB]); int(most)+2+len(p) > pongsMax && c.flags&flBlocked == 0 {
		if t.send(slot); c.state == stFree { // to make room
			return true
		}
	}
	if c.ctlLen[ctlClose] != 0 || c.flags&flSentClose != 0 {
		return true // nothing goes after the close frame
	}
	if c.headBuf == 0 {
		if c.headBuf = t.head.get(); c.headBuf == 0 {
			t.waitBuf(slot, c)
			return false
		}
	}
	at, ok := t.frameEnd(c)
	if !ok {
		t.evict(slot)
		return true
	}
	piece := ctlPongA
	if tx := c.pos(); tx.src() == srcCtl && tx.off()>>16 == ctlPongA {
		piece = ctlPongB
	}
	if other := ctlPongA + ctlPongB - piece; c.ctlLen[other] != 0 && piece == ctlPongA {
		if tx := c.pos(); tx.src() != srcCtl || tx.off()>>16 != uint64(other) {
			piece = other // an older answer waits there
		}
	}
	n := int(c.ctlLen[piece])
	if n == 0 {
		c.insert = at
	}
	if c.flags&flBlocked != 0 || n+2+len(p) > pongsMax {
		c.ctlLen[piece] = 0 // nothing is what will lie there for a moment
		n = 0
	}
	b := t.head.buf(c.headBuf)[piece*ctlSlot:][:ctlSlot]
	n += ws.PutHeader(b[n:], ws.OpPong, true, uint64(len(p)))
	n += copy(b[n:pongsMax], p)
	binary.LittleEndian.PutUint16(b[pongLenAt:], uint16(n))
	step(ptPonged)
	binary.LittleEndian.PutUint64(b[pongEndAt:], end) // behind the length: see answeredPing
	step(ptPonged)
	c.ctlLen[piece] = uint16(n)
	step(ptPonged)
	c.slow |= slowCtl
	t.cnt.Cell(cntPings).Inc()
	if c.flags&flBlocked == 0 {
		t.touch(slot)
	}
	return true
}

// pongsMax is how many bytes of a head buffer's slot hold pongs; behind them lie
// where the last of these pings ended, and how many bytes the pongs take then.
const (
	pongsMax  = ctlSlot - 16
	pongEndAt = pongsMax
	pongLenAt = pongsMax + 8
)

// answeredPing returns the end of the last ping whose answer lies in a piece, if that was
// put whole. A length without its end is that of an older ping, which is taken off already.
func (t *NetTile) answeredPing(c *conn, piece int) (end uint64, ok bool) {
	b := t.head.buf(c.headBuf)[piece*ctlSlot:][:ctlSlot]
	n := binary.LittleEndian.Uint16(b[pongLenAt:])
	return binary.LittleEndian.Uint64(b[pongEndAt:]), n == c.ctlLen[piece] && n != 0
}

// fault ends a connection whose client broke the protocol: our close frame,
// then the end, without waiting for the client's.
func (t *NetTile) fault(slot uint32, code uint16, why CloseReason) {
	c := &t.conns[slot]
	c.flags |= flFailed
	if c.state == stClosing {
		if c.flags&flSentClose != 0 {
			t.linger(slot, c)
		}
		return
	}
	t.closeSoon(slot, code, "", why)
}
