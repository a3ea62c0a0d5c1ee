package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/config"
	"github.com/tilewire/tilewire/cmd/tilewire/feed"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/httpsrv/steer"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/topo"
)

// runFlags is what an instance is run with.
type runFlags struct {
	shape
	lim      limits
	pr       privileges
	log      instance.Log
	shutdown instance.Shutdown

	file, affinity, framing, userName, restart, admin, steering string
	budget                                                      int
	heartbeat                                                   time.Duration
	discard                                                     bool

	anew  bool              // it is read again, while the instance runs
	given given             // on the command line
	texts map[string]string // of the keys in force

	layers config.Layers // where each key was set
}

func (r *runFlags) flags(cmd *cobra.Command) {
	r.shape.flags(cmd)
	r.lim.flags(cmd)
	r.pr.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&r.file, "config", "", "configuration `FILE` (TOML)")
	logFlags(cmd, &r.log)
	f.DurationVar(&r.shutdown.Grace, "drain-grace", 2*time.Second, "from SIGTERM or \"tilewire drain\" to the first client closed (1012); meanwhile nobody new may stream")
	f.DurationVar(&r.shutdown.Drain, "drain-time", 30*time.Second, "from the first client closed to the last: they are spread evenly")
	f.DurationVar(&r.shutdown.LameDuck, "lame-duck", 10*time.Minute, "the same after SIGUSR2")
	f.DurationVar(&r.shutdown.Linger, "linger", 0, "clients of a network tile that a reload takes away may stay so long; 0: until they go by themselves")
	f.StringVar(&r.restart, "restart", "tile", "what follows when a `tile` dies: it is started again, or never: the instance ends with exit code 4, unless another network tile serves")
	f.DurationVar(&r.heartbeat, "heartbeat-timeout", heartbeatTimeout, "a tile that was not seen to run for so long is stuck")
	f.IntVar(&r.budget, "restart-max", defaultBudget, "restarts of one tile within a minute; more end the instance with exit code 4, unless another network tile serves")
	f.StringVar(&r.userName, "user", "", "run the tiles as this user; for root")
	f.StringVar(&r.affinity, "affinity", "auto", "CPUs of the network tiles: auto, or a list such as 2 or f1 (floating)")
	f.StringVar(&r.steering, "steering", "auto", "which of several network tiles gets a new connection: auto, off, hash, least, cpu or source (docs/steering.md)")
	f.StringVar(&r.framing, "frame", "line", "where a message of COMMAND's output ends: line, nul, len32")
	f.StringVar(&r.admin, "admin-listen", defaultAdmin, "where the admin tile answers: `unix:PATH`[|MODE] ({name}: the instance's), ADDR:PORT, or off")
	f.BoolVar(&r.discard, "discard", false, "memory made before under this name is removed also if the run is refused")
}

// check says what is wrong with them, as far as that can be told before anything is made.
func (r *runFlags) check() error {
	if err := shmem.CheckName(r.name); err != nil {
		return fmt.Errorf("--name: %w", err)
	}
	if _, err := r.params(); err != nil {
		return err
	}
	if err := errors.Join(checkClients(r.clients), r.lim.check()); err != nil {
		return err
	}
	for i, a := range r.listen {
		if slices.Contains(r.listen[:i], a) && !strings.HasSuffix(a, ":0") {
			return usageError{fmt.Errorf("--listen %s: named twice", a)}
		}
		if name, ok := strings.CutPrefix(a, "fd:"); ok && name != "" {
			continue // by number or name: what was passed will tell
		}
		if err := httpsrv.CheckListen(a); err != nil {
			return listenError(a, err)
		}
	}
	if err := checkAdmin(r.admin); err != nil {
		return err
	}
	if _, err := r.netCPUs(); err != nil {
		return err
	}
	if _, err := steer.ParseMode(r.steering); err != nil {
		return usageError{fmt.Errorf("--steering %q: one of auto, off, hash, least, cpu, source", r.steering)}
	}
	if _, err := feed.ParseFraming(r.framing); err != nil {
		return err
	}
	if r.budget < 0 || r.budget > 1000 {
		return usageError{fmt.Errorf("--restart-max %d: 0 to 1000", r.budget)}
	}
	if r.restart != "tile" && r.restart != "never" {
		return usageError{fmt.Errorf("--restart %q: tile or never", r.restart)}
	}
	if r.heartbeat < 100*time.Millisecond || r.heartbeat > 24*time.Hour {
		return usageError{fmt.Errorf("--heartbeat-timeout %v: 100ms to 24h", r.heartbeat)}
	}
	for _, d := range []struct {
		flag string
		v    time.Duration
	}{{"drain-grace", r.shutdown.Grace}, {"drain-time", r.shutdown.Drain}, {"lame-duck", r.shutdown.LameDuck}, {"linger", r.shutdown.Linger}} {
		if d.v < 0 || d.v > 24*time.Hour {
			return usageError{fmt.Errorf("--%s %v: 0 to 24h", d.flag, d.v)}
		}
	}
	return checkLog(r.log)
}

// netCPUs decides about the CPUs of all network tiles. Those that a reload may add float where the list has none for them.
func (r *runFlags) netCPUs() ([]int, error) {
	allowed := tile.AllowedCPUs()
	cpus, err := tile.PickCPUs(r.affinity, r.most(), allowed)
	least := r.nets
	if r.anew {
		least = 1
	}
	for n := r.most() - 1; err != nil && n >= least; n-- {
		if cpus, err = tile.PickCPUs(r.affinity, n, allowed); err == nil {
			cpus = append(slices.Clone(cpus), slices.Repeat([]int{tile.Float}, r.most()-n)...)
		}
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("--affinity: %w", err)}
	}
	return cpus, nil
}

// settings are what the tiles are told.
func (r *runFlags) settings() instance.Settings {
	s := r.lim.settings()
	s.Shutdown, s.Log, s.HeartbeatTimeout, s.RestartMax, s.Nets = r.shutdown, r.log, r.heartbeat, r.budget, r.nets
	if r.restart == "never" {
		s.RestartMax = 0
	}
	return s
}

func runCmd() *cobra.Command {
	var r runFlags
	cmd := &cobra.Command{
		Use:   "run [-- COMMAND [ARG...]]",
		Short: "Run an instance: network tiles, and a producer that publishes COMMAND's output",
		Long: `Run an instance in the foreground: each tile is a process of its own, pinned,
watched and restarted. With a COMMAND, a producer tile runs it and publishes each
line of its output; without one, join a producer with: tilewire pipe --join NAME.
The memory that "tilewire server new" made under this name is used, with what it
was made for, or made here; it is removed at the end. If the run is refused (a bad
flag, a busy port), what was made before stays, unless --discard is given.
Most flags are keys of the configuration as well (tilewire config default): flags
win over TILEWIRE_... variables, those over the file.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.given = givenFlags(cmd)
			var err error
			if r.layers, err = configure(cmd, r.file); err != nil {
				return err
			}
			r.texts = keyTexts(cmd)
			setLog(r.log)
			for _, name := range config.Strange(os.Environ()) {
				logger().Warn("no key, and does nothing", "variable", name, "mend", "`tilewire config default` shows the keys")
			}
			r.changed = cmd.Flags().Changed
			if r.pr.user, err = instance.LookupUser(r.userName); err != nil {
				return err
			}
			return runInstance(r, args)
		},
	}
	r.flags(cmd)
	return cmd
}

func runInstance(r runFlags, command []string) error {
	ctx, cancel := stopOnSignal()
	defer cancel()
	sigs := operatorSignals()
	s, pr := &r.shape, &r.pr
	if err := pr.check(); err != nil {
		return err
	}
	in, err := s.join(pr.user)
	if err != nil {
		return err
	}
	remove := r.discard
	defer func() {
		switch {
		case in == nil:
		case !remove:
			_ = in.Leave()
		default:
			if err := in.Remove(); err != nil {
				logger().Warn("memory left", "instance", s.name, "error", err.Error())
			}
		}
	}()
	if in != nil {
		if err := s.adopt(in); err != nil {
			return err
		}
	}
	if err := r.check(); err != nil {
		return r.blame(err)
	}
	cpus, err := r.netCPUs()
	if err != nil {
		return err
	}
	if len(command) > 0 {
		if err := checkCommand(command); err != nil {
			return err
		}
	}
	l, err := listen(s.listen, s.most(), s.nets)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.give(pr.user); err != nil {
		return err
	}
	fresh := in == nil
	if fresh {
		if in, err = s.create(l.addrs(), cpus, false); err != nil {
			return err
		}
	}
	remove = remove || fresh
	adm, err := listenAdmin(r.admin, in)
	if err != nil {
		return err
	}
	defer adm.close()
	if err := adm.give(pr.user); err != nil {
		return err
	}
	remove = true
	unlink := func() { in.Unlink() }
	forced.Store(&unlink)
	if err := in.Give(pr.user); err != nil {
		return err
	}
	if err := in.Rest(); err != nil {
		return err
	}
	in.Info.Listen = l.addrs()
	log := logger()
	mode, _ := steer.ParseMode(r.steering) // check has
	n, err := newNets(l, s.most(), s.nets, cpus, mode, log)
	if err != nil {
		return err
	}
	defer n.close()
	op, err := newOperator(ctx, in, &r, n, sigs, log)
	if err != nil {
		return err
	}
	specs, err := adminSpecs(in, adm, n.file) // the first to come, and the last to go
	if err != nil {
		return err
	}
	nets, err := n.specs(in, cpus)
	if err != nil {
		return err
	}
	specs = append(specs, nets...)
	if len(command) > 0 {
		src, err := tileSpec(in, instance.Tile{Kind: kindSource}, tile.Float, nil, append([]string{"--frame", r.framing, "--"}, command...)...)
		if err != nil {
			return err
		}
		specs = append(specs, src)
	}
	pr.confine(specs)
	if op.notify, err = newNotifier(r.heartbeat); err != nil {
		return err
	}
	c, err := launch(specs, op.set.RestartMax, r.heartbeat, op.event)
	if err != nil {
		return err
	}
	op.crew = c
	defer op.notify.attend(op)()
	if up, err := c.ready(ctx); !up {
		return err
	}
	fmt.Fprint(os.Stderr, addresses(in), adminText(adm), topo.Table(op.rows()))
	return op.serve(ctx)
}

// join joins the memory that was made under this name to be run, or that producers
// of a run that crashed are still joined to, as its supervisor. nil: there is none;
// Create removes what a crash left.
func (s *shape) join(u instance.User) (*instance.Instance, error) {
	in, err := instance.Join(s.name, shmem.ReadWrite)
	if errors.Is(err, instance.ErrNone) {
		return nil, nil
	}
	if errors.Is(err, instance.ErrForeign) {
		err = fmt.Errorf("%w; remove it with `tilewire server delete --name %s`, or choose another --name", err, s.name)
	}
	if err != nil {
		return nil, err
	}
	if n, err := in.Writers(); err == nil && n == 1 && !in.Info.Keep {
		return nil, in.Leave()
	}
	if err = in.OwnFor(u); err != nil {
		_ = in.Leave()
		return nil, err
	}
	return in, nil
}

// adopt takes over what the memory was made for where the flags say nothing, and refuses flags that contradict it.
func (s *shape) adopt(in *instance.Instance) error {
	p := in.Server.Params()
	if n := in.Info.Nets; n > 0 && !s.changed("net-tiles") {
		s.nets = n
	}
	for _, lim := range []struct {
		flag       string
		asked, has uint64
	}{
		{"max-connections", uint64(s.clients), uint64(p.MaxWsConnectionCnt)},
		{"max-request-bytes", uint64(s.request), uint64(p.MaxRequestLen)},
		{"max-client-frame-bytes", uint64(s.frame), uint64(p.MaxWsRecvFrameLen)},
		{"max-lag-messages", s.lag, p.MaxWsSendFrameCnt},
	} {
		if s.changed(lim.flag) && lim.asked != lim.has {
			return s.contradicts("--%s %d: the memory of %q was made for %d", lim.flag, lim.asked, s.name, lim.has)
		}
	}
	if most := int(p.TileCnt); s.changed("net-tiles-max") && s.netMost != most || s.nets > most {
		return s.contradicts("--net-tiles %d, --net-tiles-max %d: the memory of %q was made for %d", s.nets, s.netMost, s.name, most)
	}
	s.netMost = int(p.TileCnt)
	if !s.changed("listen") {
		s.listen = in.Info.Listen
	}
	return s.adoptTopics(in)
}

// contradicts is what flags are refused with that ask for other memory than there is.
func (s *shape) contradicts(format string, args ...any) error {
	return usageError{fmt.Errorf("%s; leave the flag out, or remove it with `tilewire server delete --name %s`", fmt.Sprintf(format, args...), s.name)}
}
