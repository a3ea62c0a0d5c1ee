//go:build explore

package httpsrv

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// foul is the kernel with errors: what hook returns instead of a call ("accept",
// "recv", "send", "watch"); 0 lets the call through.
type foul struct {
	kernel
	hook func(call string, fd int) unix.Errno
}

// foulWeather puts it in the kernel's place until the test is over.
func foulWeather(t *testing.T) *foul {
	f := &foul{kernel: sys}
	sys = f
	t.Cleanup(func() { sys = f.kernel })
	return f
}

func (f *foul) meets(call string, fd int) unix.Errno {
	if f.hook == nil {
		return 0
	}
	return f.hook(call, fd)
}

func (f *foul) accept(fd int, from *unix.RawSockaddrAny) (int, unix.Errno) {
	if e := f.meets("accept", fd); e != 0 {
		return -1, e
	}
	return f.kernel.accept(fd, from)
}

func (f *foul) recv(fd int, p []byte) (int, unix.Errno) {
	if e := f.meets("recv", fd); e != 0 {
		return 0, e
	}
	return f.kernel.recv(fd, p)
}

func (f *foul) sendv(fd int, v *shmem.Iovs) (int, unix.Errno) {
	if e := f.meets("send", fd); e != 0 {
		return 0, e
	}
	return f.kernel.sendv(fd, v)
}

func (f *foul) watch(ep, fd int, ev *unix.EpollEvent) error {
	if e := f.meets("watch", fd); e != 0 {
		return e
	}
	return f.kernel.watch(ep, fd, ev)
}

// weatherOf are the errors that each call may meet without anybody's fault.
var weatherOf = map[string][]unix.Errno{
	"accept": {unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EPERM, unix.EPROTO, unix.EINTR,
		unix.ENETDOWN, unix.ENOPROTOOPT, unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH, unix.ETIMEDOUT},
	"recv":  {unix.ENOBUFS, unix.ENOMEM, unix.EINTR},
	"send":  {unix.ENOBUFS, unix.ENOMEM},
	"watch": {unix.ENOMEM, unix.ENOSPC},
}

// Whatever errors of scarcity accept, recv, send and epoll_ctl meet, the tile goes
// on: a newcomer is served or refused with 503, whoever streams loses nothing.
func TestExploreWeather(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	f := foulWeather(t)
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		st := r.produce()
		var streams []*peer
		for range 4 {
			streams = append(streams, r.dial(0).stream("/ws"))
		}
		r.quiet()
		met := map[string]int{}
		f.hook = func(call string, _ int) unix.Errno {
			if rng.IntN(3) > 0 {
				return 0
			}
			e := weatherOf[call][rng.IntN(len(weatherOf[call]))]
			met[call]++
			return e
		}
		status := map[int]int{}
		for n := range 300 {
			s := fmt.Sprint("message ", n)
			r.broadcast(st, s)
			p := r.dial(0).send([]byte(req("GET", "/", "")))
			for turn := 0; !p.eof; turn++ {
				if turn > 1000 {
					r.Fatalf("newcomer %d gets no answer", n)
				}
				r.forward(60 * time.Millisecond) // a listener is tried again after 50 ms
			}
			a, err := parseAnswer(p.in)
			if err != nil {
				r.Fatal(err)
			}
			status[a.status]++
			p.close()
			for _, p := range streams {
				p.want(OpText, s)
			}
			if err := r.tile.check(); err != nil {
				r.Fatal(err)
			}
		}
		if status[200] < 50 || status[503] < 10 || status[200]+status[503] != 300 {
			r.Errorf("answers %v", status)
		}
		for call := range weatherOf {
			if met[call] < 30 {
				r.Errorf("%s met %d errors", call, met[call])
			}
		}
		f.hook = nil
		st.Close()
	})
}

// A socket that fails takes its connection along, nobody else's.
func TestExploreSocketErrors(t *testing.T) {
	f := foulWeather(t)
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		st := r.produce()
		good := r.dial(0).stream("/ws")
		for i, e := range []unix.Errno{unix.ECONNRESET, unix.EPIPE, unix.ETIMEDOUT, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOTCONN} {
			for _, call := range []string{"recv", "send"} {
				p := r.dial(0).stream("/ws")
				r.quiet()
				id := r.opens[len(r.opens)-1]
				fd := int(r.tile.conns[id.Slot()].fd)
				f.hook = func(c string, on int) unix.Errno {
					if c == call && on == fd {
						return e
					}
					return 0
				}
				if call == "recv" {
					if _, err := sysWrite(p.fd, textFrame("x")); err != nil {
						r.Fatal(err)
					}
				} else {
					r.broadcast(st, fmt.Sprint(i))
				}
				r.until("closed", func() bool { return r.life[id] == 3 })
				f.hook = nil
				if call == "send" {
					good.want(OpText, fmt.Sprint(i))
				}
				if r.closes[id] != ClosePeerReset {
					r.Errorf("%v at %s: closed as %v", e, call, r.closes[id])
				}
				p.close()
			}
		}
		st.Close()
	})
}
