package httpsrv

import (
	"golang.org/x/sys/unix"
)

// send gives the kernel what a connection has to get, from wherever it comes,
// until all is given or no more is taken. One send covers one source, so that
// the byte that the stream goes on with follows from the kernel's count alone.
//
// At a frame boundary the next source is chosen: response head, pong, messages
// of its own whose turn it is, the ring, the close frame.
func (t *NetTile) send(slot uint32) {
	c := &t.conns[slot]
	for c.state != stFree && c.flags&flBlocked == 0 {
		p := c.pos()
		var more bool
		switch p.src() {
		case srcRing:
			more = t.sendRing(slot, c, p)
			if !more && c.state != stFree && c.flags&flBlocked == 0 { // stands where the ring's turn ends
				more = t.nextSource(c, p) || t.settle(slot, c)
			}
		case srcCtl:
			more = t.sendCtl(slot, c, p)
		case srcPend:
			more = t.sendPend(slot, c, p)
		}
		if !more {
			return
		}
	}
}

// give sends t.iov, of which rd (if any) holds the pins, and returns how much
// the kernel took, and whether that was all. On a failure the connection is gone.
func (t *NetTile) give(slot uint32, c *conn, rd *reader) (n int, all bool) {
	total := t.iov.Bytes()
	step(ptSending)
	n, e := sys.sendv(int(c.fd), &t.iov)
	if rd != nil {
		rd.unpin()
	}
	t.cnt.Cell(cntSends).Inc()
	t.cnt.Cell(cntSentBytes).Add(uint64(n))
	switch {
	case n == total:
		return n, true
	case e == 0:
		t.cnt.Cell(cntSendPartial).Inc()
	case e == unix.EAGAIN || passing(e):
		t.cnt.Cell(cntSendBlocked).Inc()
	default:
		t.sendFailed(slot, e)
		return n, false
	}
	t.block(slot, c, n, e)
	return n, false
}

func (t *NetTile) sendFailed(slot uint32, e unix.Errno) {
	t.cnt.Cell(cntSendErr).Inc()
	t.drop(slot, t.conns[slot].lostReason())
}

// ringTo returns how far the ring's bytes may go before something else's turn.
func (t *NetTile) ringTo(c *conn) uint64 {
	to := t.rd[c.ring].end
	if c.slow == 0 {
		return to
	}
	if c.slow&slowStop != 0 {
		to = min(to, c.stop)
	}
	if c.ctlLen[ctlPongA]|c.ctlLen[ctlPongB] != 0 {
		to = min(to, c.insert)
	}
	if c.pendHead != 0 {
		to = min(to, t.pend[c.pendHead-1].after)
	}
	return to
}

// sendRing reports whether there is more to do for the connection.
func (t *NetTile) sendRing(slot uint32, c *conn, p txPos) bool {
	if c.ring < 0 || c.state == stUpgrade { // joins once the 101 is sent
		return false
	}
	cur, to := p.off(), t.ringTo(c)
	if cur >= to {
		return false
	}
	rd := t.rd[c.ring]
	if t.opt.OnLag == SkipAhead && cur < t.groups[c.ring].cut && t.local[slot].list == listBlocked {
		if to = t.skipping(slot, c, cur, to); to == 0 {
			return true
		}
	}
	if cur = rd.skipGap(cur, to); cur == to {
		c.commit(txPos{p.pos, to})
		return true
	}
	if !rd.pin(cur) {
		rd.unpin()
		t.lost(slot)
		return true
	}
	t.iov.Reset()
	rd.slices(cur, to, &t.iov)
	n, all := t.give(slot, c, rd)
	if all {
		step(ptSent)
		c.slow &^= slowMid
		c.flags &^= flFresh
		c.commit(txPos{p.pos + uint64(n), to})
		return true
	}
	if c.state != stFree {
		if n > 0 {
			c.flags &^= flFresh
			c.slow |= slowMid
		}
		c.commit(txPos{p.pos + uint64(n), rd.advance(cur, to, uint64(n))})
	}
	return false
}

// nextSource turns from the ring to what comes before its next frame, if
// anything does.
func (t *NetTile) nextSource(c *conn, p txPos) bool {
	cur := p.off()
	begin := func(src, off uint64) bool {
		c.cursor = cur
		c.commit(txPos{p.pos, at(src, off)})
		return true
	}
	switch {
	case c.ctlLen[ctlHead] != 0:
		return begin(srcCtl, ctlHead<<16)
	case c.state == stUpgrade:
		return false // WsOpen comes first
	case c.ctlLen[ctlPongA] != 0 && cur >= c.insert:
		return begin(srcCtl, ctlPongA<<16)
	case c.ctlLen[ctlPongB] != 0 && cur >= c.insert:
		return begin(srcCtl, ctlPongB<<16)
	case c.pendHead != 0 && t.pend[c.pendHead-1].after <= cur:
		return begin(srcPend, c.pendPos)
	case c.state == stClosing && c.ctlLen[ctlClose] != 0:
		return begin(srcCtl, ctlClose<<16)
	}
	return false
}

// sendCtl goes on with a piece of the head buffer.
func (t *NetTile) sendCtl(slot uint32, c *conn, p txPos) bool {
	piece, off := int(p.off()>>16), p.off()&0xffff
	b := t.head.buf(c.headBuf)[piece*ctlSlot:]
	t.iov.Reset()
	t.iov.Add(b[off:c.ctlLen[piece]])
	n, all := t.give(slot, c, nil)
	if c.state == stFree {
		return false
	}
	if !all {
		c.commit(txPos{p.pos + uint64(n), p.at + uint64(n)})
		return false
	}
	step(ptSent)
	c.ctlLen[piece] = 0
	step(ptSent)
	c.commit(txPos{p.pos + uint64(n), at(srcRing, c.cursor)})
	step(ptSent)
	switch {
	case piece == ctlClose:
		c.flags |= flSentClose
		t.dropPend(c) // nothing goes after it
	case piece == ctlHead && c.state == stStream:
		t.pingSent(slot, c)
	}
	return true
}

// sendPend sends the connection's own messages whose turn it is, as many of one
// ring as there are.
func (t *NetTile) sendPend(slot uint32, c *conn, p txPos) bool {
	t.iov.Reset()
	off := p.off()
	ring := int16(-1)
	var pinned *reader
	for i := c.pendHead; i != 0; {
		e := &t.pend[i-1]
		if e.after > c.cursor || ring >= 0 && e.ring != ring {
			break
		}
		skip := uint64(0)
		if off > e.start {
			skip = off - e.start
		}
		var data []byte
		if e.ring == staticRing {
			if ring >= 0 {
				break
			}
			data = t.static[e.off : e.off+uint64(e.len)]
		} else {
			rd := t.rd[e.ring]
			pinned = rd
			if ring < 0 && !rd.pinSide(e.off) {
				rd.unpin()
				t.lostPend(slot, skip > 0)
				return c.state != stFree
			}
			b := rd.r.phys(areaSide, e.off)
			data = rd.r.data[areaSide][b : b+uint64(e.len)]
		}
		if !t.iov.Add(data[skip:]) {
			break
		}
		if e.ring == staticRing {
			break
		}
		ring, i = e.ring, e.next
	}
	n, all := t.give(slot, c, pinned)
	if c.state == stFree {
		return false
	}
	off += uint64(n)
	step(ptSent)
	c.pendPos = off
	// A message's entry goes only after what says where the stream stands.
	c.commit(txPos{p.pos + uint64(n), at(srcPend, off)})
	t.popSent(c)
	if !all {
		return false
	}
	if c.pendHead == 0 || t.pend[c.pendHead-1].after > c.cursor {
		c.commit(txPos{p.pos + uint64(n), at(srcRing, c.cursor)})
	}
	return true
}

// popSent takes off those of the connection's own messages that are sent.
func (t *NetTile) popSent(c *conn) {
	for c.pendHead != 0 {
		e := &t.pend[c.pendHead-1]
		if e.start+uint64(e.len) > c.pendPos {
			return
		}
		step(ptSent)
		t.popPend(c)
		if c.state == stStream {
			t.cnt.Cell(cntDelivered).Inc()
		}
	}
}

func (t *NetTile) popPend(c *conn) {
	i := c.pendHead
	c.pendHead = t.pend[i-1].next
	if c.pendHead == 0 {
		c.pendTail = 0
	}
	c.pendCnt--
	if int(t.pend[i-1].ring) == t.replyRing() {
		t.rep.remove(i)
	}
	t.pends.put(&i)
}

// dropPend forgets the connection's own messages.
func (t *NetTile) dropPend(c *conn) {
	for c.pendHead != 0 {
		t.popPend(c)
	}
	c.pendPos = c.pendEnd
}

// lostPend: the bytes of a message of its own were reclaimed before it took them.
func (t *NetTile) lostPend(slot uint32, mid bool) {
	c := &t.conns[slot]
	if mid || c.state == stRespond || c.state == stClosing {
		why := CloseWsClientTooSlow
		if c.state == stRespond {
			why = CloseTooSlow
		}
		t.reset(slot, why)
		return
	}
	c.commit(txPos{c.pos().pos, at(srcRing, c.cursor)})
	id := t.connID(slot)
	if t.evict(slot); c.state != stFree && t.connID(slot) == id { // only now: a stream must not go on without them
		t.dropPend(c)
		c.slow &^= slowPend
	}
}

// settle is reached when a connection has got all there is. It reports whether
// that opened the way for more.
func (t *NetTile) settle(slot uint32, c *conn) bool {
	switch c.state {
	case stRespond:
		t.responded(slot, c)
	case stUpgrade:
		t.upgraded(slot, c)
		return c.state == stStream
	case stClosing:
		t.closeSent(slot, c)
		if c.flags&flMore != 0 && c.state == stClosing { // reading was paused: the peer's close may be there
			c.flags &^= flMore
			t.later(slot)
		}
	case stStream:
		c.bound = 0
		if c.headBuf != 0 && c.ctlLen == [ctlSlots]uint16{} {
			t.putBuf(&t.head, &c.headBuf)
		}
		c.slow &= slowMid
		if c.ring >= 0 {
			rd := t.rd[c.ring]
			t.cnt.Cell(cntDelivered).Add(uint64(uint32(rd.msgs) - c.done))
			c.done = uint32(rd.msgs)
			t.list(slot, listActive)
		}
		if c.flags&flMore != 0 {
			c.flags &^= flMore
			t.later(slot)
		}
	}
	return false
}

// putBuf gives a buffer back, and has those who await one looked at.
func (t *NetTile) putBuf(p *pool, i *uint32) {
	if *i != 0 {
		p.put(i)
		t.freed = true
	}
}
