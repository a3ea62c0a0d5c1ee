package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
)

const (
	goodClients = 20
	noise       = 20 * time.Millisecond
	anonSlack   = 4 << 20
	attempts    = 5 // to measure latency: other programs have the same CPUs
)

// figures are what an attack did.
type figures struct {
	attack       attack
	quiet, under swarm.Latency
	deliveries   uint64
	outcome      *record
	conns        uint64 // accepted by the tile, and refused
	fds, fdsEnd  int
	anon, anonZ  int64 // bytes of the tile's own memory
	attempt      int
}

func (f *figures) String() string {
	ms := func(ns uint64) string { return fmt.Sprintf("%.2f", float64(ns)/1e6) }
	return fmt.Sprintf("%-16s p99 %s -> %s ms, %d deliveries, none lost; %d connections; %v; descriptors %d -> %d, memory %+.1f MiB",
		f.attack.name, ms(f.quiet.P99), ms(f.under.P99), f.deliveries, f.conns, f.outcome, f.fds, f.fdsEnd, float64(f.anonZ-f.anon)/(1<<20))
}

// measure starts a server, measures the good clients alone and beside the attack, and looks what is left.
func measure(ctx context.Context, o options, a attack) (*figures, error) {
	t := o.times()
	s, err := startServer(o, t, a.flags)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	f := &figures{attack: a, outcome: newRecord()}
	if _, err := good(ctx, s, o, 300*time.Millisecond, nil); err != nil { // what is touched for the first time is touched
		return nil, err
	}
	if err := s.idle(ctx, t); err != nil {
		return nil, err
	}
	if f.fds, f.anon, err = s.holds(); err != nil {
		return nil, err
	}
	was, d := s.counts(), t.attack
	if a.long {
		d = max(d, t.ping+t.pong+t.pong/2)
	}
	for f.attempt = 1; ; f.attempt++ {
		quiet, err := good(ctx, s, o, d, nil)
		if err != nil {
			return nil, fmt.Errorf("quiet: %w", err)
		}
		under, err := good(ctx, s, o, d, func(ctx context.Context) { a.run(ctx, &target{s, t, f.outcome}) })
		if err != nil {
			return nil, err
		}
		f.quiet, f.under, f.deliveries = quiet.Latency, under.Latency, f.deliveries+under.Deliveries
		limit := max(2*quiet.Latency.P99, quiet.Latency.P99+uint64(noise))
		if under.Latency.P99 <= limit {
			break
		}
		if f.attempt == attempts {
			return f, fmt.Errorf("p99 %v under attack, %v alone", time.Duration(under.Latency.P99), time.Duration(quiet.Latency.P99))
		}
	}
	if err := s.idle(ctx, t); err != nil {
		return f, err
	}
	now := s.counts()
	f.conns = now["accepted"] - was["accepted"] + now["rejected"] - was["rejected"] + now["rejected_address"] - was["rejected_address"]
	if f.fdsEnd, f.anonZ, err = s.holds(); err != nil {
		return f, err
	}
	switch {
	case f.fdsEnd != f.fds:
		return f, fmt.Errorf("the tile has %d descriptors, %d before", f.fdsEnd, f.fds)
	case f.anonZ > f.anon+anonSlack:
		return f, fmt.Errorf("the tile has %d bytes of its own, %d before", f.anonZ, f.anon)
	}
	grew := func(name string) uint64 { return now[name] - was[name] }
	return f, a.check(f.outcome, grew)
}

// good runs the good clients for d, beside attack once all are connected.
func good(ctx context.Context, s *server, o options, d time.Duration, attack func(context.Context)) (*swarm.Report, error) {
	actx, stop := context.WithCancel(ctx)
	over := make(chan struct{})
	started := false
	opt := swarm.Options{
		Addr: s.addr, Clients: goodClients, Size: o.size, Mode: swarm.ModeFull, Warmup: 300 * time.Millisecond, Duration: d, ConnectTimeout: 10 * time.Second,
		OnReady: func(int) {
			if started = true; attack == nil {
				close(over)
				return
			}
			go func() {
				defer close(over)
				attack(actx)
			}()
		},
	}
	r, err := swarm.Run(ctx, opt)
	stop()
	if started {
		<-over
	}
	if err != nil {
		return nil, err
	}
	if !r.Lossless || r.Connected != goodClients || r.Deliveries == 0 {
		return nil, errors.Join(errHarmed, fmt.Errorf("%d of %d good clients connected, %d ended %+v, %d deliveries, faults %+v",
			r.Connected, goodClients, r.HealthyEnded, r.EndGroups, r.Deliveries, r.Faults))
	}
	return r, nil
}

var errHarmed = errors.New("good clients were harmed")
