package tile

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// Idle is what a Loop does when there is nothing to do.
type Idle uint8

const (
	IdleSleep Idle = iota // spin for a while, then let Poll wait
	IdleSpin              // never wait: a CPU of its own
)

const (
	defaultSpin      = 20 * time.Microsecond
	defaultHousekeep = 50 * time.Millisecond // 1 ms where the loop spins
)

// Loop is a tile's run loop. Fill it in, Run it in a goroutine of its own (main's will do), reuse nothing.
type Loop struct {
	// Cnc is the tile's, of which the caller has taken the role (Cnc.Take). Required.
	Cnc *Cnc

	// Poll does what there is to do at now (monotonic ns), bounded, and returns how much that was, 0 for nothing. It
	// may wait up to timeoutMs for something to do; 0 means it must not. It waits in its own epoll, by the protocol
	// of Bell. Required.
	Poll func(now int64, timeoutMs int) int

	// Housekeep is called at random intervals, from Interval up to twice that, after the heartbeat. May be nil.
	Housekeep func(now int64)

	// OnSignal is called in housekeeping with signals from SignalUser on, which are acknowledged after it. May be nil.
	OnSignal func(s Signal)

	// Confine is called once, after the thread is pinned and before readiness is told: the last moment to open things, and
	// the one to filter the process's system calls. An error ends Run. May be nil.
	Confine func() error

	// CPU is what the thread is pinned to; Float for none. The zero value is CPU 0: say Float if it is meant.
	CPU int

	// KeepOff moves the process's other threads off CPU (see KeepOff). Set it where the process is but a tile.
	KeepOff bool

	// Idle, Spin (how long to go on polling without work before waiting; 0: 20 µs) and Interval (the least time from
	// one housekeeping to the next; 0: 50 ms, or 1 ms with IdleSpin). A wait never outlasts the next housekeeping,
	// so Interval also bounds how late a sleeping tile whose bell nobody rings sees a signal.
	Idle     Idle
	Spin     time.Duration
	Interval time.Duration

	// Seed for the random intervals; 0: of the process.
	Seed uint64

	stop bool
	err  error
}

// Stop ends the loop after the current turn, Run returning err, or nil as if halted. For Poll, Housekeep and OnSignal.
func (l *Loop) Stop(err error) { l.stop, l.err = true, err }

// Run runs until the cnc says halt, a callback calls Stop, or one panics. It locks and pins the thread (put back at
// the end), sets GOMAXPROCS to 2 at least, since a tile that never blocks would leave a process with one nothing for
// the garbage collector, and never allocates per turn. Signals on the way: Boot -> Run, then Boot again after an
// ordered end, or Fail with its cause before an error is returned.
//
// It returns nil after Halt, what Stop was given or Confine returned, ErrPanic with value and stack after a panic, ErrCPU, ErrLoop.
// A fault on mapped memory is no panic: it ends the process (and the kernel frees the role).
func (l *Loop) Run() (err error) {
	if l.Cnc == nil || l.Poll == nil {
		return fmt.Errorf("%w: Cnc %t, Poll %t", ErrLoop, l.Cnc != nil, l.Poll != nil)
	}
	if runtime.GOMAXPROCS(0) < 2 {
		runtime.GOMAXPROCS(2)
	}
	l.stop, l.err = false, nil

	// Also for runtime.Goexit, which runs deferred calls without a panic.
	ended := false
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v\n%s", ErrPanic, r, debug.Stack())
			l.Cnc.Fail(fmt.Errorf("panic: %v", r))
		} else if !ended {
			l.Cnc.Fail(errors.New("goroutine exited"))
		} else if err != nil {
			l.Cnc.Fail(err)
		} else {
			l.Cnc.SetSignal(SignalBoot)
		}
	}()
	restore, err := l.pin()
	if err != nil {
		ended = true
		return err
	}
	defer restore()
	if l.Confine != nil {
		if err := l.Confine(); err != nil {
			ended = true
			return err
		}
	}

	l.Cnc.Beat(shmem.Monotonic())
	if l.begin() {
		if err := NotifyReady(); err != nil {
			fmt.Fprintln(os.Stderr, "warning:", err)
		}
		l.turns()
	}
	ended = true
	return l.err
}

// pin gives back how the thread was before.
func (l *Loop) pin() (restore func(), err error) {
	var before unix.CPUSet
	runtime.LockOSThread()
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("%w: read affinity: %w", ErrCPU, err)
	}
	allowed := AllowedCPUs()
	if err := Pin(l.CPU); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	l.Cnc.setCPU(l.CPU)
	if l.KeepOff && l.CPU != Float {
		if err = KeepOff(l.CPU, allowed); errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM) {
			fmt.Fprintln(os.Stderr, "warning:", err) // the tile is slower for it, and no more
			err = nil
		}
	}
	restore = func() {
		runtime.UnlockOSThread() // Pin's
		if unix.SchedSetaffinity(0, &before) == nil {
			runtime.UnlockOSThread()
		}
	}
	if err != nil {
		restore()
		return nil, err
	}
	return restore, nil
}

// begin goes from Boot to Run unless Halt was there before.
func (l *Loop) begin() bool {
	for {
		s := l.Cnc.Signal()
		if s == SignalHalt {
			return false
		}
		if l.Cnc.swap(s, SignalRun) {
			return true
		}
	}
}

// turns is the loop itself. The signal word is loaded in every turn: its line is hardly ever written.
func (l *Loop) turns() {
	spin, interval := int64(l.Spin), l.Interval
	if spin <= 0 {
		spin = int64(defaultSpin)
	}
	if interval <= 0 {
		interval = defaultHousekeep
		if l.Idle == IdleSpin {
			interval = time.Millisecond
		}
	}
	now := shmem.Monotonic()
	seed := l.Seed
	if seed == 0 {
		seed = uint64(now) ^ uint64(os.Getpid())<<32
	}
	tempo := NewTempo(interval, seed, now)
	busy := now // when there last was work

	for !l.stop {
		if s := l.Cnc.Signal(); s != SignalRun {
			if s == SignalHalt || s == SignalFail {
				return
			}
			l.signalled(s)
			continue
		}
		timeoutMs := 0
		if l.Idle == IdleSleep && now-busy >= spin {
			timeoutMs = int((max(tempo.Next()-now, 0) + 999_999) / 1_000_000)
		}
		work := l.Poll(now, timeoutMs)
		now = shmem.Monotonic()
		if work > 0 {
			busy = now
		}
		if tempo.Due(now) {
			l.Cnc.Beat(now)
			if l.Housekeep != nil {
				l.Housekeep(now)
				now = shmem.Monotonic()
			}
		}
	}
}

func (l *Loop) signalled(s Signal) {
	if s >= SignalUser && l.OnSignal != nil {
		l.OnSignal(s)
	}
	l.Cnc.Ack(s)
}
