package main

import (
	"context"
	"slices"
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
	// is behind by a quarter of the ring; also for the successor of one that died.
	tilePatience = time.Second

	// burstMessages and burstBytes: how much is published before a pipe looks
	// whether clients take it (of a small ring a sixteenth); clientPatience: how
	// long it waits for those that do not.
	burstMessages  = 4096
	burstBytes     = 512 << 10
	clientPatience = 50 * time.Millisecond

	// skipShare is which part of the time a pipe waits for clients that skip when
	// they are slow (--on-lag skip), skipPatience how much of it may come at once.
	skipShare    = 10
	skipPatience = 200 * time.Millisecond
)

// pace holds a producer back whose input comes faster than the network tiles
// send and the clients read: a file, a command's backlog. Whoever writes into a
// pipe can wait; without it `cat FILE | tilewire pipe` would lap the ring before
// a tile's first pass, and evict everybody.
//
// The waits are bounded: one client that reads nothing costs at most
// clientPatience for each burst, until it is evicted, and nothing at all when
// the input is slower than a burst in clientPatience. Clients that skip instead
// cost a tenth of the time.
type pace struct {
	ctx   context.Context
	in    *instance.Instance
	ring  int
	tiles []pacedTile
	step  int

	head httpsrv.Seq // where the burst began
	at   uint64

	gen   uint64 // of the settings
	set   instance.Settings
	spare time.Duration // what clients that skip may yet be waited for
	since time.Time     // it grows from here on
}

// pacedTile is what a tile tells.
type pacedTile struct {
	id      int
	blocked *tile.Cell // clients
	lived   bool       // a process had the role, and its successor is to come if it died
	died    time.Time  // that was seen; zero: it lives
}

func newPace(ctx context.Context, in *instance.Instance, ring int) (*pace, error) {
	r := in.Server.Ring(ring)
	p := &pace{ctx: ctx, in: in, ring: ring, step: max(1, min(paceStep, int(r.BufferSz/16))), head: r.Head, at: r.Offset, since: time.Now()}
	for id := range int(in.Server.Params().TileCnt) {
		cnt, err := in.Server.Counters(id)
		if err != nil {
			return nil, err
		}
		p.tiles = append(p.tiles, pacedTile{id: id, blocked: cnt.Lookup("blocked_now")})
	}
	return p, nil
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
	if p.behind(4) {
		p.wait(tilePatience, func() bool { return !p.behind(8) })
	}
	r := p.in.Server.Ring(p.ring)
	if r.Head.Diff(p.head) < min(burstMessages, int64(r.Depth/16)) && r.Offset-p.at < min(burstBytes, r.BufferSz/16) {
		return
	}
	if p.blocked() || p.behind(16) {
		begin, skips := time.Now(), p.skips()
		p.wait(clientPatience, func() bool {
			return (!p.blocked() || skips && time.Since(begin) >= p.spare) && !p.behind(16)
		})
		p.spare = max(p.spare-time.Since(begin), 0)
	}
	p.head, p.at = r.Head, r.Offset
}

// behind reports whether a tile has yet to walk more than that part of the ring.
func (p *pace) behind(part uint64) bool {
	r := p.in.Server.Ring(p.ring)
	for i := range p.tiles {
		t := &p.tiles[i]
		seq, off := p.in.Server.Walked(t.id, p.ring)
		if (uint64(r.Head.Diff(seq)) > r.Depth/part || r.Offset-off > r.BufferSz/part) && p.counts(t) {
			return true
		}
	}
	return false
}

// blocked reports whether a client does not take what there is for it.
func (p *pace) blocked() bool {
	for i := range p.tiles {
		if t := &p.tiles[i]; t.blocked.Load() > 0 && p.counts(t) {
			return true
		}
	}
	return false
}

// counts reports whether a tile is waited for: it lives, or has died and is about to be carried on.
func (p *pace) counts(t *pacedTile) bool {
	if p.in.Server.TileHeld(t.id) {
		t.lived, t.died = true, time.Time{}
		return true
	}
	p.look()
	if t.lived = t.lived && (p.set.Nets == 0 || t.id < p.set.Nets) && !slices.Contains(p.set.Down, t.id); !t.lived {
		return false
	}
	if t.died.IsZero() {
		t.died = time.Now()
	}
	t.lived = time.Since(t.died) < tilePatience
	return t.lived
}

// skips reports whether clients that are slow skip, and reckons how long they may be waited for.
func (p *pace) skips() bool {
	p.look()
	now := time.Now()
	p.spare = min(p.spare+now.Sub(p.since)/skipShare, skipPatience)
	p.since = now
	return p.set.Limits.OnLag == httpsrv.SkipAhead.String()
}

// look takes up the settings in force.
func (p *pace) look() {
	if gen := p.in.Life().Generation(); gen != p.gen {
		var v instance.Settings
		if n, err := p.in.Life().Settings(&v); err == nil {
			p.gen, p.set = n, v
		}
	}
}

// wait looks until done or for d. There is no event: a tile tells nobody how far it is.
func (p *pace) wait(d time.Duration, done func() bool) {
	for end := time.Now().Add(d); !done() && time.Now().Before(end) && p.ctx.Err() == nil; {
		time.Sleep(200 * time.Microsecond)
	}
}
