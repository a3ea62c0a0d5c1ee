package httpsrv

import (
	"strings"
	"testing"
	"time"
)

// A client that is too far behind in bytes is evicted, by an eighth more at most.
func TestMaxLagBytes(t *testing.T) {
	p := rigParams()
	p.OutgoingBufferSz, p.RingDepth = 1<<22, 1<<14
	rigEach(t, p, TileOptions{SndBuf: 8192, MaxLagBytes: 1 << 20, WriteTimeout: time.Hour}, func(r *rig) {
		st := r.produce()
		fast, slow := r.dial(0).stream("/ws"), r.dial(4096).stream("/ws")
		slow.stall = true
		r.quiet()
		msg := strings.Repeat("m", 1000)
		c := &r.tile.conns[r.opens[1].Slot()]
		lag := uint64(0)
		for c.state == stStream {
			lag = r.s.Ring(0).Offset - c.ringPos()
			r.broadcast(st, msg)
			r.poll()
			fast.want(OpText, msg)
		}
		if lag < 1<<20 || lag > 1<<20+1<<17+2000 {
			r.Errorf("evicted at a lag of %d bytes", lag)
		}
		slow.stall = false
		if text := slow.wantClose(CodeLagged); !strings.HasPrefix(text, "lagged 1") {
			r.Errorf("%q", text)
		}
		// One message that is larger evicts nobody.
		r.broadcast(st, strings.Repeat("L", 2<<20))
		fast.want(OpText, strings.Repeat("L", 2<<20))
		st.Close()
	})
}

// A client whose next message is too old is evicted, also when nothing more is
// published; one that gets on is not.
func TestMaxLagSeconds(t *testing.T) {
	p := rigParams()
	p.OutgoingBufferSz = 1 << 22
	rigEach(t, p, TileOptions{SndBuf: 8192, MaxLag: 4 * time.Second, WriteTimeout: time.Hour}, func(r *rig) {
		st := r.produce()
		fast, slow := r.dial(0).stream("/ws"), r.dial(4096).stream("/ws")
		slow.stall = true
		r.quiet()
		big := strings.Repeat("m", 60000)
		r.broadcast(st, big)
		fast.want(OpText, big)
		c := &r.tile.conns[r.opens[1].Slot()]
		r.until("blocked", func() bool { return c.flags&flBlocked != 0 })
		r.forward(time.Duration(r.s.Ring(0).LastPubAt-r.clock()) + 3900*time.Millisecond) // the producer's clock goes on
		if c.state != stStream {
			r.Fatal("evicted before its time")
		}
		r.forward(700 * time.Millisecond)
		if c.state != stClosing {
			r.Errorf("state %d after 4.6 s", c.state)
		}
		slow.stall = false
		slow.wantClose(CodeLagged)
		if fast.eof || r.count("closed_ws_client_too_slow") > 1 {
			r.Error("the fast one is gone")
		}
		st.Close()
	})
}

// before finds the end of the messages up to a time, at any place of the ring.
func TestBefore(t *testing.T) {
	p := rigParams()
	rigEach(t, p, TileOptions{}, func(r *rig) {
		st := r.produce()
		rd := r.tile.rd[0]
		if rd.before(r.tile.now) != 0 {
			r.Error("an empty ring")
		}
		type place struct {
			time int64
			end  uint64
		}
		var all []place
		for range 600 { // more than the ring's depth
			r.broadcast(st, "message")
			r.poll()
			var m message
			rd.r.read(rd.seen, &m)
			all = append(all, place{m.time, m.end[areaBroadcast]})
		}
		all = all[len(all)-200:]
		for i, p := range all {
			if i+1 < len(all) && all[i+1].time == p.time {
				continue
			}
			if got := rd.before(p.time); got != p.end {
				r.Fatalf("message %d: %d, want %d", i, got, p.end)
			}
			if i > 0 && all[i-1].time != p.time {
				if got := rd.before(p.time - 1); got != all[i-1].end {
					r.Fatalf("just before message %d: %d, want %d", i, got, all[i-1].end)
				}
			}
		}
		st.Close()
	})
}
