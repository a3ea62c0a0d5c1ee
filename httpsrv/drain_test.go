package httpsrv

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

func drainParams(streams uint32) Params {
	p := rigParams()
	p.MaxWsConnectionCnt, p.MaxConnectionCnt = streams, 32
	return p
}

// drainage is one as an instance uses it.
func (r *rig) drainage(grace, over time.Duration) Drainage {
	return Drainage{Code: CodeRestart, Text: "restarting", Why: CloseDrain, Within: time.Second, From: r.clock() + grace.Nanoseconds(), Over: over}
}

// closings puts time forward in steps until all of ps were told, and returns when each was, from now on. Who is told
// answers, and is gone.
func (r *rig) closings(ps []*peer, step, atMost time.Duration) (at []time.Duration) {
	r.Helper()
	begin := r.clock()
	told := map[*peer]bool{}
	for len(told) < len(ps) {
		r.forward(step)
		for _, p := range ps {
			if told[p] || p.fd < 0 {
				continue
			}
			op, s, ok := p.take()
			if !ok {
				continue
			}
			if op != ws.OpClose || s != "\x03\xf4restarting" {
				r.Fatalf("%#x %q", op, s)
			}
			told[p] = true
			at = append(at, time.Duration(r.clock()-begin))
			_, _ = sysWrite(p.fd, frame(ws.OpClose, true, s[:2]))
		}
		if d := time.Duration(r.clock() - begin); d > atMost {
			r.Fatalf("%d of %d told after %v", len(told), len(ps), d)
		}
		if err := r.tile.check(); err != nil {
			r.Fatal(err)
		}
	}
	return at
}

// even checks that no bucket of a tenth of over holds more than twice the mean.
func (r *rig) even(at []time.Duration, from, over time.Duration) {
	r.Helper()
	const buckets = 10
	var n [buckets + 1]int
	for _, d := range at {
		if d < from-time.Millisecond {
			r.Errorf("told %v after the word, want %v at the earliest", d, from)
		}
		n[min(max(int((d-from)*buckets/over), 0), buckets)]++
	}
	for i, k := range n {
		if k > 2*len(at)/buckets {
			r.Errorf("%d of %d in bucket %d: %v", k, len(at), i, n)
			return
		}
	}
}

// The closes are spread evenly, also while clients leave by themselves. Until the first one requests are answered and upgrades
// refused, then nobody gets in.
func TestDrainOverIsEven(t *testing.T) {
	rigEach(t, drainParams(240), TileOptions{CloseTimeout: time.Second}, func(r *rig) {
		st := r.produce()
		defer st.Close()
		var ps []*peer
		for range 240 {
			ps = append(ps, r.dial(0).stream("/ws"))
		}
		const grace, over = 2 * time.Second, 10 * time.Second
		if r.tile.Drained() {
			r.Error("drained before the word")
		}
		r.tile.DrainOver(r.drainage(grace, over))
		if a := r.dial(0).send([]byte(req("GET", "/", ""))).answered(); a.status != 200 {
			r.Errorf("a request in the grace: %d", a.status)
		}
		if a := r.dial(0).send([]byte(handshake("/ws"))).answered(); a.status != 503 || a.field["retry-after"] == "" {
			r.Errorf("an upgrade in the grace: %+v", a)
		}
		idle := r.dial(0)
		r.quiet()
		st.WriteString("still served")
		if _, err := st.WsBroadcast(OpText); err != nil {
			r.Fatal(err)
		}
		for _, p := range ps {
			p.want(OpText, "still served")
		}
		for _, p := range ps[:40] { // leave
			p.close()
		}
		at := r.closings(ps[40:], 10*time.Millisecond, 30*time.Second)
		r.even(at, grace-100*time.Millisecond, over)
		if last := at[len(at)-1]; last < grace+over*8/10 {
			r.Errorf("the last was told after %v", last)
		}
		r.until("drained", r.tile.Drained)
		idle.closed()
		if c, err := net.Dial("tcp", r.addr); err == nil {
			c.Close()
			r.Error("somebody got in")
		} else if !errors.Is(err, unix.ECONNREFUSED) {
			r.Error(err)
		}
		r.until("all are gone", func() bool { n, _ := r.tile.Conns(); return n == 0 })
		if n := r.count("closed_drain"); n < 200 {
			r.Errorf("%d closed as drain", n)
		}
	})
}

// Half of the clients leave in the middle of it: the rest is still spread to the end. A second word with a shorter time holds.
func TestDrainOverAgain(t *testing.T) {
	rigEach(t, drainParams(200), TileOptions{CloseTimeout: time.Second}, func(r *rig) {
		var ps []*peer
		for range 200 {
			ps = append(ps, r.dial(0).stream("/ws"))
		}
		r.tile.DrainOver(r.drainage(0, 600*time.Second)) // a lame duck
		r.forward(time.Second)
		if n := r.tile.drain.left; n < 199 {
			r.Errorf("%d of 200 are left after a second", n)
		}
		for _, p := range ps[:99] {
			p.close()
		}
		r.until("they left", func() bool { return r.tile.drain.left <= 101 })
		r.tile.DrainOver(r.drainage(0, 5*time.Second))
		var rest []*peer
		for _, p := range ps[99:] {
			if p.pump(); len(p.in) == 0 {
				rest = append(rest, p)
			}
		}
		r.even(r.closings(rest, 10*time.Millisecond, 20*time.Second), 0, 5*time.Second)
		r.until("drained", r.tile.Drained)
	})
}

// Few clients, or none: nobody waits longer than planned, and no one at all when nobody streams.
func TestDrainOverFew(t *testing.T) {
	for _, n := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			rigEach(t, rigParams(), TileOptions{CloseTimeout: time.Second}, func(r *rig) {
				var ps []*peer
				for range n {
					ps = append(ps, r.dial(0).stream("/ws"))
				}
				half := r.dial(0).send([]byte("GET / HT"))
				r.quiet()
				r.tile.DrainOver(r.drainage(time.Second, 6*time.Second))
				if r.tile.Drained() != (n == 0) {
					r.Error("drained:", r.tile.Drained())
				}
				for i, d := range r.closings(ps, 10*time.Millisecond, 20*time.Second) {
					want := time.Second + time.Duration(i)*6*time.Second/time.Duration(n)
					if d < want-time.Second/2 || d > want+time.Second {
						r.Errorf("client %d of %d after %v, want %v", i, n, d, want)
					}
				}
				r.until("drained", r.tile.Drained)
				half.closed()
			})
		})
	}
	t.Run("all leave", func(t *testing.T) {
		rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
			p := r.dial(0).stream("/ws")
			r.tile.DrainOver(r.drainage(time.Hour, time.Hour))
			p.close()
			r.until("drained", r.tile.Drained)
		})
	})
}

// All at once: also with fewer buffers than clients each gets its frame. A tile that overslept the whole time does the same.
func TestDrainOverAtOnce(t *testing.T) {
	p := drainParams(100)
	p.HeadBufCnt = 4
	for _, over := range []time.Duration{0, time.Second} {
		rigEach(t, p, TileOptions{CloseTimeout: time.Second}, func(r *rig) {
			var ps []*peer
			for range 100 {
				ps = append(ps, r.dial(0).stream("/ws"))
			}
			r.tile.DrainOver(r.drainage(0, over))
			r.closings(ps, 10*time.Second, 30*time.Second)
			if n := r.count("buffer_waits"); n != 0 {
				r.Errorf("%d waits for a buffer", n)
			}
		})
	}
}

func TestDrainOverAllocatesNothing(t *testing.T) {
	if rigRace {
		t.Skip("the race detector allocates")
	}
	rigEach(t, drainParams(120), TileOptions{CloseTimeout: time.Hour}, func(r *rig) {
		for range 120 {
			r.dial(0).stream("/ws")
		}
		r.tile.cb = Callbacks{}
		r.tile.DrainOver(r.drainage(0, 12*time.Second))
		r.skew += 1e9
		r.tile.Poll(r.clock(), 0)
		if a := testing.AllocsPerRun(80, func() {
			r.skew += 1e8
			r.tile.Poll(r.clock(), 0)
		}); a != 0 {
			t.Errorf("%v allocations a close", a)
		}
		if n := r.tile.drain.left; n > 40 || n < 10 {
			t.Errorf("%d are left: not what was to be measured", n)
		}
		for c := range r.life { // whom no callback told
			r.life[c] = 3
		}
	})
}

// What SetOptions takes over holds for those who are there, and for those who come.
func TestSetOptions(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		var ps []*peer
		for range 4 {
			ps = append(ps, r.dial(0).stream("/ws"))
		}
		r.quiet()
		if err := r.tile.SetOptions(TileOptions{AcceptRate: -1}); !errors.Is(err, ErrParams) || r.tile.opt.AcceptRate != 0 {
			r.Error("a bad option:", err)
		}
		set := func(o TileOptions) {
			r.Helper()
			if o.PingInterval == 0 {
				o.PingInterval = -1
			}
			if err := r.tile.SetOptions(o); err != nil {
				r.Fatal(err)
			}
			if err := r.tile.check(); err != nil { // the table by address is that of the connections
				r.Fatal(err)
			}
		}
		origin := func(want int) {
			r.Helper()
			a := r.dial(0).send([]byte(strings.Replace(handshake("/ws"), "Host: x", "Host: x\r\nOrigin: https://a.example", 1)))
			r.until("an answer", func() bool { return a.eof || bytes.Contains(a.in, []byte("\r\n\r\n")) })
			if got, err := parseAnswer(a.in); err != nil || got.status != want {
				r.Errorf("%v, %v; want %d", got.status, err, want)
			}
			a.close()
			r.quiet()
		}
		origin(403)
		set(TileOptions{AllowOrigins: []string{"https://a.example"}})
		origin(101)

		status := func(want int) {
			r.Helper()
			if a := r.dial(0).send([]byte(req("GET", "/", ""))).answered(); a.status != want {
				r.Errorf("%d, want %d", a.status, want)
			}
			r.peers[len(r.peers)-1].close()
			r.quiet()
		}
		set(TileOptions{MaxConnectionsPerIP: 4}) // from none: who is there counts
		status(429)
		set(TileOptions{MaxConnectionsPerIP: 5})
		status(200)
		set(TileOptions{MaxConnectionsPerIP: 2}) // who is over it stays in
		status(429)
		set(TileOptions{})
		status(200)
		ps[3].close()
		r.quiet()

		set(TileOptions{PingInterval: 10 * time.Second, PongTimeout: time.Hour})
		payload := r.nextPing(ps[0])
		set(TileOptions{}) // off while a pong is awaited
		ps[0].send(frame(ws.OpPong, true, payload))
		r.until("pong", func() bool { return r.count("pongs") == 1 })
		sent := r.count("pings_sent")
		for range 60 {
			r.forward(time.Second)
		}
		if n := r.count("pings_sent"); n > sent {
			r.Errorf("%d pings after they were turned off", n-sent)
		}

		set(TileOptions{RequestTimeout: 3 * time.Second})
		late := r.dial(0).send([]byte("GET / HT"))
		r.forward(4 * time.Second)
		if a := late.answered(); a.status != 408 {
			r.Errorf("%+v", a)
		}
		set(TileOptions{MaxLag: time.Second})
		if r.tile.lag.next == never {
			r.Error("no sweep for MaxLag")
		}
		set(TileOptions{})
		if r.tile.lag.next != never || r.count("closed_drain")+r.count("closed_evicted") != 0 {
			r.Error("lag", r.tile.lag)
		}
	})
}
