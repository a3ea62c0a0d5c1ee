package steer

import (
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// Clients wait in four backlogs, and one tile's listener is closed: with the program, whatever its mode, none is reset;
// without it some are. Then a second one goes, with clients who came from the first.
func TestListenerDies(t *testing.T) {
	for _, mode := range []Mode{Off, Hash, Least, CPU, Source} {
		t.Run(mode.String(), func(t *testing.T) {
			eachNet(t, func(t *testing.T, network string, own bool) {
				st := load(t, Options{Tiles: tiles, Ports: 1, Mode: mode})
				s := newSite(t, network, tiles)
				s.insert(st, 0)
				_ = st.SetCPU(0, 0)
				_ = st.SetCPU(1, 1)
				s.connect(conns, nil)
				var dead []int
				for range 2 { // the one that most went to, each time
					most, n := 0, uint64(0)
					for i, ts := range st.Stats().Tiles {
						if k := ts.Selected + ts.Migrated; ts.Live && k >= n {
							most, n = i, k
						}
					}
					_ = st.SetLive(most, false)
					s.leave(most)
					dead = append(dead, most)
				}
				got := s.acceptAll(conns)
				if served, reset := s.greet(); served != conns || reset != 0 {
					t.Errorf("served %d, reset %d of %d", served, reset, conns)
				}
				stats := st.Stats()
				t.Logf("accepted %v, migrated %d", got, stats.Migrated())
				if mode == Off { // the kernel's hash chose
					return
				}
				var left []int
				for i, n := range got {
					if slices.Contains(dead, i) {
						continue
					}
					left = append(left, n)
					if ts := stats.Tiles[i]; ts.Selected+ts.Migrated != uint64(n) {
						t.Errorf("tile %d took %d: %+v", i, n, ts)
					}
				}
				switch {
				case stats.Migrated() < conns/2:
					t.Errorf("%d moved", stats.Migrated())
				case mode == Least:
					spread(t, left, conns/2-1, conns/2+1)
				case mode == Source && slices.Max(left) != conns:
					t.Errorf("one source, several tiles: %v", left)
				}
			})
		})
	}
}

// Without the program the same loses those who wait at the closed listener, unless net.ipv4.tcp_migrate_req is 1.
func TestListenerDiesPlain(t *testing.T) {
	for _, sysctl := range []string{"0", "1"} {
		t.Run(sysctl, func(t *testing.T) {
			if !ownNet(t) {
				t.Skip("needs a network namespace (CAP_SYS_ADMIN): it sets net.ipv4.tcp_migrate_req")
			}
			if err := os.WriteFile("/proc/sys/net/ipv4/tcp_migrate_req", []byte(sysctl), 0); err != nil {
				t.Skip(err)
			}
			s := newSite(t, "tcp4", tiles)
			s.arrive(conns, nil)
			waiting := make([]int, tiles)
			s.leave(0)
			waiting[0] = conns
			for i := 1; i < tiles; i++ {
				waiting[0] -= s.accept(i)
			}
			served, reset := s.greet()
			t.Logf("tcp_migrate_req=%s: served %d, reset %d", sysctl, served, reset)
			if sysctl == "0" && (reset != waiting[0] || reset < 100) || sysctl == "1" && reset != 0 {
				t.Errorf("reset %d, %d were waiting", reset, waiting[0])
			}
		})
	}
}

// To drain a tile: no longer live, it accepts the rest, and closes; new ones come all the while and nobody is lost.
func TestDrain(t *testing.T) {
	eachNet(t, func(t *testing.T, network string, _ bool) {
		st := load(t, Options{Tiles: tiles, Ports: 1, Mode: Least})
		s := newSite(t, network, tiles)
		s.insert(st, 0)
		s.arrive(400, nil)
		_ = st.SetLive(2, false)
		s.arrive(300, nil)
		if n := s.accept(2); n != 100 {
			t.Errorf("%d were waiting at the tile that drains, want 100", n)
		}
		s.arrive(300, nil)
		if n := s.accept(2); n != 0 {
			t.Errorf("%d came after it had drained", n)
		}
		s.leave(2)
		s.acceptAll(900)
		if served, reset := s.greet(); served != conns || reset != 0 {
			t.Errorf("served %d, reset %d", served, reset)
		}
		if n := st.Stats().Migrated(); n != 0 {
			t.Errorf("%d had to move", n)
		}
	})
}

// Handshakes that are not over move as well: here the listener waits for the first data (TCP_DEFER_ACCEPT), which comes when
// it is closed.
func TestHandshakesMove(t *testing.T) {
	for _, mode := range []Mode{Off, Hash, Least, CPU, Source} {
		t.Run(mode.String(), func(t *testing.T) {
			eachNet(t, func(t *testing.T, network string, _ bool) {
				st := load(t, Options{Tiles: 3, Ports: 1, Mode: mode})
				s := newSite(t, network, 3)
				for _, fd := range s.fds {
					if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 20); err != nil {
						t.Fatal(err)
					}
				}
				s.insert(st, 0)
				_ = st.SetLive(1, false)
				_ = st.SetLive(2, false)
				if mode != Off {
					s.connect(200, nil) // all to 0
				} else {
					s.connect(600, nil)
				}
				_ = st.SetLive(1, true)
				_ = st.SetLive(2, true)
				_ = st.SetLive(0, false)
				s.leave(0)
				for _, fd := range s.clients {
					if _, err := unix.Write(fd, []byte{'?'}); err != nil {
						t.Fatal("a client was reset: ", err)
					}
				}
				got := s.acceptAll(len(s.clients))
				if served, reset := s.greet(); served != len(s.clients) {
					t.Errorf("served %d, reset %d", served, reset)
				}
				stats := st.Stats()
				t.Logf("accepted %v, migrated %d", got, stats.Migrated())
				if mode != Off && stats.Migrated() != 200 {
					t.Errorf("%d moved, want 200: %+v", stats.Migrated(), stats)
				}
				if mode == Least && got[1] != 100 {
					t.Error("uneven: ", got)
				}
				if mode == Source && got[1] != 200 && got[2] != 200 {
					t.Error("one source is spread: ", got)
				}
			})
		})
	}
}

// Those who come from a closed listener are told of by Moved, whether or not the kernel wakes who waits for the new one.
func TestMoved(t *testing.T) {
	st := load(t, Options{Tiles: 2, Ports: 1, Mode: Least})
	s := newSite(t, "tcp4", 2)
	s.insert(st, 0)
	joined := joinAll(t, st)
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ep)
	const et = 1 << 31 // EPOLLET
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, s.fds[1], &unix.EpollEvent{Events: unix.EPOLLIN | et}); err != nil {
		t.Fatal(err)
	}
	_ = st.SetLive(1, false)
	s.arrive(10, nil)
	_ = st.SetLive(1, true)
	_ = st.SetLive(0, false)
	if joined[1].Moved() {
		t.Error("moved, before anything could")
	}
	s.leave(0)
	if !joined[1].Moved() || joined[1].Moved() {
		t.Error("not told once that connections moved")
	}
	n, err := unix.EpollWait(ep, make([]unix.EpollEvent, 4), 0)
	t.Log("events of an edge-triggered epoll after a migration:", n, err)
	s.acceptAll(10)
}
