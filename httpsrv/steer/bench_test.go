package steer

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BenchmarkConnect makes, accepts and resets connections over loopback, at listeners that share a port without and with the
// program, by turns. plain-ns and steered-ns are medians of batches, per connection; decision-ns is what the kernel
// counts for the program alone (with its own clock readings).
func BenchmarkConnect(b *testing.B) {
	for _, c := range []struct {
		mode  Mode
		tiles int
	}{{Off, 4}, {Hash, 4}, {Least, 4}, {CPU, 4}, {Source, 4}, {Least, 64}, {Least, MaxTiles}} {
		b.Run(fmt.Sprintf("%s-%d", c.mode, c.tiles), func(b *testing.B) {
			st := load(b, Options{Tiles: c.tiles, Ports: 1, Mode: c.mode})
			ownNet(b)
			plain, steered := newBenchSite(b, c.tiles), newBenchSite(b, c.tiles)
			steered.insert(st, 0)
			for cpu := range 64 {
				_ = st.SetCPU(cpu, cpu%c.tiles)
			}
			joined := joinAll(b, st)
			closer, statsErr := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
			if statsErr == nil {
				defer closer.Close()
			}
			const batch = 32
			var times [2][]float64
			for b.Loop() {
				for i, s := range []*benchSite{plain, steered} {
					begin := time.Now()
					for range batch {
						s.one(joined)
					}
					times[i] = append(times[i], float64(time.Since(begin))/batch)
				}
			}
			for i := range times {
				slices.Sort(times[i])
			}
			p, s := times[0][len(times[0])/2], times[1][len(times[1])/2]
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(p, "plain-ns")
			b.ReportMetric(s, "steered-ns")
			b.ReportMetric(s/p, "ratio")
			if stats, err := st.ports[0].prog.Stats(); err == nil && statsErr == nil && stats.RunCount > 0 {
				b.ReportMetric(float64(stats.Runtime)/float64(stats.RunCount), "decision-ns")
			}
		})
	}
}

// benchSite has an epoll over all listeners, so that to find the one that a connection came to costs the same for all.
type benchSite struct {
	*site
	ep int
	ev [1]unix.EpollEvent
}

func newBenchSite(b *testing.B, tiles int) *benchSite {
	s := &benchSite{site: newSite(b, "tcp4", tiles)}
	var err error
	if s.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(s.ep) })
	for i, fd := range s.fds {
		if err := unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// one connects, accepts as the tile would, and closes both.
func (s *benchSite) one(joined []*Tile) {
	c, err := unix.Socket(s.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.Fatal(err)
	}
	if err := unix.Connect(c, s.addr); err != nil {
		s.Fatal(err)
	}
	for {
		if n, err := unix.EpollWait(s.ep, s.ev[:], 1000); n == 1 {
			break
		} else if err != nil && err != unix.EINTR {
			s.Fatal(err)
		}
	}
	tile := s.ev[0].Fd
	a, _, err := unix.Accept4(s.fds[tile], unix.SOCK_CLOEXEC)
	if err != nil {
		s.Fatal(err)
	}
	joined[tile].Took()
	joined[tile].SetLoad(uint64(a))
	joined[tile].Drained()
	_ = unix.SetsockoptLinger(c, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unix.Close(c)
	unix.Close(a)
}
