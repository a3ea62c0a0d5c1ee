//go:build explore

package httpsrv

// lap notes that the producer asked for bytes that the tile may have to send to
// clients who are not slow at all.
func (t *simTile) lap() {
	rd := t.t.rd[0]
	seen := rd.end
	if t.busy() || !t.up { // maybe in the middle of a pass, or was at its death
		seen = rd.prev
	}
	for i := range t.t.conns { // what its predecessor died before
		if c := &t.t.conns[i]; t.fresh && c.state == stStream && c.ring >= 0 {
			seen = min(seen, c.ringPos())
		}
	}
	limit := &rd.r.hdr.limit
	if limit[areaBroadcast].Load() > seen || limit[areaSide].Load() > t.sideSeen {
		t.shortAt = t.w.steps
	}
}

// runsShort notes that the tile ran out of buffers or missed descriptors.
func (t *simTile) runsShort() {
	if n := t.t.cnt.Cell(cntBufWaits).Load() + t.t.cnt.Cell(cntOverruns).Load(); n != t.shortages {
		t.shortages, t.shortAt = n, t.w.steps
	}
}

// behind: there is something to walk, but for the ring of an application that is in the middle of a turn.
func (t *simTile) behind() bool {
	for _, rd := range t.t.rd[:t.t.replyRing()+1] {
		if rd.behind() {
			return true
		}
	}
	return false
}

// checkAsleep: before a tile sleeps it has said so, and has left nothing to do.
func (t *simTile) checkAsleep() {
	switch nt := t.t; {
	case nt.freed && len(nt.waiters) > 0:
		t.w.fail("tile %d sleeps with a free buffer, and %d wait for one", t.id, len(nt.waiters))
	case t.behind() && nt.bell.Asleep() && !t.w.prod.st.corked:
		t.w.fail("tile %d sleeps on what is published", t.id)
	case len(nt.again) > 0:
		t.w.fail("tile %d sleeps with something to read again", t.id)
	case len(nt.dirty) > 0:
		t.w.fail("tile %d sleeps with something to send", t.id)
	}
}

// checkPins: no tile holds a pin between two sends.
func (t *simTile) checkPins() {
	for _, rd := range t.t.rd {
		for a := range rd.line.pin {
			if p := rd.line.pin[a].Load(); p != noPin {
				t.w.fail("tile %d holds pin %d of area %d after its poll", t.id, p, a)
			}
		}
	}
}

// check: the tile's tables agree with each other and with the kernel's.
func (t *simTile) check() {
	if err := t.t.check(); err != nil {
		t.w.fail("tile %d: %v", t.id, err)
	}
	cnt := func(i int) uint64 { return t.t.cnt.Cell(i).Load() }
	closed := uint64(0)
	for why := range closeReasonCnt {
		closed += cnt(cntClosed0 + int(why))
	}
	if a, now := cnt(cntAccepted), cnt(cntConnsNow); a != closed+now || int(now) != len(t.life) {
		t.w.fail("tile %d: accepted %d, closed %d, now %d, the application knows %d", t.id, a, closed, now, len(t.life))
	}
	if a, r := int(cnt(cntAccepted)), int(cnt(cntRejected)+cnt(cntAcceptErr)); t.deaths == 0 && (a > t.accepted || a+r < t.accepted) {
		t.w.fail("tile %d: accepted %d, rejected or failed %d, the kernel gave %d", t.id, a, r, t.accepted)
	}
	for i := range t.t.conns {
		if c := &t.t.conns[i]; c.state != stFree {
			if c.state == stStream && t.w.plan.pings > 0 && c.ping == 0 {
				t.w.fail("tile %d: the client in slot %d will never be pinged", t.id, i)
			}
			s := t.w.k.socketOf(int(c.fd), "a connection in the table")
			s.checkSent()
			s.checkReceived()
		}
	}
}

// tellTable tells the state of its connections.
func (t *simTile) tellTable() {
	for i := range t.t.conns {
		if c := &t.t.conns[i]; c.state != stFree {
			t.w.tell("client %d in slot %d: state %d slow %x flags %x tx %+v rx %+v cursor %d stop %d ctl %v pend %d buffers %d %d %d, %+v", c.peerPort, i, c.state,
				c.slow, c.flags, c.pos(), *c.rxNow(), c.cursor, c.stop, c.ctlLen, c.pendCnt, c.headBuf, c.recvBuf, c.msgBuf, t.t.local[i])
		}
	}
	t.w.tell("free: %d request, %d head, %d receive, %d message buffers, %d entries; waiters %v", len(t.t.req.free), len(t.t.head.free), len(t.t.recv.free),
		len(t.t.msg.free), len(t.t.pends.free), t.t.waiters)
}

// conn is the connection's state in its tile, or nil.
func (s *simSocket) conn() *conn {
	if s.item == nil || s.tile.t == nil {
		return nil
	}
	c := &s.tile.t.conns[s.item.ev.Fd]
	if c.state == stFree || int(c.fd) != s.fd {
		return nil
	}
	return c
}

// checkSent: between two sends the table says what the kernel took, so that a
// successor would go on at the right byte.
func (s *simSocket) checkSent() {
	if c := s.conn(); c != nil && c.pos().pos != uint64(s.taken) {
		s.w.fail("connection of client %d: %d bytes sent by its state, the kernel took %d", s.cl.n, c.pos().pos, s.taken)
	}
}

// checkReceived: nothing counts as received that the kernel did not give, and nothing is forgotten.
func (s *simSocket) checkReceived() {
	if c := s.conn(); c != nil && c.state != stLinger && c.rxNow().end != uint64(s.given) {
		s.w.fail("connection of client %d: %d bytes received by its state, the kernel gave %d", s.cl.n, c.rxNow().end, s.given)
	}
}
