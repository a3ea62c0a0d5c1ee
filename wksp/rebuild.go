package wksp

// Rebuild computes everything anew from the tagged rows: free partitions, list, trees. Rows with a tag keep range
// and tag; a name that is none or that a lower gaddr has already is taken from its row. It may die anywhere
// and be run again. Errors: ErrDamaged (then nothing was changed: RebuildWithout the rows that are wrong, or Reset),
// ErrReadOnly, ErrBusy, ErrLeft.
//
// After a Restore that died there is nothing to compute from: what it had set up is half of something, and what was
// there before is overwritten. Then, and only then, the outcome is an empty workspace.
func (w *Wksp) Rebuild() error { return w.own(OpRebuild, w.rebuild) }

// Report is what Check found and did.
type Report struct {
	Unfinished Op    // what a dead owner left; OpNone: nothing
	Found      error // what Verify says about it; nil: nothing wrong
	Rebuilt    bool  // it was rebuilt and verified after that
}

// Check waits for the owner lock, verifies, and rebuilds what needs it. Errors: as Rebuild's, or what Verify found
// after the rebuild.
func (w *Wksp) Check() (r Report, err error) {
	err = w.own(OpCheck, func() error {
		r = Report{Unfinished: Op(w.hdr.dirty.Load())}
		if r.Found = w.inspectOwned(); r.Found == nil {
			return nil
		}
		if err := w.rebuild(); err != nil {
			return err
		}
		r.Rebuilt = true
		return w.inspectOwned()
	})
	return r, err
}

// rebuild is Rebuild for the owner.
func (w *Wksp) rebuild() error {
	if Op(w.hdr.dirty.Load()) == OpRestore { // the word stays until the last tag is gone, so a death in here changes nothing
		w.clearTags()
	}
	used, err := w.survey()
	if err != nil {
		return err
	}
	w.begin(OpRebuild, 0)
	if err := w.reindex(used); err != nil {
		return err
	}
	put64(&w.hdr.rebuilt, w.hdr.rebuilt.Load()+1, pointHeader)
	w.end()
	return nil
}

// span is a partition: of a tagged row, or with row 0 a gap between two.
type span struct {
	row    uint32
	lo, hi uint64
}

// survey returns the tagged rows by address. ErrDamaged if they contradict each other. It changes nothing.
func (w *Wksp) survey() ([]span, error) {
	used, bad := w.judge(nil)
	if len(bad) > 0 {
		return nil, damaged(bad)
	}
	return used, nil
}

// reindex writes everything but the truth. used is what survey found.
func (w *Wksp) reindex(used []span) error {
	for t := range w.hdr.roots {
		put32(&w.hdr.roots[t], 0, pointTree)
	}
	put32(&w.hdr.first, 0, pointList)
	put32(&w.hdr.last, 0, pointList)
	put32(&w.hdr.idle, 0, pointList)
	for i := uint32(w.partMax); i > 0; i-- {
		w.clearRow(i)
	}
	for i := uint32(w.partMax); i > 0; i-- { // so that the lowest row comes off the stack first
		if w.p(i).tag.Load() == 0 {
			w.pushIdle(i)
		}
	}
	last, at := uint32(0), w.dataLo
	add := func(s span) error {
		i := s.row
		if i == 0 {
			var err error
			if i, err = w.popIdle(); err != nil {
				return err
			}
			w.setRange(i, s.lo, s.hi)
		}
		w.link(last, i, 0)
		last, at = i, s.hi
		if s.row == 0 {
			return w.addFree(i)
		}
		if err := w.insert(byGaddr, i); err != nil {
			return err
		}
		return w.addName(i)
	}
	for _, s := range used {
		if s.lo > at {
			if err := add(span{0, at, s.lo}); err != nil {
				return err
			}
		}
		if err := add(s); err != nil {
			return err
		}
	}
	if at < w.dataHi {
		return add(span{0, at, w.dataHi})
	}
	return nil
}

// clearRow clears the links of row i and, if it has no tag, all else but its generation.
func (w *Wksp) clearRow(i uint32) {
	p, n := w.p(i), &w.names[i-1]
	put32(&p.prev, 0, pointList)
	put32(&p.next, 0, pointList)
	put32(&p.left, 0, pointTree)
	put32(&p.right, 0, pointTree)
	put32(&p.pleft, 0, pointTree)
	put32(&p.pright, 0, pointTree)
	put32(&n.left, 0, pointTree)
	put32(&n.right, 0, pointTree)
	if p.tag.Load() == 0 {
		w.setRange(i, 0, 0)
		put32(&p.slack, 0, pointRange)
		putName(&n.name, words{}, pointName)
	}
}

// addName puts used row i into the name index if it has a name, and takes the name away if it cannot be one.
func (w *Wksp) addName(i uint32) error {
	k := w.key(byName, i)
	if k == (words{}) {
		return nil
	}
	j, err := w.ceil(byName, k)
	if err != nil {
		return err
	}
	if _, ok := k.unpack(); !ok || j != 0 && w.key(byName, j) == k {
		putName(&w.names[i-1].name, words{}, pointName)
		return nil
	}
	return w.insert(byName, i)
}
