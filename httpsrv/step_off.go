//go:build !explore

package httpsrv

import "github.com/tilewire/tilewire/shmem"

// step marks a point between two accesses to shared memory; the exploring
// build (-tags explore) may switch to another actor there. Here it is nothing.
func step(point) {}

// holds tells whether a rule of the reclaim protocol is kept. Production code
// keeps all of them; the exploring build breaks one at a time to show that the
// test would notice.
func holds(rule) bool { return true }

// counted is what the kernel's count of bytes adds to what the plan in shared memory says.
func counted(n uint64) uint64 { return n }

func taking(*NetTile) {}

func takingApp(*App, *shmem.Lock) {}
