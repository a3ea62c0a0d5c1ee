package main

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// metric is the figure that a case is about.
type metric string

const (
	perSecond  metric = "deliveries/s"     // more is better
	cpuPerM    metric = "CPU s/M"          // CPU seconds of the server per million deliveries
	latencyP50 metric = "p50 µs"           // publish to receive; p99 stands beside it
	memPerConn metric = "bytes/connection" // resident set
	publishNs  metric = "publish ns"       // median, of the producer: staged, stamped, published
)

// bench is one case.
type bench struct {
	name    string
	metric  metric
	clients int
	size    int
	window  int           // 0: open loop
	rate    float64       // messages per second; 0: as credits allow
	half    string        // the rate is half of what this case reached, per server
	ramp    bool          // raise the rate until p99 passes late or something is lost
	late    time.Duration // 0: 50 ms
	idle    int
	slow    int
	bare    bool   // connect only
	burst   int    // so many messages at a time
	tiles   int    // network tiles of a server, which share a port
	servers int    // servers side by side; 0: one
	loads   int    // load generators, each with its part of the clients; 0: one for each tile
	spread  bool   // nobody is pinned: servers and load generators share all CPUs
	only    string // comma separated servers; empty: all
}

// listen is where a server listens: one address has some 28,000 ports to connect from.
func (c bench) listen() string {
	at := "127.0.0.1:0"
	for i := 2; c.clients > 20_000*(i-1); i++ {
		at += fmt.Sprintf(",127.0.0.%d:0", i)
	}
	return at
}

// cases returns all cases of the benchmark.
func cases() []bench {
	var all []bench
	for _, clients := range []int{10, 300, 3000, 10000} { // with those below, the plot
		all = append(all, bench{name: fmt.Sprintf("scale/%dx128/w32", clients), metric: perSecond, clients: clients, size: 128, window: 32, only: some})
	}
	for _, clients := range []int{100, 1000, 5000} {
		for _, size := range []int{128, 1024} {
			for _, window := range []int{32, 128} {
				all = append(all, bench{name: throughput(clients, size, window), metric: perSecond, clients: clients, size: size, window: window})
			}
		}
	}
	for _, clients := range []int{0, 1000, 10000} {
		all = append(all, bench{name: fmt.Sprintf("publish/%d", clients), metric: publishNs, clients: clients, size: 256, rate: 512, burst: 256, only: "tilewire"})
	}
	return append(all,
		bench{name: "cpu/1000x256@100", metric: cpuPerM, clients: 1000, size: 256, rate: 100},
		bench{name: "latency/100x256@200", metric: latencyP50, clients: 100, size: 256, rate: 200},
		bench{name: "latency/1000x128@half", metric: latencyP50, clients: 1000, size: 128, half: throughput(1000, 128, 32), only: some},
		bench{name: "memory/5000", metric: memPerConn, clients: 5000, size: 128, bare: true},
		bench{name: "idle/100x128/w32+10000", metric: perSecond, clients: 100, size: 128, window: 32, idle: 10000, only: some},
		bench{name: "slow/1000x128/w32+1%", metric: perSecond, clients: 1000, size: 128, window: 32, slow: 10, only: some},
		bench{name: "many/50000x128@32", metric: perSecond, clients: 50000, size: 128, rate: 32, burst: 16, tiles: 3, loads: 3, only: "tilewire"},
		bench{name: "tiles/one", metric: perSecond, clients: 2000, size: 128, ramp: true, late: 400 * time.Millisecond, tiles: 1, loads: 2, spread: true, only: "tilewire"},
		bench{name: "tiles/two", metric: perSecond, clients: 2000, size: 128, ramp: true, late: 400 * time.Millisecond, tiles: 2, loads: 2, spread: true, only: "tilewire"},
		bench{name: "tiles/two-servers", metric: perSecond, clients: 2000, size: 128, ramp: true, late: 400 * time.Millisecond, tiles: 1, servers: 2, loads: 2, spread: true, only: "tilewire"},
		bench{name: "open/1000x128", metric: perSecond, clients: 1000, size: 128, ramp: true, only: some},
	)
}

// some are the servers of the cases that take long or say little more with all of them.
const some = "tilewire,limit,goraw,gorilla,gws,centrifuge"

func throughput(clients, size, window int) string {
	return fmt.Sprintf("throughput/%dx%d/w%d", clients, size, window)
}

// quick are the cases of --quick.
const quick = "throughput/1000x128/w32,throughput/1000x128/w128,throughput/1000x1024/w32,throughput/5000x128/w128,cpu,latency/100*,memory,publish"

// of says whether the case is for that server.
func (c bench) of(server string) bool {
	return c.only == "" || slices.Contains(strings.Split(c.only, ","), server)
}

// pick returns the cases whose name matches one of the comma separated patterns (path.Match; a pattern
// without a slash stands for the whole group); empty: all.
func pick(patterns string) ([]bench, error) {
	if patterns == "" {
		return cases(), nil
	}
	var chosen []bench
	for _, p := range strings.Split(patterns, ",") {
		found := false
		for _, c := range cases() {
			ok, err := path.Match(p, c.name)
			if err != nil {
				return nil, fmt.Errorf("case pattern %q: %w", p, err)
			}
			if group, _, _ := strings.Cut(c.name, "/"); ok || p == group {
				chosen, found = append(chosen, c), true
			}
		}
		if !found {
			return nil, fmt.Errorf("no case matches %q", p)
		}
	}
	return chosen, nil
}
