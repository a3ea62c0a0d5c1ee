package httpsrv

import (
	"math/rand/v2"
	"testing"
)

func TestPool(t *testing.T) {
	p := newPool(make([]byte, 5*64), 64, 5)
	rng := rand.New(rand.NewPCG(1, 1))
	held := map[uint32]bool{}
	for range 1000 {
		if rng.IntN(2) == 0 {
			i := p.get()
			if (i == 0) != (len(held) == 5) || held[i] || i > 5 {
				t.Fatalf("got %d with %d held", i, len(held))
			}
			if i != 0 {
				held[i] = true
				if b := p.buf(i); len(b) != 64 || cap(b) != 64 || &b[0] != &p.mem[(i-1)*64] {
					t.Fatal("buffer", i)
				}
			}
			continue
		}
		var none uint32
		p.put(&none)
		for i := range held {
			delete(held, i)
			if p.put(&i); i != 0 || p.free[len(p.free)-1] == 0 {
				t.Fatal("put")
			}
			break
		}
	}
}
