package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/httpsrv/steer"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/sandbox"
	"github.com/tilewire/tilewire/tile/topo"
)

// benchServe is what both `benchserve` (the benchmark's server of ours) and `bench` run: supervisor, network tile
// and producer, each a process of its own, joined by shared memory only.
type benchServe struct {
	listen  []string
	size    int
	rate    float64 // messages per second; 0: as many as credits allow
	credits string  // FIFO
	fill    bool
	burst   int // with a rate: so many messages at a time
	clients uint32
	ringMiB uint64
	backing string
	tiles   int // network tiles, which share the port
	netCPU  int
	prodCPU int
}

// benchServeCmd speaks the protocol of scripts/bench/feed.
func benchServeCmd() *cobra.Command {
	b := benchServe{netCPU: tile.Float, prodCPU: tile.Float, tiles: 1}
	cmd := &cobra.Command{
		Use: "benchserve", Short: "Serve the benchmark's clients (see scripts/bench)", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return b.serve() },
	}
	f := cmd.Flags()
	b.flags(cmd)
	f.StringSliceVar(&b.listen, "listen", []string{"127.0.0.1:0"}, "addresses and ports, each of all tiles")
	f.Uint32Var(&b.clients, "max-connections", 16384, "streaming clients of each tile")
	f.IntVar(&b.tiles, "tiles", 1, "network tiles, which share the port")
	f.Uint64Var(&b.ringMiB, "ring-size-mib", 4, "bytes of the ring in MiB; a power of two")
	f.StringVar(&b.backing, "backing", "auto", "memory: auto, hugetlbfs or shm")

	var a tileArgs
	sub := func(use string, run func() error) *cobra.Command {
		c := &cobra.Command{Use: use, Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return run() }}
		c.Flags().StringVar(&a.name, "instance", "", "")
		c.Flags().IntVar(&a.cpu, "cpu", tile.Float, "")
		c.Flags().IntVar(&a.id, "id", 0, "")
		c.Flags().BoolVar(&a.sandbox, "sandbox", true, "")
		return c
	}
	var fds []int
	var steering int
	net := sub("net", func() error { return benchNet(a, fds, steering) })
	net.Flags().IntVar(&steering, "steering-fd", -1, "")
	net.Flags().IntSliceVar(&fds, "listen-fds", nil, "")
	var p benchServe
	producer := sub("producer", func() error { return p.produce(a) })
	p.flags(producer)
	cmd.AddCommand(net, producer, benchClientsCmd())
	return cmd
}

// flags are those that the producer needs as well.
func (b *benchServe) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&b.size, "size", 128, "message size in bytes")
	f.Float64Var(&b.rate, "rate", 0, "messages per second; 0: as many as credits allow")
	f.StringVar(&b.credits, "credits", "", "named pipe that brings the credits")
	f.IntVar(&b.burst, "burst", 1, "with a rate: publish so many messages at a time")
	f.BoolVar(&b.fill, "fill", false, "write each message's own filler")
}

// benchRun is a running server.
type benchRun struct {
	in *instance.Instance
	n  *nets
	*crew
}

// start brings all tiles up.
func (b *benchServe) start(name string) (_ *benchRun, err error) {
	if b.size < swarm.PrefixSz || b.size > 65535 || b.credits == "" {
		return nil, usageError{fmt.Errorf("--credits is needed, --size is %d to 65535", swarm.PrefixSz)}
	}
	backing, err := shmem.ParseBacking(b.backing)
	if err != nil {
		return nil, usageError{err}
	}
	l, err := listen(b.listen, b.tiles, b.tiles)
	if err != nil {
		return nil, err
	}
	r := &benchRun{}
	cpus := slices.Repeat([]int{b.netCPU}, b.tiles)
	defer func() {
		if err != nil {
			l.close()
			if r.n != nil {
				r.n.close()
			}
			if r.in != nil {
				_ = r.in.Remove()
			}
		}
	}()
	if r.n, err = newNets(l, b.tiles, b.tiles, cpus, steer.Auto, logger()); err != nil {
		return nil, err
	}
	prod := instance.Tile{Kind: kindTicker}
	tiles := []instance.Tile{prod}
	for i := range b.tiles {
		tiles = append(tiles, instance.Tile{Kind: kindNet, ID: i})
	}
	r.in, err = instance.Create(instance.Info{
		Name: name, Listen: l.addrs(), Pid: os.Getpid(), Started: time.Now().UnixNano(),
	}, defaultParams(b.ringMiB<<20, b.clients, uint32(b.tiles)), tiles, shmem.Options{Backing: backing})
	if err != nil {
		return nil, err
	}
	if err = benchStatsNew(r.in, tiles); err != nil {
		return nil, err
	}
	specs, err := r.n.specs(r.in, cpus)
	if err != nil {
		return nil, err
	}
	for i := range specs {
		ns := &specs[i]
		ns.Args = []string{"benchserve", "net", "--instance", name, "--id", strconv.Itoa(i),
			"--cpu=" + strconv.Itoa(b.netCPU)}
		for k := range l {
			ns.Args = append(ns.Args, "--listen-fds", strconv.Itoa(3+k))
		}
		if r.n.file != nil {
			ns.Args = append(ns.Args, "--steering-fd", strconv.Itoa(3+len(l)))
		}
	}
	ps, err := tileSpec(r.in, prod, b.prodCPU, nil)
	if err != nil {
		return nil, err
	}
	ps.Args = []string{"benchserve", "producer", "--instance", name, "--cpu=" + strconv.Itoa(b.prodCPU),
		"--size", strconv.Itoa(b.size), "--rate", strconv.FormatFloat(b.rate, 'g', -1, 64), "--credits", b.credits,
		"--burst", strconv.Itoa(max(b.burst, 1)), "--fill=" + strconv.FormatBool(b.fill)}
	ps.Restart = topo.RestartNever
	specs = append(specs, ps)
	(&privileges{sandbox: sandbox.Supported() == nil}).confine(specs)
	log := logger()
	r.crew, err = launch(specs, defaultBudget, heartbeatTimeout, func(_ *crew, e topo.Event) {
		logBad(log, e)
		if e.Kind == kindNet && (e.What == topo.Ready || e.What == topo.Died) {
			r.n.live(e.ID, e.What == topo.Ready)
		}
	})
	return r, err
}

// close ends all tiles and removes the memory.
func (r *benchRun) close() error {
	err := r.stop()
	r.n.close()
	r.n.l.close()
	return cmp.Or(err, r.in.Remove())
}

// serve runs the server until SIGTERM and says what it did.
func (b *benchServe) serve() error {
	ctx, cancel := stopOnSignal()
	defer cancel()
	r, err := b.start(ownName("benchserve"))
	if err != nil {
		return err
	}
	return errors.Join(r.serveUntil(ctx), r.close())
}

func (r *benchRun) serveUntil(ctx context.Context) error {
	if up, _ := r.ready(ctx); !up {
		return nil // close tells why
	}
	r.in.Life().SetState(instance.Ready)
	fmt.Println("listening", strings.Join(r.n.l.addrs(), " "))
	select {
	case <-ctx.Done():
	case <-r.gone:
		return nil
	}
	s, err := r.read()
	if err != nil {
		return err
	}
	js, err := json.Marshal(s)
	if err != nil {
		return err
	}
	fmt.Printf("stats %s\n", js)
	return nil
}

// benchStats is what the tiles counted. "steady" is from the first delivery on.
type benchStats struct {
	Published    uint64  `json:"published"`
	Delivered    uint64  `json:"delivered"`
	Sends        uint64  `json:"sends"`
	SendsPartial uint64  `json:"sends_partial"`
	SendsBlocked uint64  `json:"sends_blocked"`
	Passes       uint64  `json:"passes"`
	Overruns     uint64  `json:"overruns"`
	Evicted      uint64  `json:"evicted"`
	Waits        uint64  `json:"producer_waits"`
	PublishNs    uint64  `json:"publish_ns_p50"` // from one message of a burst to the next: staged, stamped, published
	PublishP99   uint64  `json:"publish_ns_p99"` // with what the producer was kept waiting for the CPU
	NetMallocs   uint64  `json:"net_mallocs_steady"`
	NetGC        uint64  `json:"net_gc_cycles_steady"`
	ProdMallocs  uint64  `json:"producer_mallocs_steady"`
	ProdGC       uint64  `json:"producer_gc_cycles_steady"`
	PageSize     uint64  `json:"page_size"`
	Backing      string  `json:"backing"`
	RegionBytes  uint64  `json:"region_bytes"`
	BytesPerConn float64 `json:"region_bytes_per_connection"` // set aside at start for each streaming client
}

// read takes the figures out of shared memory, at any time; those of several network tiles are summed up.
func (r *benchRun) read() (s benchStats, err error) {
	ring := r.in.Server.Ring(0)
	s = benchStats{
		Published: uint64(ring.Head) - uint64(ring.Start), Waits: ring.Waits,
		PageSize: r.in.Region.PageSize(), Backing: r.in.Region.Backing(), RegionBytes: r.in.Region.Size(),
	}
	for _, t := range r.in.Tiles() {
		c, err := benchCells(r.in, t)
		if err != nil {
			return s, err
		}
		if t.Kind == kindTicker {
			s.ProdMallocs, s.ProdGC = c.Cell(cellMallocs).Load(), c.Cell(cellGC).Load()
			s.PublishNs, s.PublishP99 = c.Cell(cellP50).Load(), c.Cell(cellP99).Load()
			continue
		}
		s.NetMallocs += c.Cell(cellMallocs).Load()
		s.NetGC += c.Cell(cellGC).Load()
		cnt, err := r.in.Server.Counters(t.ID)
		if err != nil {
			return s, err
		}
		for name, sum := range map[string]*uint64{
			"delivered": &s.Delivered, "sends": &s.Sends, "sends_partial": &s.SendsPartial, "sends_blocked": &s.SendsBlocked,
			"passes": &s.Passes, "overruns": &s.Overruns, "closed_" + httpsrv.CloseWsClientTooSlow.Name(): &s.Evicted,
		} {
			if c := cnt.Lookup(name); c != nil {
				*sum += c.Load()
			}
		}
	}
	p := defaultParams(1<<20, 1000, 1)
	few, err := httpsrv.Footprint(p)
	if err != nil {
		return s, err
	}
	const more = 64000
	p.MaxWsConnectionCnt += more
	many, err := httpsrv.Footprint(p)
	s.BytesPerConn = float64(many-few) / more
	return s, err
}

// What each tile of the benchmark says of itself besides its own counters.
const (
	cellMallocs = iota // heap objects allocated since the first message
	cellGC             // collections since then
	cellP50            // producer: ns from one message of a burst to the next, median
	cellP99
)

var benchCellNames = []string{"mallocs", "gc_cycles", "publish_ns_p50", "publish_ns_p99"}

// benchStatsNew makes every tile's cells in the instance's workspace.
func benchStatsNew(in *instance.Instance, tiles []instance.Tile) error {
	size, err := tile.CountersFootprint(benchCellNames)
	if err != nil {
		return err
	}
	for _, t := range tiles {
		obj, err := in.Wksp.NewNamed(benchObject(t), tile.CountersAlign, size, tagBench)
		if err != nil {
			return err
		}
		if err := tile.CountersNew(obj.Mem, benchCellNames); err != nil {
			return err
		}
	}
	return nil
}

const tagBench = 99

func benchObject(t instance.Tile) string { return fmt.Sprintf("bench.%s.%d", t.Kind, t.ID) }

func benchCells(in *instance.Instance, t instance.Tile) (*tile.Counters, error) {
	obj, err := in.Wksp.Lookup(benchObject(t))
	if err != nil {
		return nil, err
	}
	return tile.CountersJoin(obj.Mem)
}

// heapWatch counts this process's allocations from its first look on. The exact count stops the world for 50 µs, so it
// looks once a second.
type heapWatch struct {
	m     runtime.MemStats
	base  [2]uint64
	at    int64 // of the last look, 0: none
	cells *tile.Counters
}

func (w *heapWatch) look(now int64) {
	if w.at != 0 && now-w.at < int64(time.Second) {
		return
	}
	runtime.ReadMemStats(&w.m)
	v := [2]uint64{w.m.Mallocs, uint64(w.m.NumGC)}
	if w.at == 0 {
		w.base = v
	}
	w.at = now
	w.cells.Cell(cellMallocs).Set(v[0] - w.base[0])
	w.cells.Cell(cellGC).Set(v[1] - w.base[1])
}

// benchNet is the network tile: as netTile, with the routes of the benchmark and an eye on the heap.
func benchNet(a tileArgs, fds []int, steering int) error {
	in, cnc, err := a.enter(kindNet)
	if err != nil {
		return err
	}
	cells, err := benchCells(in, instance.Tile{Kind: kindNet, ID: a.id})
	if err != nil {
		return err
	}
	var steered *steer.Tile
	if steering >= 0 {
		if steered, err = steer.Join(steering, a.id); err != nil {
			return err
		}
	}
	t, err := in.Server.TakeTile(a.id, httpsrv.TileOptions{BellPath: in.Bell(a.id), Steering: steered, Callbacks: httpsrv.Callbacks{
		Request: func(r *httpsrv.Request) httpsrv.Response {
			switch string(r.Path) {
			case "/ws":
				return httpsrv.Response{UpgradeWebsocket: true}
			case "/idle":
				return httpsrv.Response{UpgradeWebsocket: true, Ring: httpsrv.NoRing}
			}
			return httpsrv.Response{Status: 404}
		},
	}})
	if err != nil {
		return err
	}
	defer t.Release()
	for _, fd := range fds {
		if err := t.ListenFd(fd); err != nil {
			return err
		}
	}
	w := heapWatch{cells: cells}
	cnt, err := in.Server.Counters(a.id)
	if err != nil {
		return err
	}
	delivered := cnt.Lookup("delivered")
	loop := tile.Loop{Cnc: cnc, CPU: a.cpu, KeepOff: a.cpu != tile.Float, Poll: t.Poll}
	a.confine(&loop, sandbox.NetCalls)
	loop.Housekeep = func(now int64) {
		if delivered.Load() > 0 {
			w.look(now)
		}
	}
	return loop.Run()
}
