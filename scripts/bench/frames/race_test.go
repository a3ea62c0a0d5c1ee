package frames

import (
	"slices"
	"testing"
	"time"
)

const (
	turn  = 200 * time.Microsecond // of one side
	turns = 200
)

// race times both sides in short turns, one after the other, and returns the median of their ratios: other / ours. The
// benchmark's own figure is that of ours.
func race(b *testing.B, ours, other func()) float64 {
	for range b.N {
		ours()
	}
	b.StopTimer()
	reps := func(f func()) int {
		for n := 1; ; n *= 2 {
			if d := timed(n, f); d >= turn {
				return n
			}
		}
	}
	na, nb := reps(ours), reps(other)
	ratios := make([]float64, turns)
	for i := range ratios {
		a, o := timed(na, ours), timed(nb, other)
		ratios[i] = (float64(o) / float64(nb)) / (float64(a) / float64(na))
	}
	slices.Sort(ratios)
	return ratios[turns/2]
}

func timed(n int, f func()) time.Duration {
	begin := time.Now()
	for range n {
		f()
	}
	return time.Since(begin)
}
