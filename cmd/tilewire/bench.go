package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/tile"
)

type benchFlags struct {
	clients, size, window int
	rate                  float64
	duration              time.Duration
	json                  bool
	backing               string
}

func benchCmd() *cobra.Command {
	var fl benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine: one producer, one network tile, many clients over loopback",
		Long: `Measure what this machine does. A producer, a network tile and the clients run as processes of
their own; messages go from the producer to the tile through shared memory and from there
over loopback TCP. Every client verifies that every message arrives, whole and in order.
Without --rate the producer publishes as fast as it may: at most --window messages ahead of
the slowest client.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return bench(fl) },
	}
	f := cmd.Flags()
	f.IntVar(&fl.clients, "clients", 1000, "clients, each a TCP connection")
	f.IntVar(&fl.size, "size", 128, "bytes per message")
	f.Float64Var(&fl.rate, "rate", 0, "messages per second, whatever the clients do; 0: as many as the window allows")
	f.IntVar(&fl.window, "window", 32, "messages that the producer may be ahead of the slowest client")
	f.DurationVar(&fl.duration, "duration", 5*time.Second, "how long to measure")
	f.StringVar(&fl.backing, "backing", "auto", "memory: auto, hugetlbfs or shm")
	f.BoolVar(&fl.json, "json", false, "print the figures as JSON")
	return cmd
}

// benchFigures are what a bench found.
type benchFigures struct {
	Clients       int              `json:"clients"`
	Size          int              `json:"size"`
	Rate          float64          `json:"rate"`
	Window        int              `json:"window"`
	Seconds       float64          `json:"seconds"`
	Deliveries    float64          `json:"deliveries_per_second"`
	Latency       swarm.Latency    `json:"latency"`
	NetCPU        float64          `json:"net_tile_cpu_share"` // 1 = a whole CPU
	ProducerCPU   float64          `json:"producer_cpu_share"`
	ClientsCPU    float64          `json:"clients_cpu_share"`
	CPUPerMillion float64          `json:"server_cpu_seconds_per_million"`
	Allocs        float64          `json:"allocations_per_delivery"` // of both tiles
	GCCycles      uint64           `json:"gc_cycles"`
	Sends         float64          `json:"sends_per_delivery"`
	PageSize      uint64           `json:"page_size"`
	Backing       string           `json:"backing"`
	Lossless      bool             `json:"lossless"`
	Faults        swarm.Faults     `json:"faults"`
	Ended         int              `json:"healthy_ended"`
	Ends          []swarm.EndGroup `json:"ends,omitempty"`
	Bottleneck    string           `json:"bottleneck"`
}

// errBench: something was lost, doubled, torn, or a client was ended.
var errBench = errors.New("bench: not every client got every message")

func bench(fl benchFlags) error {
	if fl.clients < 1 || fl.size < swarm.PrefixSz || fl.size > 65535 || fl.window < 1 || fl.rate < 0 || fl.duration <= 0 {
		return usageError{fmt.Errorf("bench: clients and window 1 or more, size %d to 65535, rate 0 or more, duration above 0", swarm.PrefixSz)}
	}
	if fl.rate > 0 {
		fl.window = 0
	}
	ctx, cancel := stopOnSignal()
	defer cancel()
	dir, err := os.MkdirTemp("", "tilewire-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	fifo := filepath.Join(dir, "credits")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		return fmt.Errorf("make FIFO %s: %w", fifo, err)
	}
	netCPU, prodCPU, clientsCPU := benchCPUs(tile.AllowedCPUs())
	b := benchServe{
		listen: []string{"127.0.0.1:0"}, size: fl.size, rate: fl.rate, credits: fifo, fill: true,
		clients: uint32(fl.clients) + 64, ringMiB: 16, backing: fl.backing, tiles: 1, netCPU: netCPU, prodCPU: prodCPU,
	}
	r, err := b.start(ownName("bench"))
	if err != nil {
		return err
	}
	fig, err := fl.measure(ctx, r, fifo, clientsCPU)
	if e := r.close(); e != nil {
		err = e // why the clients had nobody any more
	}
	if err != nil && ctx.Err() != nil {
		return errors.New("bench: stopped before its time: no figures")
	}
	if err != nil {
		return err
	}
	if fl.json {
		if err := json.NewEncoder(os.Stdout).Encode(fig); err != nil {
			return err
		}
	} else {
		fig.print()
	}
	if !fig.Lossless {
		return fmt.Errorf("%w: %d faults %v, %d clients ended: %+v", errBench, fig.Faults.Total(), fig.Faults.First, fig.Ended, fig.Ends)
	}
	return nil
}

// benchCPUs gives the network tile and the clients a CPU each; the producer has one of its own if there is a third,
// and shares the tile's otherwise: the clients need theirs whole.
func benchCPUs(allowed []int) (net, producer, clients int) {
	switch len(allowed) {
	case 0, 1:
		return tile.Float, tile.Float, tile.Float
	case 2:
		return allowed[0], allowed[0], allowed[1]
	}
	return allowed[0], allowed[2], allowed[1]
}

// benchReading is what was counted up to a moment.
type benchReading struct {
	stats benchStats
	cpu   map[string]time.Duration // by kind of tile
}

func (r *benchRun) reading() (g benchReading, err error) {
	if g.stats, err = r.read(); err != nil {
		return g, err
	}
	g.cpu = map[string]time.Duration{}
	for _, s := range r.Status() {
		g.cpu[s.Kind] = processCPU(s.Pid)
	}
	return g, nil
}

// processCPU is the on-CPU time of all threads of a process (schedstat counts ns).
func processCPU(pid int) (sum time.Duration) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, t := range tasks {
		if b, err := os.ReadFile(t); err == nil {
			ran, _, _ := strings.Cut(string(b), " ")
			ns, _ := strconv.ParseInt(ran, 10, 64)
			sum += time.Duration(ns)
		}
	}
	return sum
}

func (fl benchFlags) measure(ctx context.Context, r *benchRun, fifo string, cpu int) (*benchFigures, error) {
	if up, err := r.ready(ctx); !up {
		return nil, cmp.Or(err, errBench)
	}
	if !fl.json {
		fmt.Fprintf(os.Stderr, "%d clients, %d bytes a message, %v ...\n", fl.clients, fl.size, fl.duration)
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "benchserve", "clients", "--addr", r.n.l[0].addr,
		"--clients", strconv.Itoa(fl.clients), "--size", strconv.Itoa(fl.size), "--window", strconv.Itoa(fl.window),
		"--duration", fl.duration.String(), "--credits", fifo, "--cpu="+strconv.Itoa(cpu))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var from, to benchReading
	rep := new(swarm.Report)
	for lines := bufio.NewScanner(out); lines.Scan() && err == nil; {
		switch l := lines.Text(); l {
		case "window":
			from, err = r.reading()
			fmt.Fprintln(in)
		case "end":
			to, err = r.reading()
			fmt.Fprintln(in)
		default:
			err = json.Unmarshal([]byte(l), rep)
		}
	}
	in.Close()
	if e := cmd.Wait(); err == nil && e != nil {
		err = fmt.Errorf("the clients' process: %w", e)
	}
	if err != nil {
		return nil, err
	}
	return fl.figures(rep, from, to), nil
}

func (fl benchFlags) figures(rep *swarm.Report, from, to benchReading) *benchFigures {
	share := func(kind string) float64 { return (to.cpu[kind] - from.cpu[kind]).Seconds() / rep.WindowSeconds }
	a, z := from.stats, to.stats
	delivered := math.Max(float64(z.Delivered-a.Delivered), 1)
	f := &benchFigures{
		Clients: fl.clients, Size: fl.size, Rate: fl.rate, Window: fl.window, Seconds: rep.WindowSeconds,
		Deliveries: rep.DeliveriesPerSec, Latency: rep.Latency,
		NetCPU: share(kindNet), ProducerCPU: share(kindTicker), ClientsCPU: rep.CPUShare,
		Allocs:   float64(z.NetMallocs-a.NetMallocs+z.ProdMallocs-a.ProdMallocs) / delivered,
		GCCycles: z.NetGC - a.NetGC + z.ProdGC - a.ProdGC,
		Sends:    float64(z.Sends-a.Sends) / delivered,
		PageSize: z.PageSize, Backing: z.Backing, Lossless: rep.Lossless, Faults: rep.Faults,
		Ended: rep.HealthyEnded, Ends: rep.EndGroups,
	}
	f.CPUPerMillion = (f.NetCPU + f.ProducerCPU) * rep.WindowSeconds / math.Max(float64(rep.Deliveries), 1) * 1e6
	f.Bottleneck = rep.Bottleneck(f.NetCPU + f.ProducerCPU)
	return f
}

func (f *benchFigures) print() {
	us := func(ns uint64) string { return fmt.Sprintf("%.0f µs", float64(ns)/1e3) }
	fmt.Printf("deliveries   %.0f per second, each verified\n", f.Deliveries)
	fmt.Printf("latency      p50 %s, p99 %s, p99.9 %s, max %s from publish to receive\n",
		us(f.Latency.P50), us(f.Latency.P99), us(f.Latency.P999), us(f.Latency.Max))
	fmt.Printf("CPU          network tile %.0f %%, producer %.0f %%, clients %.0f %%; %.3f s of the server per million deliveries\n",
		100*f.NetCPU, 100*f.ProducerCPU, 100*f.ClientsCPU, f.CPUPerMillion)
	fmt.Printf("per delivery %.4f sends, %.6f allocations (%d GC cycles in all)\n", f.Sends, f.Allocs, f.GCCycles)
	fmt.Printf("memory       %s, pages of %d KiB\n", f.Backing, f.PageSize>>10)
	if f.Bottleneck != "neither" {
		fmt.Printf("limited by   %s\n", f.Bottleneck)
	}
}

// benchClientsCmd is the clients' process. After `window` and `end` it waits for a line, so that the parent
// takes its readings at that moment; the last line is the report.
func benchClientsCmd() *cobra.Command {
	var o swarm.Options
	var window uint64
	var credits string
	cpu := tile.Float
	cmd := &cobra.Command{Use: "clients", Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		pipe, err := os.OpenFile(credits, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		fd := int(pipe.Fd())
		var failed error
		ctx, cancel := stopOnSignal()
		defer cancel()
		give := func(limit uint64) {
			if err := giveCredits(fd, limit); err != nil && failed == nil {
				failed = fmt.Errorf("credits: %w", err)
				cancel()
			}
		}
		stdin := bufio.NewReader(os.Stdin)
		say := func(what string) {
			fmt.Println(what)
			if _, err := stdin.ReadString('\n'); err != nil && failed == nil {
				failed = io.ErrUnexpectedEOF
				cancel()
			}
		}
		o.OnReady = func(int) { give(math.MaxUint64) }
		if window > 0 {
			o.OnReady = func(int) { give(window) }
			o.OnProgress = func(low uint64) { give(low + window) }
		}
		o.OnWindow, o.OnEnd = func() { say("window") }, func() { say("end") }
		o.Warmup = 500 * time.Millisecond
		if err := tile.Pin(cpu); err != nil {
			return err
		}
		r, err := swarm.Run(ctx, o)
		runtime.KeepAlive(pipe) // collected, it would close fd, and a client's socket take its number
		if err = errors.Join(failed, err); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	}}
	f := cmd.Flags()
	f.StringVar(&o.Addr, "addr", "", "")
	f.IntVar(&o.Clients, "clients", 1, "")
	f.IntVar(&o.Size, "size", 0, "")
	f.DurationVar(&o.Duration, "duration", 0, "")
	f.Uint64Var(&window, "window", 0, "")
	f.StringVar(&credits, "credits", "", "")
	f.IntVar(&cpu, "cpu", tile.Float, "")
	return cmd
}

// giveCredits writes the highest seq that may be published. The producer empties the pipe at each read.
func giveCredits(fd int, limit uint64) error {
	b := binary.LittleEndian.AppendUint64(nil, limit)
	for {
		switch _, err := unix.Write(fd, b); err {
		case nil:
			return nil
		case unix.EINTR:
		default:
			return err
		}
	}
}
