package topo

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// Restart says what follows when a tile's process ends without having been told to.
type Restart uint8

const (
	RestartOnFailure Restart = iota // start it again unless it exited with 0, which is its end
	RestartAlways                   // start it again
	RestartNever                    // that is its end
)

// Spec says how a tile is started and found. Nothing in it is changed after New.
type Spec struct {
	// Kind and ID name the tile (see tile.CncNew); no two are the same.
	Kind string
	ID   int

	// Path is the program, Args its arguments without the program's name. Env is its environment, the caller's if
	// nil; tile.ReadyEnv is added. Dir is its working directory, the caller's if empty.
	Path string
	Args []string
	Env  []string
	Dir  string

	// Files become descriptors 3 and up; Stdin, Stdout, Stderr are the caller's if nil, except that a nil Stdin is
	// /dev/null. A terminal will not do for Stdin: the tile is not in its foreground group. They stay the caller's to close, not before Run has returned, for a restart hands them over again.
	Files                 []*os.File
	Stdin, Stdout, Stderr *os.File

	// CPU is what the tile was told to pin itself to, for Status until the tile says it in its cnc; tile.Float.
	CPU int

	// Cnc is where the tile's cnc lives: formatted, of this Kind and ID, writable. A process without one (zero Mem)
	// counts as ready when started, and is told to end by SIGTERM only.
	Cnc shmem.Mem

	// Wake is called after the cnc was told something, to ring the tile's bell. May be nil. From Run's
	// goroutine; it must not call the Supervisor.
	Wake func()

	// Sys is called before each start to add to what the process gets (user, namespaces). May be nil. From Run's
	// goroutine; it must not call the Supervisor. Setpgid, Pdeathsig and PidFD are the supervisor's.
	Sys func(*syscall.SysProcAttr)

	// Confined starts the process without any privilege: no capability in any set, no_new_privs (sandbox.DropPrivileges).
	// Sys may still set its user and group; what needs other capabilities than those two in the child fails.
	Confined bool

	// DeathSignal is what the process gets when the supervisor dies; 0: SIGKILL. A tile that has processes of its own to end
	// asks for one that it can catch, and must end by itself then.
	DeathSignal syscall.Signal

	Restart Restart

	// Keep has the tile's descriptors outlive it: it makes a keeper (package keeper), which makes its successor when it has
	// died, or was told by Restart to end. Without a keeper the tile is started anew. Upgrade is the program that Restart
	// starts then, if it is there; else it is the one that ran.
	Keep    bool
	Upgrade string

	// Dormant: it is not started before Restart says so.
	Dormant bool

	// Shared: others of its Kind that are Shared do what it does. While one of them is not given up this one is left down
	// alone (LeftDown), where it would have stopped everything.
	Shared bool

	// Optional: the others do without it. Nobody waits for it to be ready; it is restarted without a budget, every
	// BackoffMax in the end; if it refuses, or cannot be started at all, it alone is left down. When only optional tiles are
	// left, they are taken down. Not all may be.
	Optional bool
}

// Options are the supervisor's. A zero value of any field means its default.
type Options struct {
	// BackoffMin and BackoffMax (100 ms, 5 s): a tile that dies is restarted at once; one that dies again before it
	// was ready for BackoffMax, after BackoffMin, then twice that, up to BackoffMax.
	BackoffMin, BackoffMax time.Duration

	// Budget (5) is how many restarts a tile has within any 60 s. Negative: none.
	Budget int

	// Refusal (none) is the exit code by which a tile that was never ready says that it cannot run as it was started
	// (a file that is missing, say). It is not started again: everything is stopped with ErrRefused.
	Refusal int

	// ReadyTimeout (10 s) bounds the time from start to ready. A tile that takes longer is killed, which counts as a
	// death. Tiles are started in order, each when those before it have been ready once.
	ReadyTimeout time.Duration

	// HeartbeatTimeout (2 s): a tile whose heartbeat is older is stuck. KillStuck ends it then, so that it is
	// restarted; otherwise it is only reported.
	HeartbeatTimeout time.Duration
	KillStuck        bool

	// HaltGrace (2 s) is what a tile has to end after its cnc said halt, TermGrace (1 s) what it has after SIGTERM.
	// Then comes SIGKILL.
	HaltGrace, TermGrace time.Duration

	// Event is called with everything that happens, from Run's goroutine, in order. It may call Status, Stop, Kill
	// and Restart. It should not block: nothing is watched meanwhile. May be nil.
	Event func(Event)

	// Spare is asked about a process that is no tile before it is ended as a stray (see Strays in doc.go): true
	// leaves it. May be nil. From Run's goroutine; it must not call the Supervisor.
	Spare func(pid int) bool
}

func (o Options) withDefaults() Options {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.BackoffMin, 100*time.Millisecond)
	def(&o.BackoffMax, 5*time.Second)
	def(&o.ReadyTimeout, 10*time.Second)
	def(&o.HeartbeatTimeout, 2*time.Second)
	def(&o.HaltGrace, 2*time.Second)
	def(&o.TermGrace, time.Second)
	if o.Budget == 0 {
		o.Budget = 5
	}
	if o.Event == nil {
		o.Event = func(Event) {}
	}
	return o
}

// check joins the cnc of a spec, nil if it has none.
func (s *Spec) check() (*tile.Cnc, error) {
	if s.Path == "" || s.Kind == "" {
		return nil, fmt.Errorf("%w: %s:%d: kind %q, path %q", ErrSpec, s.Kind, s.ID, s.Kind, s.Path)
	}
	if s.Cnc.IsZero() {
		return nil, nil
	}
	if s.Cnc.ReadOnly() {
		return nil, fmt.Errorf("%w: %s:%d: cnc is in read-only memory", ErrSpec, s.Kind, s.ID)
	}
	c, err := tile.CncJoin(s.Cnc)
	if err != nil {
		return nil, fmt.Errorf("%w: %s:%d: %w", ErrSpec, s.Kind, s.ID, err)
	}
	if c.Kind() != s.Kind || c.ID() != s.ID {
		return nil, fmt.Errorf("%w: %s:%d: cnc is that of %s", ErrSpec, s.Kind, s.ID, c.Name())
	}
	return c, nil
}

func (s *Spec) name() string { return s.Kind + ":" + strconv.Itoa(s.ID) }
