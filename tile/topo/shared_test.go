package topo

import (
	"errors"
	"math"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// sharing makes all tiles of the parts ones that do without each other; the last is dormant.
func sharing(t *testing.T, o Options, parts ...string) *yard {
	t.Helper()
	y := newYard(t, o, parts...)
	for i := range y.specs {
		y.specs[i].Shared = true
	}
	y.specs[len(parts)-1].Dormant = true
	o.Event = y.s.o.Event
	y.o(o)
	return y
}

// A dormant tile is waited for by nobody, and runs once it is restarted, in its turn of a stop.
func TestDormant(t *testing.T) {
	y := sharing(t, Options{}, "tile", "tile")
	y.run(t.Context())
	<-y.s.AllReady()
	if r := y.s.Status(); r[1].State != StateEnded || r[1].Pid != 0 {
		t.Errorf("%+v", r[1])
	}
	for range 2 { // and again when it has ended
		if err := y.s.Restart(y.specs[1].Kind, 1); err != nil {
			t.Fatal(err)
		}
		y.next(Ready, 1)
	}
	y.s.Stop()
	for _, id := range []int{1, 0} {
		for e := y.next(Died, -1); e.ID != id || !e.Expected; e = y.next(Died, -1) {
			if e.ID != 1 { // of the restart
				t.Fatalf("%v, want tile %d", e, id)
			}
		}
	}
	if err := y.end(); err != nil {
		t.Error(err)
	}
}

// While another one lives, one that is given up is left down alone; it may come again, with a budget anew. The last stops everything.
func TestSharedLeftDown(t *testing.T) {
	y := sharing(t, Options{Budget: 1, BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond}, "tile", "tile", "tile")
	y.run(t.Context())
	<-y.s.AllReady()
	kill := func(pid int) {
		t.Helper()
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	pid := func(id int) int { return y.s.Status()[id].Pid }
	for range 2 {
		kill(pid(1))
		y.next(Restarted, 1)
		kill(y.next(Ready, 1).Pid)
		y.next(LeftDown, 1)
		if r := y.s.Status(); r[0].State != StateRunning || r[1].State != StateEnded {
			t.Fatalf("%+v", r)
		}
		if err := y.s.Restart(y.specs[1].Kind, 1); err != nil {
			t.Fatal(err)
		}
		y.next(Ready, 1)
	}
	kill(pid(1))
	y.next(Restarted, 1)
	kill(y.next(Ready, 1).Pid)
	y.next(LeftDown, 1)
	kill(pid(0))
	y.next(Restarted, 0)
	kill(y.next(Ready, 0).Pid)
	y.next(GaveUp, 0)
	if err := y.end(); !errors.Is(err, ErrBudget) {
		t.Error(err)
	}
}

// A retired tile is ended when its time is over, and nobody counts on it.
func TestRetire(t *testing.T) {
	y := sharing(t, Options{Budget: -1}, "tile", "tile", "tile")
	y.run(t.Context())
	<-y.s.AllReady()
	if err := y.s.Retire(y.specs[1].Kind, 1, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if err := y.s.Retire("none", 1, 0); !errors.Is(err, ErrNoTile) {
		t.Error(err)
	}
	if r := y.s.Status(); r[1].State != StateRunning {
		t.Errorf("%+v", r[1])
	}
	for _, by := range []int64{0, shmem.Monotonic()} {
		if err := y.s.Retire(y.specs[1].Kind, 1, by); err != nil {
			t.Fatal(err)
		}
	}
	if e := y.next(Died, 1); !e.Expected || e.Again {
		t.Errorf("%v", e)
	}
	if err := y.s.Restart(y.specs[1].Kind, 1); err != nil { // it is wanted after all
		t.Fatal(err)
	}
	y.next(Ready, 1)
	if err := y.s.Retire(y.specs[1].Kind, 1, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(y.s.Status()[0].Pid, unix.SIGKILL); err != nil { // the only one that counts
		t.Fatal(err)
	}
	y.next(GaveUp, 0)
	if err := y.end(); !errors.Is(err, ErrBudget) {
		t.Error(err)
	}
}
