package httpsrv

// wheel finds the connections whose deadline has come: O(1) to set, and per
// tick. The deadline itself is in the connection; the wheel only knows in which
// tick to look, and a connection whose deadline was moved on is put back.
type wheel struct {
	tick  int64    // ticks passed
	head  []uint32 // per tick modulo len: slot + 1
	next  []uint32 // per slot
	prev  []uint32 // per slot: slot + 1 before it, or 0 for the first
	where []uint32 // per slot: bucket + 1, 0: in none
	set   int      // slots in the wheel
}

const (
	wheelTick = 16e6 // ns
	wheelSz   = 1024 // 16 s ahead; later deadlines are looked at once a turn
)

func newWheel(slots uint32, now int64) wheel {
	return wheel{
		tick: now / wheelTick, head: make([]uint32, wheelSz),
		next: make([]uint32, slots), prev: make([]uint32, slots), where: make([]uint32, slots),
	}
}

// rebuild makes the wheel of the deadlines in conns: what a tile's successor does.
// It finds each deadline within the tick after it, as its predecessor's.
func (w *wheel) rebuild(conns []conn, now int64) {
	*w = newWheel(uint32(len(conns)), now)
	for i := range conns {
		if c := &conns[i]; c.state != stFree {
			if d := c.due(); d != 0 {
				w.add(uint32(i), d)
			}
		}
	}
}

// tickOf returns the tick in which a deadline (ns) is looked at, if it is set now.
func (w *wheel) tickOf(deadline int64) int64 {
	return min(max(deadline/wheelTick+1, w.tick+1), w.tick+wheelSz-1)
}

// sooner is add, unless slot is looked at by then anyway.
func (w *wheel) sooner(slot uint32, deadline int64) {
	if w.where[slot] == 0 || w.tickAt(slot) > w.tickOf(deadline) {
		w.add(slot, deadline)
	}
}

// tickAt returns the tick in which a slot that is in the wheel is looked at.
func (w *wheel) tickAt(slot uint32) int64 {
	next := w.tick + 1
	return next + (int64(w.where[slot]-1)-next)&(wheelSz-1)
}

// add has slot looked at once deadline (ns) has passed.
func (w *wheel) add(slot uint32, deadline int64) {
	w.remove(slot)
	b := uint32(w.tickOf(deadline) % wheelSz)
	w.where[slot] = b + 1
	w.prev[slot], w.next[slot] = 0, w.head[b]
	if n := w.head[b]; n != 0 {
		w.prev[n-1] = slot + 1
	}
	w.head[b] = slot + 1
	w.set++
}

func (w *wheel) remove(slot uint32) {
	b := w.where[slot]
	if b == 0 {
		return
	}
	w.where[slot] = 0
	w.set--
	n, p := w.next[slot], w.prev[slot]
	if p != 0 {
		w.next[p-1] = n
	} else {
		w.head[b-1] = n
	}
	if n != 0 {
		w.prev[n-1] = p
	}
}

// advance calls due for every slot whose tick has passed.
func (w *wheel) advance(now int64, due func(slot uint32)) {
	to := now / wheelTick
	if to-w.tick > wheelSz { // was descheduled for more than a turn: each bucket once
		w.tick = to - wheelSz
	}
	for w.tick < to {
		w.tick++
		b := w.tick % wheelSz
		for s := w.head[b]; s != 0; s = w.head[b] {
			w.remove(s - 1)
			due(s - 1)
		}
	}
}

// wait returns the ms until the next bucket that holds anything, at most maxMs
// unless that is negative.
func (w *wheel) wait(now int64, maxMs int) int {
	if w.set == 0 {
		return maxMs
	}
	for i := int64(1); i < wheelSz; i++ {
		ms := int(((w.tick+i)*wheelTick-now)/1e6) + 1
		if maxMs >= 0 && ms >= maxMs {
			return maxMs
		}
		if w.head[(w.tick+i)%wheelSz] != 0 {
			return max(ms, 1)
		}
	}
	return maxMs
}
