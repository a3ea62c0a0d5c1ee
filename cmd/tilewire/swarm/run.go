package swarm

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	"github.com/tilewire/tilewire/shmem"
	"golang.org/x/sys/unix"
)

const (
	recvBufSz = 256 << 10             // shared by all clients
	eventCnt  = 256                   // per wake-up; bounds how long a progress waits to be told
	maxWait   = 50 * time.Millisecond // how late a done context may be noticed
)

// swarm is a Run in progress.
type swarm struct {
	o    Options
	dial *dialer

	ep      int
	clients []client
	slow    []int // indices of the slow ones
	prog    *progress
	hist    Histogram
	faults  Faults
	cnt     counters
	ends    []End

	next      int    // client to be dialled next
	pending   int    // handshakes in flight
	left      int    // clients neither connected nor ended
	connected int    // got through the upgrade
	open      int    // of them not ended
	alive     [4]int // not ended, per role

	started, readyAt, baseAt, topAt int64 // Monotonic; 0 = not yet
	nextTick, nextSlow              int64
	base, top                       counters
	baseCPU, topCPU                 time.Duration
	atReady                         uint64 // deliveries when all were connected
	minSeq, maxSeq                  uint64 // at the end of the window

	lat  Histogram // hist at the end of the window
	seed uint64    // of the keys
	rng  uint64    // of the masks
	buf  []byte
	out  []byte

	events [eventCnt]unix.EpollEvent
}

// Run connects the clients, verifies what they receive until the first of the options' ends, and
// reports. It works on the calling goroutine, locked to its thread, for the whole time.
//
// Errors: ErrOptions, ErrDescriptors and ErrEpoll with a nil report; ErrNobody with a report. Clients that could not
// connect or were ended are no error: they are in the report. A done ctx is the normal end of a
// run without bounds and no error either.
func Run(ctx context.Context, o Options) (*Report, error) {
	o, ap, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkDescriptors(o.Clients + o.Idle); err != nil {
		return nil, err
	}
	d, err := newDialer(ap, o)
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEpoll, os.NewSyscallError("epoll_create1", err))
	}
	s := newSwarm(o, d, ep)
	defer s.close()
	if err := s.loop(ctx.Done()); err != nil {
		return nil, err
	}
	r := s.report()
	if s.connected == 0 {
		first := End{Kind: EndTimeout}
		if len(s.ends) > 0 {
			first = s.ends[0]
		}
		return r, fmt.Errorf("%w: %d tried %s%s, first: %s %s", ErrNobody, len(s.clients), o.Addr, o.Path, first.Kind, first.Reason)
	}
	return r, nil
}

func newSwarm(o Options, d *dialer, ep int) *swarm {
	total := o.Clients + o.Idle
	s := &swarm{
		o: o, dial: d, ep: ep,
		clients: make([]client, total), prog: newProgress(total), left: total,
		started: shmem.Monotonic(),
		seed:    rand.Uint64(), rng: rand.Uint64() | 1,
		buf: make([]byte, recvBufSz), out: make([]byte, 0, 512),
	}
	for i, r := range roles(o) {
		s.clients[i] = client{fd: -1, role: r}
		s.alive[r]++
		if r != Healthy {
			s.prog.drop(i)
		}
		if r == Slow {
			s.slow = append(s.slow, i)
		}
	}
	return s
}

// loop runs until the end of the window and through what follows it.
func (s *swarm) loop(done <-chan struct{}) error {
	for {
		s.connect()
		now := shmem.Monotonic()
		if s.clock(now) {
			// Who comes late because others have the CPU still counts what came in time.
			if err := s.wait(0); err != nil {
				return err
			}
			break
		}
		select {
		case <-done:
			s.finish(shmem.Monotonic())
			return s.leave(done)
		default:
		}
		if err := s.wait(s.timeout(now)); err != nil {
			return err
		}
		if low, risen := s.prog.settle(); risen && low != excluded && s.o.OnProgress != nil {
			s.o.OnProgress(low)
		}
	}
	s.finish(shmem.Monotonic())
	return s.leave(done)
}

// wait handles the events of one epoll wait.
func (s *swarm) wait(timeoutMs int) error {
	n, errno := shmem.EpollWait(s.ep, s.events[:], timeoutMs)
	if errno == unix.EINTR {
		return nil
	}
	if errno != 0 {
		return fmt.Errorf("%w: %w", ErrEpoll, os.NewSyscallError("epoll_wait", errno))
	}
	s.cnt.wakeups++
	for k := range n {
		s.event(int(s.events[k].Fd), s.events[k].Events)
	}
	return nil
}

// clock does what is due at now and says whether the window is over.
func (s *swarm) clock(now int64) bool {
	if s.readyAt == 0 {
		if now-s.started >= int64(s.o.ConnectTimeout) {
			s.giveUp()
		}
		if s.left > 0 {
			return false
		}
		s.ready(now)
	}
	if s.baseAt == 0 && now-s.readyAt >= int64(s.o.Warmup) {
		s.hist.Reset()
		s.base, s.baseCPU = s.cnt, threadCPU()
		if s.o.OnWindow != nil {
			s.o.OnWindow()
		}
		s.baseAt = shmem.Monotonic()
	}
	if len(s.slow) > 0 && now >= s.nextSlow {
		s.nextSlow = now + int64(s.o.SlowInterval)
		s.readSlow()
	}
	if s.o.OnTick != nil && now >= s.nextTick {
		s.nextTick = now + int64(s.o.TickEvery)
		s.o.OnTick(Tick{
			Elapsed: time.Duration(now - s.readyAt), Deliveries: s.cnt.deliveries - s.atReady,
			Open: s.open, Ended: len(s.ends), Min: s.low(), Faults: s.faults.Total(),
		})
	}
	switch {
	case s.baseAt != 0 && s.o.Duration > 0 && now-s.baseAt >= int64(s.o.Duration):
		return true
	case s.o.UntilSeq > 0 && s.low() >= s.o.UntilSeq:
		return true
	}
	return s.awaited() == 0
}

// awaited returns how many clients can still end the run by ending themselves: healthy and slow
// ones, or, when there never were any, the stalling ones.
func (s *swarm) awaited() int {
	if s.o.StallClients == s.o.Clients {
		return s.alive[Stalling]
	}
	return s.alive[Healthy] + s.alive[Slow]
}

// low returns the lowest last seq of the healthy clients; 0 when there are none.
func (s *swarm) low() uint64 {
	if s.prog.min == excluded {
		return 0
	}
	return s.prog.min
}

// timeout returns how long epoll may wait at now, in ms rounded up.
func (s *swarm) timeout(now int64) int {
	at := now + int64(maxWait)
	due := func(t int64) { at = min(at, t) }
	if s.readyAt == 0 {
		due(s.started + int64(s.o.ConnectTimeout))
		if s.next < len(s.clients) && s.pending < s.o.ConnectPending {
			return 0 // connect has more to do
		}
	} else {
		if s.baseAt == 0 {
			due(s.readyAt + int64(s.o.Warmup))
		} else if s.o.Duration > 0 {
			due(s.baseAt + int64(s.o.Duration))
		}
		if len(s.slow) > 0 {
			due(s.nextSlow)
		}
		if s.o.OnTick != nil {
			due(s.nextTick)
		}
	}
	return int(min((max(at-now, 0)+999_999)/1_000_000, math.MaxInt32))
}

// ready marks the moment at which all clients are connected or have ended.
func (s *swarm) ready(now int64) {
	s.readyAt, s.nextTick, s.atReady = now, now+int64(s.o.TickEvery), s.cnt.deliveries
	if s.o.OnReady != nil {
		s.o.OnReady(s.connected)
	}
}

// finish ends the window at now.
func (s *swarm) finish(now int64) {
	if s.baseAt == 0 { // ended before it began: what there is counts
		s.baseAt = s.readyAt
		if s.readyAt == 0 {
			s.baseAt, s.readyAt = now, now
		}
	}
	s.top, s.topAt, s.topCPU, s.lat = s.cnt, now, threadCPU(), s.hist
	s.minSeq = s.low()
	for _, seq := range s.prog.at {
		if seq != excluded {
			s.maxSeq = max(s.maxSeq, seq)
		}
	}
	if s.o.OnEnd != nil {
		s.o.OnEnd()
	}
}

// mask returns the next frame mask (xorshift64).
func (s *swarm) mask() uint32 {
	s.rng ^= s.rng << 13
	s.rng ^= s.rng >> 7
	s.rng ^= s.rng << 17
	return uint32(s.rng >> 32)
}
