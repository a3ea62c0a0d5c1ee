package main

import (
	"context"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/tile"
)

const (
	// paceStep is how many bytes of the input are published between two looks.
	paceStep = 16 << 10

	// tileLead and tilePatience: how many messages a pipe may be ahead of the
	// network tile, and how long it waits for that, each time.
	tileLead     = 16384
	tilePatience = time.Second

	// burstMessages and burstBytes: how much is published before a pipe looks
	// whether clients take it; clientPatience: how long it waits for those that do not.
	burstMessages  = 4096
	burstBytes     = 512 << 10
	clientPatience = 50 * time.Millisecond
)

// pace holds a pipe back when its input comes faster than the network tile sends
// and the clients read: a file, a command's backlog. Whoever writes into a pipe
// can wait; without it `cat FILE | tilewire pipe` would lap the ring before the
// tile's first pass, and evict everybody.
//
// The waits are bounded: one client that reads nothing costs at most
// clientPatience for each burst, until it is evicted, and nothing at all when
// the input is slower than a burst in clientPatience.
type pace struct {
	ctx     context.Context
	in      *instance.Instance
	st      *httpsrv.Stage
	walked  *tile.Cell
	blocked *tile.Cell

	seq   uint64 // where the burst began
	bytes int
}

func newPace(ctx context.Context, in *instance.Instance, st *httpsrv.Stage) (*pace, error) {
	cnt, err := in.Server.Counters(0)
	if err != nil {
		return nil, err
	}
	return &pace{
		ctx: ctx, in: in, st: st, seq: uint64(st.Seq()),
		walked: cnt.Lookup("walked_seq"), blocked: cnt.Lookup("blocked_now"),
	}, nil
}

// keep is called after at most paceStep bytes of input were published.
func (p *pace) keep() {
	head := uint64(p.st.Seq())
	if head-p.walked.Load() > tileLead {
		p.wait(tilePatience, func() bool { return head-p.walked.Load() <= tileLead/2 || !p.in.Server.TileHeld(0) })
	}
	p.bytes += paceStep
	if head-p.seq < burstMessages && p.bytes < burstBytes {
		return
	}
	if p.blocked.Load() > 0 {
		p.wait(clientPatience, func() bool { return p.blocked.Load() == 0 })
	}
	p.seq, p.bytes = head, 0
}

// wait looks until done or for d. There is no event: the tile tells nobody how far it is.
func (p *pace) wait(d time.Duration, done func() bool) {
	for end := time.Now().Add(d); !done() && time.Now().Before(end) && p.ctx.Err() == nil; {
		time.Sleep(200 * time.Microsecond)
	}
}
