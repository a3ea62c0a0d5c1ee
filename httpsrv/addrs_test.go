package httpsrv

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// same reports whether two tables count the same.
func (a *addrs) same(b *addrs) bool {
	n := 0
	for i := range a.tab {
		if e := &a.tab[i]; e.n != 0 {
			n++
			if b.tab[b.find(e.addr)].n != e.n {
				return false
			}
		}
	}
	for i := range b.tab {
		if b.tab[i].n != 0 {
			n--
		}
	}
	return n == 0
}

func addr16(r *rand.Rand) (a [16]byte) {
	switch n := r.IntN(40); {
	case n == 0: // none
	case n < 20: // IPv4
		copy(a[:], "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x0a\x00\x00")
		a[15] = byte(r.IntN(20))
	default:
		copy(a[:], "\x20\x01\x0d\xb8\x00\x00\x00")
		a[7] = byte(r.IntN(20))
		a[8+r.IntN(8)] = byte(r.Uint32())
	}
	return a
}

// Against a map: counts are right after any additions and removals, an IPv6 /64 is
// one address, and a table made anew of the connections is the same.
func TestAddrsModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	conns := make([]conn, 300)
	a := newAddrs(conns)
	model := map[string]int{}
	key := func(p [16]byte) string {
		if p == [16]byte{} {
			return ""
		}
		if p[0] == 0x20 {
			return fmt.Sprint(p[:8])
		}
		return fmt.Sprint(p)
	}
	for step := range 20000 {
		c := &conns[rng.IntN(len(conns))]
		if c.state == stFree {
			c.state, c.fwd, c.peer = stRequest, fwCounted, addr16(rng)
			a.add(&c.peer)
			model[key(c.peer)]++
		} else if rng.IntN(3) > 0 {
			a.remove(&c.peer)
			model[key(c.peer)]--
			c.state = stFree
		}
		p := addr16(rng)
		want := model[key(p)]
		if key(p) == "" {
			want = 0
		}
		if n := a.count(&p); n != want {
			t.Fatalf("step %d: %v counts %d, want %d", step, p, n, want)
		}
		if step%500 == 0 {
			if fresh := newAddrs(conns); !a.same(&fresh) {
				t.Fatalf("step %d: made anew it differs", step)
			}
		}
	}
	var p [16]byte
	copy(p[:], "\xfe\x80nobody")
	a.remove(&p) // was never added
	if fresh := newAddrs(conns); !a.same(&fresh) {
		t.Error("removing nobody changed it")
	}
}

func TestAddrsAllocateNothing(t *testing.T) {
	conns := make([]conn, 1000)
	a := newAddrs(conns)
	rng := rand.New(rand.NewPCG(1, 1))
	if n := testing.AllocsPerRun(1000, func() {
		p := addr16(rng)
		a.add(&p)
		a.count(&p)
		a.remove(&p)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAddrs(b *testing.B) {
	conns := make([]conn, 10000)
	a := newAddrs(conns)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 9999 {
		var p [16]byte
		p[0], p[3], p[6] = byte(rng.Uint32())|1, byte(rng.Uint32()), byte(rng.Uint32())
		a.add(&p)
	}
	p := [16]byte{1, 2, 3}
	b.ReportAllocs()
	for b.Loop() {
		a.count(&p)
		a.add(&p)
		a.remove(&p)
	}
}
