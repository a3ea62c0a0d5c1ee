package wksp

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tilewire/tilewire/shmem"
)

// Object is an allocation as it was found.
type Object struct {
	Name  string    // "" if it has none
	Gaddr uint64    // of its first byte
	Size  uint64    // bytes asked for
	Tag   uint64    // not 0
	Mem   shmem.Mem // its Size bytes, with the region's lock space; valid as long as the region's memory, not as long as the allocation
}

// row is a used row as read in one piece.
type row struct {
	lo, size, tag uint64
	name          words
	bad           bool // in one piece, and impossible
}

// read reads row i without a lock; ok is false if it is not used, changed meanwhile, or says what cannot be. Rows
// are written only while their tag is 0, and the generation goes up before each setting of the tag: the same tag
// and generation before and after, read in this order, mean that nothing between belongs to two allocations. While a
// restore is under way, or after one that died, no row is used: tags that it has set count from its end on.
func (w *Wksp) read(i uint32) (r row, ok bool) {
	p := w.p(i)
	if r.tag = p.tag.Load(); r.tag == 0 {
		return r, false
	}
	peek()
	gen := p.gen.Load()
	peek()
	lo := p.lo.Load()
	peek()
	hi, slack := p.hi.Load(), uint64(p.slack.Load())
	peek()
	r.name = loadName(&w.names[i-1].name)
	peek()
	if Op(w.hdr.dirty.Load()) == OpRestore {
		return row{}, false
	}
	tag := p.tag.Load()
	peek()
	if tag != r.tag || p.gen.Load() != gen {
		return row{}, false
	}
	if !w.rangeOK(lo, hi) || slack >= Granule {
		return row{bad: true}, false
	}
	r.lo, r.size = lo, hi-lo-slack
	return r, true
}

// stable runs search, which reads an index, and tells whether a miss is to be believed: nobody mutated meanwhile.
func (w *Wksp) stable(search func() error) bool {
	seq := w.hdr.seq.Load()
	return w.hdr.dirty.Load() == 0 && search() == nil && w.hdr.seq.Load() == seq
}

// find returns the used row for which is holds, by index if it can be trusted, else by going through all rows.
func (w *Wksp) find(index func() (uint32, error), is func(row) bool) (r row, ok bool) {
	var i uint32
	believe := w.stable(func() (err error) {
		i, err = index()
		return err
	})
	if w.valid(i) {
		if r, ok = w.read(i); ok && is(r) {
			return r, true
		}
	}
	if believe {
		return row{}, false
	}
	for i := uint32(1); w.valid(i); i++ {
		if r, ok = w.read(i); ok && is(r) {
			return r, true
		}
	}
	return row{}, false
}

// at returns the allocation that gaddr lies in.
func (w *Wksp) at(gaddr uint64) (row, error) {
	if err := w.live(); err != nil {
		return row{}, err
	}
	r, ok := w.find(
		func() (uint32, error) { return w.floor(byGaddr, words{gaddr}) },
		func(r row) bool { return gaddr >= r.lo && gaddr-r.lo < r.size })
	if !ok {
		return row{}, fmt.Errorf("%w: gaddr %#x is in no allocation", ErrNotFound, gaddr)
	}
	return r, nil
}

func (w *Wksp) object(r row) (Object, error) {
	m, err := w.m.Slice(r.lo, r.size)
	if err != nil {
		return Object{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	name, _ := r.name.unpack()
	return Object{Name: name, Gaddr: r.lo, Size: r.size, Tag: r.tag, Mem: m}, nil
}

// Laddr returns the n bytes at gaddr as memory of this process; n = 0 means up to the end of the allocation. The
// allocation must be live; that it stays so is the caller's business.
// Errors: ErrNotFound (gaddr in no allocation), ErrBounds (n reaches beyond it), ErrLeft.
func (w *Wksp) Laddr(gaddr, n uint64) (shmem.Mem, error) {
	r, err := w.at(gaddr)
	if err != nil {
		return shmem.Mem{}, err
	}
	rest := r.size - (gaddr - r.lo)
	if n > rest {
		return shmem.Mem{}, fmt.Errorf("%w: %d bytes at gaddr %#x, the allocation has %d more", ErrBounds, n, gaddr, rest)
	}
	if n == 0 {
		n = rest
	}
	return w.m.Slice(gaddr, n)
}

// Gaddr returns the gaddr of the first byte of m, which must lie wholly in this workspace's data and stem from this
// join's region or heap. Errors: ErrBounds, ErrLeft.
func (w *Wksp) Gaddr(m shmem.Mem) (uint64, error) {
	if err := w.live(); err != nil {
		return 0, err
	}
	base, off := w.m.Offset(), m.Offset()
	if !m.SameSpace(w.m) || off < base+w.dataLo || off > base+w.dataHi || m.Len() > base+w.dataHi-off {
		return 0, fmt.Errorf("%w: %d bytes at %d of their space are not of the data of workspace %s", ErrBounds, m.Len(), off, w.name)
	}
	return off - base, nil
}

// Tag returns the tag of the allocation that gaddr lies in. Errors: ErrNotFound, ErrLeft.
func (w *Wksp) Tag(gaddr uint64) (uint64, error) {
	r, err := w.at(gaddr)
	return r.tag, err
}

// TagQuery returns the allocations that have one of tags, or all if no tags are given, in order of gaddr. Each is
// read whole; beside a mutator, the list is of no single instant. Errors: ErrLeft.
func (w *Wksp) TagQuery(tags ...uint64) ([]Object, error) {
	if err := w.live(); err != nil {
		return nil, err
	}
	set := tagSet(tags)
	var list []Object
	for i := uint32(1); w.valid(i); i++ {
		r, ok := w.read(i)
		if !ok || len(tags) > 0 && !set[r.tag] {
			continue
		}
		if o, err := w.object(r); err == nil {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b Object) int { return cmp.Compare(a.Gaddr, b.Gaddr) })
	return list, nil
}
