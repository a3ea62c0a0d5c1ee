package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/topo"
)

// logEvent writes what happened to a tile. A death that was to come is an end.
func logEvent(log *slog.Logger, e topo.Event) {
	msg, level := e.What.String(), e.Level()
	switch {
	case ended(e):
		msg = "ended"
	case e.What == topo.Stray: // what a command left behind; it is gone now
		level = slog.LevelInfo
	}
	log.LogAttrs(context.Background(), level, msg, e.Attrs()...)
}

// ended reports whether e is the end of a tile that was told to end, or had nothing left to do.
func ended(e topo.Event) bool { return e.What == topo.Died && (e.Expected || e.Exit.Clean()) }

// logBad writes what nobody asked for, for verbs whose output is something else.
func logBad(log *slog.Logger, e topo.Event) {
	if e.What.Bad() && !ended(e) {
		logEvent(log, e)
	}
}

// crew is the tiles of an instance, under a supervisor of this process.
type crew struct {
	*topo.Supervisor
	gone chan struct{} // closed when no tile is left
	err  error         // of the supervisor, once gone is closed

	spared atomic.Int64 // pid of a process in a group of its own that is no stray of a tile
}

// heartbeatTimeout is the age from which on a tile's heartbeat is stale.
const heartbeatTimeout = 2 * time.Second

// defaultBudget is how often a tile may be restarted within a minute.
const defaultBudget = 5

// topoBudget is a number of restarts as package topo takes it.
func topoBudget(n int) int {
	if n == 0 {
		return -1 // none
	}
	return n
}

// launch starts the tiles; event gets what happens to them.
func launch(specs []topo.Spec, budget int, heartbeat time.Duration, event func(*crew, topo.Event)) (*crew, error) {
	c := &crew{gone: make(chan struct{})}
	var err error
	c.Supervisor, err = topo.New(specs, topo.Options{
		HaltGrace: 4 * time.Second, HeartbeatTimeout: heartbeat, Refusal: exitRefused, Budget: topoBudget(budget), Event: func(e topo.Event) { event(c, e) },
		Spare: func(pid int) bool { return int64(pid) == c.spared.Load() },
	})
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(c.gone)
		c.err = c.Run(context.Background())
	}()
	return c, nil
}

// ready waits until all tiles are ready. False: they will not be, and are gone, because ctx ended or of err.
func (c *crew) ready(ctx context.Context) (up bool, err error) {
	select {
	case <-c.AllReady():
		return true, nil
	case <-ctx.Done():
		return false, c.stop()
	case <-c.gone:
		return false, c.err
	}
}

// within returns a context that ends with ctx, and when no tile is left.
func (c *crew) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-c.gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// wait waits until no tile is left.
func (c *crew) wait() error {
	<-c.gone
	return c.err
}

// stop takes the tiles down in order.
func (c *crew) stop() error {
	c.Stop()
	return c.wait()
}

// netSpec is how a network tile is started, with its listening sockets and further flags.
func netSpec(in *instance.Instance, id, cpu int, files []*os.File, more ...string) (topo.Spec, error) {
	fds := make([]string, len(files))
	for i := range fds {
		fds[i] = strconv.Itoa(3 + i)
	}
	s, err := tileSpec(in, instance.Tile{Kind: kindNet, ID: id}, cpu, files,
		append([]string{"--history", histories(in), "--listen-fds", strings.Join(fds, ",")}, more...)...)
	s.Keep = true
	s.Upgrade = ownPath()
	return s, err
}

// histories lists that of each topic, as it is now: what the memory says may have been overruled.
func histories(in *instance.Instance) string {
	var h []string
	for _, t := range in.Info.Topics {
		h = append(h, strconv.FormatUint(uint64(t.History), 10))
	}
	return strings.Join(h, ",")
}

// tileSpec is how any tile is started: this program again, as a process of its own.
func tileSpec(in *instance.Instance, t instance.Tile, cpu int, files []*os.File, args ...string) (topo.Spec, error) {
	m, err := in.Cnc(t)
	if err != nil {
		return topo.Spec{}, fmt.Errorf("%v: %w", t, err)
	}
	s := topo.Spec{
		Kind: t.Kind, ID: t.ID, Path: "/proc/self/exe", CPU: cpu, Cnc: m, Files: files,
		Args: append([]string{"tile", t.Kind, "--instance", in.Info.Name, "--id", strconv.Itoa(t.ID), "--cpu=" + strconv.Itoa(cpu)}, args...),
	}
	if t.Kind == kindNet {
		s.Wake = func() { _ = in.Server.WakeTile(t.ID) }
	}
	if t.Kind == kindSource {
		s.DeathSignal = unix.SIGTERM // it has processes of its own to end
	}
	return s, nil
}

// raise hands a signal to a tile and wakes it.
func raise(in *instance.Instance, id int, s tile.Signal) error {
	m, err := in.Cnc(instance.Tile{Kind: kindNet, ID: id})
	if err != nil {
		return err
	}
	c, err := tile.CncJoin(m)
	if err != nil {
		return err
	}
	if err := c.Raise(s); err != nil {
		return err
	}
	return in.Server.WakeTile(id)
}

// addresses prints where people and programs find the instance.
func addresses(in *instance.Instance) string {
	var b strings.Builder
	for _, a := range in.Info.Listen {
		if path, ok := strings.CutPrefix(a, "unix:"); ok {
			fmt.Fprintf(&b, "  unix socket %s\n", path)
			continue
		}
		ap, err := netip.ParseAddrPort(a)
		if err != nil {
			continue
		}
		if ap.Addr().IsUnspecified() {
			ap = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), ap.Port())
		}
		fmt.Fprintf(&b, "  live page  http://%s/\n  websocket  ws://%s/ws\n", ap, ap)
	}
	fmt.Fprintf(&b, "  memory     %s\n", memoryText(in.Region))
	fmt.Fprintf(&b, "  instance   %s\n", in.Info.Name)
	return b.String()
}

// memoryText tells the region's size and pages, and how to get better ones.
func memoryText(r *shmem.Region) string {
	s := fmt.Sprintf("%d MiB on %s", r.Size()>>20, r.Backing())
	if n := r.Numa().String(); n != "" {
		s += ", " + n
	}
	if r.Fallback() != "" && r.PageSize() < shmem.PageHuge {
		s += " (no huge pages here: see hugepage.md)"
	}
	return s
}
