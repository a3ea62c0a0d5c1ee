package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/control"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv/steer"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile/topo"
)

// errRestart: keys were changed that cannot change while the instance runs.
var errRestart = errors.New("nothing was changed")

// again reads file and environment anew, under the flags that were given.
func (r *runFlags) again() (*runFlags, error) {
	next := &runFlags{given: r.given, anew: true}
	cmd := &cobra.Command{Use: "run"}
	next.flags(cmd)
	if err := r.given.set(cmd); err != nil {
		return nil, err
	}
	var err error
	if next.layers, err = configure(cmd, next.file); err != nil {
		return nil, err
	}
	next.texts = keyTexts(cmd)
	if err := next.check(); err != nil {
		return nil, next.blame(err)
	}
	return next, nil
}

// changes lists what next says otherwise than r, and with errRestart the keys that cannot be changed now.
func (r *runFlags) changes(next *runFlags) (list []control.Change, err error) {
	var refused []string
	for _, m := range configFlags {
		was, now := r.texts[m.key], next.texts[m.key]
		key := strings.ReplaceAll(m.key, "[0]", "")
		switch {
		case was == now:
		case m.live:
			list = append(list, control.Change{Key: key, Old: was, New: now})
		default:
			refused = append(refused, fmt.Sprintf("%s: needs a restart (%s -> %s)", key, was, now))
		}
	}
	if refused != nil {
		return nil, usageError{fmt.Errorf("%s\n%w", strings.Join(refused, "\n"), errRestart)}
	}
	return list, nil
}

// reload reads the configuration again and puts it in force without touching a client. What it says is wrong, or cannot be
// changed now, leaves everything as it was.
func (op *operator) reload() (list []control.Change, note string, err error) {
	op.reloading.Lock()
	defer op.reloading.Unlock()
	defer op.notify.reloading(op.log)()
	defer func() {
		if err != nil {
			op.log.Error("reload refused, the configuration stays as it was", "error", err.Error())
		}
	}()
	op.mu.Lock()
	r := op.r
	op.mu.Unlock()
	next, err := r.again()
	if err != nil {
		return nil, "", err
	}
	if list, err = r.changes(next); err != nil {
		return nil, "", err
	}
	begin, err := op.apply(next)
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), ackTime)
	defer cancel()
	if late := op.tell(ctx); late != nil {
		note = "not taken up yet by " + strings.Join(late, ", ")
	}
	for _, t := range begin {
		if err := op.restartTile(t); err != nil {
			note = strings.TrimPrefix(fmt.Sprintf("%s; %v does not run: %v", note, t, err), "; ")
			op.log.Error("not started", "tile", t.String(), "error", err.Error())
		}
	}
	for _, c := range list {
		op.log.Info("changed", "key", c.Key, "old", c.Old, "new", c.New)
	}
	op.log.Info("reloaded", "changes", len(list))
	return list, note, nil
}

// apply puts next in force, but for the network tiles that it adds, which are to be started.
func (op *operator) apply(next *runFlags) (begin []instance.Tile, err error) {
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.state != instance.Ready {
		return nil, fmt.Errorf("the instance is %v", op.state)
	}
	n := op.nets
	if key := "layout.net_tile_count"; op.r.texts[key] == next.texts[key] {
		next.nets = n.count // which may be what the memory was made for
	}
	begin, back, err := n.added(next.nets, op.Status(), op.set.Leaving)
	if err != nil {
		return nil, err
	}
	set := next.settings()
	set.Restarting, set.Leaving = op.set.Restarting, map[int]instance.Drain{}
	set.Down = slices.DeleteFunc(slices.Clone(op.set.Down), func(id int) bool { return id >= next.nets })
	from := int64(instance.Forever)
	if set.Shutdown.Linger > 0 {
		from = shmem.Monotonic() + set.Shutdown.Linger.Nanoseconds()
	}
	for id := next.nets; id < n.most; id++ {
		d, leaves := op.set.Leaving[id]
		switch {
		case leaves:
			d.From, d.Over = min(d.From, from), min(d.Over, set.Shutdown.Drain)
		case id < n.count:
			d = instance.Drain{From: from, Over: set.Shutdown.Drain, Requests: true}
		default:
			continue
		}
		set.Leaving[id] = d
	}
	mode, _ := steer.ParseMode(next.steering) // check has
	if err := n.setMode(mode); err != nil {
		return nil, err
	}
	if _, err := op.in.Life().SetSettings(set); err != nil {
		return nil, err
	}
	n.resize(next.nets)
	for id, d := range set.Leaving {
		_ = op.Retire(kindNet, id, d.From+(d.Over+drainSlack).Nanoseconds())
	}
	for _, r := range back { // with its clients; one that has just ended is started by event
		_ = op.Retire(kindNet, r.ID, 0)
		if err := n.open(r.ID); err != nil {
			op.log.Error("not listening again", "error", err.Error())
		}
		n.live(r.ID, r.State == topo.StateRunning)
	}
	op.r, op.set = next, set
	setLog(set.Log)
	op.Tune(topoBudget(set.RestartMax), set.HeartbeatTimeout)
	op.notify.retune(set.HeartbeatTimeout)
	return begin, nil
}
