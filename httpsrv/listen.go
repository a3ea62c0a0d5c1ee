package httpsrv

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ListenSocket makes a nonblocking listening socket at addr: "127.0.0.1:8080",
// "[::]:80" (IPv4 as well), ":80" (the same), "[fe80::1%eth0]:80", "unix:/path"
// or "unix:/path|0660" (see RemoveSocket), "unix:@name" (abstract), or "fd:3" for
// an inherited one. It returns the descriptor, which is closed on exec, and the
// address in the same notation, with the port that the kernel chose for port 0.
// Options that accepted sockets inherit are set here: no Nagle delay, and a
// send buffer of sndBuf bytes (0: the kernel's choice).
func ListenSocket(addr string, sndBuf int) (fd int, actual string, err error) {
	a, err := parseListen(addr)
	if err != nil {
		return -1, "", err
	}
	return a.open(addr, sndBuf, alone)
}

// sharing is whether others listen at the same address.
type sharing uint8

const (
	alone   sharing = iota
	shared          // with SO_REUSEPORT, for TCP
	waiting         // likewise, and does not listen yet
)

// open does what ListenSocket says.
func (a *listenAddr) open(addr string, sndBuf int, how sharing) (fd int, actual string, err error) {
	fd = a.fd
	fail := func(what string, err error) (int, string, error) {
		if fd >= 0 && a.fd < 0 {
			sys.close(fd)
		}
		return -1, "", fmt.Errorf("httpsrv: listen %s: %s: %w", addr, what, err)
	}
	if fd >= 0 {
		if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || v == 0 {
			return -1, "", badListen(addr, "descriptor %d is no listening stream socket (with systemd: ListenStream= and Accept=no)", fd)
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			return fail("nonblock", err)
		}
		unix.CloseOnExec(fd)
		setInherited(fd, sndBuf)
		sa, err := sys.sockname(fd)
		if err != nil {
			return fail("name", err)
		}
		return fd, sockaddrString(sa), nil
	}
	family, sa := a.family, a.sa
	if fd, err = sys.socket(family); err != nil {
		return fail("socket", err)
	}
	if family != unix.AF_UNIX {
		if err := sys.setsockopt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fail("SO_REUSEADDR", err)
		}
	}
	if family == unix.AF_INET6 {
		if err := sys.setsockopt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			return fail("IPV6_V6ONLY", err)
		}
	}
	if how != alone {
		if err := sys.setsockopt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fail("SO_REUSEPORT", err)
		}
	}
	setInherited(fd, sndBuf)
	if family == unix.AF_UNIX {
		if err := bindSocket(fd, a.path, a.mode); err != nil {
			return fail("bind", err)
		}
		return fd, "unix:" + a.path, nil
	}
	if err := sys.bind(fd, sa); err != nil {
		return fail("bind", err)
	}
	if how != waiting {
		if err := sys.listen(fd, backlog); err != nil {
			return fail("listen", err)
		}
	}
	if sa, err = sys.sockname(fd); err != nil {
		return fail("name", err)
	}
	return fd, sockaddrString(sa), nil
}

// listenAddr is an address to listen at, taken apart.
type listenAddr struct {
	fd     int // inherited, or -1
	family int
	sa     unix.Sockaddr
	path   string // of a unix socket
	mode   int
}

// CheckListen tells whether ListenSocket understands addr, without making
// anything. ErrParams says what is wrong with it.
func CheckListen(addr string) error {
	_, err := parseListen(addr)
	return err
}

func badListen(addr, format string, args ...any) error {
	return fmt.Errorf("%w: listen %s: %s", ErrParams, addr, fmt.Sprintf(format, args...))
}

func parseListen(addr string) (a listenAddr, err error) {
	a.fd = -1
	switch {
	case strings.HasPrefix(addr, "fd:"):
		if a.fd, err = strconv.Atoi(addr[3:]); err != nil || a.fd < 0 {
			return a, badListen(addr, "%q is no number of a descriptor", addr[3:])
		}
		return a, nil
	case strings.HasPrefix(addr, "unix:"):
		a.family = unix.AF_UNIX
		var ok bool
		if a.path, a.mode, ok = socketPath(addr[5:]); !ok {
			return a, badListen(addr, "the mode behind | is octal, up to 0777, as in unix:/run/x.sock|0660")
		}
		return a, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return a, badListen(addr, "want HOST:PORT, [HOST]:PORT, unix:PATH or fd:N: %v", err)
	}
	switch host {
	case "localhost":
		host = "127.0.0.1"
	case "":
		host = "::"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return a, badListen(addr, "%q is no IP address", host)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return a, badListen(addr, "%q is no port (0 to 65535)", port)
	}
	if ip.Is4() {
		a.family, a.sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(n), Addr: ip.As4()}
		return a, nil
	}
	zone, ok := zoneID(ip.Zone())
	if !ok {
		return a, badListen(addr, "%q is no interface", ip.Zone())
	}
	a.family, a.sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(n), Addr: ip.As16(), ZoneId: zone}
	return a, nil
}

const backlog = 4096 // the kernel lowers it to net.core.somaxconn

// zoneID returns the index of the interface called name, 0 for none.
func zoneID(name string) (index uint32, ok bool) {
	if name == "" {
		return 0, true
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, false
	}
	return uint32(i.Index), true
}

// setInherited sets what accepted sockets take over; a unix socket knows no TCP options. Urgent bytes come in their place in
// the stream (RFC 6093 section 6): else recv leaves them out, and the kernel's counts, by which a successor finds its place, don't.
func setInherited(fd, sndBuf int) {
	_ = sys.setsockopt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
	_ = sys.setsockopt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if sndBuf > 0 {
		_ = sys.setsockopt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sndBuf)
	}
}

func sockaddrString(sa unix.Sockaddr) string {
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)).String()
	case *unix.SockaddrUnix:
		return "unix:" + a.Name
	}
	return "unknown"
}
