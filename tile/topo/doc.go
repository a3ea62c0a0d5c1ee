// Package topo starts the tiles of a topology as processes of their own, watches them, restarts what dies, and takes
// all down in order.
//
// # Model
//
// A Spec says how one tile is started and where its cnc lies. A Supervisor's Run blocks in one epoll_wait over the
// tiles' pidfds, their ready pipes and an eventfd, with the next deadline as its timeout; nothing is polled by sleeping,
// and no SIGCHLD is handled, so other code of the program may start processes by os/exec as it likes.
//
//	supervisor process                            tile process (group of its own, a signal on our death)
//	+-----------------------------------+         +------------------------------------+
//	| Run: epoll                        |  start  |                                    |
//	|   pidfd        <- dead            | ------> | cnc.Take: role lock                |
//	|   ready pipe   <- ready           | <------ | Loop.Run: cnc says run, a byte     |
//	|   eventfd      <- Stop, Kill ...  |         |                                    |
//	|   deadline     -> heartbeat stale?| <-cnc-- | housekeeping: heartbeat            |
//	| Stop           -> cnc halt, Wake  | --cnc-> | Loop.Run returns, exit 0           |
//	|                   SIGTERM, SIGKILL| ------> |                                    |
//	+-----------------------------------+         +------------------------------------+
//
// Dead is what the kernel says (pidfd). Stuck is what the heartbeat says; it is reported, and the tile killed only if
// Options.KillStuck asks for it: a tile stopped by SIGSTOP or a debugger goes on where it was.
//
// # Who writes what
//
// In a tile's cnc the supervisor writes signal (boot before a start, halt) and the count of restarts; all else is the
// tile's. It reads the heartbeat at the moment at which it would be stale, so a healthy tile is looked at once per
// HeartbeatTimeout. Files and memory stay the caller's: mapped regions are MADV_DONTFORK and every descriptor not in
// Spec.Files is closed by exec.
//
// # Threads
//
// All children are started from one thread that never ends (their Pdeathsig would fire at its end, golang.org/issue
// 27505) and that has the affinity the process began with. A tile pins itself (tile.Loop); children of a pinned thread
// would inherit one CPU, and with it GOMAXPROCS 1.
//
// Credentials are a thread's own as well: those of Spec.Confined are started from a second such thread, which has given
// up its privileges (tile/sandbox), so that they are born without.
//
// # Strays
//
// While Run runs, this process is a child subreaper: what a tile leaves behind becomes our child, and is ended after each
// death of a tile and at the end, unless Options.Spare says that it is wanted (a keeper of connections). Only processes
// outside our own process group are taken for strays; other code that starts children in groups of their own must
// spare them. Run ends with the attribute cleared.
//
// # Limits
//
// Linux 5.4 (pidfd). A process that SIGKILL does not end within 5 s is left alone, and said so. Tiles killed together
// with the supervisor (container stop, cgroup kill) get no order. Orphans of tiles outlive a supervisor that dies of
// SIGKILL unless they see to that themselves (Spec.DeathSignal): Pdeathsig is not inherited across fork.
package topo
