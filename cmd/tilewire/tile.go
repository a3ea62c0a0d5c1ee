package main

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/health"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/cmd/tilewire/page"
	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/sandbox"
)

// Kinds of tiles.
const (
	kindNet    = health.KindNet // a network tile
	kindSource = "source"       // a producer fed by a command's output
	kindTicker = "ticker"       // a producer of numbered messages, for demo and bench

	kindAdmin = health.KindAdmin // answers operators over HTTP
)

// sigEndOfInput tells a network tile that its producer's input has ended: its
// clients are closed with 1001 once they have everything, and the tile ends.
const sigEndOfInput = tile.SignalUser

// sigSettings tells a network tile that other settings are in force, or a drain: see instance.Life.
const sigSettings = tile.SignalUser + 1

// drainTime bounds how long clients may take for what they have yet to get.
const drainTime = 5 * time.Second

// tileArgs are what every tile is told.
type tileArgs struct {
	name    string
	id      int
	cpu     int
	sandbox bool
}

func tileCmd() *cobra.Command {
	var a tileArgs
	cmd := &cobra.Command{Use: "tile", Short: "Run one tile of an instance (started by its supervisor)", Hidden: true}
	f := cmd.PersistentFlags()
	f.StringVar(&a.name, "instance", "", "instance to join")
	f.IntVar(&a.id, "id", 0, "number among the tiles of its kind")
	f.IntVar(&a.cpu, "cpu", tile.Float, "CPU to be pinned to, -1 for none")
	f.BoolVar(&a.sandbox, "sandbox", true, "run confined, as the supervisor started it")

	var fds []int
	var history []uint
	var steering int
	net := &cobra.Command{Use: kindNet, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return runNetTile(a, fds, steering, history) }}
	net.Flags().IntSliceVar(&fds, "listen-fds", nil, "inherited listening sockets")
	net.Flags().IntVar(&steering, "steering-fd", -1, "inherited map of package steer")
	net.Flags().UintSliceVar(&history, "history", nil, "messages that a late joiner gets, of each topic")

	var framing string
	source := &cobra.Command{
		Use: kindSource + " -- COMMAND [ARG...]", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return sourceTile(a, framing, args) },
	}
	source.Flags().StringVar(&framing, "frame", "line", "line, nul or len32")

	var rate, size int
	ticker := &cobra.Command{Use: kindTicker, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return tickerTile(a, rate, size) }}
	ticker.Flags().IntVar(&rate, "rate", 1000, "messages per second")
	ticker.Flags().IntVar(&size, "size", 128, "bytes per message")

	var adminFd int
	adm := &cobra.Command{Use: kindAdmin, Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return adminTile(a, adminFd, steering) }}
	adm.Flags().IntVar(&steering, "steering-fd", -1, "inherited map of package steer")
	adm.Flags().IntVar(&adminFd, "listen-fd", 3, "inherited listening socket")

	cmd.AddCommand(net, source, ticker, adm)
	return cmd
}

// enter joins the instance as one of its tiles.
func (a tileArgs) enter(kind string) (*instance.Instance, *tile.Cnc, error) {
	in, err := instance.Join(a.name, shmem.ReadWrite)
	if err != nil {
		return nil, nil, err
	}
	m, err := in.Cnc(instance.Tile{Kind: kind, ID: a.id})
	if err != nil {
		return nil, nil, fmt.Errorf("%s:%d of %s: %w", kind, a.id, a.name, err)
	}
	cnc, err := tile.CncJoin(m)
	if err != nil {
		return nil, nil, err
	}
	v := defaultLimits().settings() // what a supervisor of an older build does not know of
	if _, err := in.Life().Settings(&v); err != nil {
		return nil, nil, err
	}
	setLog(v.Log)
	if _, err = cnc.Take(); err != nil { // held until the process ends
		return nil, nil, err
	}
	if a.sandbox {
		if err := sandbox.Verify(); err != nil {
			cnc.Fail(err)
			return nil, nil, err
		}
	}
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) // who read the log may go
	dumpOnQuit(fmt.Sprintf("%s:%d", kind, a.id))
	// So that ps and top tell the tiles apart; at most 15 bytes.
	_ = os.WriteFile("/proc/self/comm", fmt.Appendf(nil, "tw %s:%d", kind, a.id), 0)
	return in, cnc, nil
}

// failed leaves the error of a tile in its cnc, where its supervisor finds it.
func failed(cnc *tile.Cnc, err *error) {
	if *err != nil {
		cnc.Fail(*err)
	}
}

// routes answers the public requests.
func routes(home httpsrv.Static, topics []instance.Topic, probe *probes) func(*httpsrv.Request) httpsrv.Response {
	reads := httpsrv.Methods(httpsrv.MethodGet, httpsrv.MethodHead, httpsrv.MethodOptions)
	get := func(r httpsrv.Response, req *httpsrv.Request) httpsrv.Response {
		switch req.Method {
		case httpsrv.MethodGet, httpsrv.MethodHead:
			return r
		case httpsrv.MethodOptions:
			return httpsrv.Response{Status: 204, Allow: reads}
		}
		return httpsrv.Response{Status: 405, Allow: reads}
	}
	stream := func(ring int, r *httpsrv.Request) httpsrv.Response {
		return get(httpsrv.Response{UpgradeWebsocket: true, Ring: ring, History: topics[ring].History}, r)
	}
	return func(r *httpsrv.Request) httpsrv.Response {
		if name, ok := bytes.CutPrefix(r.Path, []byte("/ws/")); ok {
			for i := range topics {
				if topics[i].Name == string(name) {
					return stream(i, r)
				}
			}
			return httpsrv.Response{Status: 404} // a topic's name has nothing in it that would be escaped
		}
		switch string(r.Path) {
		case "*": // OPTIONS of the server as a whole (RFC 9110 section 9.3.7)
			return httpsrv.Response{Status: 204, Allow: reads}
		case "/":
			return get(httpsrv.Response{ContentType: page.ContentType, CacheControl: "no-cache", StaticBody: home}, r)
		case "/ws":
			return stream(0, r)
		case "/healthz", "/readyz":
			if r.Method == httpsrv.MethodGet || r.Method == httpsrv.MethodHead {
				return probe.answer(r.Path[1] == 'r')
			}
			return get(httpsrv.Response{}, r)
		}
		// What this tile does not serve itself belongs to the application that joined, if one did.
		return httpsrv.Response{Forward: true, App: 0, Status: 404}
	}
}

// tickerTile publishes numbered, verifiable messages at a rate.
func tickerTile(a tileArgs, rate, size int) (err error) {
	in, cnc, err := a.enter(kindTicker)
	if err != nil {
		return err
	}
	defer failed(cnc, &err)
	st, err := in.Server.Produce(0, publishBound)
	if err != nil {
		return err
	}
	defer st.Close()
	if rate < 1 || size < swarm.PrefixSz {
		return fmt.Errorf("%w: rate %d (1 or more), size %d (%d or more)", httpsrv.ErrParams, rate, size, swarm.PrefixSz)
	}
	seq := uint64(st.Seq())
	begin := shmem.Monotonic()
	first := seq
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	loop := tile.Loop{Cnc: cnc, CPU: a.cpu, KeepOff: false}
	a.confine(&loop, sandbox.ProducerCalls)
	loop.Poll = func(now int64, timeoutMs int) int {
		due := first + uint64((now-begin)*int64(rate)/1e9)
		if seq >= due {
			if timeoutMs > 0 {
				next := begin + int64(seq+1-first)*1e9/int64(rate) - now
				timer.Reset(time.Duration(min(max(next, 0), int64(timeoutMs)*1e6)))
				<-timer.C
			}
			return 0
		}
		n := 0
		for ; seq < due && n < 64; n++ {
			b := st.Append(size)
			if b == nil { // busy beyond the bound: the next send reports and clears it
				_, _ = st.WsBroadcast(httpsrv.OpBinary)
				break
			}
			swarm.FillPayload(b, seq+1, now)
			st.Commit(size)
			if _, err := st.WsBroadcast(httpsrv.OpBinary); err != nil {
				break
			}
			seq++
		}
		return n
	}
	return loop.Run()
}
