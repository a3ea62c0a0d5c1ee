//go:build explore

package wksp

import (
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
