package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile/topo"
)

const (
	notifyEvery = time.Second
	// stopExtend is what each word while stopping asks for until the next one, a second later, must have come.
	stopExtend = 10 * time.Second
)

// notifier tells the service manager that started this process (sd_notify(3)) how the instance is: READY when all tiles
// are; STATUS when it changes; WATCHDOG only while every tile's heartbeat is fresh, so that the manager restarts an
// instance that serves nobody though its supervisor lives; STOPPING and more time while clients are drained.
type notifier struct {
	every  time.Duration                  // between two looks
	fresh  atomic.Int64                   // ns; a heartbeat older than this is not
	dog    bool                           // the manager watches
	status func() ([]topo.Status, uint64) // of the tiles, and the number of clients
	send   func(state string) error
	told   string
}

// newNotifier returns nil where nobody asks (NOTIFY_SOCKET). Errors: of WATCHDOG_USEC.
func newNotifier(fresh time.Duration) (*notifier, error) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil, nil
	}
	n := &notifier{every: notifyEvery, send: func(state string) error {
		_, err := daemon.SdNotify(false, state)
		return err
	}}
	n.retune(fresh)
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	if limit > 0 { // as sd_watchdog_enabled(3) advises: twice as often, at least
		n.dog, n.every = true, min(n.every, limit/2)
	}
	return n, nil
}

// attend tells of op's tiles from now until they are gone, which over waits for. n may be nil.
func (n *notifier) attend(op *operator) (over func()) {
	if n == nil {
		return func() {}
	}
	n.status = func() ([]topo.Status, uint64) {
		count := op.wanted()
		rows := slices.DeleteFunc(op.Status(), func(r topo.Status) bool { return r.Kind == kindNet && r.ID >= count }) // on which nobody counts
		return rows, streaming(op.in)
	}
	told := make(chan struct{})
	go func() {
		defer close(told)
		n.follow(op.ending, op.AllReady(), op.gone, op.log)
	}()
	return func() { <-told }
}

// follow tells until done is closed, which is when the tiles are gone; ready and stopping (ctx) are waited for meanwhile.
// What cannot be told is logged once: the manager will draw its conclusions.
func (n *notifier) follow(ctx context.Context, ready, done <-chan struct{}, log *slog.Logger) {
	tick := time.NewTicker(n.every)
	defer tick.Stop()
	stopping := ctx.Done()
	up, ending, failed := false, false, false
	for {
		state := ""
		select {
		case <-done:
			return
		case <-ready:
			ready, up = nil, true
			state = daemon.SdNotifyReady + "\n" + n.look()
		case <-stopping:
			stopping, ending = nil, true
			state = daemon.SdNotifyStopping + "\n" + extend() + n.look()
		case <-tick.C:
			switch {
			case ending:
				state = extend() + n.look()
			case up:
				state = n.look()
			}
		}
		if state == "" {
			continue
		}
		if err := n.send(state); err != nil && !failed {
			failed = true
			log.Warn("service manager not told", "error", err.Error())
		}
	}
}

// retune changes from which age on a heartbeat is stale. n may be nil.
func (n *notifier) retune(fresh time.Duration) {
	if n != nil {
		n.fresh.Store(int64(fresh))
	}
}

// reloading tells that the configuration is being read again, and done that it was, as Type=notify-reload waits for. n may be nil.
func (n *notifier) reloading(log *slog.Logger) (done func()) {
	if n == nil {
		return func() {}
	}
	tell := func(state string) {
		if err := n.send(state); err != nil {
			log.Warn("service manager not told", "error", err.Error())
		}
	}
	tell(fmt.Sprintf("%s\nMONOTONIC_USEC=%d\n", daemon.SdNotifyReloading, shmem.Monotonic()/1000))
	return func() { tell(daemon.SdNotifyReady + "\n") }
}

func extend() string {
	return "EXTEND_TIMEOUT_USEC=" + strconv.FormatInt(stopExtend.Microseconds(), 10) + "\n"
}

// look is what there is to tell now.
func (n *notifier) look() string {
	rows, clients := n.status()
	state, fresh := "", true
	var b strings.Builder
	for i, r := range rows {
		fresh = fresh && (r.Kind == kindAdmin || r.State == topo.StateRunning && int64(r.Age) <= n.fresh.Load() ||
			r.State == topo.StateEnded && (r.Exit.Clean() || r.Kind == kindNet)) // given up: the instance ends if no other one serves
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s:%d %v", r.Kind, r.ID, r.State)
		if r.Restarts > 0 {
			fmt.Fprintf(&b, " (restarted %d times)", r.Restarts)
		}
	}
	fmt.Fprintf(&b, "; %d clients", clients)
	if text := b.String(); text != n.told {
		n.told = text
		state = "STATUS=" + text + "\n"
	}
	if n.dog && fresh {
		state += daemon.SdNotifyWatchdog + "\n"
	}
	return state
}

// streaming counts the clients of all network tiles.
func streaming(in *instance.Instance) (n uint64) {
	for _, t := range in.Tiles() {
		if t.Kind != kindNet {
			continue
		}
		if c, err := in.Server.Counters(t.ID); err == nil {
			if cell := c.Lookup("ws_now"); cell != nil {
				n += cell.Load()
			}
		}
	}
	return n
}
