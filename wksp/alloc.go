package wksp

import (
	"fmt"

	"github.com/tilewire/tilewire/shmem"
)

// request is what is asked for, checked.
type request struct {
	align, size, tag uint64
	name             words // all 0: none
	atLeast          bool  // take the rest of the partition rather than fail for want of a row
}

// Alloc allocates size bytes (1 to dataMax) whose gaddr is a multiple of align (a power of 2 up to MaxAlign; 0 is
// DefaultAlign) under tag (not 0; what it means is the caller's business, TagQuery and TagFree go by it). Gaddrs
// align as the workspace does: addresses in a process are multiples of align only up to the alignment of the
// region's mapping, which is a page. The bytes are as the last user left them.
//
// The smallest free partition that fits is split: exactly for alignments up to 128 and for 4096, otherwise some
// of the smallest are tried before one that is certain to fit; a lucky fit elsewhere may be missed.
//
// Errors: ErrAlign, ErrSize, ErrTag, ErrNoSpace, ErrNoPart, ErrReadOnly, ErrBusy, ErrLeft, ErrCorrupt.
func (w *Wksp) Alloc(align, size, tag uint64) (gaddr uint64, err error) {
	o, err := w.alloc(request{align: align, size: size, tag: tag})
	return o.Gaddr, err
}

// AllocAtLeast is Alloc that also returns how many bytes it got: size rounded up to Granule, or more where the
// partition table has no row left to describe the remainder. Errors as Alloc's.
func (w *Wksp) AllocAtLeast(align, size, tag uint64) (gaddr, got uint64, err error) {
	o, err := w.alloc(request{align: align, size: size, tag: tag, atLeast: true})
	return o.Gaddr, o.Size, err
}

func (w *Wksp) alloc(r request) (Object, error) {
	if r.align == 0 {
		r.align = DefaultAlign
	}
	switch {
	case !shmem.IsPow2(r.align) || r.align > MaxAlign:
		return Object{}, fmt.Errorf("%w: %d (0 or a power of 2 up to %d)", ErrAlign, r.align, MaxAlign)
	case r.size == 0:
		return Object{}, fmt.Errorf("%w: 0 bytes", ErrSize)
	case r.tag == 0:
		return Object{}, ErrTag
	}
	r.align = max(r.align, Granule)
	var o Object
	err := w.own(OpAlloc, func() error {
		i, err := w.place(r)
		if err != nil {
			return err
		}
		lo, hi, slack := w.p(i).lo.Load(), w.p(i).hi.Load(), w.p(i).slack.Load()
		o, err = w.object(row{lo: lo, size: hi - lo - uint64(slack), tag: r.tag, name: r.name})
		return err
	})
	return o, err
}

// fitTries is how many of the smallest partitions are tried at an alignment that no tree is sorted for.
const fitTries = 16

// fit finds a free partition with need bytes at align, 0 if there is none.
func (w *Wksp) fit(align, need uint64) (uint32, error) {
	t, sure := bySize, need+align-Granule
	if align >= DefaultAlign {
		t, sure = byPage, need+align-DefaultAlign
	}
	if sure == need { // t is sorted for this alignment
		return w.ceil(t, words{need})
	}
	for k, n := (words{need}), 0; n < fitTries; n++ {
		i, err := w.ceil(t, k)
		if err != nil || i == 0 {
			return 0, err
		}
		if shmem.Align(w.p(i).lo.Load(), align)+need <= w.p(i).hi.Load() {
			return i, nil
		}
		k = w.key(t, i)
		k[1]++
	}
	i, err := w.ceil(t, words{sure})
	if err == nil && i == 0 && align < DefaultAlign {
		return w.ceil(byPage, words{need})
	}
	return i, err
}

// place makes the allocation. Up to the store of the tag it has changed only what reindex can compute.
func (w *Wksp) place(r request) (uint32, error) {
	if r.size > w.dataHi-w.dataLo {
		return 0, w.noSpace(r)
	}
	if r.name != (words{}) {
		if i, err := w.ceil(byName, r.name); err != nil {
			return 0, err
		} else if i != 0 && w.key(byName, i) == r.name {
			name, _ := r.name.unpack()
			return 0, fmt.Errorf("%w: name %s", ErrExists, name)
		}
	}
	need := shmem.Align(r.size, Granule)
	i, err := w.fit(r.align, need)
	if err != nil {
		return 0, err
	}
	if i == 0 {
		return 0, w.noSpace(r)
	}
	if err := w.checkFree(i); err != nil {
		return 0, err
	}
	a, b, err := w.neighbours(i)
	if err != nil {
		return 0, err
	}
	p := w.p(i)
	lo, hi := p.lo.Load(), p.hi.Load()
	start := shmem.Align(lo, r.align)
	end := start + need
	if end > hi {
		return 0, errIndex
	}
	if end, err = w.rowsFor(r, lo, start, end, hi); err != nil {
		return 0, err
	}

	w.begin(OpAlloc, i)
	if err := w.dropFree(i); err != nil {
		return 0, err
	}
	if err := w.carve(i, a, b, start, end); err != nil {
		return 0, err
	}
	slack := end - start - r.size
	if r.atLeast {
		slack = 0
	}
	put32(&p.slack, uint32(slack), pointRange)
	putName(&w.names[i-1].name, r.name, pointName)
	if err := w.insert(byGaddr, i); err != nil {
		return 0, err
	}
	if r.name != (words{}) {
		if err := w.insert(byName, i); err != nil {
			return 0, err
		}
	}
	put32(&p.gen, p.gen.Load()+1, pointRange)
	put64(&p.tag, r.tag, pointTag) // from here on it is allocated
	w.end()
	return i, nil
}

// rowsFor sees to the rows that a split needs and returns the allocation's end: hi where a request for at least
// that much goes without the row for the remainder.
func (w *Wksp) rowsFor(r request, lo, start, end, hi uint64) (uint64, error) {
	n := 0
	if start > lo {
		n++
	}
	if end < hi {
		n++
	}
	ok, err := w.idleRows(n)
	if err != nil || ok {
		return end, err
	}
	if r.atLeast && end < hi {
		if ok, err = w.idleRows(n - 1); err != nil || ok {
			return hi, err
		}
	}
	return 0, fmt.Errorf("%w: all %d rows are in use, %d more are needed", ErrNoPart, w.partMax, n)
}

// carve cuts row i, a free partition between a and b that is in no tree, down to [start,end); what is cut off
// becomes free partitions of its own.
func (w *Wksp) carve(i, a, b uint32, start, end uint64) error {
	lo, hi := w.p(i).lo.Load(), w.p(i).hi.Load()
	w.setRange(i, start, end)
	if lo < start {
		h, err := w.popIdle()
		if err != nil {
			return err
		}
		w.setRange(h, lo, start)
		w.link(a, h, i)
		if err := w.addFree(h); err != nil {
			return err
		}
	}
	if end < hi {
		t, err := w.popIdle()
		if err != nil {
			return err
		}
		w.setRange(t, end, hi)
		w.link(i, t, b)
		if err := w.addFree(t); err != nil {
			return err
		}
	}
	return nil
}

// noSpace says what was asked for and what the largest free partition has.
func (w *Wksp) noSpace(r request) error {
	i, err := w.floor(bySize, words{^uint64(0), ^uint64(0)})
	if err != nil {
		return err
	}
	var largest uint64
	if i != 0 {
		largest = w.key(bySize, i)[0]
	}
	return fmt.Errorf("%w: %d bytes at alignment %d; the largest has %d of %d bytes of data", ErrNoSpace, r.size, r.align, largest, w.dataHi-w.dataLo)
}
