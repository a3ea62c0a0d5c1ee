package swarm

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// The kernel's default range of ephemeral ports holds 28,232 for one source and destination. It looks among every
// other port first; once these are taken a connect costs hundreds of times more, so that perSource stays below half.
const (
	perSource = 12000 // clients that share a source address where others are to be had
	onlyOne   = 25000 // and where not
)

// dialer opens non-blocking connections to one server, from as many source addresses as needed.
type dialer struct {
	family int
	server unix.Sockaddr
	first  int  // index of the first source address
	bind   bool // 127.0.0.0/8: sources can be chosen
	rcvbuf int
}

func newDialer(ap netip.AddrPort, o Options) (*dialer, error) {
	ip := ap.Addr().Unmap()
	d := &dialer{first: o.Source, rcvbuf: o.RecvBuf}
	if ip.Is4() {
		d.family, d.server = unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ip.As4()}
		d.bind = ip.IsLoopback()
	} else {
		d.family, d.server = unix.AF_INET6, &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ip.As16()}
	}
	total := o.Clients + o.Idle
	if !d.bind && (total > onlyOne || o.Source > 0) {
		return nil, fmt.Errorf("%w: %d clients from source %d to %s need several source addresses, only 127.0.0.0/8 has them (%d each)",
			ErrOptions, total, o.Source, ip, onlyOne)
	}
	if top := o.Source + (total-1)/perSource; top > 253 {
		return nil, fmt.Errorf("%w: %d clients from source %d need source address 127.0.0.%d", ErrOptions, total, o.Source, top+1)
	}
	return d, nil
}

// dial begins the n-th connection. err names the call that failed.
func (d *dialer) dial(n int) (fd int, err error) {
	fd, err = unix.Socket(d.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err = d.prepare(fd, d.first+n/perSource); err == nil {
		if e := unix.Connect(fd, d.server); e != nil && e != unix.EINPROGRESS {
			err = os.NewSyscallError("connect", e)
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (d *dialer) prepare(fd, source int) error {
	if d.rcvbuf > 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, d.rcvbuf); err != nil {
			return os.NewSyscallError("SO_RCVBUF", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return os.NewSyscallError("TCP_NODELAY", err)
	}
	if source == 0 || !d.bind {
		return nil
	}
	// Without it bind would take a port for this address alone, whatever the destination.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return os.NewSyscallError("IP_BIND_ADDRESS_NO_PORT", err)
	}
	err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(1 + source)}})
	return os.NewSyscallError("bind", err)
}
