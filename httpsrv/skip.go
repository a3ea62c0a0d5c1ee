package httpsrv

// OnLag is what happens to a client that falls too far behind its ring.
type OnLag uint8

const (
	// EvictLagging closes it (4001, CloseWsClientTooSlow).
	EvictLagging OnLag = iota
	// SkipAhead has it go on, at the next frame boundary, with the last message published: it misses what lies between. Too far is
	// then half of what the ring holds, or less by the limits. It is closed all the same if the rest of the frame that it stands in is gone, if it takes nothing for WriteTimeout, or if
	// messages to itself are lost.
	SkipAhead
)

var onLagNames = words{"evict", "skip"}

// String is the policy's word, as ParseOnLag takes it; 'unknown' for anything else.
func (l OnLag) String() string { return onLagNames.of(int(l)) }

// ParseOnLag returns the policy called s, "evict" or "skip". ErrParams for anything else.
func ParseOnLag(s string) (OnLag, error) {
	i, err := onLagNames.index("policy", s)
	return OnLag(i), err
}

// lagged treats a client that is too far behind its ring by the policy.
func (t *NetTile) lagged(slot uint32) {
	if !t.skip(slot) {
		t.evict(slot)
	}
}

// skip has a client go on with the last message published, now if it stands between two frames, else once sendRing has
// finished its frame. false: by the policy, or since the frame's rest is gone, it can't.
func (t *NetTile) skip(slot uint32) bool {
	c := &t.conns[slot]
	if t.opt.OnLag != SkipAhead || c.state != stStream || c.ring < 0 {
		return false
	}
	rd, cur := t.rd[c.ring], c.ringPos()
	end, ok := t.frameEnd(c)
	if !ok {
		return false
	}
	if end != cur {
		return cur >= rd.r.hdr.limit[areaBroadcast].Load()
	}
	to, left := rd.newest(), uint32(1)
	if to <= cur || to == rd.end { // it has all but the last one, and can't have that
		to, left = rd.end, 0
	}
	t.countSkip(c, rd, cur, to, left)
	c.slow &^= slowMid
	c.flags &^= flFresh
	if p := c.pos(); p.src() == srcRing {
		c.commit(txPos{p.pos, at(srcRing, to)})
	} else {
		c.cursor = to
	}
	if c.flags&flBlocked == 0 {
		t.touch(slot)
	}
	return true
}

// countSkip counts what a client misses that goes from cur to to, and as delivered what it got before; left broadcasts are yet to come.
// Messages to single clients have numbers too, and count as missed; of those whose descriptors are reused only a ring's depth counts.
func (t *NetTile) countSkip(c *conn, rd *reader, cur, to uint64, left uint32) {
	var a, b message
	missed := uint64(0)
	if rd.find(to, &b) {
		from := rd.r.oldest(rd.seen)
		if rd.find(cur, &a) {
			from = a.seq
		}
		missed = b.seq - min(from, b.seq)
	}
	got := int64(int32(uint32(rd.msgs)-c.done-left)) - int64(missed)
	t.cnt.Cell(cntSkips).Inc()
	t.cnt.Cell(cntSkipped).Add(missed)
	t.cnt.Cell(cntDelivered).Add(uint64(max(got, 0)))
	c.done = uint32(rd.msgs) - left
}

// skipping returns how far a client that is to skip ahead may be sent the ring before: to its frame's end. 0: it has skipped, or is gone.
func (t *NetTile) skipping(slot uint32, c *conn, cur, to uint64) uint64 {
	end, ok := t.frameEnd(c)
	if !ok || end == cur {
		t.lagged(slot)
		return 0
	}
	return min(end, to)
}
