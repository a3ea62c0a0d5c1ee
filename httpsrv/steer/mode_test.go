package steer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMode(t *testing.T) {
	for m := Off; m <= Auto; m++ {
		if got, err := ParseMode(m.String()); got != m || err != nil {
			t.Error(m, got, err)
		}
	}
	if _, err := ParseMode("most"); !errors.Is(err, ErrParams) {
		t.Error(err)
	}
	if Mode(77).String() != "unknown" {
		t.Error(Mode(77))
	}
}

const tiles, conns = 4, 1000

// eachNet runs f over IPv4 and IPv6, in a namespace of its own where that can be had.
func eachNet(t *testing.T, f func(t *testing.T, network string, own bool)) {
	for _, network := range []string{"tcp4", "tcp6"} {
		t.Run(network, func(t *testing.T) { f(t, network, ownNet(t)) })
	}
}

// spread fails unless each of counts is within lo and hi.
func spread(t *testing.T, counts []int, lo, hi int) {
	t.Helper()
	t.Log("accepted", counts)
	if slices.Min(counts) < lo || slices.Max(counts) > hi {
		t.Errorf("%v, want %d to %d each", counts, lo, hi)
	}
}

// A hash gives each of four tiles 250 of 1,000, with a deviation of 14; 7 of these are allowed.
func TestHashAndOff(t *testing.T) {
	for _, mode := range []Mode{Hash, Off} {
		t.Run(mode.String(), func(t *testing.T) {
			eachNet(t, func(t *testing.T, network string, _ bool) {
				st := load(t, Options{Tiles: tiles, Ports: 1, Mode: mode})
				s := newSite(t, network, tiles)
				s.insert(st, 0)
				s.connect(conns, nil)
				got := s.acceptAll(conns)
				spread(t, got, 150, 350)
				stats := st.Stats()
				if mode == Off {
					if stats.Passed != conns || stats.Selected() != 0 {
						t.Errorf("%+v", stats)
					}
					return
				}
				for i, n := range got {
					if stats.Tiles[i].Selected != uint64(n) {
						t.Errorf("tile %d took %d: %+v", i, n, stats)
					}
				}
				if stats.Passed != 0 || stats.FellBack != 0 || stats.Empty != 0 {
					t.Errorf("%+v", stats)
				}
				s.drop()
				for _, live := range [][]bool{{true, false, true, true}, {false, false, true, false}} {
					for i, l := range live {
						if err := st.SetLive(i, l); err != nil {
							t.Fatal(err)
						}
					}
					s.connect(200, nil)
					for i, n := range s.acceptAll(200) {
						if (n > 0) != live[i] {
							t.Errorf("live %v: tile %d got %d", live, i, n)
						}
					}
					s.drop()
				}
			})
		})
	}
}

// Least keeps the tiles within one of each other, through bursts and closes; one that stands still gets its share.
func TestLeast(t *testing.T) {
	eachNet(t, func(t *testing.T, network string, _ bool) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 0))
		st := load(t, Options{Tiles: tiles, Ports: 1, Mode: Auto})
		s := newSite(t, network, tiles)
		s.insert(st, 0)
		joined := joinAll(t, st)
		turn := func(n int, stalled ...int) {
			s.arrive(n, nil)
			for i, j := range joined {
				if !slices.Contains(stalled, i) {
					for range s.accept(i) {
						j.Took()
					}
					j.SetLoad(uint64(len(s.conns[i])))
					j.Drained()
				}
			}
		}
		counts := func() (l []int) {
			for i := range s.conns {
				l = append(l, len(s.conns[i]))
			}
			return l
		}
		for n := 0; n < conns; {
			k := min(1+rng.IntN(60), conns-n)
			turn(k)
			n += k
		}
		spread(t, counts(), conns/tiles, conns/tiles)
		for i := range joined { // some leave, unevenly
			for range 40 * i {
				fd := s.conns[i][0]
				unix.Close(fd)
				s.conns[i] = s.conns[i][1:]
			}
			joined[i].SetLoad(uint64(len(s.conns[i])))
		}
		turn(240) // 0+40+80+120: exactly what levels them
		spread(t, counts(), conns/tiles, conns/tiles)
		turn(400, 1)
		turn(400, 1)
		if n := s.accept(1); n < 199 || n > 201 {
			t.Errorf("the tile that stood still has %d of 800 waiting, its share is 200", n)
		}
		spread(t, counts(), 449, 451)
	})
}

// A tile can write what it likes: it changes who gets the connections, nothing else.
func TestAnyLoad(t *testing.T) {
	st := load(t, Options{Tiles: tiles, Ports: 1, Mode: Least})
	s := newSite(t, "tcp4", tiles)
	s.insert(st, 0)
	for i, v := range []uint64{^uint64(0), 1 << 63, 1 << 39, 0} {
		st.s.tile[i].bias.Store(v)
	}
	s.connect(100, nil)
	if got := s.acceptAll(100); got[0] != 0 || got[1] != 50 || got[2] != 0 || got[3] != 50 {
		t.Error(got)
	}
}

// With SYN cookies the ACK makes the connection, and is steered anew: all are served, and nobody is swamped.
func TestSynCookies(t *testing.T) {
	for _, mode := range []Mode{Hash, Least, Source} {
		t.Run(mode.String(), func(t *testing.T) {
			if !ownNet(t) {
				t.Skip("needs a network namespace (CAP_SYS_ADMIN): it sets net.ipv4.tcp_syncookies")
			}
			if err := os.WriteFile("/proc/sys/net/ipv4/tcp_syncookies", []byte("2"), 0); err != nil {
				t.Skip(err)
			}
			st := load(t, Options{Tiles: tiles, Ports: 1, Mode: mode})
			s := newSite(t, "tcp4", tiles)
			s.insert(st, 0)
			s.connect(conns, nil)
			got := s.acceptAll(conns)
			t.Log(got)
			if n := st.Stats().Other; n < conns {
				t.Errorf("%d answers to cookies", n)
			}
			if mode == Source {
				if slices.Max(got) != conns {
					t.Error("one source is spread")
				}
				return
			}
			spread(t, got, 150, 350)
		})
	}
}

func joinAll(t testing.TB, st *Steering) (l []*Tile) {
	f, err := st.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range st.tiles {
		j, err := Join(int(f.Fd()), i)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := j.Leave(); err != nil {
				t.Error(err)
			}
		})
		l = append(l, j)
	}
	return l
}

// The SYN is handled on loopback by the CPU that sends it.
func TestCPU(t *testing.T) {
	eachNet(t, func(t *testing.T, network string, _ bool) {
		runtime.LockOSThread()
		var may unix.CPUSet
		if err := unix.SchedGetaffinity(0, &may); err != nil {
			t.Fatal(err)
		}
		defer unix.SchedSetaffinity(0, &may)
		st := load(t, Options{Tiles: tiles, Ports: 1, Mode: CPU})
		s := newSite(t, network, tiles)
		s.insert(st, 0)
		tried := 0
		for cpu := range MaxCPUs {
			if !may.IsSet(cpu) || tried == 8 {
				continue
			}
			tried++
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				t.Fatal(err)
			}
			want := 3 - tried%tiles
			if err := st.SetCPU(cpu, want); err != nil {
				t.Fatal(err)
			}
			s.connect(conns/4, nil)
			if got := s.acceptAll(conns / 4); got[want] != conns/4 {
				t.Errorf("CPU %d is tile %d's: %v", cpu, want, got)
			}
			if err := st.SetLive(want, false); err != nil { // any other, then
				t.Fatal(err)
			}
			s.connect(conns/4, nil)
			if got := s.acceptAll(conns / 4); got[want] != 0 || slices.Max(got) > conns/4*3/5 {
				t.Errorf("CPU %d is dead tile %d's: %v", cpu, want, got)
			}
			_ = st.SetLive(want, true)
			_ = st.SetCPU(cpu, -1)
			s.connect(conns/4, nil)
			spread(t, s.acceptAll(conns/4), 20, 110)
			s.drop()
		}
	})
}

// A client's address chooses the tile, as long as it lives: of the dead one's clients each moves to some other, nobody
// else does, and they return with it.
func TestSource(t *testing.T) {
	for _, network := range []string{"any4", "any6", "mapped"} {
		t.Run(network, func(t *testing.T) {
			if !ownNet(t) {
				t.Skip("needs a network namespace (CAP_SYS_ADMIN) for many source addresses")
			}
			st := load(t, Options{Tiles: tiles, Ports: 1, Mode: Source})
			group := network
			if network == "mapped" {
				group = "any6"
			}
			s := newSite(t, group, tiles)
			s.insert(st, 0)
			const sources = 200
			tileOf := func(i int) int {
				var fds []int
				if network == "any6" { // two addresses of a /64
					to := v6("::1", s.port())
					for k := range 3 {
						fds = append(fds, s.dial(to, unix.AF_INET6, 1, v6(fmt.Sprintf("fd09:0:0:%x::%x", i+1, k*k+1), 0))...)
					}
				} else {
					fds = s.dial(v4("127.0.0.1", s.port()), unix.AF_INET, 3, v4(fmt.Sprintf("10.9.%d.%d", i/100, i%100+1), 0))
				}
				s.clients = append(s.clients, fds...)
				got := s.acceptAll(len(fds))
				if slices.Max(got) != len(fds) {
					t.Fatalf("source %d is spread: %v", i, got)
				}
				return slices.Index(got, len(fds))
			}
			var first [sources]int
			per := make([]int, tiles)
			for i := range sources {
				first[i] = tileOf(i)
				per[first[i]]++
			}
			s.drop()
			spread(t, per, 15, 85)
			_ = st.SetLive(1, false)
			moved := make([]int, tiles)
			for i := range sources {
				now := tileOf(i)
				if first[i] != 1 && now != first[i] || now == 1 {
					t.Fatalf("source %d went from %d to %d", i, first[i], now)
				}
				if first[i] == 1 {
					moved[now]++
				}
			}
			s.drop()
			moved[1] = slices.Max(moved)
			spread(t, moved, 1, per[1]-2)
			_ = st.SetLive(1, true)
			for i := range 50 {
				if now := tileOf(i); now != first[i] {
					t.Fatalf("source %d did not return to %d but went to %d", i, first[i], now)
				}
			}
		})
	}
}
