//go:build explore

package wksp

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestDeathInRestore dies before every store of a restore over a crowded workspace. What is found is what was before,
// nothing, or all of the checkpoint; and so is what a recovery makes of it, which itself dies before each of its stores.
func TestDeathInRestore(t *testing.T) {
	src := format(t, heap, 24, 1<<15)
	for i := range 9 {
		o, err := src.NewNamed(fmt.Sprintf("from/%d", i), 1, uint64(150+90*i), uint64(20+i))
		ok(t, err)
		copy(o.Mem.Bytes(), bytes.Repeat([]byte{0xc0 + byte(i)}, int(o.Size)))
	}
	for _, i := range []int{2, 6} {
		o, _ := src.Lookup(fmt.Sprintf("from/%d", i))
		ok(t, src.Free(o.Gaddr))
	}
	var file bytes.Buffer
	_, err := src.checkptTo(&file, nil)
	ok(t, err)
	base := crowded(t)
	pre, post := facts(t, base), facts(t, src.given)
	kinds, seen, second, k := map[string]int{}, map[point]int{}, 0, 1
	for ; ; k++ {
		m := clone(base)
		died, at := dieAt(k, func() {
			_, err := join(t, m).restoreFrom(bytes.NewReader(file.Bytes()), uint64(file.Len()))
			ok(t, err)
		})
		if !died {
			break
		}
		seen[at]++
		when := fmt.Sprintf("death before store %d (%s)", k, at)
		now := facts(t, m)
		switch {
		case slices.Equal(now, pre):
			kinds["before"]++
		case len(now) == 0:
			kinds["empty"]++
		case slices.Equal(now, post):
			kinds["after"]++
		default:
			t.Fatalf("%s: %+v", when, now)
		}
		err := join(t, m).Verify()
		if len(now) == 0 && !errors.Is(err, ErrDirty) || err != nil && !errors.Is(err, ErrDirty) {
			t.Fatalf("%s: %v", when, err)
		}
		recoverAll(t, m, now, when, &second)
		// A second restore succeeds on whatever the first left, and so it does by way of Reset.
		for _, reset := range []bool{false, true} {
			c := clone(m)
			w := join(t, c)
			if reset {
				ok(t, w.Reset())
			}
			_, err = w.restoreFrom(bytes.NewReader(file.Bytes()), uint64(file.Len()))
			ok(t, err)
			ok(t, w.Verify())
			if !slices.Equal(facts(t, c), post) {
				t.Fatalf("%s: the next restore did not restore", when)
			}
		}
		for j := 1; k%7 == 1; j++ { // a Reset that dies, over a restore that died
			c := clone(m)
			died, _ := dieAt(j, func() { ok(t, join(t, c).Reset()) })
			if !died {
				break
			}
			if got := facts(t, c); !subset(got, now) {
				t.Fatalf("%s, Reset dies before store %d: %+v", when, j, got)
			}
		}
	}
	if kinds["before"] == 0 || kinds["empty"] < 100 || kinds["after"] == 0 || seen[pointData] < 7 || seen[pointTag] < 14 {
		t.Errorf("%d kill points: %v, %v", k-1, kinds, seen)
	}
	t.Logf("%d kill points: %v; %d more in recoveries; %v", k-1, kinds, second, seen)
}

// TestDeathInCheckpt dies before every step of a checkpoint: the file is the old one or the whole new one, and the
// workspace is as it was.
func TestDeathInCheckpt(t *testing.T) {
	base := crowded(t)
	pre := facts(t, base)
	path := filepath.Join(t.TempDir(), "c")
	old := []byte("the old one")
	k, files := 1, map[string]int{}
	for ; ; k++ {
		m := clone(base)
		ok(t, os.WriteFile(path, old, 0o600))
		died, at := dieAt(k, func() { _, err := join(t, m).Checkpt(path); ok(t, err) })
		b, err := os.ReadFile(path)
		ok(t, err)
		if bytes.Equal(b, old) {
			files["old"]++
			if !died {
				t.Fatal("a checkpoint that is none")
			}
		} else {
			files["new"]++
			_, err := ReadCheckpt(path)
			ok(t, err)
		}
		ok(t, join(t, m).Verify())
		if !slices.Equal(facts(t, m), pre) {
			t.Fatalf("death before step %d (%s) changed the workspace", k, at)
		}
		if !died {
			break
		}
	}
	if files["old"] < 6 || files["new"] < 2 {
		t.Errorf("%d kill points: %v", k-1, files)
	}
	t.Logf("%d kill points: %v", k-1, files)
}
