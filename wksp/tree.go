package wksp

import (
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
)

// tree is one of the four treaps: binary search trees whose shape follows from a fixed priority per row, so that
// it is balanced whatever the order of operations, needs no balance fields, and comes out of a rebuild the same.
// Links are row numbers; every link is checked before its use and every descent is bounded, since the bytes may
// be anything. Only the owner calls insert and remove; the searches may run beside them and then may miss.
type tree uint8

const (
	bySize  tree = iota // free, by size then address
	byPage              // free, by size that remains when the start is aligned to 4096, then address; if any remains
	byGaddr             // used, by address
	byName              // used and named, by name
)

// maxDepth bounds each descent. A treap of 2^28 rows is deeper than 120 with a probability beyond naming.
const maxDepth = 512

func (w *Wksp) valid(i uint32) bool { return i != 0 && uint64(i) <= w.partMax }

// p returns row i, which the caller has found valid.
func (w *Wksp) p(i uint32) *part { return &w.parts[i-1] }

func (w *Wksp) root(t tree) *atomic.Uint32 { return &w.hdr.roots[t] }

func (w *Wksp) kids(t tree, i uint32) (left, right *atomic.Uint32) {
	switch t {
	case byName:
		n := &w.names[i-1]
		return &n.left, &n.right
	case byPage:
		p := w.p(i)
		return &p.pleft, &p.pright
	}
	p := w.p(i)
	return &p.left, &p.right
}

// key returns what row i is sorted by; no two rows of a tree have the same.
func (w *Wksp) key(t tree, i uint32) words {
	if t == byName {
		return loadName(&w.names[i-1].name)
	}
	lo, hi := w.p(i).lo.Load(), w.p(i).hi.Load()
	switch t {
	case bySize:
		return words{hi - lo, lo}
	case byPage:
		return words{pageRoom(lo, hi), lo}
	}
	return words{lo}
}

// pageRoom is what remains of [lo,hi) when it must start at a multiple of 4096.
func pageRoom(lo, hi uint64) uint64 {
	if s := shmem.Align(lo, DefaultAlign); s < hi {
		return hi - s
	}
	return 0
}

// prio is a row's priority, greater is nearer the root: splitmix64, a bijection, so that no two are equal.
func (w *Wksp) prio(i uint32) uint64 {
	z := w.seed + uint64(i)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// insert puts row i, which is in no tree that shares t's links, into t. errIndex if t is broken or holds i's key.
func (w *Wksp) insert(t tree, i uint32) error {
	k, pr := w.key(t, i), w.prio(i)
	link, depth := w.root(t), 0
	j := link.Load()
	for ; j != 0; j = link.Load() { // down to the first row that i outranks
		if !w.valid(j) || j == i || depth == maxDepth {
			return errIndex
		}
		if w.prio(j) < pr {
			break
		}
		depth++
		left, right := w.kids(t, j)
		switch kj := w.key(t, j); {
		case k.less(kj):
			link = left
		case kj.less(k):
			link = right
		default:
			return errIndex
		}
	}
	lo, hi := w.kids(t, i)
	for depth = 0; j != 0; depth++ { // split what hangs there into i's two subtrees
		if !w.valid(j) || j == i || depth == maxDepth {
			return errIndex
		}
		left, right := w.kids(t, j)
		if w.key(t, j).less(k) {
			put32(lo, j, pointTree)
			lo, j = right, right.Load()
		} else {
			put32(hi, j, pointTree)
			hi, j = left, left.Load()
		}
	}
	put32(lo, 0, pointTree)
	put32(hi, 0, pointTree)
	put32(link, i, pointTree)
	return nil
}

// remove takes row i out of t and clears its links. errIndex if t is broken or does not hold i.
func (w *Wksp) remove(t tree, i uint32) error {
	k, link := w.key(t, i), w.root(t)
	for depth := 0; ; depth++ {
		j := link.Load()
		if j == i {
			break
		}
		if !w.valid(j) || depth == maxDepth {
			return errIndex
		}
		left, right := w.kids(t, j)
		if k.less(w.key(t, j)) {
			link = left
		} else {
			link = right
		}
	}
	left, right := w.kids(t, i)
	a, b := left.Load(), right.Load()
	for depth := 0; a != 0 && b != 0; depth++ { // merge i's two subtrees into its place
		if !w.valid(a) || !w.valid(b) || depth == 2*maxDepth {
			return errIndex
		}
		if w.prio(a) > w.prio(b) {
			put32(link, a, pointTree)
			_, link = w.kids(t, a)
			a = link.Load()
		} else {
			put32(link, b, pointTree)
			link, _ = w.kids(t, b)
			b = link.Load()
		}
	}
	put32(link, a|b, pointTree)
	put32(left, 0, pointTree)
	put32(right, 0, pointTree)
	return nil
}

// ceil returns the row of t with the least key not below k, 0 if there is none. errIndex if t is broken.
func (w *Wksp) ceil(t tree, k words) (uint32, error) {
	best, j := uint32(0), w.root(t).Load()
	for depth := 0; j != 0; depth++ {
		if !w.valid(j) || depth == maxDepth {
			return 0, errIndex
		}
		left, right := w.kids(t, j)
		if w.key(t, j).less(k) {
			j = right.Load()
		} else {
			best, j = j, left.Load()
		}
	}
	return best, nil
}

// floor returns the row of t with the greatest key not above k, 0 if there is none. errIndex if t is broken.
func (w *Wksp) floor(t tree, k words) (uint32, error) {
	best, j := uint32(0), w.root(t).Load()
	for depth := 0; j != 0; depth++ {
		if !w.valid(j) || depth == maxDepth {
			return 0, errIndex
		}
		left, right := w.kids(t, j)
		if k.less(w.key(t, j)) {
			j = left.Load()
		} else {
			best, j = j, right.Load()
		}
	}
	return best, nil
}

// walk visits t in order of keys, at most partMax rows. errIndex if t is broken, or what visit returns.
func (w *Wksp) walk(t tree, visit func(i uint32) error) error {
	var stack []uint32
	seen := uint64(0)
	for j := w.root(t).Load(); j != 0 || len(stack) > 0; {
		if j != 0 {
			if !w.valid(j) || len(stack) == maxDepth || seen == w.partMax {
				return errIndex
			}
			stack = append(stack, j)
			left, _ := w.kids(t, j)
			j = left.Load()
			continue
		}
		j, stack = stack[len(stack)-1], stack[:len(stack)-1]
		if err := visit(j); err != nil {
			return err
		}
		seen++
		_, right := w.kids(t, j)
		j = right.Load()
	}
	return nil
}
