package httpsrv

// replies are the messages and bodies in the tile's reply ring that connections
// have yet to take, in the order of their bytes, so that the oldest is known: the
// ring must not go round over it. It is rebuilt from nothing, as the pending
// entries are, and there is only where TileOptions.ReplyWait asks for it.
type replies struct {
	link    []replyLink // per pending entry
	oldest  uint32      // index+1 into the pending entries, 0: none
	newest  uint32
	waiters []uint32 // slots that are not read from until there is place
	freed   bool     // the oldest went since the waiters were looked at
	until   int64    // the oldest has so long to go, once somebody waits; 0: nobody does

	gone, goneSeq uint64 // up to here clients were given what they take (makeWay)
}

type replyLink struct {
	older, newer uint32 // index+1
	slot         uint32
	seq          uint64 // of the descriptor, or the one before it
}

// replyBurst is how many messages a callback may send, beside a reply as long
// as what it got, without taking place that was not looked for.
const replyBurst = 16

func (p *replies) push(i, slot uint32, seq uint64) {
	if p.link == nil {
		return
	}
	p.link[i-1] = replyLink{older: p.newest, slot: slot, seq: seq}
	if p.newest != 0 {
		p.link[p.newest-1].newer = i
	} else {
		p.oldest = i
	}
	p.newest = i
}

func (p *replies) remove(i uint32) {
	if p.link == nil {
		return
	}
	l := &p.link[i-1]
	if l.older != 0 {
		p.link[l.older-1].newer = l.newer
	} else {
		p.oldest = l.newer
		p.freed, p.until = len(p.waiters) > 0, 0
	}
	if l.newer != 0 {
		p.link[l.newer-1].older = l.older
	} else {
		p.newest = l.older
	}
	*l = replyLink{}
}

// laps reports whether one more reply, of up to MaxWsRecvFrameLen bytes, may
// take the place of bytes at off of the reply ring that were sent as seq.
func (t *NetTile) laps(off, seq uint64) bool {
	st := t.stage
	size, mask := st.r.size[areaSide], st.r.mask
	// Twice: a message that does not fit before the ring's end leaves a gap. And
	// a little more than needed is reclaimed, by bytes and by descriptors.
	need := 2*(uint64(t.srv.params.MaxWsRecvFrameLen)+roomLong) + size/64
	return st.end[areaSide]+need > off+size || st.seq+replyBurst+mask/64 > seq+mask
}

// makeWay gives clients what was staged for them in this Poll before a callback
// stages what may overwrite it: a body of any length (of a response), or a reply
// as long as what the client sent. They are not slow, they only had no turn yet.
func (t *NetTile) makeWay(body bool) {
	st, p := t.stage, &t.rep
	if st.seq != p.goneSeq && (body || t.laps(p.gone, p.goneSeq)) {
		t.flush()
		p.gone, p.goneSeq = st.end[areaSide], st.seq
	}
}

// paused reports whether a client is not to be read from for now, because there
// is no place for what its messages bring: it leaves too many of its replies
// unread, or the next one would overwrite its own, or, where replies wait for
// each other, anybody's.
func (t *NetTile) paused(slot uint32, c *conn) bool {
	switch {
	case c.state != stStream: // what comes now brings no replies
		return false
	case t.owing(c):
		c.flags |= flMore // it is read from again once it has everything: settle
		return true
	}
	if t.repliesFull() {
		t.waitReply(slot)
		return true
	}
	return false
}

// owing reports whether a client has to take replies first before it gets more.
func (t *NetTile) owing(c *conn) bool { return c.pendCnt > pausePending || t.lapsItself(c) }

// lapsItself looks at the first of the client's own replies.
func (t *NetTile) lapsItself(c *conn) bool {
	for i := c.pendHead; i != 0; i = t.pend[i-1].next {
		if e := &t.pend[i-1]; int(e.ring) == t.replyRing() {
			return t.laps(e.off, t.stage.seq)
		}
	}
	return false
}

// repliesFull reports whether the next reply would overwrite the oldest one that
// somebody has yet to take.
func (t *NetTile) repliesFull() bool {
	p := &t.rep
	return p.oldest != 0 && t.laps(t.pend[p.oldest-1].off, p.link[p.oldest-1].seq)
}

// waitReply has slot read from again once the oldest reply is taken.
func (t *NetTile) waitReply(slot uint32) {
	p := &t.rep
	t.cnt.Cell(cntBufWaits).Inc()
	if l := &t.local[slot]; !l.waitsReply {
		l.waitsReply = true
		p.waiters = append(p.waiters, slot)
	}
	if p.until == 0 {
		p.until = t.now + t.opt.ReplyWait.Nanoseconds()
	}
}

// turnReplies has those looked at who waited for place in the reply ring, and
// closes who did not make it in time.
func (t *NetTile) turnReplies() {
	p := &t.rep
	if p.until != 0 && t.now >= p.until {
		slot := p.link[p.oldest-1].slot
		p.until = t.now + t.opt.ReplyWait.Nanoseconds() // for the end of its close
		if t.conns[slot].state == stRespond {
			t.reset(slot, CloseTooSlow)
		} else {
			t.evict(slot)
		}
	}
	if p.freed {
		p.freed = false
		for _, slot := range p.waiters {
			t.local[slot].waitsReply = false
			t.later(slot)
		}
		p.waiters = p.waiters[:0]
	}
}
