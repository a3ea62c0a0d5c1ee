package httpsrv

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Against slices: the oldest is the oldest, and queues made anew of the
// connections hold the same in the same order.
func TestQueuesModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	conns := make([]conn, 40)
	q := newQueues(conns)
	var model [queueCnt][]uint32
	drop := func(k int, s uint32) {
		q.remove(k, s)
		model[k] = slices.DeleteFunc(model[k], func(x uint32) bool { return x == s })
	}
	for now := range int64(20000) {
		s := uint32(rng.IntN(len(conns)))
		c := &conns[s]
		switch {
		case c.state == stFree:
			*c = conn{state: stRequest, opened: now}
			q.push(queueHTTP, s)
			model[queueHTTP] = append(model[queueHTTP], s)
		case rng.IntN(2) == 0:
			drop(c.queue(), s)
			*c = conn{}
		case c.queue() == queueHTTP:
			drop(queueHTTP, s)
			c.flags |= flStreams
			c.opened = now // the order of streams is that of their upgrades; made anew it is that of accept, as good
			q.push(queueWs, s)
			model[queueWs] = append(model[queueWs], s)
		}
		for _, q := range []queues{q, newQueues(conns)} {
			for k := range queueCnt {
				var got []uint32
				for s := q.first[k]; s != 0; s = q.next[s-1] {
					got = append(got, s-1)
				}
				if !slices.Equal(got, model[k]) {
					t.Fatalf("queue %d: %v, want %v", k, got, model[k])
				}
				if old, ok := q.oldest(k); ok != (len(model[k]) > 0) || ok && old != model[k][0] {
					t.Fatalf("oldest of %d: %d, %v", k, old, ok)
				}
			}
		}
	}
}
