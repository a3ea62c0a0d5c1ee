//go:build !explore

package httpsrv

import (
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// step marks a point between two accesses to shared memory; the exploring
// build (-tags explore) may switch to another actor there. Here it is nothing.
func step(point) {}

// holds tells whether a rule of the reclaim protocol is kept. Production code
// keeps all of them; the exploring build breaks one at a time to show that the
// test would notice.
func holds(rule) bool { return true }

// sendv is a network tile's send; the exploring build has sockets of its own,
// which read the bytes in several steps as the kernel does.
func sendv(fd int, v *shmem.Iovs) (int, unix.Errno) { return shmem.Sendv(fd, v) }
