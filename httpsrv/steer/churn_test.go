package steer

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Listeners are closed in the middle of things, again and again, and made anew, while clients come from several threads: none
// is reset, and everybody is served.
func TestChurn(t *testing.T) {
	for _, mode := range []Mode{Hash, Least} {
		t.Run(mode.String(), func(t *testing.T) {
			const n, clients, perClient = 3, 4, 500
			st := load(t, Options{Tiles: n, Ports: 1, Mode: mode})
			s := newSite(t, "tcp4", n)
			s.insert(st, 0)
			at := fmt.Sprint("127.0.0.1:", s.port())
			var mu sync.Mutex // of s
			again := func() int { mu.Lock(); defer mu.Unlock(); return s.listener() }
			var stop atomic.Bool
			var served, deaths atomic.Int64
			var tilesDone, clientsDone sync.WaitGroup
			for i, j := range joinAll(t, st) {
				l, life := s.fds[i], 0
				s.fds[i] = -1
				tilesDone.Go(func() {
					defer func() { unix.Close(l) }()
					for !stop.Load() {
						if life >= 40+30*i && i > 0 { // tile 0 is always there
							deaths.Add(1)
							life = 0
							if deaths.Load()%3 == 0 { // the supervisor notices before, or after
								_ = st.SetLive(i, false)
							}
							_, _ = unix.Poll([]unix.PollFd{{Fd: int32(l), Events: unix.POLLIN}}, 100) // with somebody waiting
							unix.Close(l)
							_ = st.SetLive(i, false)
							l = again()
							if err := st.Insert(0, i, l); err != nil {
								t.Error(err)
							}
							_ = st.SetLive(i, true)
						}
						fd, _, err := unix.Accept4(l, unix.SOCK_CLOEXEC)
						switch err {
						case nil:
							life++
							served.Add(1)
							_, _ = unix.Write(fd, []byte{'.'})
							unix.Close(fd)
						case unix.EAGAIN:
							j.Drained()
							_, _ = unix.Poll([]unix.PollFd{{Fd: int32(l), Events: unix.POLLIN}}, 2)
						}
					}
				})
			}
			for range clients {
				clientsDone.Go(func() {
					for range perClient {
						c, err := net.DialTimeout("tcp", at, 30*time.Second)
						if err != nil {
							t.Error(err)
							return
						}
						_ = c.SetDeadline(time.Now().Add(30 * time.Second))
						if k, err := c.Read(make([]byte, 1)); k != 1 {
							t.Errorf("a client got nothing: %v", err)
						}
						_ = c.(*net.TCPConn).SetLinger(0)
						c.Close()
					}
				})
			}
			clientsDone.Wait()
			stop.Store(true)
			tilesDone.Wait()
			stats := st.Stats()
			t.Logf("%d served through %d deaths; %d moved, %d found an empty slot, %d fell back",
				served.Load(), deaths.Load(), stats.Migrated(), stats.Empty, stats.FellBack)
			if served.Load() < clients*perClient || deaths.Load() < 3 || stats.Migrated() == 0 {
				t.Error("too few")
			}
		})
	}
}
