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
	depth   uint64
	history uint32
	message uint64 // KiB
	topics  []string
	listen  []string
	backing string
	pages   string // the largest
	numaOn  string // nodes that it lies on
	request uint32
	frame   uint32
	lag     uint64
	nets    int                    // network tiles that run at first
	netMost int                    // that there is memory for; 0: as many
	changed func(flag string) bool // was it given?
}

func (s *shape) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.name, "name", "main", "name of the instance")
	f.Uint64Var(&s.ringMiB, "ring-size-mib", 64, "bytes of the ring that producers stage into, in MiB; a power of two")
	f.Uint32Var(&s.clients, "max-connections", 16384, "streaming clients of each network tile")
	f.Uint64Var(&s.depth, "ring-depth", 65536, "messages that the ring holds; a power of two")
	f.Uint32Var(&s.history, "history", 0, "late joiners get the last `N` messages, 63/64 of --ring-depth at most")
	f.Uint64Var(&s.message, "max-message-kib", 1024, "KiB of a message, at most")
	f.StringArrayVar(&s.topics, "topic", nil, "`NAME`[,ring-size-mib=N][,ring-depth=N][,history=N][,max-message-kib=N]: a topic with a ring of its own, at /ws/NAME, the first at /ws as well; repeatable; what is left out is as those flags say")
	f.StringArrayVar(&s.listen, "listen", []string{"127.0.0.1:8080"}, "`ADDR:PORT`, [ADDR]:PORT, unix:PATH[|MODE] or fd:NAME (socket activation) to serve; repeatable")
	f.StringVar(&s.backing, "backing", "auto", "memory: auto, hugetlbfs or shm")
	f.StringVar(&s.pages, "max-page-size", "huge", "the largest pages taken: normal (4 KiB), huge (2 MiB), gigantic (1 GiB)")
	f.StringVar(&s.numaOn, "numa", "local", "NUMA nodes that the memory lies on: `local` to the network tiles' CPUs, interleave over all, or one by its number")
	f.Uint32Var(&s.request, "max-request-bytes", 8192, "of a request, head and body")
	f.Uint32Var(&s.frame, "max-client-frame-bytes", 65536, "of a client's message")
	f.IntVar(&s.nets, "net-tiles", 1, "network tiles that share the ports")
	f.IntVar(&s.netMost, "net-tiles-max", 0, "network tiles that there is memory for, so that a reload can add some; 0: --net-tiles")
	f.Uint64Var(&s.lag, "max-lag-messages", 0, "how many messages behind its ring is too far; 0: 7/8 of the ring")
}

// params returns what the server's memory is made for, and says what is wrong with the flags.
func (s *shape) params() (p httpsrv.Params, err error) {
	if _, err := shmem.ParseBacking(s.backing); err != nil {
		return p, usageError{fmt.Errorf("--backing %q: one of auto, hugetlbfs, shm", s.backing)}
	}
	if _, ok := shmem.ParsePages(s.pages); !ok {
		return p, usageError{fmt.Errorf("--max-page-size %q: one of normal, huge, gigantic", s.pages)}
	}
	if _, err := s.numa(nil); err != nil {
		return p, err
	}
	if s.request < 1024 || s.request > 1<<30 || s.frame < s.request || s.frame > 1<<30 {
		return p, usageError{fmt.Errorf("--max-request-bytes %d, --max-client-frame-bytes %d: from 1024 to %d, the first no more than the second", s.request, s.frame, 1<<30)}
	}
	if most := s.most(); s.nets < 1 || most > instance.MaxNets || most < s.nets {
		return p, usageError{fmt.Errorf("--net-tiles %d, --net-tiles-max %d: 1 to %d, the first no more than the second", s.nets, s.netMost, instance.MaxNets)}
	}
	plan, err := s.plan()
	if err != nil {
		return p, err
	}
	p = defaultParams(plan[0].ringMiB<<20, s.clients, uint32(s.most()))
	p.RingDepth, p.RingCnt = plan[0].depth, uint32(len(plan))
	p.MaxRequestLen, p.MaxWsRecvFrameLen, p.MaxWsSendFrameCnt = s.request, s.frame, s.lag
	for p.ReplyBufferSz < 2*uint64(s.frame) {
		p.ReplyBufferSz *= 2
	}
	for i, t := range plan {
		p.Rings[i] = httpsrv.RingSize{OutgoingBufferSz: t.ringMiB << 20, SideBufferSz: p.SideBufferSz, RingDepth: t.depth}
	}
	return p, nil
}

// most is how many network tiles there is memory for.
func (s *shape) most() int {
	if s.netMost == 0 {
		return s.nets
	}
	return s.netMost
}

// tiles are the tiles of an instance that a shape describes.
func (s *shape) tiles() []instance.Tile {
	t := []instance.Tile{{Kind: kindAdmin}}
	for id := range s.most() {
		t = append(t, instance.Tile{Kind: kindNet, ID: id})
	}
	return append(t, instance.Tile{Kind: kindSource})
}

// create makes the instance's memory: workspace, server, one cnc a tile. cpus are those of the network tiles, if that is known.
func (s *shape) create(listen []string, cpus []int, keep bool) (*instance.Instance, error) {
	p, err := s.params()
	if err != nil {
		return nil, err
	}
	backing, _ := shmem.ParseBacking(s.backing) // params has
	pages, _ := shmem.ParsePages(s.pages)
	numa, _ := s.numa(cpus)
	plan, _ := s.plan()
	info := instance.Info{Name: s.name, Listen: listen, Topics: topicsOf(plan), Nets: s.nets, Keep: keep, Pid: os.Getpid(), Started: time.Now().UnixNano()}
	return instance.Create(info, p, s.tiles(), shmem.Options{Backing: backing, MaxPageSize: pages, Numa: numa})
}

// printSize prints the bytes that the instance's memory takes, before they are rounded up to pages.
func (s *shape) printSize() error {
	p, err := s.params()
	if err != nil {
		return err
	}
	size, err := instance.Footprint(p, s.tiles())
	if err == nil {
		fmt.Println(size)
	}
	return err
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
			in, err := s.create(s.listen, nil, true)
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
