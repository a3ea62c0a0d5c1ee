package swarm

import "math"

// excluded marks a client that the progress does not wait for.
const excluded = math.MaxUint64

// progress knows the lowest last seq of all clients that count. A change costs O(1); finding the
// next minimum costs one walk over all, but the minimum rises by at least one each time, so that a
// walk is paid by one message to every client: below 1 ns per delivery.
type progress struct {
	at      []uint64 // last seq per client, 0 = nothing yet, or excluded
	min     uint64
	holders int // clients whose seq is min
}

func newProgress(n int) *progress { return &progress{at: make([]uint64, n), holders: n} }

// set moves client i to seq, which is not below its present one.
func (p *progress) set(i int, seq uint64) {
	if old := p.at[i]; old != seq {
		p.at[i] = seq
		if old == p.min {
			p.holders--
		}
	}
}

// drop takes client i out of the count for good.
func (p *progress) drop(i int) { p.set(i, excluded) }

// settle returns the minimum, excluded when no client counts any more, and whether it has risen
// since the last call.
func (p *progress) settle() (seq uint64, risen bool) {
	if p.holders > 0 {
		return p.min, false
	}
	low, n := uint64(excluded), 0
	for _, s := range p.at {
		if s < low {
			low, n = s, 1
		} else if s == low {
			n++
		}
	}
	risen = low != p.min
	p.min, p.holders = low, n
	return low, risen
}
