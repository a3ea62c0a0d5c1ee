package topo

import (
	"context"
	"fmt"
	"math"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// Supervisor starts the tiles of a topology, watches and restarts them, and takes them down in order.
// Its methods may be called from any goroutine. One Run per Supervisor.
type Supervisor struct {
	o     Options
	ready chan struct{}

	mu      sync.Mutex
	procs   []*proc
	pending []Event // to be told to Options.Event without the lock
	strays  map[int32]stray
	ran     bool
	over    bool
	stop    bool
	kill    bool
	killed  bool // kill was carried out
	err     error
	ep      int   // epoll, -1 while not running
	wake    int   // eventfd, -1 while not running
	turns   int   // of Run's loop
	up      bool  // all have been ready
	upTold  bool  // ready is closed
	unswept bool  // strays are to be looked for once no tile hands over
	sweepBy int64 // how long strays are waited for in the end, 0: not yet
}

const (
	never = math.MaxInt64

	// A tile that boots is looked at this often in case that it does not know of tile.NotifyReady.
	lookEvery = int64(100 * time.Millisecond)
	lookOften = int64(5 * time.Millisecond)

	// How long a process may take to die from SIGKILL before it is left alone (uninterruptible sleep).
	killBound = int64(5 * time.Second)
)

// New checks the specs and joins their cncs. Nothing is started. Errors: ErrSpec; no specs is one.
func New(specs []Spec, o Options) (*Supervisor, error) {
	if len(specs) == 0 {
		return nil, fmt.Errorf("%w: there is none", ErrSpec)
	}
	s := &Supervisor{
		o: o.withDefaults(), ready: make(chan struct{}), strays: map[int32]stray{}, ep: -1, wake: -1,
	}
	seen, needed := map[string]bool{}, false
	for i := range specs {
		p := &proc{spec: specs[i]}
		needed = needed || !p.spec.Optional && !p.spec.Dormant
		if p.spec.Dormant {
			p.state, p.due = StateEnded, never
		}
		if seen[p.spec.name()] {
			return nil, fmt.Errorf("%w: %s twice", ErrSpec, p.spec.name())
		}
		seen[p.spec.name()] = true
		c, err := p.spec.check()
		if err != nil {
			return nil, err
		}
		p.cnc = c
		s.procs = append(s.procs, p)
	}
	if !needed {
		return nil, fmt.Errorf("%w: all are optional or dormant", ErrSpec)
	}
	return s, nil
}

// AllReady is closed when every tile that is not optional has been ready once (or has ended by itself), and Event was called with that.
func (s *Supervisor) AllReady() <-chan struct{} { return s.ready }

// Run starts the tiles and returns when none is left: after ctx ended or Stop was called, and the tiles were taken
// down in reverse order; or after all ended by themselves; or after one could not be kept up.
// Errors: ErrBudget; ErrRefused; ErrStart, if a tile cannot be started for the first time; ErrKernel; ErrRunning. Nil otherwise.
func (s *Supervisor) Run(ctx context.Context) error {
	if err := s.open(); err != nil {
		return err
	}
	defer s.close()
	undo, err := becomeSubreaper()
	if err != nil {
		return err
	}
	defer undo()
	defer context.AfterFunc(ctx, s.Stop)()

	for {
		s.mu.Lock()
		s.turns++
		now := shmem.Monotonic()
		done := s.step(now)
		due := s.nextDue(now)
		events := s.pending
		s.pending = nil
		s.mu.Unlock()
		for _, e := range events {
			s.o.Event(e)
		}
		if s.up && !s.upTold { // now, so that what Event does about the last Ready is done
			s.upTold = true
			close(s.ready)
		}
		if done {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.err
		}
		s.wait(due)
	}
}

// Stop asks Run to take the tiles down in reverse order, one after the other: the cnc says halt; after HaltGrace
// SIGTERM; after TermGrace SIGKILL. It returns at once; further calls do nothing.
func (s *Supervisor) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = true
	s.rouse()
}

// Kill asks Run to kill all tiles at once and return.
func (s *Supervisor) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop, s.kill = true, true
	s.rouse()
}

// Restart asks Run to end one tile as Stop would, and start it again: no death, and not on the budget. Also starts one
// that has ended, and one whose restart waits. Errors: ErrNoTile; while stopping too.
func (s *Supervisor) Restart(kind string, id int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.procs {
		if p.spec.Kind != kind || p.spec.ID != id {
			continue
		}
		if s.stop || s.over {
			return fmt.Errorf("%w: %s:%d: the instance is being stopped", ErrNoTile, kind, id)
		}
		p.again, p.endBy = true, 0
		s.rouse()
		return nil
	}
	return fmt.Errorf("%w: %s:%d", ErrNoTile, kind, id)
}

// Retire says that a tile, which was told to end by other ways, is not to be counted on: others are given up as if it were not
// there, and it is ended as Stop would if it is still there at by (shmem.Monotonic; math.MaxInt64: never). 0 takes that
// back, and Restart does. Errors: ErrNoTile.
func (s *Supervisor) Retire(kind string, id int, by int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.procs {
		if p.spec.Kind == kind && p.spec.ID == id {
			p.endBy = by
			s.rouse()
			return nil
		}
	}
	return fmt.Errorf("%w: %s:%d", ErrNoTile, kind, id)
}

// Tune changes Options.Budget and Options.HeartbeatTimeout, with their defaults for zero, from now on.
func (s *Supervisor) Tune(budget int, heartbeat time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.o.Budget, s.o.HeartbeatTimeout = budget, heartbeat
	s.o = s.o.withDefaults()
	for _, p := range s.procs { // whose heartbeat may be stale sooner than it was
		if p.cnc != nil && (p.state == StateRunning || p.state == StateStuck) {
			p.due = shmem.Monotonic()
		}
	}
	s.rouse()
}

// Signal sends sig to every tile that is ready.
func (s *Supervisor) Signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.procs {
		if p.child != nil && (p.state == StateRunning || p.state == StateStuck) {
			p.child.signal(sig)
		}
	}
}

func (s *Supervisor) rouse() {
	if s.wake >= 0 {
		unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// What an epoll event is about is in its Pad, which tile or stray in its Fd.
const (
	aboutWake int32 = iota
	aboutDeath
	aboutReady
	aboutStray
	aboutKeep   // the pipe that tells of keepers
	aboutKeeper // a keeper's death
)

func (s *Supervisor) watch(fd int, about, which int32) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: which, Pad: about}
	if err := unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("%w: epoll add: %w", ErrKernel, err)
	}
	return nil
}

// unwatch must come before close: os.Process holds a duplicate of the pidfd, which would keep it in the epoll set.
func (s *Supervisor) unwatch(fd int) {
	if fd >= 0 {
		unix.EpollCtl(s.ep, unix.EPOLL_CTL_DEL, fd, nil)
	}
}

func (s *Supervisor) open() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ran {
		return ErrRunning
	}
	if s.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		s.ep = -1
		return fmt.Errorf("%w: epoll: %w", ErrKernel, err)
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		unix.Close(s.ep)
		s.ep, s.wake = -1, -1
		return fmt.Errorf("%w: eventfd: %w", ErrKernel, err)
	}
	s.ran = true
	return s.watch(s.wake, aboutWake, 0)
}

func (s *Supervisor) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for _, st := range s.strays {
		st.reap()
	}
	for _, p := range s.procs {
		if k := &p.keep; k.wr != nil {
			unix.Close(k.rd)
			k.wr.Close()
			k.wr = nil
		}
	}
	unix.Close(s.wake)
	unix.Close(s.ep)
	s.ep, s.wake = -1, -1
}

// wait blocks until something happens or due comes, and takes note of it.
func (s *Supervisor) wait(due int64) {
	timeoutMs := -1
	if due != never {
		ns := max(due-shmem.Monotonic(), 0)
		timeoutMs = int(min((ns+999_999)/1_000_000, math.MaxInt32))
	}
	var evs [16]unix.EpollEvent
	n, errno := shmem.EpollWait(s.ep, evs[:], timeoutMs)
	if errno != 0 {
		return // EINTR: look again
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := shmem.Monotonic()
	for _, ev := range evs[:n] {
		switch ev.Pad {
		case aboutWake:
			var b [8]byte
			unix.Read(s.wake, b[:])
		case aboutDeath:
			s.died(s.procs[ev.Fd], now)
		case aboutReady:
			s.told(s.procs[ev.Fd])
		case aboutKeep:
			s.readPipe(s.procs[ev.Fd], now)
		case aboutKeeper:
			s.keeperDied(s.procs[ev.Fd])
		case aboutStray:
			if st, ok := s.strays[ev.Fd]; ok {
				delete(s.strays, ev.Fd)
				s.unwatch(st.pidfd)
				st.reap()
				s.sweep() // its own orphans are ours now
			}
		}
	}
}

// step does all that is due, and tells whether nothing is left to do.
func (s *Supervisor) step(now int64) (done bool) {
	if s.stop {
		return s.stepDown(now)
	}
	ended, wasReady, mayStart := true, true, true
	for i, p := range s.procs {
		s.stepTile(int32(i), p, now, mayStart)
		if s.stop {
			return s.stepDown(now)
		}
		if p.spec.Optional {
			continue
		}
		ready := p.everReady || p.state == StateEnded
		mayStart = mayStart && ready
		wasReady = wasReady && ready
		ended = ended && p.state == StateEnded
	}
	s.up = s.up || wasReady
	if ended {
		s.stop = true
		return s.stepDown(now)
	}
	return false
}

// stepDown ends the last tile that lives, or all when killing; then the strays.
func (s *Supervisor) stepDown(now int64) (done bool) {
	if s.kill && !s.killed {
		s.killed = true
		for _, p := range s.procs {
			if p.child != nil {
				s.killTile(p, now, "")
			}
		}
	}
	for i := len(s.procs) - 1; i >= 0; i-- {
		p := s.procs[i]
		if p.child == nil {
			if s.lastCall(p, now) {
				return false
			}
			s.endKeeper(p)
			p.state, p.due = StateEnded, never
			continue
		}
		s.wind(p, now)
		if p.child != nil {
			return false
		}
	}
	s.sweep()
	if s.sweepBy == 0 {
		s.sweepBy = now + killBound
	}
	return len(s.strays) == 0 || now >= s.sweepBy
}

// lastCall has a dead tile's keeper make its successor all the same: it closes in order what it inherits. false: there is none
// to wait for.
func (s *Supervisor) lastCall(p *proc, now int64) bool {
	k := &p.keep
	switch {
	case s.kill || k.pid == 0:
		return false
	case k.calling:
		return now < p.due
	case k.last || p.state != StateWaiting || !p.everReady:
		return false
	}
	k.last = true
	return p.cnc.Reset(true) == nil && s.call(p, now)
}

func (s *Supervisor) nextDue(now int64) int64 {
	due := int64(never)
	for _, p := range s.procs {
		if s.stop && p.state != StateStopping && !p.keep.calling {
			continue // its turn comes; heartbeats are not watched any more
		}
		due = min(due, p.due)
		if p.endBy != 0 && p.child != nil && p.phase == phaseNone {
			due = min(due, p.endBy)
		}
		if p.state == StateBooting && p.cnc != nil {
			look := lookEvery
			if p.keep.pid != 0 { // a successor, of whose readiness no pipe tells
				look = lookOften
			}
			due = min(due, now+look)
		}
	}
	if s.sweepBy != 0 {
		due = min(due, s.sweepBy)
	}
	return due
}

// sweep ends strays. It is called after each death: a process's orphans are given to us before its pidfd says so.
func (s *Supervisor) sweep() {
	if s.unswept = !s.stop && s.handing(); s.unswept {
		return
	}
	for _, pid := range strays() {
		if _, ok := s.strays[int32(pid)]; ok || (s.o.Spare != nil && s.o.Spare(pid)) {
			continue
		}
		st, err := endStray(pid)
		if err != nil {
			continue // gone meanwhile
		}
		if err := s.watch(st.pidfd, aboutStray, int32(pid)); err != nil {
			unix.Close(st.pidfd)
			continue
		}
		s.strays[int32(pid)] = st
		s.pending = append(s.pending, Event{What: Stray, Pid: pid})
	}
}
