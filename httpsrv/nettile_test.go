package httpsrv

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// A tile asleep in its epoll, on a thread of its own, is woken by each message:
// it would sleep for a minute. Producer and client are another thread.
func TestDoorbell(t *testing.T) {
	p := rigParams()
	rigMems(t, mustFootprint(t, p), func(t *testing.T, m shmem.Mem) {
		r := newRig(t, m, p, TileOptions{})
		st := r.produce()
		c := r.dial(0).stream("/ws")
		r.quiet()
		bell := r.tile.bell
		ask, answer := make(chan bool), make(chan bool)
		go func() {
			runtime.LockOSThread()
			for range ask {
				for n := r.count("delivered"); r.count("delivered") == n; {
					r.tile.Poll(shmem.Monotonic(), 60_000)
				}
				answer <- true
			}
		}()
		for i := range 100 {
			ask <- true
			if i%2 == 0 { // else it may still be on its way to sleep
				for begin := time.Now(); !bell.Asleep(); runtime.Gosched() {
					if time.Since(begin) > 5*time.Second {
						t.Fatal("it does not go to sleep")
					}
				}
			}
			msg := fmt.Sprint("message ", i)
			r.broadcast(st, msg)
			select {
			case <-answer:
			case <-time.After(5 * time.Second):
				t.Fatal("it sleeps on")
			}
			c.want(OpText, msg)
		}
		close(ask)
		st.Close()
		r.end()
	})
}

// Fd is readable when there is something to do; an idle Poll returns 0.
func TestFd(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		c := r.dial(0).stream("/ws")
		r.quiet()
		if n := r.tile.Poll(shmem.Monotonic(), 0); n != 0 {
			r.Errorf("an idle Poll did %d", n)
		}
		ready := func(ms int) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(r.tile.Fd()), Events: unix.POLLIN}}, ms)
			return err == nil && n == 1
		}
		if ready(0) {
			r.Error("readable with nothing to do")
		}
		if _, err := sysWrite(c.fd, textFrame("hello")); err != nil {
			r.Fatal(err)
		}
		if !ready(5000) {
			r.Error("not readable with a frame to read")
		}
		c.want(OpText, "hello")
	})
}

// One Poll is bounded: a flood from one client does not keep it.
func TestPollIsBounded(t *testing.T) {
	p := rigParams()
	p.MaxWsRecvFrameLen = 1 << 20
	rigEach(t, p, TileOptions{}, func(r *rig) {
		r.onMessage = func(ConnID, byte, []byte) {}
		c := r.dial(0).stream("/own")
		r.quiet()
		if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20); err != nil {
			r.Fatal(err)
		}
		flood := make([]byte, 0, 1<<20)
		for len(flood) < 1<<20-100 {
			flood = append(flood, textFrame("0123456789")...)
		}
		if _, err := sysWrite(c.fd, flood); err != nil {
			r.Fatal(err)
		}
		before := r.count("recvs")
		r.tile.Poll(shmem.Monotonic(), 0)
		if n := r.count("recvs") - before; n == 0 || n > receiveTurns+1 {
			r.Errorf("%d reads in one Poll", n)
		}
		r.quiet()
	})
}
