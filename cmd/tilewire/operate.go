package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/control"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/topo"
)

const (
	// drainSlack is what the end of a drain may take besides: what clients have yet to get, closing handshakes, tiles.
	drainSlack = 2*drainTime + 5*time.Second
	// ackTime is how long tiles are waited for to take new settings.
	ackTime = 5 * time.Second
	// restartTime is how long a tile that is restarted may take.
	restartTime = 30 * time.Second
)

// operator steers a running instance as its signals and its control socket say.
type operator struct {
	*crew
	in     *instance.Instance
	log    *slog.Logger
	nets   *nets
	notify *notifier
	ending context.Context // over once it drains or stops
	end    context.CancelFunc

	sigs      chan os.Signal
	reloading sync.Mutex // one at a time
	restarts  sync.Mutex // likewise

	mu      sync.Mutex
	r       *runFlags // in force
	set     instance.Settings
	state   instance.State
	unkept  map[instance.Tile]bool // tiles whose keeper died
	waiters []*waiter
}

// waiter is told when a tile was started anew, and is ready.
type waiter struct {
	tile  instance.Tile
	begun bool
	done  chan error // room for one
}

// operatorSignals are those that wait from now on until serve obeys them.
func operatorSignals() chan os.Signal {
	sigs := make(chan os.Signal, 4)
	signal.Notify(sigs, unix.SIGHUP, unix.SIGUSR2, unix.SIGQUIT)
	// Who read the log may go: the instance goes on without it.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	return sigs
}

// newOperator puts the settings of r in force, for tiles that are about to be started.
func newOperator(ctx context.Context, in *instance.Instance, r *runFlags, n *nets, sigs chan os.Signal, log *slog.Logger) (*operator, error) {
	op := &operator{sigs: sigs, in: in, log: log, nets: n, r: r, set: r.settings(), unkept: map[instance.Tile]bool{}}
	op.ending, op.end = context.WithCancel(ctx)
	in.Life().SetState(instance.Starting)
	_, err := in.Life().SetSettings(op.set)
	return op, err
}

// serve steers until the tiles are gone: from now on, when all are ready.
func (op *operator) serve(ctx context.Context) error {
	op.mu.Lock()
	op.state = instance.Ready
	op.in.Life().SetState(instance.Ready)
	op.mu.Unlock()
	s, err := control.Serve(op.in.Info.RunDir, op.handle)
	if err != nil {
		return errors.Join(err, op.stop())
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { op.drain(false) })()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	slow := newSlowest(op.in)
	for {
		select {
		case <-tick.C:
			slow.tell(op.in, op.log)
		case sig := <-op.sigs:
			switch sig {
			case unix.SIGHUP:
				go op.reload()
			case unix.SIGUSR2:
				op.drain(true)
			case unix.SIGQUIT:
				dumpStacks("supervisor")
				op.Signal(unix.SIGQUIT)
			}
		case <-op.gone:
			return op.err
		}
	}
}

// handle answers a request from the control socket.
func (op *operator) handle(q control.Request) (r control.Reply, hold bool) {
	op.log.Info("asked to " + strings.TrimSpace(q.Verb+" "+q.Tile))
	switch q.Verb {
	case "drain":
		r.Clients, r.Note = op.drain(false)
		return r, true
	case "stop":
		r.Clients = streaming(op.in)
		op.halt()
		return r, true
	case "reload":
		changes, note, err := op.reload()
		if err != nil {
			return control.Reply{Exit: exitCode(err), Error: err.Error()}, false
		}
		return control.Reply{Changes: changes, Note: note}, false
	case "restart":
		if err := op.restart(q.Tile); err != nil {
			return control.Reply{Exit: exitCode(err), Error: err.Error()}, false
		}
		return r, false
	}
	return control.Reply{Exit: exitUsage, Error: fmt.Sprintf("this instance knows no request %q", q.Verb)}, false
}

// drain sends all clients away, one after the other, and ends the instance. Asked again it may be over sooner, never later. It
// returns how many clients there are, and says how long they have.
func (op *operator) drain(lameDuck bool) (clients uint64, note string) {
	op.mu.Lock()
	defer op.mu.Unlock()
	clients = streaming(op.in)
	if op.state == instance.Stopping {
		return clients, ""
	}
	over := op.set.Shutdown.Drain
	if lameDuck {
		over = op.set.Shutdown.LameDuck
	}
	now := shmem.Monotonic()
	from := now + op.set.Shutdown.Grace.Nanoseconds()
	until := from + over.Nanoseconds()
	if d := op.set.Drain; d != nil { // already
		was := d.From + d.Over.Nanoseconds()
		if until >= was {
			return clients, ""
		}
		from, until = max(min(from, d.From), now), min(until, was)
	}
	op.set.Drain = &instance.Drain{From: from, Over: time.Duration(max(until-from, 0))}
	if _, err := op.in.Life().SetSettings(op.set); err != nil {
		op.log.Error("drain", "error", err.Error())
		op.Stop()
		return clients, ""
	}
	op.state = instance.Draining
	op.in.Life().SetState(instance.Draining)
	op.end()
	note = fmt.Sprintf("%d clients are sent away within %v", clients, time.Duration(until-now).Round(time.Millisecond))
	op.log.Info("draining", "clients", clients, "grace", time.Duration(from-now).Round(time.Millisecond).String(), "over", op.set.Drain.Over.String(),
		"now", "a second SIGTERM or SIGINT ends it at once")
	time.AfterFunc(time.Duration(from-now), op.nets.l.refuse)
	time.AfterFunc(time.Duration(until-now)+drainSlack, op.halt)
	op.ask()
	if netsEnded(op.Status()) { // nobody is left to tell of an end
		go op.halt()
	}
	return clients, note
}

// halt ends the instance at once: clients are closed with 1001.
func (op *operator) halt() {
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.state != instance.Stopping {
		op.state = instance.Stopping
		op.in.Life().SetState(instance.Stopping)
		op.end()
	}
	op.Stop()
}

// ask has the network tiles look at the settings. One that is being started, or has another signal to acknowledge, looks by
// itself, and is not among those that are returned.
func (op *operator) ask() (asked []*tile.Cnc) {
	for _, t := range op.in.Tiles() {
		if t.Kind != kindNet {
			continue
		}
		if m, err := op.in.Cnc(t); err == nil {
			if c, err := tile.CncJoin(m); err == nil && c.Held() && raise(op.in, t.ID, sigSettings) == nil {
				asked = append(asked, c)
			}
		}
	}
	return asked
}

// tell asks, waits, and names those that have not looked by the end of ctx.
func (op *operator) tell(ctx context.Context) (late []string) {
	asked := op.ask()
	look := time.NewTicker(time.Millisecond) // a cnc rings nobody
	defer look.Stop()
	for _, c := range asked {
		for c.Signal() == sigSettings {
			select {
			case <-look.C:
				continue
			case <-ctx.Done():
				late = append(late, c.Name())
			}
			break
		}
	}
	return late
}

// restart starts a tile anew, or all of a kind one after the other, and waits until each is ready.
func (op *operator) restart(name string) error {
	known, these := []string{}, []instance.Tile{}
	for _, s := range op.rows() {
		t := instance.Tile{Kind: s.Kind, ID: s.ID}
		known = append(known, t.String())
		if t.String() == name || t.Kind == name && (t.Kind != kindNet || t.ID < op.wanted()) {
			these = append(these, t)
		}
	}
	if len(these) == 0 {
		return usageError{fmt.Errorf("no tile %q runs here; these do: %s", name, strings.Join(known, ", "))}
	}
	for _, t := range these {
		if err := op.restartTile(t); err != nil {
			return err
		}
	}
	return nil
}

// restartTile starts one tile, whether it runs or not, and waits until it is ready.
func (op *operator) restartTile(t instance.Tile) error {
	w, name := &waiter{tile: t, done: make(chan error, 1)}, t.String()
	op.restarts.Lock()
	defer op.restarts.Unlock()
	if err := op.restarting(name, func() error {
		if t.Kind == kindNet && t.ID < op.nets.count { // it may have been given up
			if err := op.nets.open(t.ID); err != nil {
				return err
			}
		}
		op.waiters = append(op.waiters, w)
		op.set.Unkept = op.unkept[t]
		return nil
	}); err != nil {
		return err
	}
	defer op.restarting("", func() error {
		op.waiters = slices.DeleteFunc(op.waiters, func(o *waiter) bool { return o == w })
		return nil
	})
	if err := op.Restart(t.Kind, t.ID); err != nil {
		return err
	}
	select {
	case err := <-w.done:
		return err
	case <-time.After(restartTime):
		return fmt.Errorf("%s: not ready within %v", name, restartTime)
	case <-op.gone:
		return fmt.Errorf("%s: the instance has ended", name)
	}
}

// restarting tells the tiles which of them is to be started again, "" none, and calls f, all in one.
func (op *operator) restarting(name string, f func() error) error {
	op.mu.Lock()
	defer op.mu.Unlock()
	if name != "" && op.state != instance.Ready {
		return fmt.Errorf("the instance is %v", op.state)
	}
	if err := f(); err != nil {
		return err
	}
	op.set.Restarting = name
	_, err := op.in.Life().SetSettings(op.set)
	return err
}

// event is called with what happens to the tiles.
func (op *operator) event(c *crew, e topo.Event) {
	logEvent(op.log, e)
	op.mu.Lock()
	defer op.mu.Unlock()
	switch t := (instance.Tile{Kind: e.Kind, ID: e.ID}); e.What {
	case topo.Unkept:
		op.unkept[t] = true
	case topo.Ready: // it has made one
		delete(op.unkept, t)
	}
	for _, w := range op.waiters {
		switch {
		case w.tile != (instance.Tile{Kind: e.Kind, ID: e.ID}):
		case e.What == topo.Restarted || e.What == topo.Started:
			w.begun = true
		case e.What == topo.Died && e.Expected && e.Again: // as it was told
		case w.begun && e.What == topo.Died && e.Again && e.Exit.Signal != 0: // it comes again
		case w.begun && (e.What == topo.Ready || e.What == topo.Died || e.What == topo.GaveUp), e.What == topo.LeftDown:
			var err error
			if e.What != topo.Ready {
				err = fmt.Errorf("%v: %s", w.tile, e)
			}
			select {
			case w.done <- err:
			default:
			}
		}
	}
	if e.Kind == kindNet {
		op.steer(e)
	}
	if e.What == topo.GaveUp {
		op.state = instance.Stopping
		op.in.Life().SetState(instance.Stopping)
	}
	if op.state == instance.Draining && e.What == topo.Died && !e.Again && netsEnded(c.Status()) {
		op.state = instance.Stopping
		op.in.Life().SetState(instance.Stopping)
		c.Stop()
	}
}

// steer has newcomers go to the network tiles that are there for them.
func (op *operator) steer(e topo.Event) {
	switch e.What {
	case topo.Ready, topo.Recovered:
		op.nets.live(e.ID, true)
		op.given(e.ID, false)
	case topo.Died, topo.Stuck:
		op.nets.live(e.ID, false)
		if e.What == topo.Died && !e.Again && e.Exit.Clean() && e.ID < op.nets.count && op.state == instance.Ready {
			_ = op.Restart(kindNet, e.ID) // its last client left just before a reload took it back
		}
	case topo.LeftDown:
		op.nets.shut(e.ID)
		op.given(e.ID, true)
		// Its connections are gone with its keeper: they are counted, and not as open any more.
		if t, err := op.in.Server.TakeTile(e.ID, httpsrv.TileOptions{BellPath: op.in.Bell(e.ID)}); err == nil {
			t.Release()
		}
	}
}

// given takes note of a network tile that was given up, whose work the others do, or that came again.
func (op *operator) given(id int, up bool) {
	if slices.Contains(op.set.Down, id) == up {
		return
	}
	down := slices.DeleteFunc(slices.Clone(op.set.Down), func(i int) bool { return i == id })
	if up {
		down = append(down, id)
	}
	op.set.Down = down
	if _, err := op.in.Life().SetSettings(op.set); err != nil {
		op.log.Error("settings", "error", err.Error())
	}
}

// wanted is how many network tiles are to run.
func (op *operator) wanted() int {
	op.mu.Lock()
	defer op.mu.Unlock()
	return op.nets.count
}

// rows are the tiles that there are: without network tiles that were never wanted, or are not any more.
func (op *operator) rows() []topo.Status {
	count := op.wanted()
	return slices.DeleteFunc(op.Status(), func(r topo.Status) bool {
		return r.Kind == kindNet && r.ID >= count && r.State == topo.StateEnded
	})
}

// netsEnded reports whether no network tile is left.
func netsEnded(rows []topo.Status) bool {
	return !slices.ContainsFunc(rows, func(r topo.Status) bool { return r.Kind == kindNet && r.State != topo.StateEnded })
}
