package wksp

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// TestReadersBesideMutators: what stays allocated is found at every moment, what is found is never half of one
// allocation and half of another, and read-only Verify tells apart 'in progress' and 'wrong'.
func TestReadersBesideMutators(t *testing.T) {
	both(t, func(t *testing.T, mk mkMem) {
		seed := testSeed(t)
		w := format(t, mk, 400, 1<<20)
		stay, err := w.NewNamed("stay", 0, 5000, 99)
		ok(t, err)
		ops := 3000
		if raceBuild {
			ops = 300
		}
		var done atomic.Bool
		var mutators, readers sync.WaitGroup
		for id := range 2 { // each a join of its own: they meet at the kernel's lock
			mutators.Go(func() {
				w := join(t, w.given)
				r := rand.New(rand.NewPCG(seed, uint64(id)))
				var mine []uint64
				for i := range ops {
					if len(mine) < 20 || r.IntN(2) == 0 && len(mine) < 100 {
						size := 1 + r.Uint64N(6000)
						// Size, tag and name say the same, so that a mixture shows.
						o, err := w.NewNamed(fmt.Sprintf("m%d/%d/%d", id, i, size), 1<<r.IntN(13), size, size)
						if err != nil {
							t.Error(err)
							return
						}
						mine = append(mine, o.Gaddr)
						continue
					}
					j := r.IntN(len(mine))
					if err := w.Free(mine[j]); err != nil {
						t.Error(err)
						return
					}
					mine[j] = mine[len(mine)-1]
					mine = mine[:len(mine)-1]
				}
			})
		}
		for range 2 {
			readers.Go(func() {
				w := join(t, w.given.AsReadOnly())
				for !done.Load() {
					if o, err := w.Lookup("stay"); err != nil || o.Gaddr != stay.Gaddr {
						t.Errorf("Lookup(stay) = %+v, %v", o, err)
						return
					}
					if m, err := w.Laddr(stay.Gaddr+4999, 1); err != nil || m.Len() != 1 {
						t.Errorf("Laddr(stay): %v", err)
						return
					}
					for _, o := range w.Names() {
						var id, i int
						var size uint64
						if o.Name == "stay" {
							continue
						}
						if n, _ := fmt.Sscanf(o.Name, "m%d/%d/%d", &id, &i, &size); n != 3 || size != o.Size || o.Tag != size {
							t.Errorf("mixture: %+v", o)
							return
						}
					}
				}
			})
		}
		mutators.Wait()
		done.Store(true)
		readers.Wait()
		ok(t, w.Verify())
		ok(t, join(t, w.given.AsReadOnly()).Verify())
	})
}
