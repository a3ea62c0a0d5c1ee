package httpsrv

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ListenShared makes n sockets at one TCP address, as ListenSocket makes one, so that as many tiles share it
// (SO_REUSEPORT): the kernel, or a program (package steer), chooses for each connection among those that listen. The first live do;
// the others wait for Relisten, bound as they are. It returns the descriptors, in the order in which they began to listen, and
// the address. All of them must belong to one user: who gives tiles a user of their own makes the sockets as that user, or
// changes their owner (fchown).
//
// ErrPortTaken (and EADDRINUSE): somebody listens there, be it with SO_REUSEPORT, which
// would else have two instances share what comes without a word. ErrParams: live is not 1 to n, or the
// address is a unix socket's or an inherited descriptor, of which there is one.
func ListenShared(addr string, n, live, sndBuf int) (fds []int, actual string, err error) {
	a, err := parseShared(addr)
	if err != nil {
		return nil, "", err
	}
	if live < 1 || n < live {
		return nil, "", badListen(addr, "%d listeners of %d", live, n)
	}
	if err := a.probe(addr); err != nil {
		return nil, "", err
	}
	defer func() {
		if err != nil {
			for _, fd := range fds {
				sys.close(fd)
			}
			fds = nil
		}
	}()
	// A port that the kernel chose would be another one after Unlisten and Relisten: one socket finds it, the others ask for it.
	first, actual, err := a.open(addr, sndBuf, waiting)
	if err != nil {
		return nil, "", taken(err)
	}
	defer sys.close(first)
	if err := a.keepPort(first); err != nil {
		return nil, "", fmt.Errorf("httpsrv: listen %s: name: %w", addr, err)
	}
	for i := range n {
		how := shared
		if i >= live {
			how = waiting
		}
		fd, _, err := a.open(addr, sndBuf, how)
		if err != nil {
			return fds, "", taken(err)
		}
		fds = append(fds, fd)
	}
	return fds, actual, nil
}

// Relisten has a socket of ListenShared's listen: one that waited, or after Unlisten. Once more changes nothing. Errors: the
// kernel's; EADDRINUSE if another user's sockets listen there.
func Relisten(fd int) error { return sys.listen(fd, backlog) }

// Unlisten ends listening for everybody who holds the socket. Who waited for accept(2) moves to another one of those that share the
// address, where the kernel is told to (package steer, net.ipv4.tcp_migrate_req), and is reset elsewhere. The socket keeps its
// address. Of one that does not listen nothing is changed: shut down, it would never give its connections anything to read again.
func Unlisten(fd int) error {
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return err
	}
	return unix.Shutdown(fd, unix.SHUT_RD)
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
