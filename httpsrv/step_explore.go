//go:build explore

package httpsrv

import (
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// stepHook is called at every point; nil lets the code run through.
var stepHook func(point)

// brokenRule is the rule that the code shall break, or 0.
var brokenRule rule

func step(p point) {
	if stepHook != nil {
		stepHook(p)
	}
}

func holds(r rule) bool { return r != brokenRule }

// sendHook plays the kernel's part of a send; nil is the kernel itself.
var sendHook func(fd int, v *shmem.Iovs) (int, unix.Errno)

func sendv(fd int, v *shmem.Iovs) (int, unix.Errno) {
	if sendHook != nil {
		return sendHook(fd, v)
	}
	return shmem.Sendv(fd, v)
}
