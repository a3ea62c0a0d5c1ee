//go:build explore

package wksp

import (
	"errors"
	"slices"
	"testing"
)

// TestDeathInDrop dies before every store of a rebuild that drops two bad rows. Each is dropped or still bad, and whoever
// comes next can drop the rest; what is sound comes through unharmed.
func TestDeathInDrop(t *testing.T) {
	base := crowded(t)
	w := join(t, base)
	l, _ := w.TagQuery()
	var drop []uint32
	for _, k := range []int{1, 4} {
		i, err := w.usedAt(l[k].Gaddr)
		ok(t, err)
		w.p(i).lo.Add(1)
		drop = append(drop, i)
	}
	pre, kinds, k := facts(t, base), map[int]int{}, 1
	for ; ; k++ {
		m := clone(base)
		died, at := dieAt(k, func() { _, err := join(t, m).RebuildWithout(drop...); ok(t, err) })
		if !died {
			break
		}
		v := join(t, m)
		if now := facts(t, m); !slices.Equal(now, pre) {
			t.Fatalf("death before store %d (%s): %+v, want %+v", k, at, now, pre)
		}
		bad, err := v.BadRows()
		ok(t, err)
		kinds[len(bad)]++
		var rest []uint32
		for _, b := range bad {
			rest = append(rest, b.Row)
		}
		if err := v.Rebuild(); len(bad) > 0 != errors.Is(err, ErrDamaged) {
			t.Fatalf("death before store %d (%s): %d bad rows, and %v", k, at, len(bad), err)
		}
		_, err = v.RebuildWithout(rest...)
		ok(t, err)
		ok(t, v.Verify())
		if now := facts(t, m); !slices.Equal(now, pre) {
			t.Fatalf("death before store %d (%s), dropped again: %+v, want %+v", k, at, now, pre)
		}
	}
	if kinds[0] < 60 || kinds[1] == 0 || kinds[2] == 0 {
		t.Errorf("%d kill points, by bad rows left: %v", k-1, kinds)
	}
}
