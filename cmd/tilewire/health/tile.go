package health

import (
	"fmt"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/tile"
)

// Kinds of tiles that are judged in a way of their own.
const (
	KindNet   = instance.KindNet // serves clients: without it nothing is ready
	KindAdmin = "admin"          // clients do without it
)

// Condition is how a tile is.
type Condition uint8

// What the cnc and the role lock say together.
const (
	Unused   Condition = iota // no process ever took the role
	Starting                  // held, and its loop does not run yet
	Well                      // held, runs, heartbeat fresh
	Stale                     // held, heartbeat old: stopped, or stuck
	Ending                    // held, told to halt
	Ended                     // in order: nobody holds it
	Died                      // nobody holds it, and it did not end in order
	Failed                    // by an error of its own, which the cause tells
	Leaving                   // well, and taken away by a reload: it takes nobody new in
)

var conditionNames = [...]string{"unused", "starting", "well", "stale", "ending", "ended", "died", "failed", "leaving"}

// String gives the name in lower case, 'unknown' for anything else.
func (c Condition) String() string {
	if int(c) < len(conditionNames) {
		return conditionNames[c]
	}
	return "unknown"
}

// Tile is one tile at a look.
type Tile struct {
	Name      string // kind:id
	Kind      string
	ID        int
	Condition Condition
	Held      bool // by a live process
	Pid       int  // of the last that took the role; 0: none did
	Signal    tile.Signal
	Age       time.Duration // of the heartbeat; -1: none to be had
	Start     int64         // CLOCK_MONOTONIC ns when the role was last taken, 0: never
	CPU       int           // tile.Float: not pinned
	Restarts  int
	Cause     string // while it is Failed

	cnc        *tile.Cnc
	beat, seen int64 // last heartbeat, and when it was seen to change
}

func joinTile(in *instance.Instance, t instance.Tile) (Tile, error) {
	m, err := in.Cnc(t)
	if err != nil {
		return Tile{}, fmt.Errorf("%v: %w", t, err)
	}
	c, err := tile.CncJoin(m)
	if err != nil {
		return Tile{}, fmt.Errorf("%v: %w", t, err)
	}
	return Tile{Name: t.String(), Kind: t.Kind, ID: t.ID, cnc: c}, nil
}

// look reads the cnc. stale is the age from which on a heartbeat is.
func (t *Tile) look(now int64, stale time.Duration) {
	t.Held, t.Signal, t.Pid, t.Start = t.cnc.Held(), t.cnc.Signal(), t.cnc.Pid(), t.cnc.Start()
	t.CPU, t.Restarts, t.Cause = t.cnc.CPU(), t.cnc.Restarts(), ""
	t.age(now)
	switch {
	case t.Signal == tile.SignalFail && t.Pid != 0:
		t.Condition, t.Cause = Failed, t.cnc.Cause()
	case !t.Held && t.Pid == 0:
		t.Condition = Unused
	case !t.Held && (t.Signal == tile.SignalBoot || t.Signal == tile.SignalHalt):
		t.Condition = Ended
	case !t.Held:
		t.Condition = Died
	case t.Age > stale:
		t.Condition = Stale
	case t.Signal == tile.SignalBoot:
		t.Condition = Starting
	case t.Signal == tile.SignalHalt:
		t.Condition = Ending
	default:
		t.Condition = Well
	}
}

// age takes note of the heartbeat. Shared memory may say anything: one from the future is fresh only while it moves.
func (t *Tile) age(now int64) {
	beat := t.cnc.Heartbeat()
	if beat != t.beat || t.seen == 0 {
		t.beat, t.seen = beat, now
	}
	switch {
	case beat == 0:
		t.Age = -1
	case beat > 0 && beat <= now:
		t.Age = time.Duration(now - beat)
	default:
		t.Age = time.Duration(max(now-t.seen, 0))
	}
}

// amiss is what a person should know of it, "" if nothing.
func (t *Tile) amiss() string {
	switch t.Condition {
	case Stale:
		return fmt.Sprintf("%s (process %d) is stuck: its heartbeat is %.1f s old", t.Name, t.Pid, t.Age.Seconds())
	case Died:
		return fmt.Sprintf("%s (process %d) died and has not been started again yet", t.Name, t.Pid)
	case Failed:
		return fmt.Sprintf("%s failed: %s", t.Name, t.Cause)
	case Starting, Ending:
		return fmt.Sprintf("%s (process %d) is %v", t.Name, t.Pid, t.Condition)
	case Unused, Ended:
		if t.Kind == KindNet {
			return fmt.Sprintf("%s does not run", t.Name)
		}
	}
	return ""
}
