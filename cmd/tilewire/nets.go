package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/httpsrv/steer"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile/topo"
)

// nets are the network tiles that share an instance's ports: the listeners of each, and how who comes is steered among them
// (docs/steering.md). Its methods are called with the operator's lock, or before there is one.
type nets struct {
	l       listeners
	most    int             // tiles that the memory was made for
	count   int             // tiles that are to run: those from 0 to count-1
	st      *steer.Steering // nil: the kernel's hash decides
	file    *os.File        // its shared array, for tiles to inherit; nil likewise
	classic bool            // by CPU, without the program
	number  []int           // of each port of l in st, -1: one socket for all tiles
}

// newNets puts the steering program before the ports. Without the right to load one auto and off do with the kernel's hash, and
// cpu with classic BPF, which a line says; the other modes were asked for, and are an error.
func newNets(l listeners, most, count int, cpus []int, mode steer.Mode, log *slog.Logger) (*nets, error) {
	n := &nets{l: l, most: most, count: count}
	ports := 0
	for i := range l {
		n.number = append(n.number, -1)
		if l[i].shared() {
			n.number[i] = ports
			ports++
		}
	}
	if ports == 0 {
		if most > 1 {
			log.Info("nobody steers: a unix socket, or one that was passed, exists once, and all network tiles accept from it")
		}
		return n, nil
	}
	var err error
	if n.st, err = steer.Load(steer.Options{Tiles: most, Ports: ports, Mode: mode}); err != nil {
		n.st = nil
		return n, n.unsteered(mode, err, log)
	}
	if n.file, err = n.st.File(); err != nil {
		n.close()
		return nil, err
	}
	for i, cpu := range cpus {
		if cpu >= 0 && cpu < steer.MaxCPUs {
			if err := n.st.SetCPU(cpu, i); err != nil {
				n.close()
				return nil, err
			}
		}
	}
	for id := range count {
		if err := n.open(id); err != nil {
			n.close()
			return nil, err
		}
	}
	return n, nil
}

// unsteered is what becomes of a mode where err keeps the program from being loaded.
func (n *nets) unsteered(mode steer.Mode, err error, log *slog.Logger) error {
	const mend = "docs/steering.md: the right to load it"
	switch mode {
	case steer.Off:
	case steer.Auto:
		if n.count > 1 {
			log.Info("connections are spread over the network tiles by the kernel's hash", "reason", err.Error(), "mend", mend)
		}
	case steer.CPU:
		if e := n.byClassic(true); e != nil {
			return errors.Join(err, e)
		}
		log.Info("connections are steered by CPU with classic BPF, which knows nothing of tiles that end or stand still", "reason", err.Error(), "mend", mend)
	default:
		return fmt.Errorf("--steering %v: %w; or choose --steering auto", mode, err)
	}
	return nil
}

// byClassic steers by CPU without any right, or not any more.
func (n *nets) byClassic(on bool) error {
	set := steer.Detach
	if on {
		set = func(fd int) error { return steer.ClassicCPU(fd, n.count) }
	}
	for i := range n.l {
		if !n.l[i].shared() {
			continue
		}
		err := errors.New("nobody listens")
		for _, f := range n.l[i].files[:n.count] { // one that listens speaks for the group
			if err = onFd(f, set); err == nil {
				break
			}
		}
		if err != nil {
			return err
		}
	}
	n.classic = on
	return nil
}

// open has the listeners of a tile listen, and makes them known to the program. Again it changes nothing.
func (n *nets) open(id int) error {
	for i := range n.l {
		p := &n.l[i]
		if !p.shared() {
			continue
		}
		if err := onFd(p.files[id], httpsrv.Relisten); err != nil {
			return fmt.Errorf("net:%d: listen %s: %w", id, p.addr, err)
		}
		if n.st == nil {
			continue
		}
		if err := onFd(p.files[id], func(fd int) error { return n.st.Insert(n.number[i], id, fd) }); err != nil {
			return fmt.Errorf("net:%d: %s: %w", id, p.addr, err)
		}
	}
	return nil
}

// shut ends the listeners of a tile for good: who waits there goes to the other tiles, if the program is there.
func (n *nets) shut(id int) {
	n.live(id, false)
	for i := range n.l {
		if p := &n.l[i]; p.shared() {
			_ = onFd(p.files[id], httpsrv.Unlisten)
		}
	}
}

// added are the tiles that a count adds: those to be started, and those that were leaving and still have their clients. Errors:
// there is no memory for them; they are sending their clients away; none of those that stay runs, be it for a moment, while others are to go.
func (n *nets) added(count int, rows []topo.Status, leaving map[int]instance.Drain) (add []instance.Tile, back []topo.Status, err error) {
	if count > n.most {
		return nil, nil, usageError{fmt.Errorf("layout.net_tile_count: %d needs a restart: there is memory for %d (layout.net_tile_max)\n%w", count, n.most, errRestart)}
	}
	serves := false
	for _, r := range rows {
		if r.Kind != kindNet {
			continue
		}
		serves = serves || r.ID < count && r.State == topo.StateRunning
		switch t := (instance.Tile{Kind: kindNet, ID: r.ID}); {
		case r.ID < n.count || r.ID >= count:
		case r.State == topo.StateEnded:
			add = append(add, t)
		case leaving[r.ID].From > shmem.Monotonic():
			back = append(back, r)
		default:
			return nil, nil, fmt.Errorf("layout.net_tile_count: %v is still sending its clients away (shutdown.drain_millis); try again when it has ended", t)
		}
	}
	if count < n.count && !serves { // those that go would leave nobody
		return nil, nil, fmt.Errorf("layout.net_tile_count: of net:0 to net:%d none runs; `tilewire restart net:0` first", count-1)
	}
	return add, back, nil
}

// resize has so many tiles serve from now on. Listening ends at those that go; those that come are opened when they are started.
func (n *nets) resize(count int) {
	was := n.count
	n.count = count
	for id := count; id < was; id++ {
		n.shut(id)
	}
	if n.classic && count != was {
		_ = n.byClassic(true)
	}
}

// live says whether a tile is to get new connections.
func (n *nets) live(id int, live bool) {
	if n.st != nil {
		_ = n.st.SetLive(id, live && id < n.count)
	}
}

// setMode changes how connections are chosen.
func (n *nets) setMode(m steer.Mode) error {
	if n.st != nil {
		return n.st.SetMode(m)
	}
	switch {
	case !slices.ContainsFunc(n.number, func(k int) bool { return k >= 0 }): // nothing to steer
		return nil
	case m == steer.Auto, m == steer.Off, m == steer.CPU:
		if n.classic != (m == steer.CPU) {
			return n.byClassic(m == steer.CPU)
		}
		return nil
	}
	return usageError{fmt.Errorf("steering.mode: %v needs the program, which could not be loaded when the instance was started (docs/steering.md)", m)}
}

func (n *nets) close() {
	if n.file != nil {
		_ = n.file.Close()
	}
	if n.st != nil {
		_ = n.st.Close()
	}
}

// specs is how they are started; those beyond count are dormant.
func (n *nets) specs(in *instance.Instance, cpus []int) (specs []topo.Spec, err error) {
	for id := range n.most {
		files, more := n.l.of(id), []string(nil)
		if n.file != nil {
			more = []string{"--steering-fd", strconv.Itoa(3 + len(files))}
		}
		s, err := netSpec(in, id, cpus[id], files, more...)
		if err != nil {
			return nil, err
		}
		if n.file != nil {
			s.Files = append(s.Files, n.file)
		}
		s.Dormant, s.Shared = id >= n.count, n.most > 1
		specs = append(specs, s)
	}
	return specs, nil
}
