package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/control"
	"github.com/tilewire/tilewire/cmd/tilewire/health"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/shmem"
)

// errTimeout: what was waited for has not come in time.
var errTimeout = errors.New("timed out")

// opFlags are those of verbs that are about a running instance.
type opFlags struct {
	name    string
	timeout time.Duration
	json    bool
}

func (o *opFlags) flags(cmd *cobra.Command, timeout time.Duration, what string) {
	cmd.Flags().StringVar(&o.name, "name", "", "name of the instance; default: the one that runs")
	if what != "" {
		cmd.Flags().DurationVar(&o.timeout, "timeout", timeout, what)
	}
}

// jsonFlag declares --json.
func (o *opFlags) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON document with stable keys")
}

// context ends after the timeout, 0: never.
func (o *opFlags) context() (context.Context, context.CancelFunc) {
	if o.timeout == 0 {
		return context.WithCancel(context.Background())
	}
	return context.WithTimeout(context.Background(), o.timeout)
}

// order has the supervisor of the instance do something.
func (o *opFlags) order(ctx context.Context, q control.Request) (*control.Client, control.Reply, error) {
	in, err := instance.Join(o.name, shmem.ReadOnly)
	if err != nil {
		return nil, control.Reply{}, err
	}
	name, dir, owned := in.Info.Name, in.Info.RunDir, in.Owned()
	if err := in.Leave(); err != nil {
		return nil, control.Reply{}, err
	}
	c, err := control.Dial(ctx, dir)
	switch {
	case errors.Is(err, control.ErrNobody) && !owned:
		return nil, control.Reply{}, fmt.Errorf("%w: nobody serves %q; `tilewire ps` shows what is there", instance.ErrNone, name)
	case errors.Is(err, control.ErrNobody):
		return nil, control.Reply{}, fmt.Errorf("%s: %w: it is starting or ending, or belongs to a pipe or a demo: end that process", name, err)
	case err != nil:
		return nil, control.Reply{}, err
	}
	r, err := c.Ask(ctx, q)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: no answer from %q within %v", errTimeout, name, o.timeout)
	}
	return c, r, err
}

// orderEnd is order for what ends the instance, and waits for that.
func (o *opFlags) orderEnd(verb string) error {
	ctx, cancel := o.context()
	defer cancel()
	c, r, err := o.order(ctx, control.Request{Verb: verb})
	if err != nil {
		return err
	}
	defer c.Close()
	if r.Note != "" {
		fmt.Fprintln(os.Stderr, " ", r.Note)
	}
	late := c.Ended(ctx) != nil
	if o.json {
		if err := json.NewEncoder(os.Stdout).Encode(map[string]any{"ended": !late, "clients": r.Clients}); err != nil {
			return err
		}
	}
	if late {
		return fmt.Errorf("%w: the instance has not ended within %v; it goes on with the %s", errTimeout, o.timeout, verb)
	}
	return nil
}

func drainCmd() *cobra.Command {
	var o opFlags
	cmd := &cobra.Command{
		Use: "drain", Short: "Send an instance's clients away, one after the other, and end it", Args: cobra.NoArgs,
		Long: `Have the running instance send its clients away (close code 1012), spread evenly over
its --drain-time, and end; wait for the end. It is what SIGTERM does. With --timeout the
wait, not the drain, ends after that time, with exit code 124.`,
		RunE: func(*cobra.Command, []string) error { return o.orderEnd("drain") },
	}
	o.flags(cmd, 0, "wait at most so long; 0: as long as it takes")
	o.jsonFlag(cmd)
	return cmd
}

func stopCmd() *cobra.Command {
	var o opFlags
	cmd := &cobra.Command{
		Use: "stop", Short: "End an instance now: its clients are closed with 1001", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return o.orderEnd("stop") },
	}
	o.flags(cmd, 30*time.Second, "wait at most so long")
	o.jsonFlag(cmd)
	return cmd
}

func restartCmd() *cobra.Command {
	var o opFlags
	cmd := &cobra.Command{
		Use: "restart TILE", Short: "Start one tile of an instance anew, as net:0, and wait until it is ready", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			ctx, cancel := o.context()
			defer cancel()
			c, _, err := o.order(ctx, control.Request{Verb: "restart", Tile: args[0]})
			if c != nil {
				c.Close()
			}
			return err
		},
	}
	o.flags(cmd, 40*time.Second, "wait at most so long")
	return cmd
}

func reloadCmd() *cobra.Command {
	var o opFlags
	cmd := &cobra.Command{
		Use: "reload", Short: "Have an instance read its configuration again, without dropping a client", Args: cobra.NoArgs,
		Long: `Have the running instance read its configuration file again and put it in force, as SIGHUP
does. The flags and the environment that it was started with stay over the file. A file
with an error, or a key that needs a restart, changes nothing: exit code 2.`,
		RunE: func(*cobra.Command, []string) error {
			ctx, cancel := o.context()
			defer cancel()
			c, r, err := o.order(ctx, control.Request{Verb: "reload"})
			if c != nil {
				c.Close()
			}
			if err != nil {
				return err
			}
			return printReload(r, o.json)
		},
	}
	o.flags(cmd, 30*time.Second, "wait at most so long")
	o.jsonFlag(cmd)
	return cmd
}

func printReload(r control.Reply, asJSON bool) error {
	if r.Note != "" {
		fmt.Fprintln(os.Stderr, " ", r.Note)
	}
	if asJSON {
		if r.Changes == nil {
			r.Changes = []control.Change{}
		}
		return json.NewEncoder(os.Stdout).Encode(map[string]any{"changes": r.Changes})
	}
	if len(r.Changes) == 0 {
		fmt.Println("nothing has changed")
	}
	for _, c := range r.Changes {
		fmt.Printf("%s: %s -> %s\n", c.Key, c.Old, c.New)
	}
	return nil
}

func readyCmd() *cobra.Command {
	var o opFlags
	cmd := &cobra.Command{
		Use: "ready", Short: "Wait until all tiles of an instance are ready and their heartbeats fresh", Args: cobra.NoArgs,
		Long: `Wait until all tiles of an instance are ready and their heartbeats fresh: exit code 0; 124 if
they are not within --timeout, 5 if there is no instance by then.`,
		RunE: func(*cobra.Command, []string) error {
			look := time.NewTicker(20 * time.Millisecond) // shared memory rings nobody
			defer look.Stop()
			for end := time.After(o.timeout); ; {
				s, err := lookReady(o.name)
				over := err == nil || !errors.Is(err, errTimeout) && !errors.Is(err, instance.ErrNone)
				if !over {
					select {
					case <-look.C:
						continue
					case <-end:
					}
				}
				if o.json {
					err = errors.Join(json.NewEncoder(os.Stdout).Encode(s), err)
				}
				return err
			}
		},
	}
	o.flags(cmd, 10*time.Second, "wait at most so long")
	o.jsonFlag(cmd)
	return cmd
}

// readiness is what ready --json prints.
type readiness struct {
	Name    string `json:"name"` // of the instance, "" if there is none
	Ready   bool   `json:"ready"`
	State   string `json:"state"`   // as of ps
	Verdict string `json:"verdict"` // as of /statusz
	Why     string `json:"why"`     // it is not ready, or what is amiss all the same
}

// lookReady returns nil if the instance is ready, errTimeout with what is missing if it is not yet.
func lookReady(name string) (r readiness, err error) {
	defer func() {
		if r.Ready = err == nil; r.Why == "" && err != nil {
			r.Why = err.Error()
		}
	}()
	in, err := instance.Join(name, shmem.ReadOnly)
	if err != nil {
		return r, err
	}
	joined := 0
	if js, err := shmem.Joiners(in.Info.Name); err == nil {
		joined = len(js) - 1
	}
	s := in.Status(joined)
	j, err := health.New(in)
	if err != nil {
		return r, errors.Join(err, in.Leave())
	}
	v := j.Look(shmem.Monotonic())
	r = readiness{Name: s.Name, State: s.State, Verdict: v.Word(), Why: v.Why}
	if err := in.Leave(); err != nil {
		return r, err
	}
	if s.State == "crashed" || s.State == "made" {
		return r, fmt.Errorf("%w of the name %q runs: it is %s", instance.ErrNone, s.Name, s.State)
	}
	if !v.Ready || !v.Whole {
		return r, fmt.Errorf("%w: %s: %s", errTimeout, s.Name, v.Why)
	}
	return r, nil
}
