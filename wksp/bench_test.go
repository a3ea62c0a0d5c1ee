package wksp

import (
	"fmt"
	"math/bits"
	"testing"
)

// BenchmarkAllocFree: one Alloc and one Free beside n live allocations, with as many holes, so that the trees are
// full. The owner lock's system calls are in the mapped figure; 'table' leaves the lock out.
func BenchmarkAllocFree(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		for _, kind := range []string{"table", "heap", "mapped"} {
			b.Run(fmt.Sprintf("%s/live=%d", kind, n), func(b *testing.B) {
				mk := heap
				if kind == "mapped" {
					mk = mapped
				}
				w := populated(b, mk, n)
				b.ReportAllocs()
				size := uint64(0)
				for b.Loop() {
					size = (size + 128) % 1024
					if kind != "table" {
						g, err := w.Alloc(1, 1+size, 2)
						ok(b, err)
						ok(b, w.Free(g))
						continue
					}
					i, err := w.place(request{align: Granule, size: 1 + size, tag: 2})
					ok(b, err)
					w.begin(OpFree, i)
					ok(b, w.release(i))
					w.end()
				}
				b.StopTimer()
				ok(b, w.Verify())
			})
		}
	}
}

// TestAllocDepth: no search goes deeper than a multiple of the logarithm of what is allocated, so that the cost of an
// allocation does not grow with it. The seed is fixed, and with it the shape of the trees.
func TestAllocDepth(t *testing.T) {
	for _, n := range []int{10, 1000, 100_000} {
		if raceBuild && n > 1000 {
			continue // it is about the algorithm, and takes long
		}
		w := populated(t, heap, n)
		for tr := bySize; tr <= byGaddr; tr++ {
			if d, most := w.depth(tr, w.root(tr).Load()), 4*bits.Len(uint(n)); d == 0 || d > most {
				t.Errorf("%d live: tree %d is %d deep, more than %d", n, tr, d, most)
			}
		}
	}
}

func (w *Wksp) depth(t tree, i uint32) int {
	if i == 0 {
		return 0
	}
	left, right := w.kids(t, i)
	return 1 + max(w.depth(t, left.Load()), w.depth(t, right.Load()))
}

// populated has n live allocations of various sizes and n holes between them.
func populated(b testing.TB, mk mkMem, n int) *Wksp {
	w := format(b, mk, uint64(4*n+16), uint64(n)*2048+1<<16)
	ok(b, w.own(OpAlloc, func() error {
		var gone []uint32
		for i := range 2 * n {
			row, err := w.place(request{align: Granule, size: uint64(1 + i*37%1024), tag: 1})
			if err != nil {
				return err
			}
			if i%2 == 0 {
				gone = append(gone, row)
			}
		}
		w.begin(OpFree, 0)
		for _, row := range gone {
			if err := w.release(row); err != nil {
				return err
			}
		}
		w.end()
		return nil
	}))
	return w
}

// BenchmarkLookup: a name among n.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprintf("names=%d", n), func(b *testing.B) {
			w := format(b, heap, uint64(n+1), uint64(n)*128)
			ok(b, w.own(OpAlloc, func() error {
				for i := range n {
					k, _ := packName(fmt.Sprintf("object/%d", i))
					if _, err := w.place(request{align: Granule, size: 1, tag: 1, name: k}); err != nil {
						return err
					}
				}
				return nil
			}))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Lookup("object/7"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
