package swarm

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestProgressAgainstModel(t *testing.T) {
	const seed = 11
	rng := rand.New(rand.NewPCG(seed, 0))
	for n := 1; n < 12; n++ {
		p, model := newProgress(n), make([]uint64, n)
		var low uint64
		for step := range 3000 {
			i := rng.IntN(n)
			switch {
			case model[i] == excluded:
			case rng.IntN(500) == 0:
				p.drop(i)
				model[i] = excluded
			default:
				model[i] += rng.Uint64N(3)
				p.set(i, model[i])
			}
			want := slices.Min(model)
			got, risen := p.settle()
			if got != want || risen != (want != low) {
				t.Fatalf("seed %d n %d step %d: %d %v, want %d after %d", seed, n, step, got, risen, want, low)
			}
			low = want
		}
	}
}
