//go:build explore

package wksp

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// armKill makes this process kill itself before its step-th store.
func armKill(step int) {
	if step == 0 {
		return
	}
	n := 0
	stepHook = func(point) {
		if n++; n == step {
			_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

// TestKilledAtStep: real processes, real SIGKILL, before one store after the other, on one region that lives on. Each
// victim's random operations are its own, so that the stores hit are many kinds in many situations.
func TestKilledAtStep(t *testing.T) {
	r, w := victimRegion(t)
	seed := testSeed(t)
	known := map[uint64]claim{}
	unfinished := 0
	for step := 1; step <= 120; step++ {
		words := runVictim(t, r.Name(), seed+uint64(step), step, 0)
		if o, _ := w.Owner(); o.Op != OpNone {
			unfinished++
		}
		aftermath(t, w, known, words)
	}
	if unfinished < 60 {
		t.Errorf("only %d of 120 victims died inside an operation", unfinished)
	}
	t.Logf("%d of 120 victims died inside an operation, %d allocations are left", unfinished, len(known))
}

// TestKilledInRestore: real processes, real SIGKILL, in the middle of a restore; each leaves what was before, nothing,
// or all of it, and the next owner a sound workspace of just that.
func TestKilledInRestore(t *testing.T) {
	r, w := victimRegion(t)
	for i := range 8 {
		_, err := w.NewNamed("was/"+string(rune('a'+i)), 1, uint64(100+i*700), 1)
		ok(t, err)
	}
	file := filepath.Join(t.TempDir(), "c")
	_, err := w.Checkpt(file)
	ok(t, err)
	want := stateOf(t, w)
	ok(t, w.Reset())
	_, err = w.NewNamed("other", 0, 5000, 2)
	ok(t, err)
	other := filepath.Join(t.TempDir(), "o")
	_, err = w.Checkpt(other)
	ok(t, err)
	pre := stateOf(t, w)
	kinds := map[string]int{}
	for step := 1; ; step += 9 {
		whole := runFiler(t, "restore", r.Name(), file, step)
		dirty := w.Verify() != nil
		now := stateOf(t, w)
		switch {
		case slices.Equal(now, pre):
			kinds["before"]++
		case len(now) == 0 && dirty:
			kinds["empty"]++
		case slices.Equal(now, want):
			kinds["after"]++
		default:
			t.Fatalf("step %d: %d allocations, dirty %v", step, len(now), dirty)
		}
		rep, err := w.Check()
		ok(t, err)
		ok(t, w.Verify())
		if len(now) == 0 && rep.Unfinished != OpRestore || !slices.Equal(stateOf(t, w), now) {
			t.Fatalf("step %d: report %+v", step, rep)
		}
		if whole {
			break
		}
		if !runFiler(t, "restore", r.Name(), other, 0) {
			t.Fatal("the next restore did not succeed")
		}
	}
	if kinds["empty"] < 20 || kinds["after"] == 0 {
		t.Errorf("%v", kinds)
	}
	t.Logf("%v", kinds)
}

// TestKilledInCheckpt: real processes, real SIGKILL, before every step of a checkpoint over an old one or none. The file is the old one
// or the new one; a nameless one leaves nothing but in the moment of the exchange; and the next one sweeps.
func TestKilledInCheckpt(t *testing.T) {
	r, w := victimRegion(t)
	_, err := w.NewNamed("a", 0, 5000, 2)
	ok(t, err)
	for _, verb := range []string{"checkpt", "checkpt-named"} {
		for _, old := range []bool{false, true} {
			dir := t.TempDir()
			path := filepath.Join(dir, "c")
			left, k := 0, 1
			for ; ; k++ {
				os.Remove(path)
				if old {
					ok(t, os.WriteFile(path, []byte("the old one"), 0o600))
				}
				whole := runFiler(t, verb, r.Name(), path, k)
				b, err := os.ReadFile(path)
				if string(b) != "the old one" && !(err != nil && !old) {
					_, err := ReadCheckpt(path)
					ok(t, err)
				} else if whole {
					t.Fatal("a checkpoint that is none")
				}
				list := slices.DeleteFunc(names(t, dir), func(n string) bool { return n == "c" })
				left += len(list)
				if len(list) > 1 || whole && len(list) > 0 {
					t.Fatalf("%s, step %d: left %v", verb, k, list)
				}
				ok(t, w.Verify())
				if whole {
					break
				}
			}
			if nameless := verb == "checkpt"; k < 8 || nameless && left > 1 || nameless && !old && left > 0 || !nameless && left < 3 {
				t.Errorf("%s, old %v: %d kill points, %d files left", verb, old, k-1, left)
			}
		}
	}
}
