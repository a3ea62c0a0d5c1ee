package httpsrv

// OnFull is what happens to a newcomer when all slots are taken.
type OnFull uint8

const (
	// RefuseNewcomer answers 503 with Retry-After.
	RefuseNewcomer OnFull = iota
	// EvictSlowest closes another connection (CloseEvicted) and lets the newcomer in:
	// for a request the one that was accepted first of those that await a request,
	// its answer or the end; for a stream the blocked client that is furthest
	// behind, or, when none is blocked, the stream that was opened first.
	EvictSlowest
)

var onFullNames = words{"refuse", "evict"}

// String is the policy's word, as ParseOnFull takes it; 'unknown' for anything else.
func (f OnFull) String() string { return onFullNames.of(int(f)) }

// ParseOnFull returns the policy called s, "refuse" or "evict". ErrParams for anything else.
func ParseOnFull(s string) (OnFull, error) {
	i, err := onFullNames.index("policy", s)
	return OnFull(i), err
}

// roomHTTP reports whether there is a slot for a newcomer, and makes one if the policy says so.
func (t *NetTile) roomHTTP() bool {
	free := func() bool {
		return t.httpNow < t.srv.params.MaxConnectionCnt && len(t.free) > 0 && len(t.req.free) > 0
	}
	if free() {
		return true
	}
	if t.opt.OnFull != EvictSlowest {
		return false
	}
	slot, ok := t.order.oldest(queueHTTP)
	if !ok {
		return false
	}
	t.drop(slot, t.conns[slot].evictReason())
	return free()
}

// roomWs does the same for a stream.
func (t *NetTile) roomWs() bool {
	n := t.srv.params.MaxWsConnectionCnt
	if t.wsNow < n {
		return true
	}
	if t.opt.OnFull != EvictSlowest || n == 0 {
		return false
	}
	slot, ok := t.slowest()
	if !ok {
		slot, ok = t.order.oldest(queueWs)
	}
	if !ok {
		return false
	}
	t.evictFor(slot)
	return t.wsNow < n
}

// slowest returns the blocked client that is furthest behind its ring, in bytes.
func (t *NetTile) slowest() (slot uint32, ok bool) {
	lag := uint64(0)
	for i := range t.groups {
		for _, s := range t.groups[i].lists[listBlocked] {
			if l := t.rd[i].end - t.conns[s].ringPos(); !ok || l > lag {
				slot, lag, ok = s, l, true
			}
		}
	}
	return slot, ok
}

// evictFor frees a stream's slot at once: its close frame goes if the socket takes it now.
func (t *NetTile) evictFor(slot uint32) {
	c := &t.conns[slot]
	gen := c.gen.Load()
	if c.state == stStream && c.flags&flBlocked == 0 && c.slow&slowMid == 0 {
		t.closeSoon(slot, CloseEvicted.code(), CloseEvicted.String(), CloseEvicted)
		t.send(slot)
	}
	if c.state == stFree || c.gen.Load() != gen {
		return
	}
	why := c.evictReason()
	if c.flags&flSentClose == 0 {
		t.reset(slot, why)
		return
	}
	t.drop(slot, why)
}

// evictReason is why a connection ends whose place is needed: one that was ending
// keeps its reason.
func (c *conn) evictReason() CloseReason {
	if c.state == stClosing || c.state == stLinger {
		return c.reason
	}
	return CloseEvicted
}
