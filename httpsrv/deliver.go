package httpsrv

import (
	"golang.org/x/sys/unix"
)

// deliver gives every ring's new messages to the clients that follow it.
func (t *NetTile) deliver() (work int) {
	for i, rd := range t.rd {
		if rd.behind() {
			work += t.deliverRing(i)
		}
	}
	t.flush()
	t.walkedTo()
	return work
}

// deliverRing walks a ring's new descriptors once, then its clients once.
func (t *NetTile) deliverRing(i int) int {
	rd, g := t.rd[i], &t.groups[i]
	over, side := rd.overruns, rd.side
	t.walked = i
	n := rd.walk(t.side)
	if rd.overruns != over {
		t.cnt.Cell(cntOverruns).Add(rd.overruns - over)
		t.overrun(i, rd.side != side)
		rd.settled()
	} else if rd.end != rd.prev {
		t.pass(rd, g)
	}
	if rd.end-g.swept >= min(t.headroom(rd)/2, t.lag.sweepBytes) || rd.seen-g.sweptSeq >= t.maxLag(rd)/16 {
		t.sweep(i)
	}
	if i == 0 {
		t.cnt.Cell(cntWalkedSeq).Set(rd.seen)
		t.cnt.Cell(cntWalkedBytes).Set(rd.end)
	}
	return int(min(n, 1<<20))
}

// pass sends everything between its cursor and the head to each client that
// stands where the last pass ended: one send a client, whatever the number of
// messages, straight from the ring. Clients at the same cursor share the slices.
//
// It runs from the last client to the first, so that one who leaves the list
// is replaced by one already served.
func (t *NetTile) pass(rd *reader, g *group) {
	t.cnt.Cell(cntPasses).Inc()
	msgs := uint32(rd.msgs)
	iovFrom, total := ^uint64(0), 0
	served, bytes, sends := uint64(0), uint64(0), uint64(0)
	list := &g.lists[listActive]
	for i := len(*list) - 1; i >= 0; i-- {
		if i >= len(*list) {
			continue // callbacks closed others
		}
		slot := (*list)[i]
		c := &t.conns[slot]
		if c.slow != 0 {
			continue // has something of its own as well: flush sees to it
		}
		p := c.pos()
		cur := p.off()
		if cur == rd.prev {
			cur = rd.from
		}
		if cur == rd.end {
			continue
		}
		if !rd.pin(cur) {
			rd.unpin()
			iovFrom = ^uint64(0)
			t.lost(slot)
			continue
		}
		if cur != iovFrom {
			t.iov.Reset()
			rd.slices(cur, rd.end, &t.iov)
			iovFrom, total = cur, t.iov.Bytes()
		}
		step(ptSending)
		n, e := sys.sendv(int(c.fd), &t.iov)
		sends++
		if n == total {
			step(ptSent)
			c.commit(txPos{pos: p.pos + uint64(n), at: rd.end})
			c.flags &^= flFresh
			served += uint64(msgs - c.done)
			c.done = msgs
			bytes += uint64(n)
			continue
		}
		bytes += uint64(n)
		to := rd.end
		if e == 0 || e == unix.EAGAIN || passing(e) {
			t.short(slot, c, rd, p, cur, to, n, e)
			continue
		}
		rd.unpin()
		iovFrom = ^uint64(0)
		t.sendFailed(slot, e)
	}
	rd.unpin()
	t.cnt.Cell(cntDelivered).Add(served)
	t.cnt.Cell(cntSentBytes).Add(bytes)
	t.cnt.Cell(cntSends).Add(sends)
}

// short notes that the kernel took n bytes of those from cur to to, and no more.
func (t *NetTile) short(slot uint32, c *conn, rd *reader, p txPos, cur, to uint64, n int, e unix.Errno) {
	if n > 0 {
		t.cnt.Cell(cntSendPartial).Inc()
		c.flags &^= flFresh
		c.slow |= slowMid
	} else {
		t.cnt.Cell(cntSendBlocked).Inc()
	}
	c.commit(txPos{pos: p.pos + uint64(n), at: rd.advance(cur, to, uint64(n))})
	t.block(slot, c, n, e)
}

// block leaves a client, of whose bytes the kernel took n just now, alone until
// EPOLLOUT says that there is room.
func (t *NetTile) block(slot uint32, c *conn, n int, e unix.Errno) {
	c.flags |= flBlocked
	t.stalled(slot, c, n)
	if c.state == stStream && c.ring >= 0 {
		t.list(slot, listBlocked)
	}
	if passing(e) { // no event will tell
		c.flags |= flRetry
		t.later(slot)
	}
}

// passing reports whether a call failed for something that is none of the
// connection's doing: it is made again, without an event.
func passing(e unix.Errno) bool {
	return e == unix.ENOBUFS || e == unix.ENOMEM || e == unix.EINTR
}

// list puts a client in one of its ring's lists, or in none.
func (t *NetTile) list(slot uint32, to uint8) {
	l := &t.local[slot]
	if l.list == to {
		return
	}
	g := &t.groups[max(t.conns[slot].ring, 0)]
	if l.list != listNone {
		from := &g.lists[l.list]
		last := (*from)[len(*from)-1]
		(*from)[l.at] = last
		t.local[last].at = l.at
		*from = (*from)[:len(*from)-1]
		if l.list == listBlocked {
			t.cnt.Cell(cntBlockedNow).Sub(1)
		}
	}
	l.list = to
	if to != listNone {
		l.at = uint32(len(g.lists[to]))
		g.lists[to] = append(g.lists[to], slot)
		if to == listBlocked {
			t.cnt.Cell(cntBlockedNow).Inc()
		}
	}
}

// maxLag is how many messages a client may be behind: less than the ring has descriptors, by a headroom as there is for bytes. Once
// a descriptor is reused, its frame's end is no longer known, nor are its bytes sure, and nothing but a reset is left.
func (t *NetTile) maxLag(rd *reader) uint64 {
	depth := rd.r.mask + 1
	return min(t.srv.params.MaxWsSendFrameCnt, depth-depth/8)
}

// headroom is how many bytes of a ring are kept free of blocked clients.
func (t *NetTile) headroom(rd *reader) uint64 {
	size := rd.r.size[areaBroadcast]
	if h := t.opt.Headroom; h != 0 {
		return min(h, size/2)
	}
	return size / 8
}

// sweep evicts the blocked clients of ring i, or has them skip, that come too near to the
// limit, by a headroom, so that the producer need not wait for them; and those
// that are more messages behind than is allowed.
func (t *NetTile) sweep(i int) {
	rd, g := t.rd[i], &t.groups[i]
	g.swept, g.sweptSeq = rd.end, rd.seen
	cut, keep, msgs := uint64(0), rd.r.size[areaBroadcast]-t.headroom(rd), t.maxLag(rd)
	skips := t.opt.OnLag == SkipAhead
	if skips { // it blocks in the middle of a frame as a rule, and has the other half for the rest of that
		keep, msgs = keep/2, max(msgs/2, 1)
	}
	if rd.end > keep {
		cut = rd.end - keep
	}
	// One large message does not evict those who are getting it.
	cut = max(min(cut, rd.last), rd.lagAt(msgs), t.lagCut(rd))
	if skips { // who gets the last one has caught up
		cut = min(cut, rd.newest())
	}
	g.cut = cut
	lag := uint64(0)
	list := &g.lists[listBlocked]
	for j := len(*list) - 1; j >= 0; j-- {
		if j >= len(*list) {
			continue
		}
		slot := (*list)[j]
		cur := t.conns[slot].ringPos()
		if cur < cut {
			t.lagged(slot)
		} else {
			lag = max(lag, rd.end-cur)
		}
	}
	t.cnt.Cell(cntMaxLagBytes).Set(lag)
}

// ringPos returns the cursor in the followed ring, wherever tx is.
func (c *conn) ringPos() uint64 {
	if p := c.pos(); p.src() == srcRing {
		return p.off()
	}
	return c.cursor
}

// overrun: descriptors went by unread, and messages to single clients with
// them, so that nobody who follows the ring can be carried on without a hole;
// nor, if there were such messages (own), anybody else who may have been sent one.
func (t *NetTile) overrun(i int, own bool) {
	for _, l := range []uint8{listActive, listBlocked} {
		list := &t.groups[i].lists[l]
		for j := len(*list) - 1; j >= 0; j-- {
			if j >= len(*list) {
				continue
			}
			if own {
				t.evict((*list)[j])
			} else {
				t.lagged((*list)[j])
			}
		}
	}
	for j := 0; own && j < len(t.conns); j++ {
		switch c := &t.conns[j]; {
		case c.state == stStream || c.state == stUpgrade:
			t.evict(uint32(j))
		case c.state == stAwait && c.evFlags&evWaits == 0 && i > t.replyRing() && int(c.app) == i-t.replyRing(): // nor does its answer come any more
			t.loseRequest(uint32(j), c)
		}
	}
}

// lost: the bytes at a client's cursor are reclaimed. One that asked for
// history and got nothing yet gets as much of it as is left; never less than
// what was published since it joined, which would be a hole.
func (t *NetTile) lost(slot uint32) {
	c := &t.conns[slot]
	if c.flags&flFresh != 0 && c.state == stStream {
		rd := t.rd[c.ring]
		if from := rd.history(rd.r.mask); from <= c.stop && from > c.ringPos() {
			c.commit(txPos{c.pos().pos, at(srcRing, from)})
			t.touch(slot)
			return
		}
	}
	t.lagged(slot)
}

// sideMessage takes a message for one client off the ring being walked.
func (t *NetTile) sideMessage(m *message) {
	to := ConnID(m.dest)
	if to == 0 || to.Tile() != t.id || m.op == opBody {
		return
	}
	slot := to.Slot()
	if int(slot) >= len(t.conns) {
		t.cnt.Cell(cntSideDropped).Inc()
		return
	}
	c := &t.conns[slot]
	if size := t.rd[t.walked].r.size[areaSide]; m.off&(size-1)+uint64(m.len) > size { // another process's word
		t.cnt.Cell(cntSideDropped).Inc()
		return
	}
	if m.op >= opClose {
		if c.gen.Load() != to.Gen() || !t.answered(slot, c, m) {
			t.cnt.Cell(cntSideDropped).Inc()
		}
		return
	}
	if c.gen.Load() != to.Gen() || c.state != stStream && c.state != stUpgrade {
		t.cnt.Cell(cntSideDropped).Inc()
		return
	}
	if t.rd[t.walked].doubt && t.waits(c, int16(t.walked), m.off) {
		return
	}
	after := m.end[areaBroadcast]
	if int(c.ring) != t.walked {
		var ok bool
		if after, ok = t.frameEnd(c); !ok {
			t.evict(slot)
			return
		}
	}
	t.enqueue(slot, int16(t.walked), m.off, m.len, after)
}

// waits reports whether the message at off of a ring waits for its client already: put by a predecessor whose walk
// did not come to say so. Messages of other rings may have been put behind it.
func (t *NetTile) waits(c *conn, ring int16, off uint64) bool {
	for i := c.pendHead; i != 0; i = t.pend[i-1].next {
		if e := &t.pend[i-1]; e.ring == ring && e.off == off {
			return true
		}
	}
	return false
}

// frameEnd returns the first offset at or after the connection's cursor at
// which something else may go in between frames.
func (t *NetTile) frameEnd(c *conn) (uint64, bool) {
	cur := c.ringPos()
	if c.ring < 0 || c.slow&slowMid == 0 {
		return cur, true
	}
	return t.rd[c.ring].boundary(cur)
}

// enqueue has len bytes at off of a ring's side area (or a static body) sent to
// slot once its cursor has reached after. false: there is no place for it, and the
// client is closed.
func (t *NetTile) enqueue(slot uint32, ring int16, off uint64, n uint32, after uint64) bool {
	c := &t.conns[slot]
	i := t.pends.get()
	if i == 0 {
		t.cnt.Cell(cntBufWaits).Inc()
		if c.state != stStream && c.state != stUpgrade { // a response's head must not go out without the body
			t.reset(slot, CloseLimit)
		} else {
			t.evict(slot)
		}
		return false
	}
	e := &t.pend[i-1]
	if c.pendTail != 0 {
		after = max(after, t.pend[c.pendTail-1].after)
	}
	*e = pending{ring: ring, off: off, len: n, start: c.pendEnd, after: after}
	step(ptQueued)
	if c.pendTail != 0 {
		t.pend[c.pendTail-1].next = i
	} else {
		c.pendHead = i
	}
	step(ptQueued)
	c.pendTail = i
	if int(ring) == t.replyRing() {
		t.rep.push(i, slot, t.rd[ring].seen)
	}
	c.pendEnd += uint64(n)
	c.pendCnt++
	c.slow |= slowPend
	if c.flags&flBlocked == 0 {
		t.touch(slot)
	}
	return true
}
