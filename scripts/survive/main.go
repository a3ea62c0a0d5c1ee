// Command survive kills the network tile of a running instance, hundreds of times
// at random moments, beside clients of many kinds that verify every byte both
// ways: broadcasts in order, echoes of what they sent (an application in another
// process hands each message back, and counts those that come twice or never),
// pongs, answers to requests, closing handshakes. It fails if any client notices:
// a wrong, missing or doubled byte, a reset, an end that nobody asked for, an
// outage above the bound.
//
//	go run ./scripts/survive -kills 300 -clients 300
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"time"
)

// options are those of a run.
type options struct {
	program string
	args    []string // of run, besides
	kills   int
	clients int
	rate    int
	size    int
	only    string
	moments string        // file that the tiles of an exploring build tell of their deaths
	plan    bool          // without the kernel's counts: a run that must fail
	restart bool          // in order, by `tilewire restart`
	unkept  bool          // the keeper dies first: a run that must fail
	hasty   int           // every so-many-th kill hits the successor again while it takes over; 0: none
	pause   time.Duration // between kills, half to one and a half of it
	calm    time.Duration // after the last
	bound   time.Duration // of the outage's 99th percentile; 0: none
	seed    uint64
	verbose bool
}

func main() {
	var o options
	var extra, feed string
	flag.StringVar(&o.program, "program", "bin/tilewire", "the tilewire program")
	flag.StringVar(&extra, "run", "", "further flags of its run, separated by blanks")
	flag.IntVar(&o.kills, "kills", 300, "deaths of the network tile")
	flag.IntVar(&o.clients, "clients", 300, "clients at a time")
	flag.IntVar(&o.rate, "rate", 250, "messages per second of the stream")
	flag.IntVar(&o.size, "size", 256, "bytes of a message")
	flag.StringVar(&o.only, "only", "", "kinds of clients, separated by commas; empty: all")
	flag.IntVar(&o.hasty, "hasty", 5, "every `N`th death comes twice: the successor dies while it takes over; 0: none")
	flag.BoolVar(&o.restart, "restart", false, "restart it by the verb instead")
	flag.BoolVar(&o.unkept, "unkept", false, "kill its keeper as well: clients must notice")
	moments := flag.Bool("moments", false, "the program is built with -tags explore: its tiles die by themselves, each at one of its critical moments")
	flag.BoolVar(&o.plan, "plan-only", false, "with -moments: successors trust the plan in shared memory, and not the kernel's counts: clients must notice")
	flag.DurationVar(&o.pause, "pause", 200*time.Millisecond, "mean time between deaths")
	flag.DurationVar(&o.calm, "calm", 2*time.Second, "time after the last death")
	flag.DurationVar(&o.bound, "bound", 50*time.Millisecond, "of the outage's 99th percentile; 0: none")
	flag.Uint64Var(&o.seed, "seed", 0, "of the random moments; 0: by the clock")
	flag.BoolVar(&o.verbose, "v", false, "show the instance's log")
	flag.StringVar(&feed, "feed", "", "be the producer's command: `RATE:SIZE`")
	flag.Parse()
	if feed != "" {
		if err := runFeed(feed, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "feed:", err)
			os.Exit(1)
		}
		return
	}
	o.args = strings.Fields(extra)
	if *moments {
		f, err := os.CreateTemp("", "survive-moments-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		o.moments = f.Name()
		f.Close()
		_ = os.Chmod(o.moments, 0o666) // of another user's tiles
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r, err := survive(ctx, o)
	if r != nil {
		fmt.Print(r)
	}
	if o.moments != "" {
		fmt.Println(momentsText(o.moments))
		os.Remove(o.moments)
	}
	if err != nil {
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

// survive is one run.
func survive(ctx context.Context, o options) (*report, error) {
	s, err := startInstance(o)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	a, err := startApp(s)
	if err != nil {
		return nil, err
	}
	defer a.stop()
	r := newReport(o)
	defer r.counters(s)
	f, err := newField(o, s, a, r)
	if err != nil {
		return nil, err
	}
	if err := f.start(ctx); err != nil {
		return r, err
	}
	k := killer{o: o, s: s, r: r, rnd: rand.New(rand.NewPCG(o.seed, 1))}
	err = k.run(ctx, f.hurt)
	f.finish()
	r.app(a)
	if err != nil {
		return r, err
	}
	return r, r.verdict()
}
