package httpsrv

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

func (r *rig) broadcast(st *Stage, s string) {
	r.Helper()
	st.WriteString(s)
	if _, err := st.WsBroadcast(OpText); err != nil {
		r.Fatal(err)
	}
}

// Messages to one client and broadcasts of a ring come in the order in which
// they were published; others get the broadcasts alone. Fast and slow clients.
func TestSendOrder(t *testing.T) {
	p := rigParams()
	p.OutgoingBufferSz, p.SideBufferSz, p.RingDepth, p.PendingCnt = 1<<22, 1<<22, 1<<12, 1<<12
	rigEach(t, p, TileOptions{SndBuf: 16384, WriteTimeout: time.Hour, PingInterval: -1}, func(r *rig) {
		seed := rand.Uint64()
		r.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		st := r.produce()
		var ps []*peer
		want := make([][]string, 4)
		for i := range want {
			p := r.dial([]int{0, 4096}[i%2]).stream("/ws")
			p.stall = i%2 == 1
			ps = append(ps, p)
		}
		r.quiet()
		for n := range 1500 {
			s := fmt.Sprint(n, strings.Repeat("-", rng.IntN(1500)))
			if to := rng.IntN(8); to < len(ps) {
				st.WriteString(s)
				if _, err := st.WsSend(r.opens[to], OpText); err != nil {
					r.Fatal(err)
				}
				want[to] = append(want[to], s)
			} else {
				r.broadcast(st, s)
				for i := range want {
					want[i] = append(want[i], s)
				}
			}
			if rng.IntN(5) == 0 {
				r.poll()
			}
			if rng.IntN(300) == 0 {
				ps[1].stall = !ps[1].stall
			}
		}
		r.quiet()
		if r.count("sends_partial")+r.count("sends_blocked") == 0 {
			r.Error("the slow clients were never slow")
		}
		for i, p := range ps {
			p.stall = false
			p.want(OpText, want[i]...)
		}
		r.quiet()
		if n := r.count("delivered"); n != uint64(len(want[0])+len(want[1])+len(want[2])+len(want[3])) {
			r.Errorf("delivered %d, want %d", n, len(want[0])+len(want[1])+len(want[2])+len(want[3]))
		}
		st.Close()
	})
}

// A client that stops reading is evicted with its reason and nobody else is
// touched; the producer is never held up. One that reads again before its bytes
// are gone gets 4001, one that does not is reset.
func TestEviction(t *testing.T) {
	for _, never := range []bool{false, true} {
		rigEach(t, rigParams(), TileOptions{SndBuf: 8192, CloseTimeout: time.Second}, func(r *rig) {
			st, err := r.s.Produce(0, 0) // waits for nobody
			if err != nil {
				r.Fatal(err)
			}
			fast := []*peer{r.dial(0).stream("/ws"), r.dial(0).stream("/ws")}
			slow := r.dial(4096).stream("/ws")
			slow.stall = true
			r.quiet()
			id := r.opens[2]
			for n := 0; r.tile.conns[id.Slot()].state == stStream; n++ {
				if n > 10000 {
					r.Fatal("never evicted")
				}
				s := fmt.Sprint(n, strings.Repeat(".", n%1000))
				r.broadcast(st, s)
				r.poll()
				for _, p := range fast {
					p.want(OpText, s)
				}
			}
			if never {
				r.forward(1100 * time.Millisecond)
				slow.stall = false
				if slow.closed(); !slow.reset {
					r.Error("no reset")
				}
			} else {
				slow.stall = false
				text := slow.wantClose(CodeLagged)
				var lag, seq uint64
				var epoch string
				if n, err := fmt.Sscanf(text, "lagged %d messages, epoch %s seq %d", &lag, &epoch, &seq); n != 3 || lag == 0 ||
					epoch != fmt.Sprintf("%x,", r.s.Ring(0).Epoch) {
					r.Errorf("reason %q: %v", text, err)
				}
				slow.close()
			}
			r.until("WsClose", func() bool { return r.life[id] == 3 })
			if r.closes[id] != CloseWsClientTooSlow || r.count("closed_ws_client_too_slow") != 1 {
				r.Errorf("closed as %q", r.closes[id])
			}
			for range 50 {
				r.broadcast(st, "on")
				for _, p := range fast {
					p.want(OpText, "on")
				}
			}
			if n := r.s.Ring(0); n.Busy != 0 {
				r.Errorf("%d messages were held up", n.Busy)
			}
			st.Close()
		})
	}
}

// Many small messages run out of descriptors before bytes: the lag in messages counts.
func TestEvictionByMessages(t *testing.T) {
	p := rigParams()
	p.MaxWsSendFrameCnt = 100
	p.OutgoingBufferSz = 1 << 22
	rigEach(t, p, TileOptions{SndBuf: 8192, CloseTimeout: time.Second}, func(r *rig) {
		st := r.produce()
		slow := r.dial(4096).stream("/ws")
		slow.stall = true
		r.quiet()
		r.broadcast(st, strings.Repeat("big", 20000)) // fills the socket
		r.quiet()
		n := 0
		if r.count("blocked_now") != 1 {
			r.Fatal("it is not blocked")
		}
		for ; r.count("blocked_now") > 0; n++ {
			r.broadcast(st, "x")
			r.poll()
		}
		if n < 100 || n > 100+100/8+2 {
			r.Errorf("evicted after %d messages", n)
		}
		slow.stall = false
		slow.wantClose(CodeLagged)
		st.Close()
	})
}

// Where no lag in messages is set, descriptors have a headroom too: a client that
// stands in a frame whose descriptor is about to go still gets its close frame,
// and the producer waits for nobody.
func TestEvictionByDescriptors(t *testing.T) {
	p := rigParams()
	p.OutgoingBufferSz = 1 << 22
	rigEach(t, p, TileOptions{SndBuf: 8192, CloseTimeout: time.Second}, func(r *rig) {
		st := r.produce()
		slow := r.dial(4096).stream("/ws")
		slow.stall = true
		r.quiet()
		r.broadcast(st, strings.Repeat("big", 20000)) // stands in the middle of it
		r.quiet()
		n := 0
		for ; r.count("blocked_now") > 0; n++ {
			r.broadcast(st, "x")
			r.poll()
		}
		if n < 256-256/8-1 || n >= 256 {
			r.Errorf("evicted after %d messages", n)
		}
		slow.stall = false
		slow.wantClose(CodeLagged)
		st.Close()
	})
}

// A tile that did not poll while the ring went round treats its clients by the
// slow-client policy; none gets a torn frame. If there were messages to single
// clients among those it missed, that goes for clients that follow no ring as well.
func TestLapped(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		st := r.produce()
		ps := []*peer{r.dial(0).stream("/ws"), r.dial(0).stream("/ws")}
		r.quiet()
		r.broadcast(st, "first")
		ps[0].want(OpText, "first")
		ps[1].want(OpText, "first")
		own := r.dial(0).stream("/own")
		r.quiet()
		for _, missed := range []bool{false, true} {
			for i := range 1000 {
				if r.broadcast(st, "gone by"); missed && i == 500 {
					st.WriteString("to one")
					if _, err := st.WsSend(r.opens[2], OpText); err != nil {
						r.Fatal(err)
					}
				}
			}
			if r.quiet(); missed {
				ps = []*peer{own}
			}
			for _, p := range ps {
				p.wantClose(CodeLagged)
				p.close()
			}
		}
		if r.count("overruns") != 2 {
			r.Error("overruns", r.count("overruns"))
		}
		r.until("counted", func() bool { return r.count("closed_ws_client_too_slow") == 3 })
		st.Close()
	})
}

// Late joiners get the last N, through the handshake.
func TestHistoryJoin(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		st := r.produce()
		var all []string
		for _, published := range []int{0, 3, 40, 3000} { // the last wraps the ring, depth 256
			for len(all) < published {
				s := fmt.Sprint(len(all), strings.Repeat(".", len(all)%700))
				all = append(all, s)
				r.broadcast(st, s)
				r.poll()
			}
			for _, n := range []int{0, 1, 2, 10, 100, 100000} {
				p := r.dial(0).stream(fmt.Sprint("/ws?tail=", n))
				r.quiet()
				live := fmt.Sprint("live ", len(all))
				r.broadcast(st, live)
				var got []string
				for len(got) == 0 || got[len(got)-1] != live {
					_, s := p.next()
					got = append(got, s)
				}
				got = got[:len(got)-1]
				k := len(got)
				if k != min(n, len(all)) && !(n > 100 && k > 100 && k < 256) || fmt.Sprint(got) != fmt.Sprint(all[len(all)-k:]) {
					r.Errorf("%d published: the last %d gave %d", len(all), n, k)
				}
				all = append(all, live)
				published++
				p.close()
				r.quiet()
			}
		}
		st.Close()
	})
}

// A broadcast that comes between a handshake and its 101 is not missed, and
// nothing is sent before the 101.
func TestUpgradeWithFullRing(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		st := r.produce()
		for i := range 500 {
			r.broadcast(st, fmt.Sprint("old ", i))
		}
		r.onWsOpen = func(c ConnID) {
			r.reply(c, OpText, []byte("welcome"))
			r.broadcast(st, "in between")
		}
		r.dial(0).stream("/ws").want(OpText, "welcome", "in between")
		r.dial(0).stream("/own").want(OpText, "welcome")
		st.Close()
	})
}

// Callbacks may close others, and themselves, in the middle of a pass.
func TestClosesFromCallbacks(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		st := r.produce()
		var ps []*peer
		for range 8 {
			ps = append(ps, r.dial(0).stream("/ws"))
		}
		r.quiet()
		r.onMessage = func(c ConnID, op byte, data []byte) {
			r.reply(c, op, data)
			if err := r.tile.Close(c, CloseOperator); err != nil {
				r.Error(err)
			}
		}
		r.onClose = func(c ConnID, why CloseReason) {
			if c == r.opens[3] {
				for _, o := range r.opens[5:] {
					_ = r.tile.Close(o, CloseOperator)
				}
				_ = r.tile.WsClose(r.opens[0], CloseOperator)
			}
		}
		ps[3].send(textFrame("x"))
		r.broadcast(st, "to those who are left")
		r.quiet()
		for i, p := range ps {
			switch {
			case i == 0:
				for op := byte(0); op != ws.OpClose; {
					op, _ = p.next()
				}
			case i == 3 || i >= 5:
				p.closed()
			default:
				p.want(OpText, "to those who are left")
			}
		}
		if err := r.tile.check(); err != nil {
			r.Error(err)
		}
		st.Close()
	})
}

// Steady state: a message to everybody allocates nothing, and is one send a
// client and pass, whatever is pending.
func TestDeliveryAllocatesNothing(t *testing.T) {
	if rigRace {
		t.Skip("the race detector allocates")
	}
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		st := r.produce()
		for range 4 {
			r.dial(0).stream("/ws")
		}
		r.quiet()
		msg := []byte(strings.Repeat("m", 200))
		sends, passes := r.count("sends"), r.count("passes")
		n := testing.AllocsPerRun(100, func() {
			for range 5 {
				st.Write(msg)
				if _, err := st.WsBroadcast(OpText); err != nil {
					r.Fatal(err)
				}
			}
			r.tile.Poll(r.tile.now+1e6, 0)
			for _, p := range r.peers {
				p.pump()
				p.in = p.in[:0]
			}
		})
		if n != 0 {
			r.Errorf("%v allocations for 5 messages to 4 clients", n)
		}
		if s, ps := r.count("sends")-sends, r.count("passes")-passes; s != 4*101 || ps != 101 {
			r.Errorf("%d sends in %d passes, want 404 in 101", s, ps)
		}
		st.Close()
	})
}
