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

func TestOnLag(t *testing.T) {
	for _, l := range []OnLag{EvictLagging, SkipAhead} {
		if got, err := ParseOnLag(l.String()); got != l || err != nil {
			t.Error(l, got, err)
		}
	}
	if _, err := ParseOnLag("drop"); !errors.Is(err, ErrParams) || OnLag(9).String() != "unknown" {
		t.Error("a policy that there is not:", err)
	}
}

// skipper is a client that reads now and then: what it gets is whole, in order, and ends with the last one published.
type skipper struct {
	*peer
	got  []int
	own  int
	wait int // messages until it reads again
}

// read takes all frames that are there.
func (s *skipper) read() {
	s.r.Helper()
	for {
		op, payload, ok := s.take()
		if !ok {
			return
		}
		var n int
		text, dots, _ := strings.Cut(payload, " ")
		_, err := fmt.Sscan(text, &n)
		switch {
		case op == OpBinary:
			if s.own++; err != nil || n != s.own {
				s.r.Fatalf("message to itself %q, want %d", short(payload), s.own)
			}
		case op != OpText || err != nil || strings.Trim(dots, ".") != "":
			s.r.Fatalf("frame %#x %q", op, short(payload))
		default:
			if len(s.got) > 0 && n <= s.got[len(s.got)-1] {
				s.r.Fatalf("%d after %d", n, s.got[len(s.got)-1])
			}
			s.got = append(s.got, n)
		}
	}
}

// With SkipAhead clients that read slowly miss messages and nothing else: each frame is whole, numbers rise, the last one
// comes, messages of their own come all and in order; and what was delivered and missed adds up.
func TestSkipAhead(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, limits := range []TileOptions{{}, {MaxLagBytes: 20000}, {MaxLag: 3 * time.Second}} {
		limits.OnLag, limits.SndBuf, limits.WriteTimeout, limits.PingInterval = SkipAhead, 8192, time.Hour, -1
		p := rigParams()
		p.OutgoingBufferSz, p.RingDepth = 1<<19, 1024
		rigEach(t, p, limits, func(r *rig) {
			rng := rand.New(rand.NewPCG(seed, 1))
			st, err := r.s.Produce(0, 0) // waits for nobody
			if err != nil {
				r.Fatal(err)
			}
			clients := []*skipper{{peer: r.dial(0)}, {peer: r.dial(4096)}, {peer: r.dial(4096)}, {peer: r.dial(4096)}}
			for _, c := range clients {
				c.stream("/ws")
			}
			r.quiet()
			const messages = 6000
			sent := 0
			for n := range messages {
				r.broadcast(st, fmt.Sprint(n, " ", strings.Repeat(".", rng.IntN(1+rng.IntN(3000)))))
				if rng.IntN(100) == 0 && sent < 100 {
					sent++
					for _, id := range r.opens {
						_, _ = st.WriteString(fmt.Sprint(sent))
						if _, err := st.WsSend(id, OpBinary); err != nil {
							r.Fatal(err)
						}
					}
				}
				for i, c := range clients[1:] { // they take about a quarter, half and most of it
					if c.stall = c.wait > 0; c.stall {
						c.wait--
					} else {
						c.wait = (10 + rng.IntN(40)) / (i + 1)
					}
				}
				if rng.IntN(20) == 0 {
					r.forward(time.Duration(rng.IntN(1000)) * time.Millisecond)
				}
				for range rng.IntN(3) {
					r.poll()
				}
				for _, c := range clients {
					c.read()
				}
			}
			total := uint64(0)
			for i, c := range clients {
				c.stall = false
				r.until("the last message", func() bool {
					c.read()
					if c.eof {
						r.Fatalf("client %d: ended, reset %v, closed as %v", i, c.reset, r.closes)
					}
					return slices.Contains(c.got, messages-1) && c.own == sent
				})
				total += uint64(len(c.got) + c.own)
			}
			r.quiet()
			if limits.MaxLag == 0 && len(clients[0].got) != messages { // the clock of that test runs ahead of the messages'
				r.Errorf("the fast one got %d of %d", len(clients[0].got), messages)
			}
			missed := uint64(len(clients)*(messages+sent)) - total
			if missed == 0 || r.count("skips") == 0 {
				r.Error("nobody skipped")
			}
			if n := r.count("delivered") + r.count("skipped_messages"); n < total || r.count("skipped_messages") < missed {
				r.Errorf("counted delivered %d, skipped %d; got %d, missed %d", r.count("delivered"), r.count("skipped_messages"), total, missed)
			}
			r.Logf("missed %d in %d skips, counted %d; delivered %d, counted %d", missed, r.count("skips"), r.count("skipped_messages"), total, r.count("delivered"))
			st.Close()
		})
	}
}

// A tile that was lapped itself has its clients skip: they stand between frames.
func TestSkipOverrun(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{OnLag: SkipAhead}, func(r *rig) {
		st, err := r.s.Produce(0, 0)
		if err != nil {
			r.Fatal(err)
		}
		c := &skipper{peer: r.dial(0).stream("/ws")}
		r.quiet()
		for n := range 600 { // the ring holds 256
			r.broadcast(st, fmt.Sprint(n))
		}
		r.until("the last message", func() bool { c.read(); return len(c.got) > 0 && c.got[len(c.got)-1] == 599 })
		if len(c.got) != 1 || r.count("overruns") != 1 || r.count("skips") != 1 || r.count("skipped_messages") < 254 {
			r.Errorf("got %v, %d overruns, %d skips, %d missed", c.got, r.count("overruns"), r.count("skips"), r.count("skipped_messages"))
		}
		for n := range 10 {
			r.broadcast(st, fmt.Sprint(600+n))
		}
		r.until("what comes next", func() bool { c.read(); return len(c.got) == 11 })
		st.Close()
	})
}

// Who stands in the middle of a frame whose rest is gone can't go on; nor can who takes nothing at all.
func TestSkipNot(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{OnLag: SkipAhead, SndBuf: 8192, PingInterval: -1}, func(r *rig) {
		st, err := r.s.Produce(0, 0)
		if err != nil {
			r.Fatal(err)
		}
		mid, dead := r.dial(4096).stream("/ws"), r.dial(4096)
		r.quiet()
		mid.stall = true
		r.broadcast(st, strings.Repeat("m", 60000))
		c := &r.tile.conns[r.opens[0].Slot()]
		r.until("it stands in a frame", func() bool { return c.slow&slowMid != 0 && c.flags&flBlocked != 0 })
		for n := 0; c.state == stStream; n++ {
			if n > 10000 {
				r.Fatal("it stands there for ever")
			}
			r.broadcast(st, strings.Repeat("n", 5000))
			r.poll()
		}
		mid.stall = false
		if mid.closed(); !mid.reset || r.count("closed_ws_client_too_slow") != 1 {
			r.Error("no reset")
		}
		dead.stall = true
		dead.stream("/ws")
		r.quiet()
		d := &r.tile.conns[r.opens[1].Slot()]
		for d.flags&flBlocked == 0 {
			r.broadcast(st, "message")
			r.poll()
		}
		for range 12 {
			r.broadcast(st, strings.Repeat("n", 30000))
			r.forward(time.Second)
		}
		if d.state == stStream {
			r.Error("a client that takes nothing is never closed")
		}
		dead.stall = false
		r.until("the end", func() bool {
			for op, _, ok := dead.take(); ok; op, _, ok = dead.take() {
				if op == ws.OpClose {
					return true
				}
			}
			return dead.eof
		})
		st.Close()
	})
}
