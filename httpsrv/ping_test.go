package httpsrv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// nextPing puts time forward until slot is pinged.
func (r *rig) nextPing(p *peer) (payload string) {
	r.Helper()
	for range 40 {
		r.forward(time.Second)
		r.quiet()
		if op, s, ok := p.take(); ok {
			if op != ws.OpPing || len(s) != 4 {
				r.Fatalf("frame %#x %q, want a ping", op, s)
			}
			return s
		}
	}
	r.Fatal("no ping in 40 s")
	return ""
}

// A client that listens only, and answers pings, lives for ever; its round trips are known.
func TestPings(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{PingInterval: 25 * time.Second}, func(r *rig) {
		p := r.dial(0).stream("/ws")
		r.quiet()
		id := r.opens[0]
		if s, l, err := r.tile.RTT(id); s != 0 || l != 0 || err != nil {
			r.Error("round trip before the first pong:", s, l, err)
		}
		for i := range 20 {
			s := r.nextPing(p)
			r.skew += 20e6 // it takes 20 ms
			p.send(frame(ws.OpPong, true, "unasked"), frame(ws.OpPong, true, s))
			r.until("pong", func() bool { return r.count("pongs") == uint64(i+1) })
		}
		if n := r.count("pings_sent"); n != 20 {
			r.Errorf("%d pings", n)
		}
		s, l, err := r.tile.RTT(id)
		if err != nil || s < 20*time.Millisecond || s > 30*time.Second || l < 20*time.Millisecond {
			r.Error("round trip", s, l, err)
		}
		sum := uint64(0)
		for _, n := range r.tile.cnt.Names() {
			if strings.HasPrefix(n, "rtt_le_") || n == "rtt_more" {
				sum += r.count(n)
			}
		}
		if sum != 20 || r.count("rtt_us") < 20*20000 || r.count("rtt_le_10000us") != 0 {
			r.Errorf("%d round trips counted, %d µs in all", sum, r.count("rtt_us"))
		}
		if _, _, err := r.tile.RTT(id + 1<<32); !errors.Is(err, ErrConn) {
			r.Error("a stale id:", err)
		}
		if c := &r.tile.conns[id.Slot()]; c.headBuf != 0 {
			r.Error("the head buffer is kept between pings")
		}
	})
}

// No pong: 4002, PongTimeout after the ping. Another ping's payload is no answer.
func TestNoPong(t *testing.T) {
	for _, answer := range []string{"", "else"} {
		rigEach(t, rigParams(), TileOptions{PingInterval: 25 * time.Second, PongTimeout: 10 * time.Second}, func(r *rig) {
			p := r.dial(0).stream("/ws")
			r.quiet()
			r.nextPing(p)
			if answer != "" {
				p.send(frame(ws.OpPong, true, answer))
				r.quiet()
			}
			r.forward(9900 * time.Millisecond)
			r.quiet()
			if p.eof || len(p.in) != 0 {
				r.Fatalf("closed before its time: %q", p.in)
			}
			r.forward(200 * time.Millisecond)
			if text := p.wantClose(CodeNoPong); text != "no pong" {
				r.Errorf("%q", text)
			}
			r.until("counted", func() bool { return r.count("closed_no_pong") == 1 })
		})
	}
}

// In the middle of a long frame a client can't answer: bytes of it count as life.
func TestPongBehindFrame(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{PingInterval: 25 * time.Second, PongTimeout: 10 * time.Second, RequestTimeout: time.Hour}, func(r *rig) {
		p := r.dial(0).stream("/own")
		r.quiet()
		s := r.nextPing(p)
		long := textFrame(strings.Repeat("x", 60))
		for _, b := range long {
			p.send([]byte{b})
			r.forward(9 * time.Second)
			r.quiet()
		}
		p.want(OpText, strings.Repeat("x", 60))
		p.send(frame(ws.OpPong, true, s))
		r.until("pong", func() bool { return r.count("pongs") == 1 })
	})
}

// Pings to those who joined at the same moment are spread, and stay so.
func TestPingsAreSpread(t *testing.T) {
	tl := &NetTile{conns: make([]conn, 10000), opt: TileOptions{PingInterval: 25 * time.Second}}
	tl.wheel = newWheel(10000, 0)
	per := map[int64]int{} // tenth of a second
	for i := range tl.conns {
		tl.conns[i].gen.Store(uint32(1 + i%3))
		tl.pingFirst(uint32(i), &tl.conns[i])
		due := tl.conns[i].ping
		if due < 25e9/8 || due > 25e9 {
			t.Fatalf("first ping after %d ns", due)
		}
		per[due/100e6]++
	}
	worst := 0
	for _, n := range per {
		worst = max(worst, n)
	}
	if mean := 10000 * 8 / 7 / 250; worst > 2*mean {
		t.Errorf("%d pings in a tenth of a second, %d are the mean", worst, mean)
	}
}

// Pings, pongs and messages of any size, to clients that are slow now and then:
// every stream is whole, pings come between frames only, nobody is taken for dead.
func TestPingsBetweenFrames(t *testing.T) {
	p := rigParams()
	p.OutgoingBufferSz, p.RingDepth = 1<<22, 1<<12
	rigEach(t, p, TileOptions{SndBuf: 8192, PingInterval: 300 * time.Millisecond, WriteTimeout: time.Hour}, func(r *rig) {
		seed := rand.Uint64()
		r.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		st := r.produce()
		var ps []*peer
		for range 6 {
			ps = append(ps, r.dial(16384).stream("/ws"))
		}
		r.quiet()
		var want []string
		got := make([]int, len(ps))
		look := func(i int) {
			for {
				op, s, ok := ps[i].take()
				if !ok {
					if ps[i].eof {
						r.Fatalf("client %d was ended after %d messages", i, got[i])
					}
					return
				}
				switch {
				case op == ws.OpPing:
					_, _ = sysWrite(ps[i].fd, frame(ws.OpPong, true, s))
				case op != OpText || got[i] >= len(want) || s != want[got[i]]:
					r.Fatalf("client %d: frame %#x %q after %d messages", i, op, short(s), got[i])
				default:
					got[i]++
				}
			}
		}
		for n := range 600 {
			s := fmt.Sprint(n, strings.Repeat("-", rng.IntN(2000)))
			want = append(want, s)
			r.broadcast(st, s)
			ps[n/100].stall = n%100 < 70
			r.forward(time.Duration(rng.IntN(20)) * time.Millisecond)
			for i := range ps {
				look(i)
			}
		}
		for i := range ps {
			ps[i].stall = false
		}
		r.until("all have all", func() bool {
			for i := range ps {
				look(i)
			}
			return slices.Min(got) == len(want)
		})
		if n := r.count("pings_sent"); n < 20 || r.count("sends_partial") == 0 {
			r.Errorf("%d pings, %d partial sends: not what was to be shown", n, r.count("sends_partial"))
		}
		st.Close()
	})
}

// A tile that was stopped for long takes nobody for dead whose pong is in the socket.
func TestPongOfStoppedTile(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{PingInterval: 25 * time.Second}, func(r *rig) {
		p := r.dial(0).stream("/ws")
		r.quiet()
		s := r.nextPing(p)
		if _, err := sysWrite(p.fd, frame(ws.OpPong, true, s)); err != nil {
			r.Fatal(err)
		}
		r.skew += 60e9
		r.tile.now += r.skew // the deadline is looked at before the socket
		r.tile.timedOut(r.opens[0].Slot())
		if p.pump(); r.count("pongs") != 1 || p.eof {
			r.Errorf("%d pongs, closed: %v", r.count("pongs"), p.eof)
		}
	})
}
