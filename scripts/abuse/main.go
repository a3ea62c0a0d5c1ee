// Command abuse attacks a `tilewire pipe` over loopback, one attack after the
// other, beside 20 good clients that verify every message of a steady stream. It
// fails unless, under each attack,
//
//   - no good client loses a message or is ended, and their p99 latency stays
//     within twice its quiet value of the same run, or 20 ms above it where twice
//     is less: that much is noise where attackers, clients and server share two CPUs;
//   - the attackers get the answers that docs/hostile.md promises them;
//   - the network tile's descriptors are those of the start once they are gone,
//     and its own memory is within 4 MiB.
//
// It takes two minutes, with timeouts of a second; -full attacks for longer, with
// the timeouts that users have. The test of this package does the same in less.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"
)

// options are those of a run.
type options struct {
	program string
	only    string
	full    bool
	quick   bool
	rate    int // messages per second
	size    int
}

// times are how long things take: short, or as users have them.
func (o options) times() (t times) {
	t = times{attack: 2500 * time.Millisecond, header: time.Second, body: time.Second, write: time.Second, ping: time.Second, pong: time.Second}
	scale := time.Duration(2) // halves
	switch {
	case o.full:
		scale = 20
	case o.quick:
		scale = 1
	}
	for _, d := range []*time.Duration{&t.attack, &t.header, &t.body, &t.write, &t.ping, &t.pong} {
		*d = *d * scale / 2
	}
	t.pong = max(t.pong, 2*time.Second) // good clients may wait for a CPU as well
	return t
}

type times struct{ attack, header, body, write, ping, pong time.Duration }

func main() {
	var o options
	flag.StringVar(&o.program, "program", "bin/tilewire", "the tilewire program")
	flag.StringVar(&o.only, "only", "", "attacks whose name contains this")
	flag.BoolVar(&o.full, "full", false, "attack for longer, with the default timeouts")
	flag.IntVar(&o.rate, "rate", 200, "messages per second of the stream")
	flag.IntVar(&o.size, "size", 256, "bytes of a message")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	failed := 0
	for _, a := range attacks {
		if !strings.Contains(a.name, o.only) || ctx.Err() != nil {
			continue
		}
		f, err := measure(ctx, o, a)
		if f != nil {
			fmt.Println(f)
		}
		if err != nil {
			fmt.Printf("%-16s FAILED: %v\n", a.name, err)
			failed++
		}
	}
	if failed > 0 {
		fmt.Printf("%d attacks did harm\n", failed)
		os.Exit(1)
	}
}
