package topo

import "errors"

var (
	// ErrSpec says that a Spec cannot be started as it is: no path, a kind or id twice, a cnc that is another tile's.
	ErrSpec = errors.New("topo: bad spec")

	// ErrBudget says that a tile died more often within a minute than it may be restarted. The instance was stopped.
	ErrBudget = errors.New("topo: restart budget is spent")

	// ErrRefused says that a tile ended with Options.Refusal before it was ever ready: it cannot run as it was started,
	// and would not the next time. The instance was stopped.
	ErrRefused = errors.New("topo: tile refuses to run")

	// ErrStart says that the system refused to start a process: no such program, no permission, no more processes.
	ErrStart = errors.New("topo: process does not start")

	// ErrKernel says that the kernel lacks what a supervisor needs (pidfd: Linux 5.4, epoll, eventfd), or forbids it.
	ErrKernel = errors.New("topo: kernel refuses")

	// ErrNoTile says that no tile has this kind and id, or that it does not run.
	ErrNoTile = errors.New("topo: no such tile")

	// ErrRunning says that Run was called twice.
	ErrRunning = errors.New("topo: supervisor runs or has run")
)
