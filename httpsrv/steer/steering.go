package steer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Options are what Load is told.
type Options struct {
	Tiles int  // network tiles; 1 to MaxTiles
	Ports int  // listen addresses, each of which has a listener per tile; 1 to 1024
	Mode  Mode // how to choose; SetMode changes it
}

// Steering is the supervisor's handle: the program, a table of listeners per listen address, and the shared array. Its
// methods may be called by several goroutines. What it steers goes on being steered after Close, and after its
// process, for as long as the listeners live.
type Steering struct {
	tiles  int
	array  *ebpf.Map
	cpus   *ebpf.Map
	ports  []port
	m      mapping
	s      shared
	closed bool
}

// port is a listen address. A socket can only be chosen out of the group that it shares its port with, so that each
// has a table, and a program that looks in it.
type port struct {
	listeners *ebpf.Map
	prog      *ebpf.Program
}

// Load puts a program per listen address into the kernel, no tile being live yet. It needs CAP_BPF and takes about 30 ms a port.
// Errors: ErrPermission without it, ErrUnsupported, ErrParams. In each case the ports work without: the kernel
// spreads connections by a hash.
func Load(o Options) (_ *Steering, err error) {
	switch {
	case o.Tiles < 1 || o.Tiles > MaxTiles:
		return nil, fmt.Errorf("%w: %d tiles, want 1 to %d", ErrParams, o.Tiles, MaxTiles)
	case o.Ports < 1 || o.Ports > 1024:
		return nil, fmt.Errorf("%w: %d ports, want 1 to 1024", ErrParams, o.Ports)
	case o.Mode > Auto:
		return nil, fmt.Errorf("%w: mode %d", ErrParams, o.Mode)
	}
	spec, err := loadProgram()
	if err != nil {
		return nil, err
	}
	spec.Maps[programMapListeners].MaxEntries = uint32(o.Tiles)
	spec.Maps[programMapShared].MaxEntries = uint32(cellCnt(o.Tiles))
	st := &Steering{tiles: o.Tiles}
	defer func() {
		if err != nil {
			_ = st.Close()
		}
	}()
	if st.array, err = ebpf.NewMap(spec.Maps[programMapShared]); err != nil {
		return nil, explainLoad(err)
	}
	if st.cpus, err = ebpf.NewMap(spec.Maps[programMapCpus]); err != nil {
		return nil, explainLoad(err)
	}
	if st.m, err = mapShared(st.array.FD()); err != nil {
		return nil, err
	}
	if st.s, err = format(st.m.mem(), o.Tiles, plain(o.Mode), rand.Uint64()); err != nil {
		return nil, err
	}
	for range o.Ports {
		var p programObjects
		err := spec.LoadAndAssign(&p, &ebpf.CollectionOptions{
			MapReplacements: map[string]*ebpf.Map{programMapShared: st.array, programMapCpus: st.cpus}})
		if err != nil {
			return nil, explainLoad(err)
		}
		_, _ = p.Shared.Close(), p.Cpus.Close() // duplicates
		st.ports = append(st.ports, port{p.Listeners, p.Steer})
	}
	return st, nil
}

// explainLoad gives an error of Load its sentinel. What the library adds to EPERM, a hint at RLIMIT_MEMLOCK, is wrong
// since Linux 5.11.
func explainLoad(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w (setcap cap_bpf+ep, AmbientCapabilities=CAP_BPF, or root; in a container also its seccomp profile): %w", ErrPermission, unix.EPERM)
	case errors.As(err, &verifier), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL), errors.Is(err, ebpf.ErrNotSupported):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return fmt.Errorf("steer: load: %w", err)
}

func plain(m Mode) Mode {
	if m == Auto {
		return Least
	}
	return m
}

// Insert makes the socket fd tile's listener at the port of that index, and has the program steer the group that fd
// shares its address with. fd is a TCP socket, bound with SO_REUSEPORT, that listens. Only this process's handle is
// needed: who closes fd later, here or in the tile, ends it for the table as well. A tile's new listener takes the place of its old
// one; the same socket again is no error. It does not make the tile live.
//
// Errors: ErrParams, ErrMPTCP, ErrReusePort, ErrNotListening, ErrTaken, ErrSocket.
func (st *Steering) Insert(port, tile, fd int) error {
	if port < 0 || port >= len(st.ports) || tile < 0 || tile >= st.tiles {
		return fmt.Errorf("%w: port %d of %d, tile %d of %d", ErrParams, port, len(st.ports), tile, st.tiles)
	}
	p := st.ports[port]
	if err := p.listeners.Update(uint32(tile), uint64(fd), ebpf.UpdateAny); err != nil {
		if !errors.Is(err, unix.EBUSY) || !p.holds(tile, fd) {
			return explainSocket(fd, err)
		}
	}
	return p.attach(fd)
}

// attach replaces whatever program the group of fd had.
func (p port) attach(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, p.prog.FD()); err != nil {
		return explainSocket(fd, err)
	}
	return nil
}

// holds tells whether the tile's listener is the socket fd.
func (p port) holds(tile, fd int) bool {
	var there uint64
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	return err == nil && p.listeners.Lookup(uint32(tile), &there) == nil && there == cookie
}

// SetMode changes how connections are chosen from now on; Auto means Least.
func (st *Steering) SetMode(m Mode) error {
	if m > Auto {
		return fmt.Errorf("%w: mode %d", ErrParams, m)
	}
	st.s.mode.Store(uint32(plain(m)))
	return nil
}

// SetLive says whether the tile gets new connections, and those of closed listeners: false when it is to drain, stands
// still, or is dead; true when its listeners are inserted and it accepts.
func (st *Steering) SetLive(tile int, live bool) error {
	if tile < 0 || tile >= st.tiles {
		return fmt.Errorf("%w: tile %d of %d", ErrParams, tile, st.tiles)
	}
	st.s.setLive(tile, live)
	return nil
}

// SetCPU says that SYNs which the CPU handles go to the tile in mode CPU; tile -1: to any.
func (st *Steering) SetCPU(cpu, tile int) error {
	if cpu < 0 || cpu >= MaxCPUs || tile < -1 || tile >= st.tiles {
		return fmt.Errorf("%w: cpu %d of %d, tile %d of %d", ErrParams, cpu, MaxCPUs, tile, st.tiles)
	}
	if err := st.cpus.Update(uint32(cpu), uint32(tile+1), ebpf.UpdateAny); err != nil {
		return fmt.Errorf("steer: cpu %d: %w", cpu, err)
	}
	return nil
}

// Stats returns counts and standings.
func (st *Steering) Stats() Stats { return st.s.stats() }

// File returns a duplicate of the shared array's descriptor, for tiles to inherit (exec.Cmd.ExtraFiles) and to Join.
// It is the caller's to close.
func (st *Steering) File() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(st.array.FD()), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("steer: file: %w", err)
	}
	return os.NewFile(uintptr(fd), "steering"), nil
}

// Close gives back what this process has of it. No other method may be called after it or meanwhile. The second call
// does nothing.
func (st *Steering) Close() (err error) {
	if st.closed {
		return nil
	}
	st.closed = true
	for _, p := range st.ports {
		err = errors.Join(err, p.listeners.Close(), p.prog.Close())
	}
	if st.m.b != nil {
		err = errors.Join(err, st.m.unmap())
	}
	return errors.Join(err, st.array.Close(), st.cpus.Close())
}
