package steer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary play the part that it names.
const childEnv = "STEER_TEST_CHILD"

var children = map[string]func() error{}

func TestMain(m *testing.M) {
	if part := os.Getenv(childEnv); part != "" {
		if err := children[part](); err != nil {
			fmt.Println("child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	before := openFDs()
	code := m.Run()
	if after := openFDs(); code == 0 && after > before+2 { // the runtime's epoll and its eventfd
		fmt.Fprintf(os.Stderr, "%d descriptors before, %d after\n", before, after)
		code = 1
	}
	os.Exit(code)
}

func openFDs() int {
	fds, _ := os.ReadDir("/proc/self/fd")
	return len(fds)
}

// ownNet moves the test, which must then stay on its goroutine, into a network namespace with nothing but a loopback
// that has 10.9.0.0/16 and fd09::/32 as well. Without the right to it, or without ip(8), false.
func ownNet(t testing.TB) bool {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	ip, err := exec.LookPath("ip")
	if err != nil || unix.Unshare(unix.CLONE_NEWNET) != nil {
		return false
	}
	for _, line := range []string{"link set lo up", "addr add 10.9.0.1/16 dev lo", "-6 route add local fd09::/32 dev lo"} {
		if out, err := exec.Command(ip, strings.Fields(line)...).CombinedOutput(); err != nil && line[0] != '-' {
			t.Fatalf("ip %s: %v %s", line, err, out)
		} // a host without IPv6 skips where it is bound
	}
	return true
}

// load is Load, or the end of a test that needs it.
func load(t testing.TB, o Options) *Steering {
	t.Helper()
	st, err := Load(o)
	if errors.Is(err, ErrPermission) || errors.Is(err, unix.ENOSYS) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// site is several tiles' listeners at one address, played by the test itself.
type site struct {
	testing.TB
	addr    unix.Sockaddr
	family  int
	fds     []int   // listeners, -1 when closed
	conns   [][]int // each tile's, as accepted
	clients []int
}

// newSite is at the loopback address of the network (tcp4, tcp6), or at any (any4, any6: IPv4 as well).
func newSite(t testing.TB, network string, tiles int) *site {
	s := &site{TB: t, conns: make([][]int, tiles)}
	switch network {
	case "tcp4":
		s.family, s.addr = unix.AF_INET, v4("127.0.0.1", 0)
	case "tcp6":
		s.family, s.addr = unix.AF_INET6, v6("::1", 0)
	case "any4":
		s.family, s.addr = unix.AF_INET, v4("0.0.0.0", 0)
	case "any6":
		s.family, s.addr = unix.AF_INET6, v6("::", 0)
	}
	t.Cleanup(s.close)
	for range tiles {
		s.fds = append(s.fds, s.listener())
	}
	return s
}

// listener makes one more of the group; the first has the kernel choose the port.
func (s *site) listener() int {
	s.Helper()
	fd := stream(s, s.family, 0)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		s.Fatal(err)
	}
	if err := unix.Bind(fd, s.addr); err != nil {
		if err == unix.EADDRNOTAVAIL {
			unix.Close(fd)
			s.Skip("no such address here: ", err)
		}
		s.Fatal(err)
	}
	if err := unix.Listen(fd, 4096); err != nil {
		s.Fatal(err)
	}
	var err error
	if s.addr, err = unix.Getsockname(fd); err != nil {
		s.Fatal(err)
	}
	return fd
}

func stream(t testing.TB, family, proto int) int {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if err == unix.EAFNOSUPPORT || err == unix.EPROTONOSUPPORT {
		t.Skip("no such sockets here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// insert puts all listeners in, and the tiles to work.
func (s *site) insert(st *Steering, port int) {
	s.Helper()
	for tile, fd := range s.fds {
		if err := st.Insert(port, tile, fd); err != nil {
			s.Fatal(err)
		}
		if err := st.SetLive(tile, true); err != nil {
			s.Fatal(err)
		}
	}
}

// connect makes n connections from the address, nil for any, and returns their sockets.
func (s *site) connect(n int, from unix.Sockaddr) []int {
	s.Helper()
	fds := s.dial(s.addr, s.family, n, from)
	s.clients = append(s.clients, fds...)
	return fds
}

// arrive is connect, and waits until all are in the listeners' queues: a client is connected before the server has its ACK, which the
// kernel may leave for later.
func (s *site) arrive(n int, from unix.Sockaddr) {
	s.Helper()
	want := s.queued() + n
	s.connect(n, from)
	for tries := 0; s.queued() != want; tries++ {
		if tries > 4000 {
			s.Fatalf("%d connections wait to be accepted, want %d", s.queued(), want)
		}
		_, _ = unix.Poll(nil, 5)
	}
}

// queued is how many connections wait to be accepted.
func (s *site) queued() (n int) {
	s.Helper()
	for _, fd := range s.fds {
		if fd < 0 {
			continue
		}
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			s.Fatal(err)
		}
		n += int(info.Unacked) // of a listener, tcp_get_info
	}
	return n
}

func (s *site) dial(to unix.Sockaddr, family, n int, from unix.Sockaddr) (fds []int) {
	s.Helper()
	for range n {
		fd := stream(s, family, 0)
		fds = append(fds, fd)
		if from != nil {
			if family == unix.AF_INET6 {
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1)
			}
			if err := unix.Bind(fd, from); err != nil {
				s.Fatalf("bind to %v: %v", from, err)
			}
		}
		if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
			s.Fatal("connect: ", err)
		}
	}
	for _, fd := range fds {
		await(s, fd, unix.POLLOUT)
		if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || v != 0 {
			s.Fatal("connect: ", err, unix.Errno(v))
		}
	}
	return fds
}

// await waits until fd has one of the events, 20 s at most.
func await(t testing.TB, fd int, events int16) {
	t.Helper()
	for range 2000 {
		p := []unix.PollFd{{Fd: int32(fd), Events: events}}
		if n, err := unix.Poll(p, 10); n > 0 {
			return
		} else if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
	}
	t.Fatalf("descriptor %d: nothing in 20 s", fd)
}

// accept has the tile take all who wait, and returns how many these were.
func (s *site) accept(tile int) (n int) {
	s.Helper()
	for {
		fd, _, err := unix.Accept4(s.fds[tile], unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			s.conns[tile] = append(s.conns[tile], fd)
			n++
		case unix.EINTR:
		case unix.EAGAIN:
			return n
		default:
			s.Fatal("accept: ", err)
		}
	}
}

// acceptAll has all tiles but those accept until n are there in all, and returns how many each took.
func (s *site) acceptAll(n int, but ...int) []int {
	s.Helper()
	got := make([]int, len(s.fds))
	for tries := 0; n > 0; tries++ {
		for i := range s.fds {
			if s.fds[i] >= 0 && !slices.Contains(but, i) {
				k := s.accept(i)
				got[i] += k
				n -= k
			}
		}
		if tries > 2000 {
			s.Fatalf("%d connections are nowhere; %v", n, got)
		}
		if n > 0 {
			_, _ = unix.Poll(nil, 5)
		}
	}
	return got
}

// leave closes the listener, as a tile's death does.
func (s *site) leave(tile int) {
	unix.Close(s.fds[tile])
	s.fds[tile] = -1
}

// drop resets all connections, so that nothing stays in TIME_WAIT.
func (s *site) drop() {
	for _, fd := range s.clients {
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(fd)
	}
	s.clients = nil
	for i, l := range s.conns {
		for _, fd := range l {
			unix.Close(fd)
		}
		s.conns[i] = nil
	}
}

func (s *site) close() {
	s.drop()
	for _, fd := range s.fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// greet has every accepted connection send a byte and returns how many clients get it, and how many were reset.
func (s *site) greet() (served, reset int) {
	s.Helper()
	for _, l := range s.conns {
		for _, fd := range l {
			if _, err := unix.Write(fd, []byte{'.'}); err != nil {
				s.Fatal("greet: ", err)
			}
		}
	}
	for _, fd := range s.clients {
		await(s, fd, unix.POLLIN)
		switch n, err := unix.Read(fd, make([]byte, 1)); {
		case n == 1:
			served++
		case err == unix.ECONNRESET:
			reset++
		default:
			s.Fatal("client: ", n, err)
		}
	}
	return served, reset
}

func v4(s string, port int) unix.Sockaddr {
	return &unix.SockaddrInet4{Port: port, Addr: [4]byte(net.ParseIP(s).To4())}
}

func v6(s string, port int) unix.Sockaddr {
	return &unix.SockaddrInet6{Port: port, Addr: [16]byte(net.ParseIP(s).To16())}
}

func (s *site) port() int {
	switch a := s.addr.(type) {
	case *unix.SockaddrInet4:
		return a.Port
	case *unix.SockaddrInet6:
		return a.Port
	}
	return 0
}
