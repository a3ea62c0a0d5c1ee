package swarm

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// bare returns a swarm of one streaming client without sockets.
func bare(t testing.TB, o Options) (*swarm, *client) {
	t.Helper()
	o.Addr, o.Clients = "127.0.0.1:1", 1
	o, ap, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDialer(ap, o)
	if err != nil {
		t.Fatal(err)
	}
	s := newSwarm(o, d, -1)
	s.clients[0].state, s.clients[0].arrived = streaming, true
	return s, &s.clients[0]
}

// feedCut feeds stream in random pieces of at most most bytes.
func feedCut(s *swarm, c *client, stream []byte, rng *rand.Rand, most int) {
	for len(stream) > 0 {
		n := min(1+rng.IntN(most), len(stream))
		if !s.feed(0, c, stream[:n], shmem.Monotonic()) {
			return
		}
		stream = stream[n:]
	}
}

func TestFeedWhateverTheCuts(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var stream []byte
		const messages = 40
		for seq := uint64(1); seq <= messages; seq++ {
			size := []int{16, 17, 125, 126, 200, 1000, 70000}[rng.IntN(7)]
			m := message(seq, size)
			switch rng.IntN(4) {
			case 0: // in fragments, with a ping in between and an empty one
				cut := rng.IntN(size)
				stream = appendServerFrame(stream, 0x02, m[:cut])
				stream = appendServerFrame(stream, 0x89, []byte("ping"))
				stream = appendServerFrame(stream, 0x00, nil)
				stream = appendServerFrame(stream, 0x80, m[cut:])
			case 1:
				stream = appendServerFrame(stream, 0x8a, nil)
				fallthrough
			default:
				stream = appendServerFrame(stream, 0x82, m)
			}
		}
		s, c := bare(t, Options{})
		feedCut(s, c, stream, rng, []int{1, 3, 40, 3000, 200000}[rng.IntN(5)])
		if s.faults.Total() != 0 || c.last != messages || s.cnt.deliveries != messages || c.midFrame() {
			t.Fatalf("seed %d: last %d of %d, %v", seed, c.last, messages, s.faults.First)
		}
	}
}

func TestFaults(t *testing.T) {
	join := func(fs ...[]byte) (p []byte) {
		for _, f := range fs {
			p = append(p, f...)
		}
		return p
	}
	bent := frame(2, 64)
	bent[40]++
	for _, c := range []struct {
		name   string
		o      Options
		stream []byte
		want   Faults
		last   uint64
	}{
		{"good", Options{Size: 64}, join(frame(5, 64), frame(6, 64)), Faults{}, 6},
		{"gap", Options{}, join(frame(5, 64), frame(9, 64)), Faults{Gaps: 1, Missing: 3}, 9},
		{"double", Options{}, join(frame(5, 64), frame(5, 64), frame(6, 64)), Faults{Doubles: 1}, 6},
		{"order", Options{}, join(frame(5, 64), frame(4, 64)), Faults{Doubles: 1}, 5},
		{"byte", Options{}, join(frame(1, 64), bent), Faults{WrongBytes: 1}, 2},
		{"byte unseen", Options{Mode: ModeSeq}, join(frame(1, 64), bent), Faults{}, 2},
		{"length", Options{Size: 64}, join(frame(1, 64), frame(2, 65), frame(2, 64)), Faults{WrongLength: 1}, 2},
		{"short", Options{}, join(frame(1, 64), []byte{0x81, 3, 1, 2, 3}), Faults{WrongLength: 1}, 1},
		{"empty", Options{}, join([]byte{0x82, 0}, frame(1, 64)), Faults{WrongLength: 1}, 1},
		{"torn", Options{}, join(frame(1, 64), frame(2, 64)[7:]), Faults{Torn: 1}, 1},
		{"after close", Options{}, join(frame(1, 64), closeFrame(1001, "bye"), frame(2, 64)), Faults{AfterClose: 1}, 1},
	} {
		for _, most := range []int{1, 7, 1 << 20} {
			t.Run(fmt.Sprint(c.name, most), func(t *testing.T) {
				s, cl := bare(t, c.o)
				feedCut(s, cl, c.stream, rand.New(rand.NewPCG(1, 1)), most)
				first := s.faults.First
				s.faults.First = nil
				if fmt.Sprint(s.faults) != fmt.Sprint(c.want) || cl.last != c.last {
					t.Fatalf("%+v last %d, want %+v last %d", s.faults, cl.last, c.want, c.last)
				}
				if len(first) != int(min(c.want.Total(), 1)) {
					t.Fatalf("described: %q", first)
				}
			})
		}
	}
}

func TestUnwrap(t *testing.T) {
	// Envelope: a length byte before each message; length 0 is something else.
	o := Options{Unwrap: func(f []byte) (m, rest []byte, ok bool) {
		n := int(f[0])
		if n == 0 {
			return nil, f[1:], true
		}
		if len(f) <= n {
			return nil, nil, false
		}
		return f[1 : 1+n], f[1+n:], true
	}}
	var f []byte
	for seq := uint64(1); seq < 6; seq++ {
		f = append(append(append(f, 32), message(seq, 32)...), 0)
	}
	stream := appendServerFrame(appendServerFrame(nil, 0x02, f[:50]), 0x80, f[50:])
	for _, most := range []int{1, 20, 1000} {
		s, c := bare(t, o)
		feedCut(s, c, stream, rand.New(rand.NewPCG(1, 1)), most)
		if c.last != 5 || s.faults.Total() != 0 {
			t.Fatalf("last %d %v", c.last, s.faults.First)
		}
	}
	s, c := bare(t, o)
	if s.feed(0, c, appendServerFrame(nil, 0x82, f[:50]), 1) || s.faults.Torn != 1 || s.ends[0].Kind != EndProtocol {
		t.Fatalf("%+v", s.faults)
	}
}

func TestFeedAllocs(t *testing.T) {
	var stream []byte
	for seq := uint64(1); seq <= 50; seq++ {
		stream = append(stream, frame(seq, 300)...)
	}
	for _, mode := range []Mode{ModeFull, ModeSeq} {
		s, c := bare(t, Options{Size: 300, Mode: mode})
		n := testing.AllocsPerRun(50, func() {
			c.last, c.started = 0, false
			for p := stream; len(p) > 0; {
				k := min(len(p), 777)
				s.feed(0, c, p[:k], 1)
				p = p[k:]
			}
			s.prog.set(0, c.last)
			s.prog.settle()
		})
		if n != 0 || s.faults.Total() != 0 {
			t.Fatalf("%v: %v allocations, %v", mode, n, s.faults.First)
		}
	}
}

// FuzzFeed holds the pieces against the whole: whatever the bytes, cuts change nothing.
func FuzzFeed(f *testing.F) {
	f.Add(append(frame(1, 30), frame(2, 30)...), uint16(7))
	f.Add(append(appendServerFrame(nil, 0x02, message(3, 300)[:100]), closeFrame(1000, "x")...), uint16(1))
	f.Add([]byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0, 1}, uint16(2))
	f.Fuzz(func(t *testing.T, p []byte, cut uint16) {
		a, ca := bare(t, Options{})
		a.feed(0, ca, p, 5)
		b, cb := bare(t, Options{})
		for q := p; len(q) > 0; {
			n := min(int(cut)%37+1, len(q))
			if !b.feed(0, cb, q[:n], 5) {
				break
			}
			q = q[n:]
		}
		a.faults.First, b.faults.First = nil, nil
		if fmt.Sprint(a.faults) != fmt.Sprint(b.faults) || ca.last != cb.last || ca.msgs != cb.msgs || ca.state != cb.state || ca.midFrame() != cb.midFrame() {
			t.Fatalf("whole: %+v last %d state %d; cut: %+v last %d state %d", a.faults, ca.last, ca.state, b.faults, cb.last, cb.state)
		}
	})
}

func benchFeed(b *testing.B, size int, mode Mode) {
	var stream []byte
	for seq := uint64(1); seq <= 32; seq++ {
		stream = append(stream, frame(seq, size)...)
	}
	s, c := bare(b, Options{Size: size, Mode: mode})
	b.ReportAllocs()
	for b.Loop() {
		c.last = 0
		s.feed(0, c, stream, 1<<40)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/32, "ns/message")
}

func BenchmarkFeed128Seq(b *testing.B)  { benchFeed(b, 128, ModeSeq) }
func BenchmarkFeed128Full(b *testing.B) { benchFeed(b, 128, ModeFull) }
