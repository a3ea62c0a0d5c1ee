package wksp

import "fmt"

// Verify checks everything: rows, list, idle rows, the four trees, names. A join that can write does it under the
// owner lock; a read-only join repeats it until nobody mutated meanwhile. It changes nothing (but who the owner is).
//
// Errors: ErrDamaged (Rebuild cannot mend it), ErrDirty (a dead owner left an operation unfinished; what follows from that
// is not reported), ErrCorrupt with what and where, ErrBusy, ErrLeft.
func (w *Wksp) Verify() (err error) {
	if !w.m.ReadOnly() {
		return w.own(OpVerify, w.inspectOwned)
	}
	if e := w.settled("verify", func(dirty uint64) { err = w.inspect(dirty) }); e != nil {
		return e
	}
	return err
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

func unfinished(dirty uint64) error {
	if Op(dirty) == OpRestore {
		return fmt.Errorf("%w: %s; the workspace counts as empty, and Check or the next mutation makes it so", ErrDirty, OpRestore)
	}
	return fmt.Errorf("%w: %s, row %d", ErrDirty, Op(dirty), dirty>>32)
}

func (w *Wksp) inspectOwned() error { return w.inspect(w.hdr.dirty.Load()) }

// inspect is Verify for one who knows that nobody mutates. Damaged rows are told before an operation left unfinished, since
// that cannot be finished before they are dropped.
func (w *Wksp) inspect(dirty uint64) error {
	if Op(dirty) == OpRestore {
		return unfinished(dirty)
	}
	used, err := w.survey()
	if err != nil {
		return err
	}
	if dirty != 0 {
		return unfinished(dirty)
	}
	free, err := w.checkList(len(used))
	if err != nil {
		return err
	}
	rows := uint64(len(used)) + uint64(free)
	if rows > w.partMax { // only if somebody writes without the lock
		return corrupt("list: %d partitions in a table of %d rows", rows, w.partMax)
	}
	if err := w.checkIdle(w.partMax - rows); err != nil {
		return err
	}
	return w.checkTrees()
}

// checkList walks the partitions by address and returns how many are free.
func (w *Wksp) checkList(used int) (free int, err error) {
	at, prev, wasFree := w.dataLo, uint32(0), false
	for i := w.hdr.first.Load(); i != 0; i = w.p(i).next.Load() {
		if !w.valid(i) {
			return 0, corrupt("list: row %d leads to row %d of %d", prev, i, w.partMax)
		}
		p := w.p(i)
		lo, hi, isFree := p.lo.Load(), p.hi.Load(), p.tag.Load() == 0
		// Ends come nearer with each step, so a loop ends here too.
		if lo != at || !w.rangeOK(lo, hi) || p.prev.Load() != prev {
			return 0, corrupt("list: row %d [%#x,%#x) before %d follows row %d that ends at %#x", i, lo, hi, p.prev.Load(), prev, at)
		}
		if isFree && wasFree {
			return 0, corrupt("list: rows %d and %d are free and touch", prev, i)
		}
		if isFree {
			free++
			if p.slack.Load() != 0 {
				return 0, corrupt("row %d is free with slack %d", i, p.slack.Load())
			}
		} else {
			used--
		}
		at, prev, wasFree = hi, i, isFree
	}
	if at != w.dataHi || w.hdr.last.Load() != prev || used != 0 {
		return 0, corrupt("list: ends at %#x of %#x with row %d, last is %d, %d used rows are not in it", at, w.dataHi, prev, w.hdr.last.Load(), used)
	}
	return free, nil
}

// checkIdle walks the stack of idle rows, which must be n.
func (w *Wksp) checkIdle(n uint64) error {
	left := n
	for i := w.hdr.idle.Load(); i != 0; i = w.p(i).next.Load() {
		if !w.valid(i) || left == 0 {
			return corrupt("idle rows: row %d of %d, after %d of %d", i, w.partMax, n-left, n)
		}
		if p := w.p(i); p.tag.Load() != 0 || p.lo.Load() != 0 || p.hi.Load() != 0 {
			return corrupt("idle rows: row %d is not idle", i)
		}
		left--
	}
	if left != 0 {
		return corrupt("idle rows: %d of %d are not on the stack", left, n)
	}
	return nil
}

// belongs tells whether row i is to be in t.
func (w *Wksp) belongs(t tree, i uint32) bool {
	p := w.p(i)
	used := p.tag.Load() != 0
	switch t {
	case byName:
		return used && w.key(byName, i) != words{}
	case byGaddr:
		return used
	case bySize:
		return !used && p.hi.Load() != 0
	}
	return !used && pageRoom(p.lo.Load(), p.hi.Load()) != 0
}

func (w *Wksp) checkTrees() error {
	var want [4]int
	for i := uint32(1); w.valid(i); i++ {
		for t := bySize; t <= byName; t++ {
			if w.belongs(t, i) {
				want[t]++
			}
		}
		k := w.key(byName, i)
		if k == (words{}) {
			continue
		}
		if w.p(i).tag.Load() == 0 {
			return corrupt("row %d has a name and no tag", i)
		}
		if _, ok := k.unpack(); !ok {
			return corrupt("row %d: its name is none", i)
		}
	}
	for t := bySize; t <= byName; t++ {
		var last words
		n := 0
		err := w.walk(t, func(i uint32) error {
			k := w.key(t, i)
			if !w.belongs(t, i) || n > 0 && !last.less(k) {
				return corrupt("tree %d: row %d is out of place", t, i)
			}
			left, right := w.kids(t, i)
			for _, c := range []uint32{left.Load(), right.Load()} {
				if c != 0 && (!w.valid(c) || w.prio(c) >= w.prio(i)) {
					return corrupt("tree %d: row %d is above row %d", t, i, c)
				}
			}
			last = k
			n++
			return nil
		})
		if err == errIndex {
			return corrupt("tree %d: its links lead astray", t)
		}
		if err != nil {
			return err
		}
		if n != want[t] {
			return corrupt("tree %d: %d rows of %d are in it", t, n, want[t])
		}
	}
	return nil
}
