package shmem

import (
	"math"
	"testing"
)

func TestAlign(t *testing.T) {
	for _, c := range []struct {
		v, a, want uint64
		ok         bool
	}{
		{0, 1, 0, true}, {0, 128, 0, true}, {1, 128, 128, true}, {128, 128, 128, true}, {129, 128, 256, true},
		{math.MaxUint64, 1, math.MaxUint64, true}, {math.MaxUint64 - 6, 8, 0, false}, {1, 0, 0, false}, {1, 3, 0, false},
	} {
		if got, ok := AlignOK(c.v, c.a); got != c.want || ok != c.ok {
			t.Errorf("AlignOK(%d, %d) = %d, %v, want %d, %v", c.v, c.a, got, ok, c.want, c.ok)
		}
		if c.ok && Align(c.v, c.a) != c.want {
			t.Errorf("Align(%d, %d) = %d", c.v, c.a, Align(c.v, c.a))
		}
	}
	if Align(math.MaxUint64-6, 8) != math.MaxUint64 {
		t.Error("overflow does not saturate")
	}
	defer func() {
		if recover() == nil {
			t.Error("Align by 3 did not panic")
		}
	}()
	Align(1, 3)
}

func TestLayout(t *testing.T) {
	var l Layout
	if a, b, c := l.Add(1, 100, 128), l.Add(3, 8, 8), l.Add(2, 64, 64); a != 0 || b != 104 || c != 128 {
		t.Errorf("offsets %d %d %d", a, b, c)
	}
	if size, ok := l.Size(); size != 256 || !ok || l.Align() != 128 {
		t.Errorf("size %d %v align %d", size, ok, l.Align())
	}
	for _, bad := range [][3]uint64{{math.MaxUint64, 2, 8}, {1, MaxSize + 1, 8}, {1, 8, 3}, {math.MaxUint64, math.MaxUint64, 1}} {
		l := Layout{off: 8, align: 8}
		l.Add(bad[0], bad[1], bad[2])
		l.Add(1, 8, 8)
		if _, ok := l.Size(); ok {
			t.Errorf("%v is fine?", bad)
		}
	}
}
