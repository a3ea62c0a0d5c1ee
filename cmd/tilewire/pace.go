package main

import (
	"context"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/feed"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/tile"
)

const (
	// paceStep is how many bytes of the input are published between two looks;
	// a sixteenth of a small ring.
	paceStep = 16 << 10

	// tilePatience is how long a pipe waits, each time, for a network tile that
	// is behind by a quarter of the ring.
	tilePatience = time.Second

	// burstMessages and burstBytes: how much is published before a pipe looks
	// whether clients take it (of a small ring a sixteenth); clientPatience: how
	// long it waits for those that do not.
	burstMessages  = 4096
	burstBytes     = 512 << 10
	clientPatience = 50 * time.Millisecond
)

// pace holds a producer back whose input comes faster than the network tile
// sends and the clients read: a file, a command's backlog. Whoever writes into a
// pipe can wait; without it `cat FILE | tilewire pipe` would lap the ring before
// the tile's first pass, and evict everybody.
//
// The waits are bounded: one client that reads nothing costs at most
// clientPatience for each burst, until it is evicted, and nothing at all when
// the input is slower than a burst in clientPatience.
type pace struct {
	ctx     context.Context
	in      *instance.Instance
	seq     *tile.Cell // walked by the tile
	off     *tile.Cell
	blocked *tile.Cell
	step    int

	head httpsrv.Seq // where the burst began
	at   uint64
}

func newPace(ctx context.Context, in *instance.Instance) (*pace, error) {
	cnt, err := in.Server.Counters(0)
	if err != nil {
		return nil, err
	}
	r := in.Server.Ring(0)
	return &pace{
		ctx: ctx, in: in, seq: cnt.Lookup("walked_seq"), off: cnt.Lookup("walked_bytes"), blocked: cnt.Lookup("blocked_now"),
		step: max(1, min(paceStep, int(r.BufferSz/16))), head: r.Head, at: r.Offset,
	}, nil
}

// feed publishes p through f, held back where need be.
func (p *pace) feed(f *feed.Feeder, b []byte) {
	for len(b) > 0 {
		n := min(len(b), p.step)
		_, _ = f.Write(b[:n])
		b = b[n:]
		p.keep()
	}
}

// keep is called after at most step bytes of input were published.
func (p *pace) keep() {
	r := p.in.Server.Ring(0)
	behind := func(part uint64) bool {
		return uint64(r.Head)-p.seq.Load() > r.Depth/part || r.Offset-p.off.Load() > r.BufferSz/part
	}
	if behind(4) {
		p.wait(tilePatience, func() bool { return !behind(8) || !p.in.Server.TileHeld(0) })
	}
	if r.Head.Diff(p.head) < min(burstMessages, int64(r.Depth/16)) && r.Offset-p.at < min(burstBytes, r.BufferSz/16) {
		return
	}
	if p.blocked.Load() > 0 || behind(16) {
		p.wait(clientPatience, func() bool { return p.blocked.Load() == 0 && !behind(16) })
	}
	p.head, p.at = r.Head, r.Offset
}

// wait looks until done or for d. There is no event: the tile tells nobody how far it is.
func (p *pace) wait(d time.Duration, done func() bool) {
	for end := time.Now().Add(d); !done() && time.Now().Before(end) && p.ctx.Err() == nil; {
		time.Sleep(200 * time.Microsecond)
	}
}
