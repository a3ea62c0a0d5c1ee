package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/topo"
)

// benchServe is what both `benchserve` (the benchmark's server of ours) and `bench` run: supervisor, network tile
// and producer, each a process of its own, joined by shared memory only.
type benchServe struct {
	listen  string
	size    int
	rate    float64 // messages per second; 0: as many as credits allow
	credits string  // FIFO
	fill    bool
	burst   int // with a rate: so many messages at a time
	clients uint32
	ringMiB uint64
	backing string
	netCPU  int
	prodCPU int
}

// benchServeCmd speaks the protocol of scripts/bench/feed.
func benchServeCmd() *cobra.Command {
	b := benchServe{netCPU: tile.Float, prodCPU: tile.Float}
	cmd := &cobra.Command{
		Use: "benchserve", Short: "Serve the benchmark's clients (see scripts/bench)", Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return b.serve() },
	}
	f := cmd.Flags()
	b.flags(cmd)
	f.StringVar(&b.listen, "listen", "127.0.0.1:0", "address and port")
	f.Uint32Var(&b.clients, "max-connections", 16384, "streaming clients")
	f.Uint64Var(&b.ringMiB, "ring-size-mib", 4, "bytes of the ring in MiB; a power of two")
	f.StringVar(&b.backing, "backing", "auto", "memory: auto, hugetlbfs or shm")

	var a tileArgs
	sub := func(use string, run func() error) *cobra.Command {
		c := &cobra.Command{Use: use, Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return run() }}
		c.Flags().StringVar(&a.name, "instance", "", "")
		c.Flags().IntVar(&a.cpu, "cpu", tile.Float, "")
		return c
	}
	var fds []int
	net := sub("net", func() error { return benchNet(a, fds) })
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
	in    *instance.Instance
	l     listeners
	sup   *topo.Supervisor
	ended chan error
}

// start brings all tiles up.
func (b *benchServe) start(name string) (r *benchRun, err error) {
	if b.size < swarm.PrefixSz || b.size > 65535 || b.credits == "" {
		return nil, usageError{fmt.Errorf("--credits is needed, --size is %d to 65535", swarm.PrefixSz)}
	}
	r = &benchRun{ended: make(chan error, 1)}
	if r.l, err = listen([]string{b.listen}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.l.close()
			if r.in != nil {
				_ = r.in.Remove()
			}
		}
	}()
	o := shmem.Options{}
	switch b.backing {
	case "hugetlbfs":
		o.Backing = shmem.BackingHugetlbfs
	case "shm":
		o.Backing = shmem.BackingShm
	}
	net, prod := instance.Tile{Kind: kindNet}, instance.Tile{Kind: kindTicker}
	r.in, err = instance.Create(instance.Info{
		Name: name, Listen: r.l.addrs, Pid: os.Getpid(), Started: time.Now().UnixNano(),
	}, defaultParams(b.ringMiB<<20, b.clients, 1), []instance.Tile{net, prod}, o)
	if err != nil {
		return nil, err
	}
	if err = benchStatsNew(r.in); err != nil {
		return nil, err
	}
	ns, err := netSpec(r.in, 0, b.netCPU, r.l)
	if err != nil {
		return nil, err
	}
	ns.Args = []string{"benchserve", "net", "--instance", name, "--cpu=" + strconv.Itoa(b.netCPU), "--listen-fds", "3"}
	ps, err := tileSpec(r.in, prod, b.prodCPU, nil)
	if err != nil {
		return nil, err
	}
	ps.Args = []string{"benchserve", "producer", "--instance", name, "--cpu=" + strconv.Itoa(b.prodCPU),
		"--size", strconv.Itoa(b.size), "--rate", strconv.FormatFloat(b.rate, 'g', -1, 64), "--credits", b.credits,
		"--burst", strconv.Itoa(max(b.burst, 1)), "--fill=" + strconv.FormatBool(b.fill)}
	ps.Restart = topo.RestartNever
	ps.Wake = func() { wakeFIFO(b.credits) }
	log := logger()
	r.sup, err = topo.New([]topo.Spec{ns, ps}, topo.Options{
		HaltGrace: 4 * time.Second, HeartbeatTimeout: time.Hour, // the producer sleeps in its FIFO
		Event: func(e topo.Event) {
			if e.What.Bad() && !e.Expected {
				log.LogAttrs(context.Background(), e.Level(), e.What.String(), e.Attrs()...)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	go func() { r.ended <- r.sup.Run(context.Background()) }()
	return r, nil
}

// stop ends all tiles and removes the memory.
func (r *benchRun) stop() error {
	r.sup.Stop()
	err := <-r.ended
	if e := r.close(); err == nil {
		err = e
	}
	return err
}

func (r *benchRun) close() error {
	r.l.close()
	return r.in.Remove()
}

// serve runs the server until SIGTERM and says what it did.
func (b *benchServe) serve() error {
	ctx, cancel := stopOnSignal()
	defer cancel()
	r, err := b.start(fmt.Sprintf("benchserve-%d", os.Getpid()))
	if err != nil {
		return err
	}
	select {
	case <-r.sup.AllReady():
		fmt.Println("listening", r.l.addrs[0])
	case err := <-r.ended:
		return errors.Join(err, r.close())
	}
	select {
	case <-ctx.Done():
	case err := <-r.ended:
		return errors.Join(err, r.close())
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
	return r.stop()
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

// read takes the figures out of shared memory, at any time.
func (r *benchRun) read() (s benchStats, err error) {
	cnt, err := r.in.Server.Counters(0)
	if err != nil {
		return s, err
	}
	get := func(name string) uint64 {
		if c := cnt.Lookup(name); c != nil {
			return c.Load()
		}
		return 0
	}
	ring := r.in.Server.Ring(0)
	s = benchStats{
		Published: uint64(ring.Head) - uint64(ring.Start), Delivered: get("delivered"), Sends: get("sends"),
		SendsPartial: get("sends_partial"), SendsBlocked: get("sends_blocked"), Passes: get("passes"),
		Overruns: get("overruns"), Evicted: get("closed_" + httpsrv.CloseWsClientTooSlow.Name()), Waits: ring.Waits,
		PageSize: r.in.Region.PageSize(), Backing: r.in.Region.Backing(), RegionBytes: r.in.Region.Size(),
	}
	for kind, dst := range map[string][2]*uint64{kindNet: {&s.NetMallocs, &s.NetGC}, kindTicker: {&s.ProdMallocs, &s.ProdGC}} {
		c, err := benchCells(r.in, kind)
		if err != nil {
			return s, err
		}
		*dst[0], *dst[1] = c.Cell(cellMallocs).Load(), c.Cell(cellGC).Load()
		if kind == kindTicker {
			s.PublishNs, s.PublishP99 = c.Cell(cellP50).Load(), c.Cell(cellP99).Load()
		}
	}
	p := defaultParams(1<<20, 1000, 1)
	few, err := httpsrv.Footprint(p)
	if err != nil {
		return s, err
	}
	p.MaxWsConnectionCnt += 64000
	many, err := httpsrv.Footprint(p)
	s.BytesPerConn = float64(many-few) / 64000
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

// benchStatsNew makes the cells of both tiles in the instance's workspace.
func benchStatsNew(in *instance.Instance) error {
	size, err := tile.CountersFootprint(benchCellNames)
	if err != nil {
		return err
	}
	for _, kind := range []string{kindNet, kindTicker} {
		obj, err := in.Wksp.NewNamed("bench."+kind, tile.CountersAlign, size, tagBench)
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

func benchCells(in *instance.Instance, kind string) (*tile.Counters, error) {
	obj, err := in.Wksp.Lookup("bench." + kind)
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
func benchNet(a tileArgs, fds []int) error {
	in, cnc, err := a.enter(kindNet)
	if err != nil {
		return err
	}
	cells, err := benchCells(in, kindNet)
	if err != nil {
		return err
	}
	t, err := in.Server.TakeTile(a.id, httpsrv.TileOptions{BellPath: in.Bell(a.id), Callbacks: httpsrv.Callbacks{
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
	loop.Housekeep = func(now int64) {
		if delivered.Load() > 0 {
			w.look(now)
		}
	}
	return loop.Run()
}

// produce is the producer: it publishes all that its credits allow in one burst, so that the network tile
// can send it in one go, and sleeps in its FIFO. With a rate it sleeps until the next message is due.
func (b *benchServe) produce(a tileArgs) error {
	in, cnc, err := a.enter(kindTicker)
	if err != nil {
		return err
	}
	cells, err := benchCells(in, kindTicker)
	if err != nil {
		return err
	}
	st, err := in.Server.Produce(0, publishBound)
	if err != nil {
		return err
	}
	defer st.Close()
	fifo, err := unix.Open(b.credits, unix.O_RDWR|unix.O_CLOEXEC, 0) // read-write: it never sees an end
	if err != nil {
		return fmt.Errorf("%s: %w", b.credits, err)
	}
	template := make([]byte, b.size)
	swarm.FillPayload(template, 0, 0)
	var seq, limit uint64
	var begin int64
	buf := make([]byte, 4096)
	w := heapWatch{cells: cells}
	var hist swarm.Histogram
	publish := func(to uint64) error {
		st.Cork() // one wake-up for the whole burst
		defer st.Uncork()
		for last := int64(0); seq < to; {
			p := st.Append(b.size)
			if p == nil {
				return st.Err()
			}
			seq++
			now := shmem.Monotonic()
			if last != 0 {
				hist.Record(now - last)
			}
			if last = now; b.fill {
				swarm.FillPayload(p, seq, now)
			} else {
				copy(p, template)
				swarm.Stamp(p, seq, now)
			}
			st.Commit(b.size)
			if _, err := st.WsBroadcast(httpsrv.OpBinary); err != nil {
				return err
			}
		}
		return nil
	}
	loop := tile.Loop{Cnc: cnc, CPU: a.cpu, KeepOff: a.cpu != tile.Float, Spin: 1}
	loop.Housekeep = func(now int64) {
		if seq > 0 {
			w.look(now)
			cells.Cell(cellP50).Set(hist.Quantile(.5))
			cells.Cell(cellP99).Set(hist.Quantile(.99))
		}
	}
	loop.Poll = func(now int64, _ int) int {
		if begin == 0 {
			n, err := unix.Read(fifo, buf)
			if err == unix.EINTR {
				return 0
			}
			if err != nil || n%8 != 0 {
				loop.Stop(fmt.Errorf("credits: %d bytes, %w", n, err))
				return 0
			}
			limit = max(limit, binary.LittleEndian.Uint64(buf[n-8:])) // 0: only to be woken
			if limit == 0 {
				return 0
			}
			if b.rate == 0 {
				if err := publish(limit); err != nil {
					loop.Stop(err)
				}
				return 1
			}
			begin = shmem.Monotonic()
		}
		burst := uint64(b.burst)
		due := (uint64(float64(shmem.Monotonic()-begin)*1e-9*b.rate)/burst + 1) * burst
		if err := publish(due); err != nil {
			loop.Stop(err)
			return 0
		}
		// The clock of a message, or 200 µs: the others' timers know no less.
		next := max(begin+int64(float64(seq)/b.rate*1e9)-shmem.Monotonic(), 200_000)
		ts := unix.NsecToTimespec(min(next, 50_000_000))
		_ = unix.Nanosleep(&ts, nil)
		return 1
	}
	return loop.Run()
}

// wakeFIFO wakes a producer that waits for credits, with one that grants nothing.
func wakeFIFO(path string) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return // the pipe is gone, and so is its reader's wait: SIGTERM ends it
	}
	_, _ = unix.Write(fd, make([]byte, 8))
	unix.Close(fd)
}
