package shmem

import (
	"fmt"
	"math"
	"math/bits"
)

// Page sizes in bytes. A region's page size is the one really in use, as measured: 2 MiB counts whether it
// comes from hugetlbfs or from transparent huge pages.
const (
	PageNormal   uint64 = 4 << 10
	PageHuge     uint64 = 2 << 20
	PageGigantic uint64 = 1 << 30
)

// MaxSize is the largest region in bytes. The lock space of a region's file is laid out for it (see doc.go).
const MaxSize uint64 = 1 << 40

// IsPow2 reports whether v is a power of two; 0 is none.
func IsPow2(v uint64) bool { return v != 0 && v&(v-1) == 0 }

// Align returns v rounded up to a multiple of align, a power of two. It panics if align is none, and
// returns math.MaxUint64 when the result does not fit, so that a later bounds check fails; AlignOK reports it.
func Align(v, align uint64) uint64 {
	if !IsPow2(align) {
		panic(fmt.Sprintf("shmem: Align(%d, %d): alignment is no power of two", v, align))
	}
	if v > math.MaxUint64-(align-1) {
		return math.MaxUint64
	}
	return (v + align - 1) &^ (align - 1)
}

// AlignOK is Align that reports overflow and a bad alignment by ok = false.
func AlignOK(v, align uint64) (r uint64, ok bool) {
	if !IsPow2(align) || v > math.MaxUint64-(align-1) {
		return 0, false
	}
	return (v + align - 1) &^ (align - 1), true
}

// Layout adds up the footprint of an object made of parts that lie one behind the other. The zero value is
// empty and aligned to 1. Overflow is sticky: check OK or Size's second result once, at the end.
//
//	var l shmem.Layout
//	hdr := l.Add(1, 128, 128)     // offset of the header
//	tab := l.Add(n, 64, 128)      // n records of 64 bytes
//	size, ok := l.Size()
type Layout struct {
	off, align uint64
	bad        bool
}

// Add appends n records of size bytes each, aligned to align (a power of two), and returns their offset.
func (l *Layout) Add(n, size, align uint64) (off uint64) {
	off, ok := AlignOK(l.off, align)
	hi, total := bits.Mul64(n, size)
	end, carry := bits.Add64(off, total, 0)
	if !ok || hi != 0 || carry != 0 || end > MaxSize {
		l.bad = true
		return 0
	}
	l.off, l.align = end, max(l.align, align)
	return off
}

// Align returns the greatest alignment of any part, 1 if there is none.
func (l *Layout) Align() uint64 { return max(l.align, 1) }

// Size returns the bytes of all parts, rounded up to Align. ok is false if any sum overflowed or exceeds
// MaxSize, or an alignment was no power of two.
func (l *Layout) Size() (size uint64, ok bool) {
	size, ok = AlignOK(l.off, l.Align())
	if l.bad || !ok || size > MaxSize {
		return 0, false
	}
	return size, true
}
