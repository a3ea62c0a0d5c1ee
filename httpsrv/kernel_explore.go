//go:build explore

package httpsrv

import (
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// kernel is linux, or a simulation of it.
type kernel interface {
	now() int64
	unixSec() (int64, bool)
	accept(fd int, from *unix.RawSockaddrAny) (int, unix.Errno)
	acceptKept(fd int, from *unix.RawSockaddrAny) (int, unix.Errno)
	recv(fd int, p []byte) (int, unix.Errno)
	send(fd int, p []byte) (int, unix.Errno)
	sendv(fd int, v *shmem.Iovs) (int, unix.Errno)
	shutWr(fd int) error
	resetAtClose(fd int)
	close(fd int)
	epoll() (int, error)
	watch(ep, fd int, ev *unix.EpollEvent) error
	wait(ep int, ev []unix.EpollEvent, ms int) (int, unix.Errno)
	waitRaw(ep int, ev []unix.EpollEvent, ms int) (int, unix.Errno)
	spare() (int, error)
	socket(family int) (int, error)
	setsockopt(fd, level, opt, v int) error
	bind(fd int, sa unix.Sockaddr) error
	listen(fd, backlog int) error
	sockname(fd int) (unix.Sockaddr, error)
	peername(fd int) (unix.Sockaddr, error)
	inherited() ([]int, error)
	position(fd int) (tx, rx uint64, state uint8, err error)
}

// sys makes the system calls, or plays them.
var sys kernel = linux{}
