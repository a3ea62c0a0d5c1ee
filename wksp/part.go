package wksp

// This file moves rows between their three states and keeps the list by address. Nothing here touches a tag, and
// nothing here is called on bounds of a row whose tag is set: after a death at any store, reindex redoes it all.

// rangeOK tells whether [lo,hi) can be a partition.
func (w *Wksp) rangeOK(lo, hi uint64) bool {
	return lo >= w.dataLo && lo < hi && hi <= w.dataHi && lo%Granule == 0 && hi%Granule == 0
}

func (w *Wksp) setRange(i uint32, lo, hi uint64) {
	put64(&w.p(i).lo, lo, pointRange)
	put64(&w.p(i).hi, hi, pointRange)
}

// checkFree: row i is a free partition as far as the row itself tells.
func (w *Wksp) checkFree(i uint32) error {
	if p := w.p(i); p.tag.Load() != 0 || !w.rangeOK(p.lo.Load(), p.hi.Load()) {
		return errIndex
	}
	return nil
}

// idleRows tells whether there are n idle rows (0 to 2).
func (w *Wksp) idleRows(n int) (bool, error) {
	i := w.hdr.idle.Load()
	for ; n > 0; n-- {
		if i == 0 {
			return false, nil
		}
		if !w.valid(i) || w.p(i).tag.Load() != 0 || w.p(i).hi.Load() != 0 {
			return false, errIndex
		}
		i = w.p(i).next.Load()
	}
	return true, nil
}

// popIdle takes a row from the stack; idleRows has said that there is one.
func (w *Wksp) popIdle() (uint32, error) {
	if ok, err := w.idleRows(1); err != nil || !ok {
		return 0, errIndex
	}
	i := w.hdr.idle.Load()
	put32(&w.hdr.idle, w.p(i).next.Load(), pointList)
	put32(&w.p(i).next, 0, pointList)
	return i, nil
}

func (w *Wksp) pushIdle(i uint32) {
	p := w.p(i)
	w.setRange(i, 0, 0)
	put32(&p.slack, 0, pointRange)
	put32(&p.prev, 0, pointList)
	put32(&p.next, w.hdr.idle.Load(), pointList)
	put32(&w.hdr.idle, i, pointList)
}

// link puts row i into the list between a and b, neighbours or 0.
func (w *Wksp) link(a, i, b uint32) {
	put32(&w.p(i).prev, a, pointList)
	put32(&w.p(i).next, b, pointList)
	w.join2(a, i)
	w.join2(i, b)
}

// join2 makes a and b neighbours; 0 is the list's end.
func (w *Wksp) join2(a, b uint32) {
	if a == 0 {
		put32(&w.hdr.first, b, pointList)
	} else {
		put32(&w.p(a).next, b, pointList)
	}
	if b == 0 {
		put32(&w.hdr.last, a, pointList)
	} else {
		put32(&w.p(b).prev, a, pointList)
	}
}

// neighbours returns the rows before and after i, checked: in bounds and touching i; 0 at the ends of the data.
func (w *Wksp) neighbours(i uint32) (a, b uint32, err error) {
	p := w.p(i)
	a, b = p.prev.Load(), p.next.Load()
	if a == 0 {
		if p.lo.Load() != w.dataLo {
			return 0, 0, errIndex
		}
	} else if !w.valid(a) || a == i || w.p(a).hi.Load() != p.lo.Load() || !w.rangeOK(w.p(a).lo.Load(), w.p(a).hi.Load()) {
		return 0, 0, errIndex
	}
	if b == 0 {
		if p.hi.Load() != w.dataHi {
			return 0, 0, errIndex
		}
	} else if !w.valid(b) || b == i || b == a || w.p(b).lo.Load() != p.hi.Load() || !w.rangeOK(w.p(b).lo.Load(), w.p(b).hi.Load()) {
		return 0, 0, errIndex
	}
	return a, b, nil
}

// addFree puts row i, whose range is set, into the trees of what is free.
func (w *Wksp) addFree(i uint32) error {
	if err := w.insert(bySize, i); err != nil {
		return err
	}
	if pageRoom(w.p(i).lo.Load(), w.p(i).hi.Load()) == 0 {
		return nil
	}
	return w.insert(byPage, i)
}

// dropFree takes row i out of the trees of what is free.
func (w *Wksp) dropFree(i uint32) error {
	if err := w.remove(bySize, i); err != nil {
		return err
	}
	if pageRoom(w.p(i).lo.Load(), w.p(i).hi.Load()) == 0 {
		return nil
	}
	return w.remove(byPage, i)
}
