package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

// shape is what the memory of an instance is made for.
type shape struct {
	name    string
	ringMiB uint64
	clients uint32
	history uint32
	listen  []string
	backing string
	changed func(flag string) bool // was it given?
}

func (s *shape) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.name, "name", "main", "name of the instance")
	f.Uint64Var(&s.ringMiB, "ring-size-mib", 64, "bytes of the ring that producers stage into, in MiB; a power of two")
	f.Uint32Var(&s.clients, "max-connections", 16384, "streaming clients")
	f.Uint32Var(&s.history, "history", 0, "late joiners get the last `N` messages, 64512 at most")
	f.StringArrayVar(&s.listen, "listen", []string{"127.0.0.1:8080"}, "`ADDR:PORT`, [ADDR]:PORT, unix:PATH[|MODE] or fd:NAME (socket activation) to serve; repeatable")
	f.StringVar(&s.backing, "backing", "auto", "memory: auto, hugetlbfs or shm")
}

// params returns what the server's memory is made for, and says what is wrong with the flags.
func (s *shape) params() (p httpsrv.Params, err error) {
	if _, err := shmem.ParseBacking(s.backing); err != nil {
		return p, usageError{fmt.Errorf("--backing %q: one of auto, hugetlbfs, shm", s.backing)}
	}
	if s.ringMiB < 1 || s.ringMiB > 1<<19 {
		return p, usageError{fmt.Errorf("--ring-size-mib %d: 1 to %d", s.ringMiB, 1<<19)}
	}
	p = defaultParams(s.ringMiB<<20, s.clients, 1)
	return p, checkHistory(s.history, p)
}

// shapeTiles are the tiles of an instance that a shape describes.
var shapeTiles = []instance.Tile{{Kind: kindAdmin}, {Kind: kindNet}, {Kind: kindSource}}

// create makes the instance's memory: workspace, server, one cnc a tile.
func (s *shape) create(listen []string, keep bool) (*instance.Instance, error) {
	p, err := s.params()
	if err != nil {
		return nil, err
	}
	backing, _ := shmem.ParseBacking(s.backing) // params has
	info := instance.Info{Name: s.name, Listen: listen, History: s.history, Keep: keep, Pid: os.Getpid(), Started: time.Now().UnixNano()}
	return instance.Create(info, p, shapeTiles, shmem.Options{Backing: backing})
}

// printSize prints the bytes that the instance's memory takes, before they are rounded up to pages.
func (s *shape) printSize() error {
	p, err := s.params()
	if err != nil {
		return err
	}
	size, err := instance.Footprint(p, shapeTiles)
	if err == nil {
		fmt.Println(size)
	}
	return err
}

// checkHistory refuses a history that the ring does not hold: its producer reclaims a 64th of the descriptors ahead.
func checkHistory(n uint32, p httpsrv.Params) error {
	if most := p.RingDepth - p.RingDepth/64; uint64(n) > most {
		return usageError{fmt.Errorf("--history %d: the ring keeps the last %d messages at most (fewer if they are more than its %d MiB)",
			n, most, p.OutgoingBufferSz>>20)}
	}
	return nil
}

// ownName names an instance after this process. Those that crashes left of earlier ones are removed: nobody else
// would, for no later start takes their names.
func ownName(verb string) string {
	if err := instance.Sweep(verb); err != nil {
		logger().Warn("memory left", "instances", verb+"-PID", "error", err.Error())
	}
	return fmt.Sprintf("%s-%d", verb, os.Getpid())
}

func serverCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "server", Short: "Create and delete the memory of an instance, without running it", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return usageError{errors.New("server: new or delete?")} },
	}
	var s shape
	var dry bool
	create := &cobra.Command{
		Use: "new", Short: "Create workspace and server of an instance", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if dry {
				return s.printSize()
			}
			in, err := s.create(s.listen, true)
			if err != nil {
				return err
			}
			fmt.Printf("%s: %s\n", in.Region.Path(), memoryText(in.Region))
			return in.Leave()
		},
	}
	s.flags(create)
	create.Flags().BoolVar(&dry, "dry-run", false, "only print the bytes that it takes, before they are rounded up to pages")
	var name string
	var force bool
	del := &cobra.Command{
		Use: "delete", Short: "Delete the memory of an instance that nobody runs", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return instance.Delete(name, force) },
	}
	del.Flags().StringVar(&name, "name", "main", "name of the instance")
	del.Flags().BoolVar(&force, "force", false, "also while processes are joined; they keep what they have mapped")
	cmd.AddCommand(create, del)
	return cmd
}
