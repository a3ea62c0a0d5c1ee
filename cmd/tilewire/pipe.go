package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/feed"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/topo"
)

// publishBound is how long a pipe waits for a send from the ring to end. A pipe
// has time; other producers choose less.
const publishBound = time.Second

// hintAfter is how long a pipe may be silent before people are told of stdbuf.
const hintAfter = 5 * time.Second

type pipeFlags struct {
	listen    []string
	frame     string
	tee       bool
	history   uint32
	name      string
	join      string
	topic     string
	joinTopic string // as given, for --join
	clients   uint32
	limits    limits
	privileges
}

func pipeCmd() *cobra.Command {
	var fl pipeFlags
	cmd := &cobra.Command{
		Use:   "pipe",
		Short: "Send every line of standard input to every client that is connected",
		Example: `  vmstat -n 1 | tilewire pipe
  journalctl -f | tilewire pipe --listen 127.0.0.1:9000 --history 100
  producer | tilewire pipe --join main --frame len32`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("topic") {
				fl.joinTopic = fl.topic
			}
			return pipe(fl)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&fl.listen, "listen", []string{"127.0.0.1:8080"}, "`ADDR:PORT`, [ADDR]:PORT, unix:PATH[|MODE] or fd:NAME (socket activation) to serve; repeatable")
	f.StringVar(&fl.frame, "frame", "line", "where a message ends: line, nul, or len32 (4 bytes of length before it, big endian)")
	f.BoolVar(&fl.tee, "tee", false, "copy the input to standard output")
	f.Uint32Var(&fl.history, "history", 0, "late joiners get the last `N` messages, 64512 at most")
	f.StringVar(&fl.name, "name", "", "name of the instance; default pipe, or pipe-PID if that is taken")
	f.StringVar(&fl.join, "join", "", "publish into the running instance `NAME` instead of starting one")
	f.StringVar(&fl.topic, "topic", instance.DefaultTopic, "topic to publish to; with --join one of the instance's, its first if left out")
	f.Uint32Var(&fl.clients, "max-connections", 4096, "streaming clients; memory is set aside for each")
	fl.limits.flags(cmd)
	fl.privileges.flags(cmd)
	cmd.MarkFlagsMutuallyExclusive("join", "listen")
	cmd.MarkFlagsMutuallyExclusive("join", "name")
	cmd.MarkFlagsMutuallyExclusive("join", "history")
	cmd.MarkFlagsMutuallyExclusive("join", "max-connections")
	fl.limits.excludes(cmd, "join")
	return cmd
}

func pipe(fl pipeFlags) error {
	fr, err := feed.ParseFraming(fl.frame)
	if err != nil {
		return err
	}
	if !instance.TopicName(fl.topic) {
		return usageError{fmt.Errorf("--topic %q: a name is %s", fl.topic, instance.TopicNames)}
	}
	if err := errors.Join(checkClients(fl.clients), fl.limits.check()); err != nil {
		return err
	}
	ctx, cancel := stopOnSignal()
	defer cancel()
	if fl.join != "" {
		return pipeJoin(ctx, fl, fr)
	}
	return pipeServe(ctx, fl, fr)
}

// pipeJoin publishes into an instance that another process runs, until the end
// of the input or of the instance.
func pipeJoin(ctx context.Context, fl pipeFlags, fr feed.Framing) error {
	in, err := instance.Join(fl.join, shmem.ReadWrite)
	if err != nil {
		return err
	}
	defer in.Leave()
	ring, err := ringOf(in, fl.joinTopic)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	served := servedTeller(in)
	served()
	go func() {
		look := time.NewTicker(500 * time.Millisecond)
		defer look.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-look.C:
				if in.Ended() {
					cancel(fmt.Errorf("instance %q has ended", in.Info.Name))
					return
				}
				served()
			}
		}
	}()
	err = pump(ctx, in, ring, fr, fl.tee)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = errors.Join(err, cause)
	}
	return err
}

// servedTeller returns what tells once that nobody serves the instance, and once that somebody does then. Publishing
// goes on: it is the supervisor that counts, for a tile that died is being restarted.
func servedTeller(in *instance.Instance) func() {
	told, over := false, false
	return func() {
		switch up := in.Owned(); {
		case over || up != told:
		case up:
			over = true
			fmt.Fprintf(os.Stderr, "  instance %q is served now\n", in.Info.Name)
		default:
			told = true
			fmt.Fprintf(os.Stderr, "  nobody serves instance %q at the moment: of what is published, clients will get the --history at most; "+
				"mend: `tilewire run --name %s`\n", in.Info.Name, in.Info.Name)
		}
	}
}

// pipeServe starts an instance whose producer is this process.
func pipeServe(ctx context.Context, fl pipeFlags, fr feed.Framing) error {
	if err := fl.check(); err != nil {
		return err
	}
	l, err := listen(fl.listen, 1, 1)
	if err != nil {
		return err
	}
	defer l.close()
	in, err := createPipe(fl, l, []instance.Tile{{Kind: kindNet}})
	if err != nil {
		return err
	}
	defer in.Remove()
	if _, err := in.Life().SetSettings(fl.limits.settings()); err != nil {
		return err
	}
	spec, err := netSpec(in, 0, tile.Float, l.of(0))
	if err != nil {
		return err
	}
	specs := []topo.Spec{spec}
	fl.confine(specs)
	log := logger()
	var inputEnded atomic.Bool
	c, err := launch(specs, defaultBudget, heartbeatTimeout, func(c *crew, e topo.Event) {
		logBad(log, e)
		switch {
		case !inputEnded.Load() || ctx.Err() != nil:
		case e.What == topo.Ready: // a successor, which was not told
			_ = raise(in, 0, sigEndOfInput)
		case e.What == topo.Died && !e.Again:
			c.Stop()
		}
	})
	if err != nil {
		return err
	}
	if up, err := c.ready(ctx); !up {
		return err
	}
	in.Life().SetState(instance.Ready)
	fmt.Fprint(os.Stderr, addresses(in))
	served, cancel := c.within(ctx)
	defer cancel()
	pumpErr := pump(served, in, 0, fr, fl.tee)
	defer context.AfterFunc(ctx, c.Stop)() // also while the clients get what they have yet to get
	inputEnded.Store(true)
	in.Life().SetState(instance.Draining)
	if ctx.Err() != nil {
		c.Stop()
	} else {
		_ = raise(in, 0, sigEndOfInput) // one that is being started will be told when it is ready
	}
	return errors.Join(pumpErr, c.wait())
}

// createPipe makes the instance: 50 MiB, which fits a container's 64 MiB of
// shared memory, for 4,096 streaming connections (--max-connections).
func createPipe(fl pipeFlags, l listeners, tiles []instance.Tile) (*instance.Instance, error) {
	p := defaultParams(32<<20, fl.clients, 1)
	if err := checkHistory(fmt.Sprintf("--history %d", fl.history), topicPlan{ringMiB: 32, depth: p.RingDepth, history: fl.history}); err != nil {
		return nil, err
	}
	name := fl.name
	if name == "" {
		name = "pipe"
	}
	info := instance.Info{Name: name, Listen: l.addrs(), Topics: []instance.Topic{{Name: fl.topic, History: fl.history}}, Pid: os.Getpid(), Started: time.Now().UnixNano()}
	in, err := instance.Create(info, p, tiles, shmem.Options{})
	if (errors.Is(err, instance.ErrTaken) || errors.Is(err, instance.ErrForeign)) && fl.name == "" {
		info.Name = ownName("pipe")
		return instance.Create(info, p, tiles, shmem.Options{})
	}
	return in, err
}

// ringOf finds the ring of a topic of the instance; its first one's if topic is empty.
func ringOf(in *instance.Instance, topic string) (int, error) {
	ring, ok := in.Info.Ring(topic)
	if !ok {
		var names []string
		for _, t := range in.Info.Topics {
			names = append(names, t.Name)
		}
		return 0, usageError{fmt.Errorf("--topic %s: instance %q has no such topic; these are: %s", topic, in.Info.Name, strings.Join(names, ", "))}
	}
	return ring, nil
}

// joinTopic joins an instance, and finds a topic's ring in it.
func joinTopic(name, topic string, access shmem.Access) (in *instance.Instance, ring int, err error) {
	if in, err = instance.Join(name, access); err != nil {
		return nil, 0, err
	}
	if ring, err = ringOf(in, topic); err != nil {
		_ = in.Leave()
		return nil, 0, err
	}
	return in, ring, nil
}

// produce takes the producer's role of a topic's ring.
func produce(in *instance.Instance, ring int) (*httpsrv.Stage, error) {
	st, err := in.Produce(ring, publishBound)
	if errors.Is(err, httpsrv.ErrRole) {
		if pid, held := in.Server.Producer(ring); held && pid != 0 {
			comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			return nil, fmt.Errorf("%s: its ring has a producer, process %d (%s); end that one first: %w", in.Info.Name, pid, bytes.TrimSpace(comm), httpsrv.ErrRole)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in.Info.Name, err)
	}
	return st, nil
}

// defaultParams are the limits of an instance with one ring.
func defaultParams(ringSz uint64, clients uint32, tiles uint32) httpsrv.Params {
	return httpsrv.Params{
		MaxConnectionCnt: 512, MaxWsConnectionCnt: clients, MaxRequestLen: 8192, MaxWsRecvFrameLen: 65536,
		OutgoingBufferSz: ringSz, SideBufferSz: 1 << 20, RingDepth: 65536, ReplyBufferSz: 1 << 20,
		RecvBufCnt: 32, MsgBufCnt: 16, TileCnt: tiles, RingCnt: 1, AppCnt: 1,
	}
}

// pump publishes standard input into the instance's ring until its end, or
// until ctx ends, and says what was left out.
func pump(ctx context.Context, in *instance.Instance, ring int, fr feed.Framing, tee bool) error {
	st, err := produce(in, ring)
	if err != nil {
		return err
	}
	defer st.Close()
	f := feed.New(st, fr)
	pace, err := newPace(ctx, in, ring)
	if err != nil {
		return err
	}
	wake, err := newWake(ctx)
	if err != nil {
		return err
	}
	defer wake.close()
	hint := time.AfterFunc(hintAfter, func() {
		fmt.Fprintln(os.Stderr, "  no input for 5 s: if the program before the pipe buffers its output, start it with `stdbuf -oL`")
	})
	defer hint.Stop()

	buf := make([]byte, 256<<10)
	var told feed.Stats
	nextTell := time.Time{}
	slow := newSlowest(in)
	tellSlow := func() {
		slow.each(in, func(_ int, why httpsrv.CloseReason, n uint64) {
			if why == httpsrv.CloseWsClientTooSlow {
				fmt.Fprintf(os.Stderr, "  %d clients evicted: %v\n", n, why)
			}
		}, func(_ int, times, missed uint64) {
			fmt.Fprintf(os.Stderr, "  slow clients skipped %d messages (%d times)\n", missed, times)
		})
	}
	for ctx.Err() == nil {
		n, err := wake.read(unix.Stdin, buf)
		if n > 0 {
			hint.Stop()
			pace.feed(f, buf[:n])
			if tee {
				if err := wake.write(unix.Stdout, buf[:n]); err != nil {
					return fmt.Errorf("--tee: %w", err)
				}
			}
			if time.Now().After(nextTell) {
				if bad(f.Stats) != bad(told) {
					report(f.Stats, st.Max())
					told = f.Stats
				}
				tellSlow()
				nextTell = time.Now().Add(time.Second)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		st.Unstage() // the rest of a message whose end will never come
	} else {
		err = f.Close()
	}
	if bad(f.Stats) != bad(told) {
		report(f.Stats, st.Max())
	}
	tellSlow()
	if f.Stats.Binary > 0 {
		fmt.Fprintf(os.Stderr, "  %d of %d messages were not UTF-8 and went out as binary\n", f.Stats.Binary, f.Stats.Messages)
	}
	return err
}

func bad(s feed.Stats) uint64 { return s.TooLarge + s.Lost }

func report(s feed.Stats, limit int) {
	if s.TooLarge > 0 {
		fmt.Fprintf(os.Stderr, "  %d messages left out: larger than the topic takes (%d bytes; the largest had %d)\n", s.TooLarge, limit, s.Largest)
	}
	if s.Lost > 0 {
		fmt.Fprintf(os.Stderr, "  %d messages left out: the ring was in use by a send for more than %v\n", s.Lost, publishBound)
	}
}
