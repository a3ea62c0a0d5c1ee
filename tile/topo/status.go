package topo

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// State is where a tile stands with its supervisor.
//
//	Waiting --start--> Booting --ready--> Running <--heartbeat--> Stuck
//	   ^                  |                  |                      |
//	   |   death, budget  v                  v                      v
//	   +------------------+------------------+----------------------+
//	   |                                     | told to end
//	   +------- to be restarted -------- Stopping ----> Ended
type State uint8

const (
	StateWaiting  State = iota // for those before it, or for its restart
	StateBooting               // started, not ready
	StateRunning               // ready, heartbeat fresh
	StateStuck                 // ready, heartbeat stale
	StateStopping              // told to end, or killed
	StateEnded                 // no process, and none to come
)

var stateNames = [...]string{"waiting", "booting", "running", "stuck", "stopping", "ended"}

// String gives the name in lower case, 'unknown' for anything else.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// Status is a row of the table of what runs where.
type Status struct {
	Kind     string
	ID       int
	Pid      int // 0: no process
	CPU      int // tile.Float: not pinned
	State    State
	Age      time.Duration // of the heartbeat; -1: none to be had
	Restarts int
	Signal   tile.Signal // in the cnc
	Exit     Exit        // of the last process that ended
}

// Status gives a row per tile, in the order of the specs. Any goroutine; until Run has returned, the memory of the
// cncs must be there.
func (s *Supervisor) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := shmem.Monotonic()
	rows := make([]Status, len(s.procs))
	for i, p := range s.procs {
		r := Status{
			Kind: p.spec.Kind, ID: p.spec.ID, CPU: p.spec.CPU, State: p.state, Age: -1, Restarts: p.restarts, Exit: p.exit,
		}
		if p.child != nil {
			r.Pid = p.child.proc.Pid
		}
		if p.cnc != nil && !s.over {
			r.Signal = p.cnc.Signal()
			if p.child != nil && p.everReady {
				r.CPU = p.cnc.CPU()
				if hb := p.cnc.Heartbeat(); hb > 0 {
					r.Age = time.Duration(max(now-hb, 0))
				}
			}
		}
		rows[i] = r
	}
	return rows
}

// Table writes rows for people:
//
//	tile   pid   cpu  state    heartbeat  restarts
//	net:0  4711  1    running  23ms       0
func Table(rows []Status) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "tile\tpid\tcpu\tstate\theartbeat\trestarts")
	for _, r := range rows {
		pid, cpu, age := "-", "float", "-"
		if r.Pid != 0 {
			pid = strconv.Itoa(r.Pid)
		}
		if r.CPU != tile.Float {
			cpu = strconv.Itoa(r.CPU)
		}
		if r.Age >= 0 {
			age = r.Age.Round(time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s:%d\t%s\t%s\t%s\t%s\t%d\n", r.Kind, r.ID, pid, cpu, r.State, age, r.Restarts)
	}
	w.Flush()
	return b.String()
}
