package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/topo"
)

type demoFlags struct {
	clients, stall, rate, size int
	duration                   time.Duration
	json                       bool
	privileges
}

func demoCmd() *cobra.Command {
	var fl demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a producer, a network tile and 2,000 clients of which 5 stop reading, and print what happened",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return demo(fl) },
	}
	f := cmd.Flags()
	f.IntVar(&fl.clients, "clients", 2000, "clients, each a TCP connection")
	f.IntVar(&fl.stall, "stall", 5, "of these, how many stop reading")
	f.IntVar(&fl.rate, "rate", 200, "messages per second")
	f.IntVar(&fl.size, "size", 512, "bytes per message")
	f.DurationVar(&fl.duration, "duration", 10*time.Second, "how long to measure")
	f.BoolVar(&fl.json, "json", false, "print the summary as JSON")
	fl.privileges.flags(cmd)
	cmd.AddCommand(swarmCmd())
	return cmd
}

// swarmCmd is the clients' process: it prints its report as JSON, at the end of its input at the latest.
func swarmCmd() *cobra.Command {
	var o swarm.Options
	cmd := &cobra.Command{Use: "clients", Hidden: true, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
		r, err := swarm.Run(ctx, o)
		if err != nil && (r == nil || ctx.Err() == nil) {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	}}
	f := cmd.Flags()
	f.StringVar(&o.Addr, "addr", "", "")
	f.IntVar(&o.Clients, "clients", 1, "")
	f.IntVar(&o.StallClients, "stall", 0, "")
	f.IntVar(&o.Size, "size", 0, "")
	f.DurationVar(&o.Duration, "duration", 0, "")
	f.DurationVar(&o.StallWait, "stall-wait", 0, "")
	return cmd
}

// demoSummary is what the demo measured.
type demoSummary struct {
	Clients    int               `json:"clients"`
	Stalled    int               `json:"stalled"`
	Seconds    float64           `json:"seconds"`
	Stopped    bool              `json:"stopped"`          // by a signal, before its time
	Evicted    uint64            `json:"evicted_too_slow"` // by the tile's counter
	Others     uint64            `json:"others_disturbed"` // healthy clients that ended or missed a byte
	Published  uint64            `json:"published"`
	Deliveries float64           `json:"deliveries_per_second"`
	Latency    swarm.Latency     `json:"latency"`
	Memory     string            `json:"memory"`
	Closed     map[string]uint64 `json:"closed"`
	Ends       []swarm.EndGroup  `json:"ends"` // as the clients saw them
	Faults     swarm.Faults      `json:"faults"`
	Waits      uint64            `json:"producer_waits"`
}

func demo(fl demoFlags) error {
	if fl.clients < 1 || fl.stall < 0 || fl.stall > fl.clients || fl.rate < 1 || fl.size < swarm.PrefixSz || fl.duration <= 0 {
		return usageError{fmt.Errorf("demo: clients 1 or more, stall 0 to clients, rate 1 or more, size %d or more, duration above 0", swarm.PrefixSz)}
	}
	if err := fl.check(); err != nil {
		return err
	}
	ctx, cancel := stopOnSignal()
	defer cancel()
	l, err := listen([]string{"127.0.0.1:0"}, 1, 1)
	if err != nil {
		return err
	}
	defer l.close()
	net, ticker := instance.Tile{Kind: kindNet}, instance.Tile{Kind: kindTicker}
	// The ring is small, so that who stops reading falls behind it within the demo.
	p := defaultParams(1<<20, uint32(fl.clients)+64, 1)
	in, err := instance.Create(instance.Info{
		Name: ownName("demo"), Listen: l.addrs(), Pid: os.Getpid(), Started: time.Now().UnixNano(),
	}, p, []instance.Tile{net, ticker}, shmem.Options{})
	if err != nil {
		return err
	}
	defer in.Remove()
	if _, err := in.Life().SetSettings(defaultLimits().settings()); err != nil {
		return err
	}
	cpus := tile.AutoCPUs(1, tile.AllowedCPUs())
	ns, err := netSpec(in, 0, cpus[0], l.of(0))
	if err != nil {
		return err
	}
	ts, err := tileSpec(in, ticker, tile.Float, nil, "--rate", strconv.Itoa(fl.rate), "--size", strconv.Itoa(fl.size))
	if err != nil {
		return err
	}
	log := logger()
	specs := []topo.Spec{ns, ts}
	fl.confine(specs)
	c, err := launch(specs, defaultBudget, heartbeatTimeout, func(_ *crew, e topo.Event) { logBad(log, e) })
	if err != nil {
		return err
	}
	if up, err := c.ready(ctx); !up {
		return err
	}
	in.Life().SetState(instance.Ready)
	if !fl.json {
		fmt.Fprint(os.Stderr, addresses(in), topo.Table(c.Status()))
	}
	served, cancelServed := c.within(ctx)
	defer cancelServed()
	report, err := clients(served, c, fl, l[0].addr)
	if err != nil {
		return cmp.Or(c.stop(), err) // the first says why there were no clients any more
	}
	sum, err := summarise(in, fl, report)
	if err = cmp.Or(c.stop(), err); err != nil {
		return err
	}
	sum.Stopped = ctx.Err() != nil
	return sum.print(fl)
}

// clients runs the swarm in a process of its own, which sums up what it has when ctx ends.
func clients(ctx context.Context, c *crew, fl demoFlags, addr string) (*swarm.Report, error) {
	cmd := exec.Command("/proc/self/exe", "demo", "clients", "--addr", addr,
		"--clients", strconv.Itoa(fl.clients), "--stall", strconv.Itoa(fl.stall), "--size", strconv.Itoa(fl.size),
		"--duration", fl.duration.String(), "--stall-wait", "60s")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's signals are for this process to judge
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("the clients' process: %w", err)
	}
	c.spared.Store(int64(cmd.Process.Pid))
	if !fl.json {
		fmt.Fprintf(os.Stderr, "%d clients connect, %d of them will stop reading; %d messages/s of %d bytes for %v\n",
			fl.clients, fl.stall, fl.rate, fl.size, fl.duration)
	}
	defer context.AfterFunc(ctx, func() { in.Close() })()
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("the clients' process: %w: %s", err, strings.TrimPrefix(said.String(), "tilewire: "))
	}
	r := new(swarm.Report)
	return r, json.Unmarshal(out.Bytes(), r)
}

func summarise(in *instance.Instance, fl demoFlags, r *swarm.Report) (*demoSummary, error) {
	cnt, err := in.Server.Counters(0)
	if err != nil {
		return nil, err
	}
	s := &demoSummary{
		Clients: fl.clients, Stalled: fl.stall, Seconds: r.WindowSeconds, Published: uint64(in.Server.Ring(0).Head), Waits: in.Server.Ring(0).Waits,
		Deliveries: r.DeliveriesPerSec, Latency: r.Latency, Memory: memoryText(in.Region), Closed: map[string]uint64{},
		Faults: r.Faults, Ends: r.EndGroups,
	}
	for why := httpsrv.CloseReason(0); why.Name() != "unknown"; why++ {
		if c := cnt.Lookup("closed_" + why.Name()); c != nil && c.Load() > 0 {
			s.Closed[why.Name()] = c.Load()
		}
	}
	s.Evicted = s.Closed[httpsrv.CloseWsClientTooSlow.Name()]
	s.Others = r.Faults.Total() + uint64(r.HealthyEnded)
	return s, nil
}

// errDemo: the demo did not show what it is there to show.
var errDemo = errors.New("demo: not every stalled client was evicted, or others were disturbed")

// print writes the summary to standard output.
func (s *demoSummary) print(fl demoFlags) error {
	if fl.json {
		if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
			return err
		}
	} else {
		ms := func(ns uint64) string { return fmt.Sprintf("%.2f ms", float64(ns)/1e6) }
		if s.Stopped {
			fmt.Printf("stopped      after %.1f s of %v\n", s.Seconds, fl.duration)
		}
		fmt.Printf("deliveries   %.0f per second to %d clients, every byte verified\n", s.Deliveries, s.Clients-s.Stalled)
		fmt.Printf("latency      p50 %s, p99 %s, max %s from publish to receive\n", ms(s.Latency.P50), ms(s.Latency.P99), ms(s.Latency.Max))
		fmt.Printf("evicted      %d of the %d that stopped reading: %v\n", s.Evicted, s.Stalled, httpsrv.CloseWsClientTooSlow)
		for _, e := range s.Ends {
			fmt.Printf("             %d seen by the %s client as %s", e.Count, e.Role, e.Kind)
			if e.Code != 0 {
				fmt.Printf(" %d", e.Code)
			}
			if e.Reason != "" {
				fmt.Printf(" (%s)", e.Reason)
			}
			fmt.Println()
		}
		fmt.Printf("the others   %d disturbed\n", s.Others)
		fmt.Printf("producer     %d messages published, waited %d times for a send\n", s.Published, s.Waits)
		fmt.Printf("memory       %s\n", s.Memory)
	}
	if s.Evicted != uint64(s.Stalled) && !s.Stopped || s.Others != 0 {
		return errDemo
	}
	return nil
}
