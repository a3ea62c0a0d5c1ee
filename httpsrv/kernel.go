package httpsrv

import (
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// linux is the kernel as this package sees it: all system calls of listening
// sockets, connections and epoll, and the clock. They are made as sys.name,
// which is a direct call here and goes through an interface in the exploring
// build (-tags explore), where a simulated kernel takes their place
// (docs/simulation.md). The doorbell's are package tile's own.
type linux struct{}

// now returns CLOCK_MONOTONIC in ns.
func (linux) now() int64 { return shmem.Monotonic() }

// unixSec returns the seconds since 1970, or false.
func (linux) unixSec() (int64, bool) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &ts)
	return ts.Sec, err == nil
}

func (linux) accept(fd int, from *unix.RawSockaddrAny) (int, unix.Errno) {
	return shmem.Accept(fd, from)
}

// acceptKept is accept, of a socket that outlives the process: not closed at an exec.
func (linux) acceptKept(fd int, from *unix.RawSockaddrAny) (int, unix.Errno) {
	return shmem.AcceptKept(fd, from)
}

func (linux) recv(fd int, p []byte) (int, unix.Errno) { return shmem.Recv(fd, p) }

func (linux) send(fd int, p []byte) (int, unix.Errno) { return shmem.Send(fd, p) }

func (linux) sendv(fd int, v *shmem.Iovs) (int, unix.Errno) { return shmem.Sendv(fd, v) }

// shutWr ends our side of a connection.
func (linux) shutWr(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) }

// resetAtClose has the close that follows answer with RST.
func (linux) resetAtClose(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

func (linux) close(fd int) { _ = unix.Close(fd) } // leaves the epoll by itself

func (linux) epoll() (int, error) { return unix.EpollCreate1(unix.EPOLL_CLOEXEC) }

// watch has ep tell of fd's events.
func (linux) watch(ep, fd int, ev *unix.EpollEvent) error {
	return unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, ev)
}

// wait is epoll_wait; waitRaw the same without a word to the Go scheduler.
func (linux) wait(ep int, ev []unix.EpollEvent, ms int) (int, unix.Errno) {
	return shmem.EpollWait(ep, ev, ms)
}

func (linux) waitRaw(ep int, ev []unix.EpollEvent, ms int) (int, unix.Errno) {
	return shmem.EpollWaitRaw(ep, ev, ms)
}

// spare makes a descriptor that is good for nothing but being closed.
func (linux) spare() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC) }

// socket makes a nonblocking stream socket. Protocol 0 is plain TCP: Go's own
// listeners are MPTCP, which eBPF steering refuses.
func (linux) socket(family int) (int, error) {
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

func (linux) setsockopt(fd, level, opt, v int) error { return unix.SetsockoptInt(fd, level, opt, v) }

func (linux) bind(fd int, sa unix.Sockaddr) error { return unix.Bind(fd, sa) }

func (linux) listen(fd, backlog int) error { return unix.Listen(fd, backlog) }

func (linux) sockname(fd int) (unix.Sockaddr, error) { return unix.Getsockname(fd) }

func (linux) peername(fd int) (unix.Sockaddr, error) { return unix.Getpeername(fd) }

// inherited lists the connections of this process: sockets of TCP and unix sockets that do not listen.
func (linux) inherited() (fds []int, err error) {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if e := d.Close(); err == nil {
		err = e
	}
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		fd, _ := strconv.Atoi(n)
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err != nil || domain != unix.AF_INET && domain != unix.AF_INET6 && domain != unix.AF_UNIX {
			continue
		}
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && on == 0 {
			fds = append(fds, fd)
		}
	}
	slices.Sort(fds)
	return fds, nil
}

// position returns how many bytes of an accepted TCP connection's stream were
// given to the kernel (tx) and taken from it (rx), to the byte, whoever did it.
//
// Both follow from TCP_INFO and the queues' lengths (tcp(7), SIOCOUTQ and SIOCINQ),
// provided that nothing moved between the calls. A FIN takes a place in the
// sequence as well: ours is counted in tx, the peer's in rx, and is no byte.
func (linux) position(fd int) (tx, rx uint64, state uint8, err error) {
	for {
		a, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return 0, 0, 0, err
		}
		out, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ)
		if err != nil {
			return 0, 0, 0, err
		}
		in, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
		if err != nil {
			return 0, 0, 0, err
		}
		b, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return 0, 0, 0, err
		}
		if a.Bytes_acked != b.Bytes_acked || a.Bytes_received != b.Bytes_received || a.State != b.State {
			continue
		}
		tx, rx = a.Bytes_acked+uint64(out), a.Bytes_received-uint64(in)
		switch a.State {
		case tcpFinWait1, tcpFinWait2, tcpClosing, tcpLastAck, tcpTimeWait:
			tx--
		}
		switch a.State {
		case tcpCloseWait, tcpLastAck, tcpClosing, tcpTimeWait:
			rx--
		}
		return tx, rx, a.State, nil
	}
}

// States of a TCP connection (include/net/tcp_states.h).
const (
	tcpEstablished = 1
	tcpFinWait1    = 4
	tcpFinWait2    = 5
	tcpTimeWait    = 6
	tcpClose       = 7
	tcpCloseWait   = 8
	tcpLastAck     = 9
	tcpClosing     = 11
)
