// Command loadgen is the benchmark's load generator: a swarm of clients that hands credits back and talks to the
// runner in lines. After each of `ready N`, `window` and `end` on stdout it waits for a line on stdin, so that
// the runner can take its readings at that very moment; the last line is the swarm's report as JSON.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"runtime"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
)

func main() {
	log.SetFlags(0)
	var (
		o        swarm.Options
		window   = flag.Uint64("window", 0, "messages that the publisher may be ahead of the slowest client; 0: no bound (open loop)")
		credits  = flag.String("credits", "", "named pipe that takes the credits")
		full     = flag.Bool("full", false, "verify every byte (needs a server with --fill)")
		envelope = flag.String("envelope", "", "centrifuge: its protobuf protocol around each message")
	)
	flag.StringVar(&o.Addr, "addr", "", "server")
	flag.StringVar(&o.Path, "path", "/ws", "request target")
	flag.IntVar(&o.Clients, "clients", 100, "clients")
	flag.IntVar(&o.Size, "size", 0, "message size in bytes; 0: any")
	flag.IntVar(&o.Idle, "idle", 0, "further idle clients")
	flag.StringVar(&o.IdlePath, "idle-path", "/idle", "their request target")
	flag.IntVar(&o.SlowClients, "slow", 0, "so many of the clients are slow")
	flag.IntVar(&o.SlowBytes, "slow-bytes", 1024, "bytes that they read every 10 ms")
	flag.IntVar(&o.Source, "source", 0, "first source address")
	flag.DurationVar(&o.Warmup, "warmup", 0, "before counting")
	flag.DurationVar(&o.Duration, "duration", 0, "of counting")
	flag.Parse()
	if !*full {
		o.Mode = swarm.ModeSeq
	}
	if *envelope == "centrifuge" {
		o.Subprotocol, o.Hello, o.Unwrap = "centrifuge-protobuf", centrifugeHello, centrifugeUnwrap
	}
	pipe, err := os.OpenFile(*credits, os.O_RDWR, 0)
	if err != nil {
		log.Fatal(err)
	}
	// Blocking writes: a credit must not be lost, and the server empties the pipe at every read.
	fd := int(pipe.Fd())
	give := func(limit uint64) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], limit)
		if err := writeAll(fd, b[:]); err != nil {
			log.Fatalf("credits: %v", err)
		}
	}
	in := bufio.NewReader(os.Stdin)
	say := func(line string) {
		fmt.Println(line)
		if _, err := in.ReadString('\n'); err != nil {
			os.Exit(1) // the runner is gone
		}
	}
	o.OnReady = func(n int) {
		say(fmt.Sprint("ready ", n))
		if *window == 0 {
			give(math.MaxUint64)
		} else {
			give(*window)
		}
	}
	o.OnWindow = func() { say("window") }
	o.OnEnd = func() { say("end") }
	if *window > 0 {
		o.OnProgress = func(low uint64) { give(low + *window) }
	}
	r, err := swarm.Run(context.Background(), o)
	runtime.KeepAlive(pipe) // collected, it would close fd, and a client's socket take its number
	if err != nil {
		log.Print(err)
	}
	if r == nil {
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}
