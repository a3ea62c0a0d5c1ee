package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/topo"
)

func runCmd() *cobra.Command {
	var s shape
	var affinity, framing string
	cmd := &cobra.Command{
		Use:   "run [-- COMMAND [ARG...]]",
		Short: "Run an instance: a network tile, and a producer that publishes COMMAND's output",
		Long: `Run an instance in the foreground: each tile is a process of its own, pinned,
watched and restarted. With a COMMAND, a producer tile runs it and publishes each
line of its output; without one, join a producer with: tilewire pipe --join NAME.
The memory that "tilewire server new" made under this name is used, or made here.`,
		RunE: func(_ *cobra.Command, args []string) error { return runInstance(s, affinity, framing, args) },
	}
	s.flags(cmd)
	cmd.Flags().StringVar(&affinity, "affinity", "auto", "CPUs of the network tiles: auto, or a list such as 2 or f1 (floating)")
	cmd.Flags().StringVar(&framing, "frame", "line", "where a message of COMMAND's output ends: line, nul, len32")
	return cmd
}

func runInstance(s shape, affinity, framing string, command []string) error {
	ctx, cancel := stopOnSignal()
	defer cancel()
	cpus, err := tile.PickCPUs(affinity, 1, tile.AllowedCPUs())
	if err != nil {
		return usageError{err}
	}
	l, err := listen(s.listen)
	if err != nil {
		return err
	}
	defer l.close()
	in, err := s.open(l.addrs)
	if err != nil {
		return err
	}
	defer func() {
		if err := in.Remove(); err != nil {
			logger().Warn("memory left", "instance", s.name, "error", err.Error())
		}
	}()
	net, err := netSpec(in, 0, cpus[0], l)
	if err != nil {
		return err
	}
	specs := []topo.Spec{net}
	if len(command) > 0 {
		src, err := tileSpec(in, instance.Tile{Kind: kindSource}, tile.Float, nil, append([]string{"--frame", framing, "--"}, command...)...)
		if err != nil {
			return err
		}
		specs = append(specs, src)
	}
	log := logger()
	sup, err := topo.New(specs, topo.Options{HaltGrace: 4 * time.Second, Event: func(e topo.Event) {
		log.LogAttrs(ctx, e.Level(), e.What.String(), e.Attrs()...)
	}})
	if err != nil {
		return err
	}
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		select {
		case <-sup.AllReady():
			fmt.Fprint(os.Stderr, addresses(in), topo.Table(sup.Status()))
		case <-ctx.Done():
		}
	}()
	err = sup.Run(ctx)
	cancel()
	<-shown
	return err
}

// open takes the memory that was made under this name and is not in use, or makes it.
func (s *shape) open(listen []string) (*instance.Instance, error) {
	in, err := instance.Join(s.name, shmem.ReadWrite)
	if errors.Is(err, instance.ErrNone) {
		return s.create(listen)
	}
	if err != nil {
		return nil, err
	}
	js, err := shmem.Joiners(s.name)
	if err == nil && len(js) > 1 {
		err = fmt.Errorf("%w: an instance called %q is live; choose another --name, or end it", instance.ErrTaken, s.name)
	}
	if err != nil {
		_ = in.Leave()
		return nil, err
	}
	in.Info.Listen = listen
	return in, nil
}
