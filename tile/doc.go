// Package tile is what a tile is made of: a process (or, in tests, a goroutine) with one locked, pinned thread that runs
// a loop over memory it shares with others.
//
// # Objects in shared memory
//
// Each lies in memory that the caller owns, starts on a multiple of 128 bytes, and has New, Join, Leave and Delete.
// Join trusts nothing: magic, version, layout hash, size and every bound are checked first.
//
//	Cnc       256 B   command and control: who the tile is, signal, heartbeat; its role lock is byte 0
//	Fseq      128 B   a reader's place in a stream
//	Counters  128 B+  named counters and gauges that describe themselves
//	Bell      384 B   the sleeping flag of a consumer, and the path of the FIFO that wakes it
//
//	Cnc       | identity, signal (rare) | heartbeat, cause: tile |
//	Fseq      | seq, app: reader |
//	Counters  | names: New ... | cells: the one who counts ... |
//	Bell      | path: New | path | sleeping: consumer, and producers that wake it |
//	          ^ each cell of this picture is a pair of cache lines with one writer, or hardly ever written
//
// Dead is told by the role lock (Cnc.Held), which the kernel frees; stuck by the heartbeat; pids are for people.
//
// # In the process
//
// Loop runs Poll, keeps house at random intervals (Tempo), beats the heart, obeys the cnc. Pin, KeepOff and the CPU lists
// place it. Package tile/topo starts and watches tiles.
//
// A tile's process keeps GOMAXPROCS at 2 or more, and pins the tile's thread only: Go runs its garbage collector, timers
// and signal handling on other threads, which KeepOff moves to the other CPUs. asyncpreemptoff=1 must never be set: a
// spinning loop could then hold up a collection for ever.
//
// # Limits
//
// linux/amd64: Cell.Add relies on x86-64's store order. 1024 CPUs. A bell's FIFO is found by path, so all must see the
// run directory under the same name; where they do not, hand them an eventfd (Bell.UseFd). On the race detector see
// cell_race.go: it is blind on mapped memory, so tests run over heap memory too.
package tile
