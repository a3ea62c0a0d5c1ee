package feed

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/shmem"
)

// Options are the flags of the protocol.
type Options struct {
	Listen  string
	Size    int
	Rate    float64
	Credits string
	Fill    bool
}

// Parse reads the flags and checks them; it ends the program when they are wrong.
func Parse() Options {
	var o Options
	flag.StringVar(&o.Listen, "listen", "127.0.0.1:0", "address and port")
	flag.IntVar(&o.Size, "size", 128, "message size in bytes")
	flag.Float64Var(&o.Rate, "rate", 0, "messages per second; 0: as many as credits allow")
	flag.StringVar(&o.Credits, "credits", "", "named pipe that brings the credits")
	flag.BoolVar(&o.Fill, "fill", false, "write each message's own filler")
	flag.Parse()
	if o.Size < swarm.PrefixSz || o.Size > 65535 || o.Credits == "" {
		fmt.Fprintf(os.Stderr, "--credits is needed, --size is %d to 65535\n", swarm.PrefixSz)
		os.Exit(2)
	}
	return o
}

// Stamp returns the time to be written into message seq: that of publishing, or at a rate that at which it was due. A server
// that is late in publishing does not make its latencies look better.
func (o *Options) Stamp(start int64, seq uint64) int64 {
	if o.Rate == 0 {
		return shmem.Monotonic()
	}
	return start + int64(float64(seq-1)/o.Rate*1e9)
}

// Main runs a server: serve is given the listener and must return at once with the function that
// publishes a message to all clients. That function owns p. Main never returns.
func Main(serve func(ln net.Listener) (publish func(p []byte))) {
	log.SetFlags(0)
	o := Parse()
	ln, err := net.Listen("tcp", o.Listen)
	if err != nil {
		log.Fatal(err)
	}
	publish := serve(ln)
	go func() {
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		<-term
		PrintStats(nil)
		os.Exit(0)
	}()
	credits, err := os.OpenFile(o.Credits, os.O_RDWR, 0) // a pipe: the runtime's poller waits for it
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening", ln.Addr())
	run(o, credits, publish)
}

// run publishes for ever.
func run(o Options, credits *os.File, publish func(p []byte)) {
	template := make([]byte, o.Size)
	swarm.FillPayload(template, 0, 0)
	var seq uint64
	var start int64 // of publishing at a rate
	next := func() {
		seq++
		p := make([]byte, o.Size)
		if now := o.Stamp(start, seq); o.Fill {
			swarm.FillPayload(p, seq, now)
		} else {
			copy(p, template)
			swarm.Stamp(p, seq, now)
		}
		publish(p)
	}
	buf := make([]byte, 4096)
	limit := read(credits, buf)
	if o.Rate > 0 {
		for start = shmem.Monotonic(); ; {
			due := uint64(float64(shmem.Monotonic()-start)*1e-9*o.Rate) + 1
			for seq < due {
				next()
			}
			time.Sleep(time.Duration(o.Stamp(start, seq+1) - shmem.Monotonic()))
		}
	}
	for {
		for seq < limit {
			next()
		}
		limit = read(credits, buf)
	}
}

// read waits for credits and returns the last one.
func read(f *os.File, buf []byte) uint64 {
	n, err := f.Read(buf)
	if err != nil || n%8 != 0 {
		log.Fatalf("credits: %d bytes, %v", n, err)
	}
	return binary.LittleEndian.Uint64(buf[n-8:])
}

// PrintStats prints the `stats` line: the runtime's figures and more.
func PrintStats(more map[string]any) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	all := map[string]any{"gc_cycles": m.NumGC, "mallocs": m.Mallocs, "heap_bytes": m.HeapAlloc}
	for k, v := range more {
		all[k] = v
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err) // numbers only
	}
	fmt.Printf("stats %s\n", b)
}
