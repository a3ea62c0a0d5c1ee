package tile

import (
	"testing"
	"time"
)

func TestTempo(t *testing.T) {
	const lo = 1000
	const rounds = 20_000
	now := int64(1 << 40)
	tempo := NewTempo(lo*time.Nanosecond, 42, now)
	var sum int64
	var bucket [4]int
	for range rounds {
		next := tempo.Next()
		if tempo.Due(next - 1) {
			t.Fatal("due too early")
		}
		if !tempo.Due(next) {
			t.Fatal("not due in time")
		}
		d := tempo.Next() - next
		if d < lo || d >= 2*lo {
			t.Fatalf("interval %d", d)
		}
		sum += d
		bucket[(d-lo)*4/lo]++
	}
	if mean := sum / rounds; mean < 1480 || mean > 1520 {
		t.Errorf("mean %d", mean)
	}
	for i, n := range bucket {
		if n < rounds/4*9/10 || n > rounds/4*11/10 {
			t.Errorf("quarter %d: %d of %d", i, n, rounds)
		}
	}
	a, b := NewTempo(lo, 1, now), NewTempo(lo, 2, now)
	if a.Next() == b.Next() {
		t.Error("two seeds, one tempo")
	}
	late := NewTempo(lo, 1, 0)
	if !late.Due(1<<50) || late.Next() < 1<<50+lo {
		t.Error("a late housekeeping is not counted from when it was")
	}
	if z := NewTempo(0, 1, 0); z.Next() != 1 {
		t.Errorf("least interval: %d", z.Next())
	}
}
