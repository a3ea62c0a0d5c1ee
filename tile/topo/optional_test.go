package topo

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/tile"
)

// optional makes tile 0 of the parts one that the others do without.
func optional(t *testing.T, o Options, parts ...string) *yard {
	t.Helper()
	y := newYard(t, o, parts...)
	y.specs[0].Optional = true
	o.Event = y.s.o.Event
	y.o(o)
	return y
}

// Nobody waits for it; it is restarted beyond any budget; at a stop it goes in its turn, the last.
func TestOptional(t *testing.T) {
	y := optional(t, Options{Budget: 1, BackoffMin: time.Millisecond, BackoffMax: 2 * time.Millisecond}, "quiet", "tile")
	y.run(t.Context())
	<-y.s.AllReady()
	for range 5 {
		if err := unix.Kill(y.next(Ready, 0).Pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if e := y.next(Died, 0); !e.Again {
			t.Fatalf("%v", e)
		}
	}
	y.next(Ready, 0)
	if r := y.s.Status(); r[0].Restarts != 5 || r[1].Restarts != 0 || r[1].State != StateRunning {
		t.Errorf("%+v", r)
	}
	y.s.Stop()
	for _, id := range []int{1, 0} {
		if e := y.next(Died, -1); e.ID != id || !e.Expected {
			t.Errorf("%v, want tile %d", e, id)
		}
	}
	if err := y.end(); err != nil {
		t.Error(err)
	}
}

// One that is never ready holds nobody up; one that refuses, or cannot be started, is left down alone.
func TestOptionalLeftDown(t *testing.T) {
	y := optional(t, Options{}, "unready", "tile")
	y.run(t.Context())
	<-y.s.AllReady()
	if r := y.s.Status(); r[0].State != StateBooting || r[1].State != StateRunning {
		t.Errorf("%+v", r)
	}
	y.s.Kill()
	if err := y.end(); err != nil {
		t.Error(err)
	}

	for _, path := range []string{"", "/nonexistent"} {
		y := optional(t, Options{Refusal: refusal}, "refuse", "tile")
		if path != "" {
			y.specs[0].Path = path
			y.o(Options{Event: y.s.o.Event})
		}
		y.run(t.Context())
		y.next(LeftDown, 0)
		<-y.s.AllReady()
		if r := y.s.Status(); r[0].State != StateEnded || r[1].State != StateRunning || r[1].Restarts != 0 {
			t.Errorf("%q: %+v", path, r)
		}
		y.s.Stop()
		if err := y.end(); err != nil {
			t.Error(err)
		}
	}
}

// When the others have ended by themselves, nothing is left to do.
func TestOptionalAlone(t *testing.T) {
	y := optional(t, Options{}, "tile", "done")
	y.run(t.Context())
	y.next(Died, 1)
	if e := y.next(Died, 0); !e.Expected {
		t.Errorf("%v", e)
	}
	if err := y.end(); err != nil {
		t.Error(err)
	}
	if _, err := New([]Spec{{Kind: "t", Path: "/bin/true", CPU: tile.Float, Optional: true}}, Options{}); !errors.Is(err, ErrSpec) {
		t.Errorf("none that is needed: %v", err)
	}
}
