package steer

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The verifier takes the program, for as many tiles as there can be, and looks at little.
func TestVerifier(t *testing.T) {
	st := load(t, Options{Tiles: MaxTiles, Ports: 3, Mode: Hash})
	info, err := st.ports[2].prog.Info()
	if err != nil {
		t.Fatal(err)
	}
	n, ok := info.VerifiedInstructions()
	t.Logf("%s: %d instructions looked at (%v)", info.Type, n, ok)
	if ok && n > 100_000 { // the kernel's bound is 1,000,000
		t.Errorf("the verifier looks at %d instructions", n)
	}
	if err := st.SetLive(MaxTiles-1, true); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "tcp4", 1)
	if err := st.Insert(2, MaxTiles-1, s.fds[0]); err != nil {
		t.Fatal(err)
	}
	for m := Hash; m <= Source; m++ {
		_ = st.SetMode(m)
		s.connect(10, nil)
		if got := st.Stats(); got.Tiles[MaxTiles-1].Selected != uint64(m)*10 {
			t.Errorf("%s: %d selected", m, got.Tiles[MaxTiles-1].Selected)
		}
	}
}

// Each refusal has its sentinel, and the errno.
func TestInsertRefuses(t *testing.T) {
	st := load(t, Options{Tiles: 2, Ports: 2})
	s := newSite(t, "tcp4", 2)
	check := func(what string, err, sentinel, errno error) {
		t.Helper()
		if !errors.Is(err, sentinel) || errno != nil && !errors.Is(err, errno) {
			t.Errorf("%s: %v, want %v and %v", what, err, sentinel, errno)
		}
	}
	with := func(proto int, reuse, listen bool) int {
		fd := stream(t, unix.AF_INET, proto)
		t.Cleanup(func() { unix.Close(fd) })
		if reuse {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
		if err := unix.Bind(fd, v4("127.0.0.1", 0)); err != nil {
			t.Fatal(err)
		}
		if listen {
			if err := unix.Listen(fd, 5); err != nil {
				t.Fatal(err)
			}
		}
		return fd
	}
	check("before listen", st.Insert(0, 0, with(0, true, false)), ErrNotListening, unix.EINVAL)
	check("without SO_REUSEPORT", st.Insert(0, 0, with(0, false, true)), ErrReusePort, unix.EINVAL)
	check("classic without SO_REUSEPORT", ClassicCPU(with(0, false, true), 2), ErrReusePort, unix.EINVAL)
	check("a file", st.Insert(0, 0, int(os.Stderr.Fd())), ErrSocket, nil)
	check("no descriptor", st.Insert(0, 0, 1<<20), ErrSocket, unix.EBADF)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	check("a unix socket", st.Insert(0, 0, pair[0]), ErrSocket, nil)
	for _, at := range [][2]int{{-1, 0}, {2, 0}, {0, -1}, {0, 2}} {
		check("out of range", st.Insert(at[0], at[1], s.fds[0]), ErrParams, nil)
	}
	for range 2 {
		if err := st.Insert(0, 0, s.fds[0]); err != nil { // the same again is fine
			t.Error(err)
		}
	}
	check("in another slot", st.Insert(0, 1, s.fds[0]), ErrTaken, unix.EBUSY)
	check("at another port", st.Insert(1, 0, s.fds[0]), ErrTaken, unix.EBUSY)
	if err := st.Insert(0, 0, s.fds[1]); err != nil { // takes the slot over
		t.Error(err)
	}
	check("classic, no listener", ClassicCPU(s.fds[0], 0), ErrParams, nil)
	check("mode", st.SetMode(Auto+1), ErrParams, nil)
	check("tile", st.SetLive(2, true), ErrParams, nil)
	check("cpu", st.SetCPU(MaxCPUs, 0), ErrParams, nil)
	check("cpu's tile", st.SetCPU(0, 2), ErrParams, nil)
	t.Run("MPTCP", func(t *testing.T) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
		if err != nil {
			t.Skip("no MPTCP here: ", err)
		}
		defer unix.Close(fd)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		if err := unix.Listen(fd, 5); err != nil {
			t.Fatal(err)
		}
		check("MPTCP", st.Insert(0, 0, fd), ErrMPTCP, unix.EOPNOTSUPP)
		check("classic, MPTCP", ClassicCPU(fd, 2), ErrMPTCP, unix.EOPNOTSUPP)
	})
}

func TestLoadRefuses(t *testing.T) {
	for _, o := range []Options{{Tiles: 0, Ports: 1}, {Tiles: MaxTiles + 1, Ports: 1}, {Tiles: 1}, {Tiles: 1, Ports: 1025}, {Tiles: 1, Ports: 1, Mode: Auto + 1}} {
		if _, err := Load(o); !errors.Is(err, ErrParams) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	err := explainLoad(unix.EPERM)
	if !errors.Is(err, ErrPermission) || !errors.Is(err, unix.EPERM) || strings.Contains(err.Error(), "MEMLOCK") {
		t.Error(err)
	}
}

// A live tile whose listener is gone is passed over and its share is everybody's; with no listener at all, or no live tile,
// the kernel's hash decides.
func TestEmptySlots(t *testing.T) {
	for m := Hash; m <= Source; m++ {
		t.Run(m.String(), func(t *testing.T) {
			st := load(t, Options{Tiles: tiles, Ports: 1, Mode: m})
			s := newSite(t, "tcp4", tiles)
			s.insert(st, 0)
			s.leave(1)
			s.leave(2)
			s.connect(conns, nil)
			got := s.acceptAll(conns)
			stats := st.Stats()
			if got[0]+got[3] != conns || stats.FellBack != 0 || m != Source && stats.Empty == 0 {
				t.Errorf("%v %+v", got, stats)
			}
			if m == Least {
				spread(t, []int{got[0], got[3]}, conns/4-1, conns*3/4+1)
			}
			s.drop()
			for i := range tiles {
				_ = st.SetLive(i, false)
			}
			s.connect(100, nil)
			if got := s.acceptAll(100); got[0] < 20 || got[3] < 20 {
				t.Errorf("by the kernel's hash: %v", got)
			}
			if n := st.Stats().FellBack; n != 100 {
				t.Errorf("%d fell back", n)
			}
		})
	}
}

// Two addresses have tables of their own and share the tiles' loads. A tile's new listener takes the place of the old one.
func TestTwoPorts(t *testing.T) {
	st := load(t, Options{Tiles: 2, Ports: 2, Mode: Least})
	a, b := newSite(t, "tcp4", 2), newSite(t, "tcp6", 2)
	a.insert(st, 0)
	b.insert(st, 1)
	joined := joinAll(t, st)
	joined[0].SetLoad(100)
	b.connect(60, nil)
	a.connect(60, nil)
	if ga, gb := a.acceptAll(60), b.acceptAll(60); gb[1] != 60 || ga[1] != 50 {
		t.Errorf("port 1 %v, then port 0 %v", gb, ga)
	}
	a.leave(0)
	a.fds[0] = a.listener()
	if err := st.Insert(0, 0, a.fds[0]); err != nil {
		t.Fatal(err)
	}
	joined[0].SetLoad(0)
	joined[0].Drained()
	joined[1].SetLoad(100)
	a.connect(30, nil)
	if got := a.acceptAll(30); got[0] != 30 {
		t.Error("the new listener: ", got)
	}
}

// What is attached steers on when the handle, or its process, is gone.
func TestOutlives(t *testing.T) {
	st, err := Load(Options{Tiles: 2, Ports: 1, Mode: Hash})
	if errors.Is(err, ErrPermission) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, "tcp4", 2)
	s.insert(st, 0)
	_ = st.SetLive(0, false)
	for range 2 {
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s.connect(50, nil)
	if got := s.acceptAll(50); got[1] != 50 {
		t.Error(got)
	}
}
