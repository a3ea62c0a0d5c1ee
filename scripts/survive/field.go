package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// field is all the clients of a run.
type field struct {
	o    options
	s    *server
	a    *app
	r    *report
	hurt <-chan struct{}

	end  chan struct{} // closed: clients come to their end
	wg   sync.WaitGroup
	ids  atomic.Int64
	up   atomic.Int64 // long-lived clients that have got something
	many int64
}

// kind is a way to be a client. Those that live as long as the run call up once they stand.
type kind struct {
	name  string
	share int // of the clients, in tenths
	lives bool
	run   func(c *client) error
}

var kinds = []kind{
	{"reader", 2, true, (*client).read},
	{"slow", 1, true, (*client).slow},
	{"talker", 1, true, (*client).talk},
	{"fragmenter", 1, true, (*client).fragment},
	{"pinger", 1, true, (*client).ping},
	{"closer", 1, false, (*client).close},
	{"resetter", 1, false, (*client).reset},
	{"requester", 1, false, (*client).requests},
	{"half-closer", 1, false, (*client).halfClose},
}

// client is one of a kind, for one life.
type client struct {
	*field
	kind *kind
	who  int64 // unique, from 1
	rnd  *rand.Rand
	c    *conn
	up   func()
}

func newField(o options, s *server, a *app, r *report) (*field, error) {
	return &field{o: o, s: s, a: a, r: r, hurt: r.hurt, end: make(chan struct{})}, nil
}

// start starts the clients, and waits until all of the long-lived ones stand.
func (f *field) start(ctx context.Context) error {
	var chosen []*kind
	for i := range kinds {
		if k := &kinds[i]; f.o.only == "" || strings.Contains(","+f.o.only+",", ","+k.name+",") {
			for range k.share {
				chosen = append(chosen, k)
			}
		}
	}
	if chosen == nil {
		return fmt.Errorf("no such kind of client: %s", f.o.only)
	}
	for i := range f.o.clients {
		k := chosen[i%len(chosen)]
		if k.lives {
			f.many++
		}
		f.wg.Add(1)
		go f.live(k)
	}
	for begin := time.Now(); f.up.Load() < f.many; time.Sleep(5 * time.Millisecond) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.hurt:
			return f.r.verdict()
		default:
		}
		if time.Since(begin) > time.Minute {
			return fmt.Errorf("%d of %d clients stand after a minute", f.up.Load(), f.many)
		}
	}
	return nil
}

// live is one client after the other.
func (f *field) live(k *kind) {
	defer f.wg.Done()
	for life := 0; ; life++ {
		select {
		case <-f.end:
			return
		default:
		}
		who := f.ids.Add(1)
		c := &client{field: f, kind: k, who: who, rnd: rand.New(rand.NewPCG(f.o.seed, uint64(who)+1)), up: sync.OnceFunc(func() { f.up.Add(1) })}
		f.r.conns.Add(1)
		err := k.run(c)
		if c.c != nil {
			_ = c.c.Close()
		}
		if err != nil {
			f.r.fault(k.name, "client %d: %v", who, err)
			return
		}
		if k.lives {
			return
		}
		select { // the machine's two CPUs serve the clients as well
		case <-f.end:
		case <-time.After(time.Duration(20+c.rnd.IntN(100)) * time.Millisecond):
		}
	}
}

// finish has all clients come to their end, in order, and waits for them.
func (f *field) finish() {
	close(f.end)
	f.wg.Wait()
}

func (c *client) ending() bool {
	select {
	case <-c.end:
		return true
	default:
		return false
	}
}

// stays and leaves say whether the server's close frame may come, where the client alone decides.
func (c *client) stays() bool  { return false }
func (c *client) leaves() bool { return true }

// open connects, as a WebSocket if path is given.
func (c *client) open(path string, rcvBuf int) (err error) {
	if c.c, err = dial(c.s.addr, rcvBuf, c.rnd); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if path == "" {
		return nil
	}
	return c.c.upgrade(path)
}
