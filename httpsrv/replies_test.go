package httpsrv

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// replyParams have a reply ring that a few messages fill, by bytes or by descriptors.
func replyParams(depth uint64) Params {
	p := rigParams()
	p.ReplyBufferSz, p.ReplyDepth = 1<<18, depth // 70,000 bytes a message at most
	return p
}

// flooder sends messages as fast as they are taken, and verifies that each comes back.
type flooder struct {
	*peer
	rng  *rand.Rand
	max  int
	want []string // sent, not yet back
	rest []byte   // of the frame being sent
	sent int
}

// push writes until the kernel takes no more or n messages are under way.
func (f *flooder) push(n int) (moved bool) {
	for f.sent < n || len(f.rest) > 0 {
		if len(f.rest) == 0 {
			size := f.rng.IntN(f.max)
			if f.rng.IntN(3) > 0 {
				size = f.rng.IntN(200)
			}
			msg := fmt.Sprint(f.sent, strings.Repeat("x", size))
			f.want = append(f.want, msg)
			f.rest = textFrame(msg)
			f.sent++
		}
		k, err := sysWrite(f.fd, f.rest)
		f.rest = f.rest[k:]
		moved = moved || k > 0
		if err == unix.EAGAIN {
			return moved
		}
		if err != nil {
			f.r.Fatal("a client was closed: ", err)
		}
	}
	return moved
}

// check consumes whole messages.
func (f *flooder) check() (moved bool) {
	for {
		op, got, ok := f.take()
		if !ok {
			if f.eof {
				f.r.Fatalf("closed with %d messages owed", len(f.want))
			}
			return moved
		}
		if len(f.want) == 0 || op != OpText || got != f.want[0] {
			f.r.Fatalf("%#x %q came back, want %q", op, short(got), short(f.want[0]))
		}
		f.want, moved = f.want[1:], true
	}
}

// With replies that wait for each other nothing is lost or reordered, however
// many clients flood, however slowly they read, and however small the ring is.
func TestRepliesWait(t *testing.T) {
	for _, depth := range []uint64{32, 4096} {
		rigEach(t, replyParams(depth), TileOptions{SndBuf: 8192, ReplyWait: time.Hour, RequestTimeout: time.Hour}, func(r *rig) {
			seed := rand.Uint64()
			r.Logf("seed %d", seed)
			r.onMessage = func(c ConnID, op byte, data []byte) { r.reply(c, op, data) }
			var fs []*flooder
			for i := range 12 {
				f := &flooder{peer: r.dial(4096).stream("/own"), rng: rand.New(rand.NewPCG(seed, uint64(i))), max: []int{100, 69000}[i%2]}
				if depth == 32 {
					f.max = 3000 // so that descriptors run out first
				}
				fs = append(fs, f)
			}
			n := 100
			if rigRace {
				n = 30
			}
			rng := rand.New(rand.NewPCG(seed, 99))
			for turn, idle := 0, 0; ; turn++ {
				left, moved := 0, false
				for _, f := range fs {
					if rng.IntN(100) == 0 {
						f.stall = !f.stall && turn < 3000
					}
					moved = f.push(n) || moved
					moved = f.check() || moved
					left += n - f.sent + len(f.want)
				}
				if left == 0 {
					break
				}
				if r.poll() > 0 || moved {
					idle = 0
				} else if idle++; idle > 5e6 {
					r.dump()
					r.Fatalf("stands still with %d messages to come", left)
				}
				if turn%512 == 0 {
					if err := r.tile.check(); err != nil {
						r.Fatal(err)
					}
				}
			}
			if r.count("buffer_waits") == 0 {
				r.Error("nobody had to wait")
			}
		})
	}
}

// Who leaves its replies unread for longer than ReplyWait, while others wait for
// the place, is closed, with what it holds, be it a message or a response; the
// others get theirs.
func TestRepliesHeldUp(t *testing.T) {
	big := strings.Repeat("b", 69000)
	for _, http := range []bool{false, true} {
		rigEach(t, replyParams(4096), TileOptions{SndBuf: 8192, ReplyWait: 5 * time.Second, CloseTimeout: time.Second, RequestTimeout: time.Hour}, func(r *rig) {
			r.onMessage = func(c ConnID, op byte, data []byte) { r.reply(c, op, data) }
			slow := r.dial(4096)
			slow.stall = true
			if http {
				r.onRequest = func(q *Request) Response {
					if string(q.Path) == "/big" {
						return r.body(Response{}, big)
					}
					return r.route(q)
				}
				slow.send([]byte(req("GET", "/big", "")))
			} else {
				slow.stream("/own").send(textFrame(big))
			}
			r.quiet()
			id := r.opens[0]
			var others []*peer
			for range 4 { // two of them find the ring full
				others = append(others, r.dial(0).stream("/own").send(textFrame(big)))
			}
			others[0].want(OpText, big)
			others[0].send(textFrame(big))
			r.quiet()
			if len(r.tile.rep.waiters) == 0 {
				r.Error("nobody had to wait")
			}
			post := req("POST", "/", "Content-Length: 4\r\n") + "body"
			if a := r.dial(0).send([]byte(post)).answered(); a.status != 503 || a.field["retry-after"] == "" {
				r.Errorf("%+v", a)
			}
			if a := r.dial(0).send([]byte(req("GET", "/x", ""))).answered(); a.body != "GET /x" {
				r.Errorf("%+v", a)
			}
			r.forward(4900 * time.Millisecond)
			r.quiet()
			if r.life[id] == 3 || r.tile.conns[id.Slot()].state == stClosing {
				r.Error("closed before its time")
			}
			r.forward(200 * time.Millisecond)
			r.quiet()
			r.forward(1100 * time.Millisecond) // its close frame did not get through
			for _, p := range others {
				p.want(OpText, big)
			}
			if a := r.dial(0).send([]byte(post)).answered(); a.body != "body" {
				r.Errorf("%+v", a)
			}
			r.until("the slow one is closed", func() bool { return r.life[id] == 3 })
			if why := r.closes[id]; why != CloseWsClientTooSlow && !(http && why == CloseTooSlow) {
				r.Errorf("closed as %q", why)
			}
		})
	}
}

// A client's own messages never overwrite its replies, without ReplyWait either:
// it is no longer read from.
func TestRepliesOwn(t *testing.T) {
	rigEach(t, replyParams(4096), TileOptions{SndBuf: 8192, RequestTimeout: time.Hour}, func(r *rig) {
		f := &flooder{peer: r.dial(4096).stream("/own"), rng: rand.New(rand.NewPCG(1, 1)), max: 69000}
		f.stall = true
		for idle := 0; idle < 200; idle++ {
			if f.push(40) || r.poll() > 0 {
				idle = 0
			}
		}
		if n := len(r.got); n == 0 || n > pausePending+1 {
			r.Errorf("%d messages were taken", n)
		}
		f.stall = false
		r.until("everything comes back", func() bool {
			f.push(40)
			f.check()
			return f.sent == 40 && len(f.want) == 0
		})
	})
}

// A client that closes gets what it is owed first, and one that goes away with
// replies unread holds nobody up.
func TestRepliesAtTheEnd(t *testing.T) {
	rigEach(t, replyParams(4096), TileOptions{SndBuf: 8192, ReplyWait: time.Hour, CloseTimeout: time.Hour}, func(r *rig) {
		big := strings.Repeat("b", 69000)
		p := r.dial(4096).stream("/own")
		p.stall = true
		p.send(textFrame(big), closeFrame(1000, ""))
		gone := r.dial(4096).stream("/own")
		gone.stall = true
		gone.send(textFrame(big))
		r.quiet()
		q := r.dial(0).stream("/own")
		q.send(textFrame(big))
		r.quiet()
		if len(r.tile.rep.waiters) != 2 { // it, and the one that is gone in a moment
			r.Fatalf("%d wait", len(r.tile.rep.waiters))
		}
		p.stall = false
		p.want(OpText, big)
		p.want(ws.OpClose, "\x03\xe8")
		gone.close()
		q.want(OpText, big)
	})
}
