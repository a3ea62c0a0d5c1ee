package wksp

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// BadRow is a tagged row that cannot be believed. Its figures are what it says, whatever that means.
type BadRow struct {
	Row        uint32 // of the partition table, from 1
	Lo, Hi     uint64 // the partition it claims
	Tag        uint64
	Slack      uint32
	Name       string // "" if it has none, or none that can be read
	Impossible bool   // by itself; else it overlaps another, or there are more than the table has room for: one of them is wrong
	Why        string
}

// BadRows returns the tagged rows because of which Rebuild gives ErrDamaged, by row; none if it does not. Linear; takes
// no lock and works on a read-only join. Beside mutators it tries again until a moment when nobody mutates.
// Errors: ErrBusy (none within Patience), ErrLeft.
func (w *Wksp) BadRows() (bad []BadRow, err error) {
	err = w.settled("looking for bad rows", func(dirty uint64) { bad = w.badRows(dirty) })
	return bad, err
}

func (w *Wksp) badRows(dirty uint64) (bad []BadRow) {
	if Op(dirty) != OpRestore { // else no row counts
		_, bad = w.judge(nil)
	}
	return bad
}

// RebuildWithout is Rebuild that first frees the rows given, whatever they say, and returns them as they were. All or
// nothing: if one of rows is none of BadRows, nor would be without the others, or rows would remain that contradict each other,
// nothing is changed. What the rows held stays in the data until that is allocated again; what other rows hold is not touched. If the process
// dies in the middle, some are dropped, and the others are bad rows as before.
// Errors: ErrNotFound (a row that is sound, or has no tag), ErrDamaged (others are bad too), ErrReadOnly, ErrBusy, ErrLeft.
func (w *Wksp) RebuildWithout(rows ...uint32) (dropped []BadRow, err error) {
	err = w.own(OpRebuild, func() error {
		if dropped != nil || Op(w.hdr.dirty.Load()) == OpRestore {
			return w.rebuild()
		}
		gone, err := w.drop(rows)
		if err != nil {
			return fmt.Errorf("%w; nothing was dropped", err)
		}
		dropped = gone
		w.begin(OpRebuild, 0)
		for _, b := range gone {
			put64(&w.p(b.Row).tag, 0, pointTag)
		}
		return w.rebuild()
	})
	return dropped, err
}

// drop returns the rows given as they are. Errors: ErrNotFound if one is not bad, without those that are; ErrDamaged if others remain bad.
func (w *Wksp) drop(rows []uint32) (gone []BadRow, err error) {
	without := map[uint32]bool{}
	for {
		_, bad := w.judge(without)
		more := false
		for _, b := range bad {
			if slices.Contains(rows, b.Row) {
				gone, more, without[b.Row] = append(gone, b), true, true
			}
		}
		if more {
			continue // what was hidden by these may be bad too
		}
		for _, i := range rows {
			if !without[i] {
				return nil, fmt.Errorf("%w: row %d is not damaged", ErrNotFound, i)
			}
		}
		if len(bad) > 0 {
			return nil, damaged(bad)
		}
		return gone, nil
	}
}

// damaged says what is wrong with the first of bad rows, and how many there are.
func damaged(bad []BadRow) error {
	more := ""
	if len(bad) > 1 {
		more = fmt.Sprintf("; %d rows in all", len(bad))
	}
	return fmt.Errorf("%w: row %d, tag %#x: %s%s", ErrDamaged, bad[0].Row, bad[0].Tag, bad[0].Why, more)
}

// judge returns the tagged rows by address, and those of them that cannot be, by row; as if the rows of without had no tag.
func (w *Wksp) judge(without map[uint32]bool) (used []span, bad []BadRow) {
	why := map[uint32][]string{}
	for i := uint32(1); w.valid(i); i++ {
		p := w.p(i)
		if p.tag.Load() == 0 || without[i] {
			continue
		}
		s := span{i, p.lo.Load(), p.hi.Load()}
		if slack := p.slack.Load(); !w.rangeOK(s.lo, s.hi) || slack >= Granule {
			why[i] = []string{fmt.Sprintf("range [%#x,%#x) slack %d in data [%#x,%#x)", s.lo, s.hi, slack, w.dataLo, w.dataHi)}
			bad = append(bad, w.badRow(s))
			continue
		}
		used = append(used, s)
	}
	slices.SortFunc(used, func(a, b span) int { return cmp.Or(cmp.Compare(a.lo, b.lo), cmp.Compare(a.row, b.row)) })
	rows, widest := 0, span{hi: w.dataLo}
	suspect := func(s, other span) {
		if why[s.row] == nil {
			bad = append(bad, w.badRow(s))
		}
		if len(why[s.row]) < 4 { // enough for people
			why[s.row] = append(why[s.row], fmt.Sprintf("[%#x,%#x) overlaps row %d [%#x,%#x)", s.lo, s.hi, other.row, other.lo, other.hi))
		}
	}
	for _, s := range used {
		if s.lo < widest.hi {
			suspect(widest, s)
			suspect(s, widest)
		} else if s.lo > widest.hi {
			rows++
		}
		if rows++; s.hi > widest.hi {
			widest = s
		}
	}
	if widest.hi < w.dataHi {
		rows++
	}
	if len(bad) == 0 && uint64(rows) > w.partMax {
		for _, s := range used {
			why[s.row] = []string{fmt.Sprintf("one of %d partitions in a table of %d rows", rows, w.partMax)}
			bad = append(bad, w.badRow(s))
		}
	}
	slices.SortFunc(bad, func(a, b BadRow) int { return cmp.Compare(a.Row, b.Row) })
	for k := range bad {
		b := &bad[k]
		b.Why = strings.Join(why[b.Row], ", ")
		b.Impossible = !w.rangeOK(b.Lo, b.Hi) || b.Slack >= Granule
	}
	return used, bad
}

func (w *Wksp) badRow(s span) BadRow {
	name, _ := w.key(byName, s.row).unpack()
	return BadRow{Row: s.row, Lo: s.lo, Hi: s.hi, Tag: w.p(s.row).tag.Load(), Slack: w.p(s.row).slack.Load(), Name: name}
}

// settled runs look, which is given the dirty word and takes no lock, until nobody mutated while it ran. A dirty word that
// a dead owner left is no mutation. Errors: ErrBusy, ErrLeft.
func (w *Wksp) settled(what string, look func(dirty uint64)) error {
	if err := w.live(); err != nil {
		return err
	}
	for deadline := time.Now().Add(w.Patience); !w.glance(look); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: waited %v: %w", what, w.Patience, busy(w.m))
		}
	}
	return nil
}

// glance runs look once and tells whether nobody mutated meanwhile; if somebody did, what it found is worth nothing.
func (w *Wksp) glance(look func(dirty uint64)) bool {
	seq, dirty := w.hdr.seq.Load(), w.hdr.dirty.Load()
	if dirty != 0 && w.m.Locked(lockOff) {
		return false
	}
	look(dirty)
	return w.hdr.seq.Load() == seq && w.hdr.dirty.Load() == dirty
}
