package httpsrv

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

func (r *rig) clients() map[ConnID]Client {
	all := map[ConnID]Client{}
	r.s.Clients(func(c *Client) bool {
		all[c.ID] = *c
		return true
	})
	return all
}

// What the table says of each client, from accept to end.
func TestClients(t *testing.T) {
	p := rigParams()
	p.OutgoingBufferSz = 1 << 20
	rigEach(t, p, TileOptions{SndBuf: 8192, WriteTimeout: time.Hour, Headroom: 1 << 10}, func(r *rig) {
		if len(r.clients()) != 0 {
			r.Fatalf("at first %v", r.clients())
		}
		ro, err := Join(r.s.mem.AsReadOnly())
		if err != nil {
			r.Fatal(err)
		}
		defer ro.Leave()
		st := r.produce()
		waits := r.dial(0)
		fast, slow, own := r.dial(0).stream("/ws"), r.dial(4096).stream("/ws"), r.dial(0).stream("/own")
		r.until("four connections", func() bool { n, _ := r.tile.Conns(); return n == 4 })
		slow.stall = true
		ids := r.opens
		all := r.clients()
		for i, want := range []Client{
			{State: "request", Ring: NoRing}, {State: "stream", Ws: true}, {State: "stream", Ws: true}, {State: "stream", Ws: true, Ring: NoRing},
		} {
			got := all[ids[i]]
			if got.State != want.State || got.Ws != want.Ws || got.Ring != want.Ring || got.App != -1 || got.ID != ids[i] || got.LagBytes+got.LagMessages != 0 || got.LagTime != 0 {
				r.Errorf("%d: %+v, want %+v", i, got, want)
			}
			if !got.Peer.IsValid() || got.Peer.Addr() != netip.MustParseAddr("127.0.0.1") || got.Peer.Port() == 0 || got.Opened == 0 || got.Opened > r.tile.now {
				r.Errorf("%d: %+v", i, got)
			}
		}
		if fastC := all[ids[1]]; fastC.Sent != uint64(fast.total) || fastC.Received == 0 {
			r.Errorf("%+v, and its client has %d bytes", fastC, fast.total)
		}

		// The stalled one falls behind by just what it was not given.
		const n = 20
		msg := strings.Repeat("m", 9996)
		for range n {
			r.broadcast(st, msg)
			r.poll()
			fast.want(OpText, msg)
		}
		all = r.clients()
		if c := all[ids[1]]; c.LagBytes != 0 || c.LagMessages != 0 || c.Blocked {
			r.Errorf("one that reads: %+v", c)
		}
		c := all[ids[2]]
		given := c.Sent - uint64(slow.total) // the 101 was read
		if !c.Blocked || c.LagBytes != n*10_000-given || c.LagMessages != n-given/10_000 || c.LagTime <= 0 || given == 0 {
			r.Errorf("the stalled one was given %d of its stream, and is %+v", given, c)
		}
		if one, ok := r.s.Client(ids[2]); !ok || one.LagBytes != c.LagBytes {
			r.Errorf("alone: %+v, %v", one, ok)
		}
		if got, ok := ro.Client(ids[2]); !ok || got.LagBytes != c.LagBytes || got.State != c.State {
			r.Errorf("read-only: %+v, %v", got, ok)
		}
		stopped := 0
		r.s.Clients(func(*Client) bool { stopped++; return stopped < 2 })
		if stopped != 2 {
			r.Errorf("told of %d after the second said stop", stopped)
		}

		// One that is evicted says why; a slot's next connection is another.
		if err := r.tile.WsClose(ids[2], CloseOperator); err != nil {
			r.Fatal(err)
		}
		if c, ok := r.s.Client(ids[2]); !ok || c.State != "closing" || c.Reason != CloseOperator {
			r.Errorf("closing: %+v, %v", c, ok)
		}
		own.close()
		r.until("gone", func() bool { return r.life[ids[3]] == 3 })
		if c, ok := r.s.Client(ids[3]); ok {
			r.Errorf("gone: %+v", c)
		}
		r.dial(0)
		r.until("in its place", func() bool { return len(r.opens) == 5 })
		if next := r.opens[4]; next.Slot() != ids[3].Slot() {
			r.Errorf("%v is not in the place of %v", next, ids[3])
		}
		if c, ok := r.s.Client(ids[3]); ok {
			r.Errorf("by the id of the one before: %+v", c)
		}
		for _, id := range []ConnID{0, connID(1, 0, 1<<24-1), connID(1, 9, 0)} {
			if _, ok := r.s.Client(id); ok {
				r.Errorf("there is a client %v", id)
			}
		}
		slow.stall = false
		waits.close()
		st.Close()
	})
}

// The oldest message that is still there, when it is the first, and when the ring has gone round.
func TestRingTail(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		first := r.s.Ring(0).Start + 1
		if tail, at := r.s.RingTail(0); tail != first || at != 0 {
			r.Errorf("of an empty ring: %v, %d", tail, at)
		}
		st := r.produce()
		defer st.Close()
		before := shmem.Monotonic()
		r.broadcast(st, "one")
		if tail, at := r.s.RingTail(0); tail != first || at < before || at > shmem.Monotonic() {
			r.Errorf("of one message: %v, %d", tail, at)
		}
		msg := strings.Repeat("m", 1000)
		for range 1000 {
			r.broadcast(st, msg)
			r.poll()
		}
		tail, _ := r.s.RingTail(0)
		head := r.s.Ring(0).Head
		var m message
		if held := head.Diff(tail) + 1; held < 100 || held > 1<<17/1004 {
			r.Errorf("%v to %v: %d messages of 1004 bytes in %d", tail, head, held, 1<<17)
		}
		limit := r.s.rings[0].hdr.limit[areaBroadcast].Load()
		if !r.s.rings[0].read(uint64(tail), &m) || m.off < limit {
			r.Errorf("the tail lies at %d, below the limit %d", m.off, limit)
		}
		if r.s.rings[0].read(uint64(tail)-1, &m) && m.off >= limit {
			r.Error("there is one before the tail")
		}
	})
}

// Whatever lies in the table, a look at it ends, stays in bounds and tells no more lag than there is ring.
func TestClientsHostile(t *testing.T) {
	p := rigParams()
	size, err := Footprint(p)
	if err != nil {
		t.Fatal(err)
	}
	m := shmem.Heap(size, Align())
	if err := New(m, p); err != nil {
		t.Fatal(err)
	}
	s, err := Join(m)
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Produce(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		_, _ = st.WriteString("message")
		if _, err := st.WsBroadcast(OpText); err != nil {
			t.Fatal(err)
		}
	}
	defer st.Close()
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	from := s.tileOff(0) + s.lay.conns
	table := m.Bytes()[from : from+uint64(s.lay.connCnt)*connSz]
	told := 0
	for range 2000 {
		for range 20 {
			table[rnd.IntN(len(table))] = byte(rnd.Uint32())
		}
		c := &s.conns[0][rnd.IntN(len(s.conns[0]))]
		c.state, c.ring = connState(rnd.IntN(10)), int16(rnd.IntN(4)-1)
		c.commit(txPos{at: rnd.Uint64N(1 << rnd.IntN(64))})
		s.Clients(func(c *Client) bool {
			told++
			if c.LagBytes > p.OutgoingBufferSz || c.LagMessages > p.RingDepth || c.Ring >= int(p.RingCnt) || c.Reason > closeReasonCnt || c.State == "free" {
				t.Fatalf("%+v", *c)
			}
			return true
		})
	}
	if told == 0 {
		t.Error("nothing was told")
	}
}

// A look at 16,384 clients of a ring of 65,536 messages, none or all of which are behind.
func BenchmarkClients(b *testing.B) {
	p := rigParams()
	p.MaxWsConnectionCnt, p.RingDepth, p.OutgoingBufferSz = 16384, 65536, 1<<25
	size, err := Footprint(p)
	if err != nil {
		b.Fatal(err)
	}
	m := shmem.Heap(size, Align())
	if err := New(m, p); err != nil {
		b.Fatal(err)
	}
	s, err := Join(m)
	if err != nil {
		b.Fatal(err)
	}
	st, err := s.Produce(0, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	for range 60000 {
		_, _ = st.WriteString(strings.Repeat("m", 124))
		if _, err := st.WsBroadcast(OpText); err != nil {
			b.Fatal(err)
		}
	}
	for _, behind := range []uint64{0, 20000} {
		for i := range s.conns[0] {
			c := &s.conns[0][i]
			c.gen.Store(1)
			c.state = stStream
			c.commit(txPos{at: s.Ring(0).Offset - behind*128 - uint64(i%7)})
		}
		b.Run(map[bool]string{true: "behind", false: "caughtup"}[behind > 0], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				s.Clients(func(*Client) bool { n++; return true })
				if n != len(s.conns[0]) {
					b.Fatal(n)
				}
			}
		})
	}
}
