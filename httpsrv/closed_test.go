package httpsrv

import (
	"strings"
	"testing"
	"time"
)

func (r *rig) closed() (all []Closed) {
	r.s.Closed(0, func(c *Closed) bool {
		all = append(all, *c)
		return true
	})
	return all
}

// What is remembered of a connection that is gone: why, how far behind, what it was given.
func TestClosed(t *testing.T) {
	p := rigParams()
	p.OutgoingBufferSz = 1 << 20
	rigEach(t, p, TileOptions{SndBuf: 8192, WriteTimeout: time.Hour, Headroom: 1 << 10}, func(r *rig) {
		if all := r.closed(); all != nil {
			r.Fatalf("at first %v", all)
		}
		ro, err := Join(r.s.mem.AsReadOnly())
		if err != nil {
			r.Fatal(err)
		}
		defer ro.Leave()
		st := r.produce()
		defer st.Close()
		plain, fast, slow := r.dial(0), r.dial(0).stream("/ws"), r.dial(4096).stream("/ws")
		r.until("three connections", func() bool { return len(r.opens) == 3 })
		ids := r.opens
		slow.stall = true
		for range 20 {
			r.broadcast(st, strings.Repeat("m", 9996))
			r.poll()
		}
		want, _ := r.s.Client(ids[2])
		for i, why := range []CloseReason{ClosePeerReset, CloseOperator, CloseEvicted} {
			if err := r.tile.Close(ids[i], why); err != nil {
				r.Fatal(err)
			}
		}
		all := r.closed()
		if len(all) != 3 {
			r.Fatalf("%v", all)
		}
		for i, c := range all { // the last one first
			if k := 2 - i; c.ID != ids[k] || c.Ws != (k > 0) || c.Reason != []CloseReason{ClosePeerReset, CloseOperator, CloseEvicted}[k] ||
				!c.Peer.IsValid() || c.Opened == 0 || c.At < c.Opened || c.Code != 0 {
				r.Errorf("%d: %+v", k, c)
			}
		}
		if c := all[0]; c.LagBytes != want.LagBytes || c.LagMessages != want.LagMessages || c.LagMessages == 0 || c.Sent != want.Sent || c.Ring != 0 {
			r.Errorf("%+v, and was %+v", c, want)
		}
		if c := all[1]; c.LagBytes != 0 || c.Sent < 200_000 || c.Received == 0 {
			r.Errorf("%+v", c)
		}
		if c := all[2]; c.Ring != NoRing || c.Sent != 0 {
			r.Errorf("%+v", c)
		}
		n := 0
		ro.Closed(0, func(c *Closed) bool { n++; return n < 2 })
		if n != 2 {
			r.Errorf("told of %d after the second said stop", n)
		}
		_, _, _ = plain, fast, slow
		for range closedCnt + 5 {
			c := r.dial(0)
			k := len(r.opens)
			r.until("it is there", func() bool { return len(r.opens) > k })
			if err := r.tile.Close(r.opens[k], CloseTimeout); err != nil {
				r.Fatal(err)
			}
			c.close()
		}
		if all := r.closed(); len(all) != closedCnt || all[0].ID != r.opens[len(r.opens)-1] || all[closedCnt-1].ID != r.opens[len(r.opens)-closedCnt] {
			r.Errorf("%d are remembered", len(all))
		}
	})
}
