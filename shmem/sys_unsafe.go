package shmem

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Raw system calls for the hot path. They allocate nothing and return the errno itself, 0 for success, never an
// error value. Those that cannot block use RawSyscall (the scheduler is not told); EINTR is passed on.

// Send sends p on the stream socket fd without blocking and without SIGPIPE (sendto(2), MSG_DONTWAIT|MSG_NOSIGNAL).
// It returns how many bytes the kernel took, which may be fewer than len(p); 0 and the errno on failure,
// EAGAIN when the socket's buffer is full.
func Send(fd int, p []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// MaxIovs is how many pieces an Iovs holds.
const MaxIovs = 16

// Iovs is a list of up to MaxIovs pieces of memory for Sendv. The zero value is empty. The memory must outlive
// the call; pieces on the Go heap must be kept alive by the caller as well.
type Iovs struct {
	v [MaxIovs]unix.Iovec
	n int
	b int
}

// Reset empties the list.
func (v *Iovs) Reset() { v.n, v.b = 0, 0 }

// Add appends p and reports whether there was room. An empty p takes no room.
func (v *Iovs) Add(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	if v.n == MaxIovs {
		return false
	}
	v.v[v.n] = unix.Iovec{Base: unsafe.SliceData(p), Len: uint64(len(p))}
	v.n++
	v.b += len(p)
	return true
}

// Len returns the number of pieces.
func (v *Iovs) Len() int { return v.n }

// Piece returns the i-th piece, 0 <= i < Len.
func (v *Iovs) Piece(i int) []byte {
	p := &v.v[:v.n][i]
	return unsafe.Slice(p.Base, p.Len)
}

// Bytes returns the sum of the pieces' lengths.
func (v *Iovs) Bytes() int { return v.b }

// Sendv is Send for a list of pieces (sendmsg(2)); one piece goes by the cheaper sendto(2). An empty list
// returns 0, 0.
func Sendv(fd int, v *Iovs) (int, unix.Errno) {
	switch v.n {
	case 0:
		return 0, 0
	case 1:
		return Send(fd, unsafe.Slice(v.v[0].Base, v.v[0].Len))
	}
	h := unix.Msghdr{Iov: &v.v[0], Iovlen: uint64(v.n)}
	n, _, e := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&h)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// Recv reads into p from the socket fd without blocking (recvfrom(2), MSG_DONTWAIT). 0 with errno 0 is the end
// of the stream; EAGAIN when nothing is there; EINVAL if p is empty, since 0 would read as the end.
func Recv(fd int, p []byte) (int, unix.Errno) {
	if len(p) == 0 {
		return 0, unix.EINVAL
	}
	n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
		uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// Accept takes one connection from the nonblocking listener fd (accept4(2) with SOCK_NONBLOCK|SOCK_CLOEXEC) and
// writes the peer's address to from, which may be nil. It returns -1 and the errno on failure, EAGAIN when nobody
// waits. A blocking listener blocks the thread.
func Accept(fd int, from *unix.RawSockaddrAny) (int, unix.Errno) {
	return accept(fd, from, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
}

// AcceptKept is Accept of a socket that stays open in whatever the process, or one that shares its descriptors, executes.
func AcceptKept(fd int, from *unix.RawSockaddrAny) (int, unix.Errno) {
	return accept(fd, from, unix.SOCK_NONBLOCK)
}

func accept(fd int, from *unix.RawSockaddrAny, flags uintptr) (int, unix.Errno) {
	n := uint32(unix.SizeofSockaddrAny)
	var np *uint32
	if from != nil {
		np = &n
	}
	c, _, e := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(from)), uintptr(unsafe.Pointer(np)),
		flags, 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(c), 0
}

// EpollWait waits up to timeoutMs (0: looks only; negative: without bound) for events of the epoll instance ep,
// and returns how many it wrote to ev, which must not be empty. EINTR comes often (the Go runtime preempts by
// signals) and means: nothing yet.
func EpollWait(ep int, ev []unix.EpollEvent, timeoutMs int) (int, unix.Errno) {
	if timeoutMs == 0 {
		return EpollWaitRaw(ep, ev, 0)
	}
	n, _, e := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(unsafe.Pointer(unsafe.SliceData(ev))),
		uintptr(len(ev)), uintptr(timeoutMs), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// EpollWaitRaw is EpollWait without telling the Go scheduler, which then neither takes the processor away nor has
// its monitor look every 20 µs. Whatever stops the world waits as well: for a process that is but a tile, and for
// a few ms at most (timeoutMs 0 or more).
func EpollWaitRaw(ep int, ev []unix.EpollEvent, timeoutMs int) (int, unix.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(unsafe.Pointer(unsafe.SliceData(ev))),
		uintptr(len(ev)), uintptr(timeoutMs), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

//go:linkname nanotime runtime.nanotime
func nanotime() int64

// Monotonic returns CLOCK_MONOTONIC in ns, comparable between the processes of one host and time namespace. It is
// the runtime's own reading (vDSO, no system call), which on Linux is that clock.
func Monotonic() int64 { return nanotime() }

// getLock is fcntl(F_OFD_GETLK) without allocation: lk tells the lock asked about, then the one in the way.
func getLock(fd int, lk *unix.Flock_t) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_OFD_GETLK, uintptr(unsafe.Pointer(lk)))
	return e
}
