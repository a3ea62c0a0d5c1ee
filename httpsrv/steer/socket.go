package steer

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// explainSocket gives the kernel's refusal of a socket its sentinel; EINVAL alone has several reasons.
func explainSocket(fd int, err error) error {
	opt := func(name int) int {
		v, e := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
		if e != nil {
			return -1
		}
		return v
	}
	sentinel, mend := ErrSocket, ""
	switch proto := opt(unix.SO_PROTOCOL); {
	case proto < 0:
		mend = ": it is no socket"
	case proto == unix.IPPROTO_MPTCP:
		err = unix.EOPNOTSUPP // the library has a name of its own for it
		sentinel, mend = ErrMPTCP, ": make it with unix.Socket, or net.ListenConfig.SetMultipathTCP(false)"
	case proto != unix.IPPROTO_TCP:
		mend = ": it is no TCP socket"
	case errors.Is(err, unix.EBUSY):
		sentinel, mend = ErrTaken, ": a socket stands in one slot of one table"
	case opt(unix.SO_REUSEPORT) == 0:
		sentinel, mend = ErrReusePort, ": set it before bind"
	case opt(unix.SO_ACCEPTCONN) == 0:
		sentinel, mend = ErrNotListening, ": insert it after listen"
	}
	return fmt.Errorf("%w: descriptor %d%s: %w", sentinel, fd, mend, err)
}

// Detach has the kernel's hash decide again about the group of fd, whatever program it had. Errors: ErrSocket.
func Detach(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) { // it had none
		return explainSocket(fd, err)
	}
	return nil
}

// ClassicCPU steers by classic BPF, which needs no right at all: connections whose SYN is handled on CPU c go to the
// listener number c modulo n of the group of fd, in the order in which they began to listen. It knows neither live tiles
// nor loads, and when a listener closes, the last takes its number. net.ipv4.tcp_migrate_req says then
// whether the connections waiting there move on or are reset.
//
// Errors: ErrParams, ErrMPTCP, ErrReusePort, ErrSocket.
func ClassicCPU(fd, n int) error {
	if n < 1 || n > MaxTiles {
		return fmt.Errorf("%w: %d listeners, want 1 to %d", ErrParams, n, MaxTiles)
	}
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: skfCPU},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
	if err != nil {
		return explainSocket(fd, err)
	}
	return nil
}

const skfCPU = 0xfffff000 + 36 // SKF_AD_OFF + SKF_AD_CPU of linux/filter.h
