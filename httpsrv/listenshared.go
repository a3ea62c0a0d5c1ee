package httpsrv

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ListenShared makes n listening sockets at one TCP address, as ListenSocket makes
// one, so that as many tiles share it (SO_REUSEPORT): the kernel, or a program
// (package steer), chooses for each connection. It returns the descriptors, in the order in
// which they began to listen, and the address. All of them must belong to one user: who gives
// tiles a user of their own makes the sockets as that user, or changes their owner (fchown).
//
// ErrPortTaken (and EADDRINUSE): somebody listens there, be it with SO_REUSEPORT, which
// would else have two instances share what comes without a word. ErrParams: the
// address is a unix socket's or an inherited descriptor, of which there is one.
func ListenShared(addr string, n, sndBuf int) (fds []int, actual string, err error) {
	a, err := parseShared(addr)
	if err != nil {
		return nil, "", err
	}
	if n < 1 {
		return nil, "", badListen(addr, "%d listeners", n)
	}
	if err := a.probe(addr); err != nil {
		return nil, "", err
	}
	for range n {
		fd, at, err := a.open(addr, sndBuf, true)
		if err != nil {
			for _, fd := range fds {
				sys.close(fd)
			}
			return nil, "", taken(err)
		}
		fds, actual = append(fds, fd), at
		if err := a.keepPort(fd); err != nil {
			for _, fd := range fds {
				sys.close(fd)
			}
			return nil, "", fmt.Errorf("httpsrv: listen %s: name: %w", addr, err)
		}
	}
	return fds, actual, nil
}

// ListenMore makes one more listening socket of those that ListenShared made at addr, with the port that it returned: for a
// tile that is started anew. ErrPortTaken: those who listen there belong to another user.
func ListenMore(addr string, sndBuf int) (fd int, err error) {
	a, err := parseShared(addr)
	if err != nil {
		return -1, err
	}
	fd, _, err = a.open(addr, sndBuf, true)
	return fd, taken(err)
}

func parseShared(addr string) (listenAddr, error) {
	a, err := parseListen(addr)
	if err == nil && (a.fd >= 0 || a.family == unix.AF_UNIX) {
		err = badListen(addr, "only a TCP address has a listener per tile")
	}
	return a, err
}

// probe binds without SO_REUSEPORT, which those who listen there do not let pass. Port 0 never
// becomes one that is in use.
func (a *listenAddr) probe(addr string) error {
	fd, err := sys.socket(a.family)
	if err != nil {
		return fmt.Errorf("httpsrv: listen %s: socket: %w", addr, err)
	}
	defer sys.close(fd)
	if err := sys.setsockopt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("httpsrv: listen %s: SO_REUSEADDR: %w", addr, err)
	}
	if a.family == unix.AF_INET6 {
		if err := sys.setsockopt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return fmt.Errorf("httpsrv: listen %s: IPV6_V6ONLY: %w", addr, err)
		}
	}
	if err := sys.bind(fd, a.sa); err != nil {
		return taken(fmt.Errorf("httpsrv: listen %s: bind: %w", addr, err))
	}
	return nil
}

// taken gives EADDRINUSE its sentinel.
func taken(err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%w: %w", ErrPortTaken, err)
	}
	return err
}

// keepPort has the next listener take the port that fd has.
func (a *listenAddr) keepPort(fd int) error {
	got, err := sys.sockname(fd)
	if err != nil {
		return err
	}
	switch want := a.sa.(type) {
	case *unix.SockaddrInet4:
		want.Port = got.(*unix.SockaddrInet4).Port
	case *unix.SockaddrInet6:
		want.Port = got.(*unix.SockaddrInet6).Port
	}
	return nil
}
