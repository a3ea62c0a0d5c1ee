package wksp

import "fmt"

// Free frees the allocation that starts at gaddr; its name, if any, goes with it in the same store. The bytes are
// not wiped. Errors: ErrNotFound (no allocation starts there), ErrReadOnly, ErrBusy, ErrLeft, ErrCorrupt; after ErrDamaged,
// an ErrCorrupt, it may be freed all the same: Tag tells.
func (w *Wksp) Free(gaddr uint64) error {
	freed := false
	return w.own(OpFree, func() error {
		if freed { // the tag was cleared before a broken index was met; the rebuild did the rest
			return nil
		}
		i, err := w.usedAt(gaddr)
		if err != nil {
			return err
		}
		w.begin(OpFree, i)
		freed = true
		if err := w.release(i); err != nil {
			return err
		}
		w.end()
		return nil
	})
}

// TagFree frees every allocation that has one of tags and returns how many, beside an error too. With no tags it frees nothing. If
// the process dies in the middle, some are freed, each wholly. Errors: ErrReadOnly, ErrBusy, ErrLeft, ErrCorrupt.
func (w *Wksp) TagFree(tags ...uint64) (n int, err error) {
	set := tagSet(tags)
	if len(set) == 0 {
		return 0, w.live()
	}
	err = w.own(OpTagFree, func() error {
		begun := false
		for i := uint32(1); w.valid(i); i++ {
			if tag := w.p(i).tag.Load(); tag == 0 || !set[tag] {
				continue
			}
			if !begun {
				w.begin(OpTagFree, 0)
				begun = true
			}
			n++
			if err := w.release(i); err != nil {
				return err
			}
		}
		w.end()
		return nil
	})
	return n, err
}

// Reset frees everything. If the process dies in the middle, some is freed, each allocation wholly. It also mends
// what Rebuild refuses, since no tagged range is left to be wrong. Errors: ErrReadOnly, ErrBusy, ErrLeft.
func (w *Wksp) Reset() error {
	return w.own(OpReset, func() error {
		if Op(w.hdr.dirty.Load()) != OpRestore { // if it is, it says already that everything goes
			w.begin(OpReset, 0)
		}
		w.clearTags()
		return w.rebuild()
	})
}

// clearTags frees everything, as far as the truth goes; a rebuild must follow.
func (w *Wksp) clearTags() {
	for i := range w.parts {
		put64(&w.parts[i].tag, 0, pointTag)
	}
}

// usedAt finds the row of the allocation that starts at gaddr. errIndex if there is one that the tree misses.
func (w *Wksp) usedAt(gaddr uint64) (uint32, error) {
	i, err := w.floor(byGaddr, words{gaddr})
	if err != nil {
		return 0, err
	}
	if i != 0 && w.p(i).tag.Load() != 0 && w.p(i).lo.Load() == gaddr {
		return i, nil
	}
	for i := range w.parts {
		if p := &w.parts[i]; p.tag.Load() != 0 && p.lo.Load() == gaddr {
			return 0, errIndex
		}
	}
	return 0, fmt.Errorf("%w: no allocation starts at gaddr %#x", ErrNotFound, gaddr)
}

// release frees row i, which is used: the tag first, then its indices; then it takes in its free neighbours.
func (w *Wksp) release(i uint32) error {
	p, named := w.p(i), w.key(byName, i) != words{}
	put64(&p.tag, 0, pointTag) // from here on it is free
	if err := w.remove(byGaddr, i); err != nil {
		return err
	}
	if named {
		if err := w.remove(byName, i); err != nil {
			return err
		}
		putName(&w.names[i-1].name, words{}, pointName)
	}
	put32(&p.slack, 0, pointRange)
	if err := w.checkFree(i); err != nil {
		return err
	}
	a, b, err := w.neighbours(i)
	if err != nil {
		return err
	}
	lo, hi := p.lo.Load(), p.hi.Load()
	if a != 0 && w.p(a).tag.Load() == 0 {
		lo = w.p(a).lo.Load()
		if err := w.absorb(a, true, i); err != nil {
			return err
		}
	}
	if b != 0 && w.p(b).tag.Load() == 0 {
		hi = w.p(b).hi.Load()
		if err := w.absorb(b, false, i); err != nil {
			return err
		}
	}
	w.setRange(i, lo, hi)
	return w.addFree(i)
}

// absorb makes row n, a free partition before or after i, idle and takes it out of the list; i takes its place.
func (w *Wksp) absorb(n uint32, before bool, i uint32) error {
	if err := w.dropFree(n); err != nil {
		return err
	}
	a, b, err := w.neighbours(n)
	if err != nil {
		return err
	}
	if before {
		w.join2(a, i)
	} else {
		w.join2(i, b)
	}
	w.pushIdle(n)
	return nil
}

func tagSet(tags []uint64) map[uint64]bool {
	set := make(map[uint64]bool, len(tags))
	for _, t := range tags {
		if t != 0 {
			set[t] = true
		}
	}
	return set
}
