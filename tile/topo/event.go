package topo

import (
	"fmt"
	"log/slog"
	"strconv"
	"syscall"
	"time"
)

// What says what happened to a tile.
type What uint8

const (
	Started   What = iota // a process was started for the first time
	Restarted             // a process was started in place of one that died
	Ready                 // the tile's cnc says run (a tile without a cnc: at once)
	Died                  // the process is gone: Exit, Cause, and After until the next start if there is to be one
	Stuck                 // the heartbeat is Age old
	Recovered             // the heartbeat of a stuck tile moves again
	Unready               // the tile did not get ready within ReadyTimeout; it is killed
	GaveUp                // the restart budget is spent, or the tile refused to run; everything is stopped
	Forced                // the tile did not end by itself when told to: a signal (Cause) was sent
	Stray                 // a process that a tile left behind was ended
	LeftDown              // a tile without which the others go on (optional, or shared) is given up: it stays down, alone
	Unkept                // the tile's keeper died: its connections end with it until it is restarted
)

var whatNames = [...]string{"started", "restarted", "ready", "died", "stuck", "recovered", "unready", "gave up", "forced", "stray", "left down", "keeper died"}

// String gives the name in lower case, 'unknown' for anything else.
func (w What) String() string {
	if int(w) < len(whatNames) {
		return whatNames[w]
	}
	return "unknown"
}

// Bad tells whether this wants a warning in the log.
func (w What) Bad() bool { return w >= Died && w != Recovered }

// Exit is how a process ended: by exit with Code, or by Signal (not 0).
type Exit struct {
	Code   int
	Signal syscall.Signal
}

// String gives 'exit 3' or 'signal killed'.
func (e Exit) String() string {
	if e.Signal != 0 {
		return "signal " + e.Signal.String()
	}
	return "exit " + strconv.Itoa(e.Code)
}

// Clean tells whether it was exit 0.
func (e Exit) Clean() bool { return e == Exit{} }

// Event is one thing that happened to a tile. Fields that say nothing about What are zero.
type Event struct {
	What     What
	Kind     string // of the tile; "" for Stray
	ID       int
	Pid      int
	Exit     Exit
	Expected bool          // Died: it was told to
	Again    bool          // Died: it is started again, After this time
	After    time.Duration // Died
	Age      time.Duration // Stuck: of the heartbeat
	Took     time.Duration // Ready: since the start
	Restarts int           // Restarted, Died, GaveUp: so far
	Cause    string        // what the tile left in its cnc, or why
}

// Tile gives kind:id.
func (e Event) Tile() string { return e.Kind + ":" + strconv.Itoa(e.ID) }

// Level is slog's for this event: Info, Warn where it is bad, Error for GaveUp.
func (e Event) Level() slog.Level {
	switch {
	case e.What == GaveUp:
		return slog.LevelError
	case e.What.Bad() && !(e.What == Died && (e.Expected || e.Exit.Clean())):
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// Attrs lists what there is to know, for slog.LogAttrs with What as the message.
func (e Event) Attrs() []slog.Attr {
	var a []slog.Attr
	if e.Kind != "" {
		a = append(a, slog.String("tile", e.Tile()))
	}
	if e.Pid != 0 {
		a = append(a, slog.Int("pid", e.Pid))
	}
	if e.What == Died {
		a = append(a, slog.String("exit", e.Exit.String()))
		if e.Again {
			a = append(a, slog.Duration("restart_in", e.After))
		}
	}
	if e.What == Ready {
		a = append(a, slog.Duration("took", e.Took))
	}
	if e.Age != 0 {
		a = append(a, slog.Duration("heartbeat_age", e.Age))
	}
	if e.Restarts != 0 {
		a = append(a, slog.Int("restarts", e.Restarts))
	}
	if e.Cause != "" {
		a = append(a, slog.String("cause", e.Cause))
	}
	return a
}

// String is one line, for tests and tools without slog.
func (e Event) String() string {
	s := e.What.String()
	for _, a := range e.Attrs() {
		s += fmt.Sprintf(" %s=%v", a.Key, a.Value)
	}
	return s
}
