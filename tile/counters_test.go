package tile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

func TestCounters(t *testing.T) {
	names := []string{"published_total", `evicted_total{reason="lagged"}`, "connections", strings.Repeat("x", CounterNameMax)}
	size := must[uint64](t)(CountersFootprint(names))
	if size%pairSize != 0 {
		t.Fatalf("footprint %d", size)
	}
	overBoth(t, size, func(t *testing.T, m shmem.Mem) {
		if err := CountersNew(m, names); err != nil {
			t.Fatal(err)
		}
		w, r := must[*Counters](t)(CountersJoin(m)), must[*Counters](t)(CountersJoin(m))
		if !slices.Equal(r.Names(), names) || r.Len() != 4 || r.Match(names) != nil {
			t.Fatalf("names %q", r.Names())
		}
		if err := r.Match(names[1:]); !errors.Is(err, ErrNames) {
			t.Error(err)
		}
		if err := r.Match([]string{names[1], names[0], names[2], names[3]}); !errors.Is(err, ErrNames) {
			t.Error(err)
		}
		w.Cell(0).Inc()
		w.Cell(0).Add(41)
		w.Lookup("connections").Set(10)
		w.Lookup("connections").Sub(3)
		if w.Lookup("nothing") != nil {
			t.Error("found nothing")
		}
		buf := make([]uint64, 0, 4)
		if got := r.Snapshot(buf); !slices.Equal(got, []uint64{42, 0, 7, 0}) {
			t.Errorf("snapshot %v", got)
		}
		if n := testing.AllocsPerRun(100, func() { w.Cell(1).Inc(); buf = r.Snapshot(buf) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		// The cells share no pair of lines with the names, nor with what comes after.
		if off := w.c.cells; off%pairSize != 0 || off+8*uint64(len(names)) > size {
			t.Errorf("cells at %d", off)
		}
	})
}

// TestCountersWatched has readers see a counter only grow, and end where its writer left it.
func TestCountersWatched(t *testing.T) {
	overBoth(t, 512, func(t *testing.T, m shmem.Mem) {
		if err := CountersNew(m, []string{"n"}); err != nil {
			t.Fatal(err)
		}
		const total = 200_000
		var wg sync.WaitGroup
		for range 2 {
			r := must[*Counters](t)(CountersJoin(m))
			wg.Go(func() {
				for last := uint64(0); last < total; {
					v := r.Cell(0).Load()
					if v < last || v > total {
						t.Errorf("%d after %d", v, last)
						return
					}
					last = v
				}
			})
		}
		w := must[*Counters](t)(CountersJoin(m)).Cell(0)
		for range total {
			w.Inc()
		}
		wg.Wait()
	})
}

func TestCountersNames(t *testing.T) {
	for _, names := range [][]string{
		nil, {""}, {"a", "a"}, {"a b"}, {"ä"}, {"a\n"}, {strings.Repeat("x", CounterNameMax+1)}, make([]string, CountersMax+1),
	} {
		if _, err := CountersFootprint(names); !errors.Is(err, ErrNames) {
			t.Errorf("%d names %.20q: %v", len(names), names, err)
		}
		if err := CountersNew(shmem.Heap(1<<10, 128), names); !errors.Is(err, ErrNames) {
			t.Errorf("new: %v", err)
		}
	}
	many := make([]string, CountersMax)
	for i := range many {
		many[i] = fmt.Sprint("c", i)
	}
	m := shmem.Heap(must[uint64](t)(CountersFootprint(many)), 128)
	if err := CountersNew(m, many); err != nil {
		t.Fatal(err)
	}
	if c := must[*Counters](t)(CountersJoin(m)); !slices.Equal(c.Names(), many) {
		t.Error("names differ")
	}
}

// FuzzCountersJoin hands Join hostile memory: it may refuse or accept, never go out of bounds.
func FuzzCountersJoin(f *testing.F) {
	good := shmem.Heap(256, 128)
	if err := CountersNew(good, []string{"a", "b_total"}); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	for _, off := range []int{16, 24, 32, 40, 64, 66} {
		b := slices.Clone(good.Bytes())
		b[off] += 0x81
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		m := shmem.Heap(uint64(max(len(p), 1)), 128)
		copy(m.Bytes(), p)
		if len(p) >= 24 { // so that the fuzzer need not find these
			binary.LittleEndian.PutUint64(m.Bytes(), countersMagic)
			binary.LittleEndian.PutUint32(m.Bytes()[8:], countersVersion)
			binary.LittleEndian.PutUint32(m.Bytes()[12:], countersLayout)
		}
		c, err := CountersJoin(m)
		if err != nil {
			return
		}
		for i := range c.Len() {
			c.Cell(i).Inc()
		}
		if c.Match(c.Names()) != nil || len(c.Snapshot(nil)) != len(c.Names()) {
			t.Error("names and cells differ")
		}
	})
}

func BenchmarkCellAdd(b *testing.B) {
	m := shmem.Heap(512, 128)
	if err := CountersNew(m, []string{"n"}); err != nil {
		b.Fatal(err)
	}
	c, err := CountersJoin(m)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	n := c.Cell(0)
	for b.Loop() {
		n.Inc()
	}
}
