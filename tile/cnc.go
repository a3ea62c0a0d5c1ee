package tile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"structs"
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
)

// Signal is the word of a Cnc by which a tile and those who command it talk.
//
//	          Take               Loop.Run             Raise(user)
//	(dead) ---------> Boot ----------------> Run <----------------> user >= 4
//	                   ^  \                   |  \      Ack
//	                   |   \ Halt()    Halt() |   \ panic, error
//	                   |    v                 v    v
//	                   +---------- Halt <-----+   Fail  (stays until the next Take)
//	                    Loop ended
type Signal uint32

// The values below SignalUser are those of this package; a tile gives those from SignalUser on a meaning of its own.
const (
	SignalBoot Signal = iota // not running: never started, being started, or ended in order
	SignalRun                // the loop runs
	SignalHalt               // asked to end
	SignalFail               // ended by an error or a panic; Cause tells
	SignalUser               // first of the tile's own signals
)

// String gives boot, run, halt, fail, or user-N with N from 4.
func (s Signal) String() string {
	switch s {
	case SignalBoot:
		return "boot"
	case SignalRun:
		return "run"
	case SignalHalt:
		return "halt"
	case SignalFail:
		return "fail"
	}
	return "user-" + strconv.FormatUint(uint64(s), 10)
}

// ParseSignal reads what String writes, and plain numbers. It returns ErrSignal for anything else.
func ParseSignal(s string) (Signal, error) {
	for c := SignalBoot; c < SignalUser; c++ {
		if s == c.String() {
			return c, nil
		}
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "user-"), 10, 32)
	if err != nil || (strings.HasPrefix(s, "user-") && n < uint64(SignalUser)) {
		return 0, fmt.Errorf("%w: %q is none of boot, run, halt, fail, user-N (N >= %d)", ErrSignal, s, SignalUser)
	}
	return Signal(n), nil
}

const (
	// CncAlign and CncFootprint are in bytes.
	CncAlign     = pairSize
	CncFootprint = 256

	cncMagic   = 0x436e635f656c6974 // "tile_cnC"
	cncVersion = 1

	// KindMax is the greatest length in bytes of a tile's kind.
	KindMax = 16
)

// cncMem is a tile's command and control in shared memory. The role lock is the byte at offset 0.
//
//	  0 +-----------------------------------------------+
//	    | header, kind, id                              | writer: New
//	 44 | restarts                                      | writer: supervisor
//	 48 | pid, cpu, start                               | writer: tile, once per life
//	 64 | signal                                        | writer: everybody, rarely
//	128 +-----------------------------------------------+
//	    | heartbeat, cause                              | writer: tile
//	256 +-----------------------------------------------+
//
// The first pair is loaded in every turn of the loop and hardly ever written: it stays shared in all caches.
type cncMem struct {
	_ structs.HostLayout
	header
	kind      [KindMax]byte
	id        uint32
	restarts  atomic.Uint32
	pid       atomic.Uint32
	cpu       atomic.Int32
	start     atomic.Int64
	signal    atomic.Uint32
	_         [60]byte
	heartbeat atomic.Int64
	cause     [15]atomic.Uint64
}

var cncLayout = layoutHash[cncMem]()

// Cnc is a process's join of a tile's command and control. All methods may be called from any goroutine; who may call
// which is said with each.
type Cnc struct {
	m shmem.Mem
	c *cncMem
}

// CncNew formats a cnc for the tile kind:id over m (CncAlign, at least CncFootprint bytes).
// kind is 1 to KindMax bytes of [a-z0-9._-], id from 0 to 1<<31-1. The signal is SignalBoot, the heartbeat 0.
// Errors: ErrAlign, ErrSize, ErrKind, ErrHeld (a tile that lives holds the role of the cnc that is there).
func CncNew(m shmem.Mem, kind string, id int) error {
	if err := fit("cnc", m, CncFootprint); err != nil {
		return err
	}
	if err := checkKind(kind, id); err != nil {
		return err
	}
	l, err := roleLock(m)
	if err != nil {
		return err
	}
	defer l.Unlock()
	c, err := shmem.At[cncMem](m, 0)
	if err != nil {
		return fmt.Errorf("tile: cnc new: %w", err)
	}
	c.begin(m, cncVersion, cncLayout, CncFootprint)
	copy(c.kind[:], kind)
	c.id = uint32(id)
	c.cpu.Store(int32(Float))
	c.magic.Store(cncMagic)
	return nil
}

// CncJoin joins the cnc in m, which may be read-only memory: then only the reading methods may be used.
// Errors: ErrAlign, ErrSize, ErrMagic, ErrLayout, ErrKind.
func CncJoin(m shmem.Mem) (*Cnc, error) {
	if err := fit("cnc", m, CncFootprint); err != nil {
		return nil, err
	}
	c, err := shmem.At[cncMem](m, 0)
	if err != nil {
		return nil, fmt.Errorf("tile: cnc join: %w", err)
	}
	size, err := c.check("cnc", cncMagic, cncVersion, cncLayout, m)
	if err != nil {
		return nil, err
	}
	if size != CncFootprint {
		return nil, fmt.Errorf("%w: cnc says %d bytes, is %d", ErrSize, size, CncFootprint)
	}
	j := &Cnc{m: m, c: c}
	if err := checkKind(j.Kind(), j.ID()); err != nil {
		return nil, err
	}
	return j, nil
}

// Leave ends the join and gives the memory back. The Cnc must not be used again. A role that Take gave is not let go.
func (c *Cnc) Leave() shmem.Mem {
	m := c.m
	c.m, c.c = shmem.Mem{}, nil
	return m
}

// CncDelete clears the magic. Errors: those of CncJoin; ErrHeld while a tile lives.
func CncDelete(m shmem.Mem) error {
	c, err := CncJoin(m)
	if err != nil {
		return err
	}
	l, err := roleLock(m)
	if err != nil {
		return err
	}
	defer l.Unlock()
	c.c.magic.Store(0)
	return nil
}

// Take makes the caller's process the tile: it takes the role lock, which the kernel frees when the process dies,
// writes pid and start time, and sets SignalBoot. A SignalHalt that is there is kept: it was asked of the tile that
// is being started, and Loop.Run obeys it; who starts a tile on purpose calls Reset before.
// Errors: ErrHeld with the holder's pid.
func (c *Cnc) Take() (*shmem.Lock, error) {
	l, err := roleLock(c.m)
	if err != nil {
		return nil, fmt.Errorf("%w (%s, pid %d)", err, c.Name(), c.Pid())
	}
	now := shmem.Monotonic()
	c.c.pid.Store(uint32(os.Getpid()))
	c.c.cpu.Store(int32(Float))
	c.c.start.Store(now)
	c.c.heartbeat.Store(now)
	for {
		s := c.Signal()
		if s == SignalHalt || c.swap(s, SignalBoot) {
			return l, nil
		}
	}
}

// Held tells exactly, from the kernel, whether a live process is the tile. It does not allocate.
func (c *Cnc) Held() bool { return c.m.Locked(0) }

// Reset sets SignalBoot and counts a restart if again is set: for whoever is about to start the tile.
// Errors: ErrHeld, and nothing is touched.
func (c *Cnc) Reset(again bool) error {
	l, err := roleLock(c.m)
	if err != nil {
		return err
	}
	defer l.Unlock()
	c.SetSignal(SignalBoot)
	if again {
		c.c.restarts.Add(1)
	}
	return nil
}

// Kind, ID and Name (kind:id) say which tile this is.
func (c *Cnc) Kind() string {
	k := c.c.kind
	return string(bytes.TrimRight(k[:], "\x00"))
}

// ID is the tile's number among those of its kind.
func (c *Cnc) ID() int { return int(c.c.id) }

// Name gives kind:id, as in net:0.
func (c *Cnc) Name() string { return c.Kind() + ":" + strconv.Itoa(c.ID()) }

// Pid is that of the last process that took the role, in its own pid namespace; 0 if none did. Held says if it lives.
func (c *Cnc) Pid() int { return int(c.c.pid.Load()) }

// CPU is the CPU that the tile pinned itself to, or Float.
func (c *Cnc) CPU() int { return int(c.c.cpu.Load()) }

// Start is when the role was last taken, as of shmem.Monotonic, in ns; 0 if never.
func (c *Cnc) Start() int64 { return c.c.start.Load() }

// Restarts counts how often a supervisor has started the tile anew.
func (c *Cnc) Restarts() int { return int(c.c.restarts.Load()) }

// Signal is the current signal. Any process, any time.
func (c *Cnc) Signal() Signal { return Signal(c.c.signal.Load()) }

// SetSignal sets the signal whatever it was. Prefer Halt, Raise, Ack.
func (c *Cnc) SetSignal(s Signal) { c.c.signal.Store(uint32(s)) }

func (c *Cnc) swap(from, to Signal) bool { return c.c.signal.CompareAndSwap(uint32(from), uint32(to)) }

// Halt asks the tile to end, whatever else it was asked. A tile that failed stays SignalFail. A tile that sleeps sees
// it at its next waking: ring its bell.
func (c *Cnc) Halt() {
	for {
		s := c.Signal()
		if s == SignalFail || s == SignalHalt || c.swap(s, SignalHalt) {
			return
		}
	}
}

// Raise hands the tile one of its own signals (s >= SignalUser). Errors: ErrSignal if the tile does not run, or still
// has another signal to acknowledge.
func (c *Cnc) Raise(s Signal) error {
	if s < SignalUser {
		return fmt.Errorf("%w: %v is not a tile's own", ErrSignal, s)
	}
	if !c.swap(SignalRun, s) {
		return fmt.Errorf("%w: %s says %v, not run", ErrSignal, c.Name(), c.Signal())
	}
	return nil
}

// Ack acknowledges s: back to SignalRun, unless something else was asked meanwhile (false). Writer: tile.
func (c *Cnc) Ack(s Signal) bool { return c.swap(s, SignalRun) }

// Fail leaves the cause (its first 120 bytes), then sets SignalFail. Writer: tile.
func (c *Cnc) Fail(cause error) {
	var b [8 * 15]byte
	if cause != nil {
		copy(b[:], cause.Error())
	}
	for i := range c.c.cause {
		var w uint64
		for k := 7; k >= 0; k-- {
			w = w<<8 | uint64(b[8*i+k])
		}
		c.c.cause[i].Store(w)
	}
	c.SetSignal(SignalFail)
}

// Cause is what Fail left, "" unless the signal is SignalFail.
func (c *Cnc) Cause() string {
	if c.Signal() != SignalFail {
		return ""
	}
	b := make([]byte, 0, 8*len(c.c.cause))
	for i := range c.c.cause {
		for w, k := c.c.cause[i].Load(), 0; k < 8; k++ {
			b = append(b, byte(w>>(8*k)))
		}
	}
	b, _, _ = bytes.Cut(b, []byte{0})
	return strings.ToValidUTF8(string(b), "?")
}

// Beat says that the tile was alive at now (shmem.Monotonic, ns). Writer: tile, in housekeeping (an atomic store
// costs 5 ns, and the line is read by others).
func (c *Cnc) Beat(now int64) { c.c.heartbeat.Store(now) }

// Heartbeat is the last Beat, 0 before the first. It tells a stuck tile; Held tells a dead one.
func (c *Cnc) Heartbeat() int64 { return c.c.heartbeat.Load() }

func (c *Cnc) setCPU(cpu int) { c.c.cpu.Store(int32(cpu)) }

// roleLock takes the lock at offset 0 of a tile's cnc.
func roleLock(m shmem.Mem) (*shmem.Lock, error) {
	l, err := m.Lock(0)
	if errors.Is(err, shmem.ErrLocked) {
		return nil, fmt.Errorf("%w: %w", ErrHeld, err)
	}
	if err != nil {
		return nil, fmt.Errorf("tile: cnc role: %w", err)
	}
	return l, nil
}

func checkKind(kind string, id int) error {
	if len(kind) < 1 || len(kind) > KindMax || id < 0 || id > 1<<31-1 {
		return fmt.Errorf("%w: %q:%d (1 to %d bytes, id from 0)", ErrKind, kind, id, KindMax)
	}
	for _, b := range []byte(kind) {
		if !(b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '.' || b == '_' || b == '-') {
			return fmt.Errorf("%w: %q may hold a-z, 0-9, '.', '_' and '-'", ErrKind, kind)
		}
	}
	return nil
}
