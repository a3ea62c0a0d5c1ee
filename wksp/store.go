package wksp

import "sync/atomic"

// point says what kind of store comes next, for the tests that die before it.
type point uint8

const (
	pointMagic  point = iota // the magic
	pointHeader              // a constant of the header
	pointOwner               // owner information
	pointDirty               // the dirty word or the mutation count
	pointRange               // bounds or slack of a row whose tag is 0
	pointTag                 // the truth
	pointName                // a word of a name whose row's tag is 0
	pointList                // list by address or stack of idle rows
	pointTree                // a link or root of a treap
	pointUnlock              // after the last store, before the lock is let go
	pointData                // bytes of an allocation that a restore makes
	pointFile                // not a store: a step of a checkpoint's file
)

func (p point) String() string {
	names := [...]string{"magic", "header", "owner", "dirty", "range", "tag", "name", "list", "tree", "unlock", "data", "file"}
	if int(p) < len(names) {
		return names[p]
	}
	return "unknown"
}

// put64 and put32 are the only stores to shared memory in this package, but for the bytes that a restore copies. A store of what is there already is left out.

func put64(a *atomic.Uint64, v uint64, p point) {
	if a.Load() != v {
		step(p)
		a.Store(v)
	}
}

func put32(a *atomic.Uint32, v uint32, p point) {
	if a.Load() != v {
		step(p)
		a.Store(v)
	}
}

func putName(a *[5]atomic.Uint64, k words, p point) {
	for i := range a {
		put64(&a[i], k[i], p)
	}
}
