package swarm

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestHistogramBuckets(t *testing.T) {
	last := -1
	for _, v := range []uint64{0, 1, 63, 64, 65, 127, 128, 129, 130, 255, 256, 1 << 20, 1<<20 + 1<<14, 1 << 62, math.MaxUint64} {
		i := histIndex(v)
		if i < last || i >= histBuckets {
			t.Fatalf("%d: bucket %d after %d", v, i, last)
		}
		if up := histUpper(i); up < v || float64(up-v) > float64(v)/histSub {
			t.Fatalf("%d: bucket %d ends at %d", v, i, up)
		}
		last = i
	}
	for i := range histBuckets {
		if got := histIndex(histUpper(i)); got != i {
			t.Fatalf("bucket %d: its upper bound is in %d", i, got)
		}
	}
}

func TestHistogramAgainstSorted(t *testing.T) {
	const seed = 4
	rng := rand.New(rand.NewPCG(seed, 0))
	var h Histogram
	var all []uint64
	for range 20000 {
		v := uint64(math.Exp(rng.Float64() * 25))
		all = append(all, v)
		h.Record(int64(v))
	}
	slices.Sort(all)
	for _, q := range []float64{.001, .5, .9, .99, .999, 1} {
		want := all[max(int(math.Ceil(q*float64(len(all))))-1, 0)]
		if got := h.Quantile(q); got < want || float64(got-want) > float64(want)/histSub {
			t.Fatalf("seed %d q %v: %d, want %d", seed, q, got, want)
		}
	}
	if h.Max() != all[len(all)-1] || h.Count() != 20000 {
		t.Fatalf("max %d count %d", h.Max(), h.Count())
	}
	var sum Histogram
	sum.Add(&h)
	sum.Add(&h)
	if sum.Count() != 40000 || sum.Quantile(.5) != h.Quantile(.5) {
		t.Fatal("sum differs")
	}
	sum.Reset()
	if sum.Quantile(.5) != 0 || sum.Max() != 0 {
		t.Fatal("not empty")
	}
	sum.Record(-3)
	if sum.Quantile(1) != 0 || sum.Count() != 1 {
		t.Fatal("negative value")
	}
	if n := testing.AllocsPerRun(100, func() { h.Record(123456) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
