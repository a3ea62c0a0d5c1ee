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
	fd = -1
	fail := func(what string, err error) (int, string, error) {
		if fd >= 0 {
			sys.close(fd)
		}
		return -1, "", fmt.Errorf("httpsrv: listen %s: %s: %w", addr, what, err)
	}
	bad := func(format string, args ...any) (int, string, error) {
		return -1, "", fmt.Errorf("%w: listen %s: %s", ErrParams, addr, fmt.Sprintf(format, args...))
	}
	var sa unix.Sockaddr
	path, mode := "", -1
	family := unix.AF_INET
	switch {
	case strings.HasPrefix(addr, "fd:"):
		n, err := strconv.Atoi(addr[3:])
		if err != nil || n < 0 {
			return bad("%q is no number of a descriptor", addr[3:])
		}
		if v, err := unix.GetsockoptInt(n, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || v == 0 {
			return bad("descriptor %d is no listening stream socket (with systemd: ListenStream= and Accept=no)", n)
		}
		if err := unix.SetNonblock(n, true); err != nil {
			return fail("nonblock", err)
		}
		unix.CloseOnExec(n)
		setInherited(n, sndBuf)
		sa, err := sys.sockname(n)
		if err != nil {
			return fail("name", err)
		}
		return n, sockaddrString(sa), nil
	case strings.HasPrefix(addr, "unix:"):
		family = unix.AF_UNIX
		var ok bool
		if path, mode, ok = socketPath(addr[5:]); !ok {
			return bad("the mode behind | is octal, up to 0777, as in unix:/run/x.sock|0660")
		}
	default:
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return bad("want HOST:PORT, [HOST]:PORT, unix:PATH or fd:N: %v", err)
		}
		if host == "localhost" {
			host = "127.0.0.1"
		}
		if host == "" {
			host = "::"
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			return bad("%q is no IP address", host)
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return bad("%q is no port (0 to 65535)", port)
		}
		if ip.Is4() {
			sa = &unix.SockaddrInet4{Port: int(n), Addr: ip.As4()}
		} else {
			zone, ok := zoneID(ip.Zone())
			if !ok {
				return bad("%q is no interface", ip.Zone())
			}
			family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(n), Addr: ip.As16(), ZoneId: zone}
		}
	}
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
	setInherited(fd, sndBuf)
	if family == unix.AF_UNIX {
		if err := bindSocket(fd, path, mode); err != nil {
			return fail("bind", err)
		}
		return fd, "unix:" + path, nil
	}
	if err := sys.bind(fd, sa); err != nil {
		return fail("bind", err)
	}
	if err := sys.listen(fd, backlog); err != nil {
		return fail("listen", err)
	}
	if sa, err = sys.sockname(fd); err != nil {
		return fail("name", err)
	}
	return fd, sockaddrString(sa), nil
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

// setInherited sets what accepted sockets take over; a unix socket knows no TCP options.
func setInherited(fd, sndBuf int) {
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
