package topo

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/tilewire/tilewire/tile"
)

// phase is how far the ending of a tile has gone.
type phase uint8

const (
	phaseNone phase = iota
	phaseHalt       // the cnc says halt
	phaseTerm       // SIGTERM was sent
	phaseKill       // SIGKILL was sent
)

// proc is a tile and its process, if there is one. Guarded by Supervisor.mu.
type proc struct {
	spec  Spec
	cnc   *tile.Cnc
	child *child
	state State
	phase phase
	due   int64 // when something must be done about it whatever happens, ns; never

	began     int64 // start of this process
	readyAt   int64 // 0: not yet
	everReady bool
	endBy     int64  // it is retired, and ended then; 0: it is not
	again     bool   // end it and start it again
	fault     string // why it was killed: its death is no clean end

	beat     int64 // last heartbeat seen, and when it was seen to change
	beatSeen int64

	keep kept

	restarts int
	deaths   int     // in a row, for the backoff
	recent   []int64 // restarts of the last minute, for the budget
	exit     Exit
}

// event notes something about a tile.
func (s *Supervisor) event(p *proc, e Event) {
	e.Kind, e.ID = p.spec.Kind, p.spec.ID
	if p.child != nil && e.Pid == 0 {
		e.Pid = p.child.proc.Pid
	}
	s.pending = append(s.pending, e)
}

// stepTile does what is due for one tile while the instance is up.
func (s *Supervisor) stepTile(i int32, p *proc, now int64, mayStart bool) {
	if p.again {
		s.stepAgain(p, now)
	} else if p.endBy != 0 && now >= p.endBy && p.child != nil && p.phase == phaseNone {
		s.wind(p, now)
	}
	switch p.state {
	case StateWaiting:
		switch {
		case p.keep.calling && p.due <= now:
			s.endKeeper(p)
			s.launch(i, p, now)
		case p.keep.calling:
		case !mayStart && !p.everReady:
			p.due = never
		case p.due == never || p.due <= now:
			s.launch(i, p, now)
		}
	case StateBooting:
		s.stepBooting(p, now)
	case StateRunning, StateStuck:
		if p.due <= now {
			s.stepBeat(p, now)
		}
	case StateStopping:
		s.wind(p, now)
	}
}

// stepAgain carries out Restart.
func (s *Supervisor) stepAgain(p *proc, now int64) {
	if p.child == nil {
		if p.keep.calling {
			return // once it is there
		}
		p.again, p.keep.upgrade = false, true
		if p.state == StateEnded { // it was given up, maybe
			p.recent, p.deaths = nil, 0
		}
		p.state, p.due = StateWaiting, now
	} else if p.phase == phaseNone {
		s.wind(p, now)
	}
}

// launch starts the process. What cannot be started the first time will not do better the second.
func (s *Supervisor) launch(i int32, p *proc, now int64) {
	first := p.began == 0
	err := error(nil)
	if p.cnc != nil {
		err = p.cnc.Reset(!first)
	}
	if err == nil && s.call(p, now) {
		return
	}
	var c *child
	if err == nil {
		err = s.openPipe(p, i)
	}
	if err == nil {
		c, err = start(&p.spec, p.keep.wr)
	}
	if err == nil {
		if err = s.watch(c.pidfd, aboutDeath, i); err != nil {
			c.proc.Kill()
			c.reap()
		} else if c.ready >= 0 {
			s.watch(c.ready, aboutReady, i)
		}
	}
	p.begin(now)
	if err != nil {
		s.event(p, Event{What: Died, Exit: Exit{Code: -1}, Cause: err.Error(), Restarts: p.restarts})
		p.exit = Exit{Code: -1}
		switch {
		case first && s.spared(p):
			s.giveUp(p, nil, err.Error())
			return
		case first:
			s.err, s.stop = fmt.Errorf("%s: %w", p.spec.name(), err), true
			p.state, p.due = StateEnded, never
			return
		}
		s.again(p, now)
		return
	}
	p.child = c
	p.state, p.due = StateBooting, now+int64(s.o.ReadyTimeout)
	what := Started
	if !first {
		what = Restarted
		p.restarts++
	}
	s.event(p, Event{What: what, Restarts: p.restarts})
	if p.cnc == nil {
		s.stepBooting(p, now)
	}
}

// begin forgets the process before the one that is started now.
func (p *proc) begin(now int64) {
	p.began, p.readyAt, p.phase, p.fault = now, 0, phaseNone, ""
	p.beat, p.beatSeen = 0, now
}

// stepBooting looks whether the tile is ready, or too late.
func (s *Supervisor) stepBooting(p *proc, now int64) {
	if p.cnc != nil {
		if sig := p.cnc.Signal(); sig != tile.SignalRun && sig < tile.SignalUser {
			if now >= p.due {
				s.event(p, Event{What: Unready, Took: time.Duration(now - p.began)})
				s.killTile(p, now, fmt.Sprintf("not ready after %v", s.o.ReadyTimeout))
			}
			return
		}
	}
	s.readPipe(p, now) // its keeper is no stray
	p.state, p.everReady, p.readyAt = StateRunning, true, now
	if s.unswept && !s.handing() {
		s.sweep()
	}
	s.event(p, Event{What: Ready, Took: time.Duration(now - p.began)})
	p.due = never
	if p.cnc != nil {
		p.due = now
		s.stepBeat(p, now)
	}
}

// told takes note of the ready pipe: a byte, or closed without.
func (s *Supervisor) told(p *proc) {
	if p.child != nil {
		s.unwatch(p.child.ready)
		p.child.closeReady()
	}
}

// stepBeat looks at the heartbeat, and sets when to look again: the moment at which it would be stale.
func (s *Supervisor) stepBeat(p *proc, now int64) {
	timeout := int64(s.o.HeartbeatTimeout)
	late := now - p.due
	// Shared memory may say anything: a heartbeat from the future is fresh only while it moves.
	beat := p.cnc.Heartbeat()
	if beat != p.beat {
		p.beat, p.beatSeen = beat, now
	}
	age := now - p.beatSeen
	if beat > 0 && beat <= now {
		age = now - beat
	}
	switch {
	case age <= timeout:
		if p.state == StateStuck {
			p.state = StateRunning
			s.event(p, Event{What: Recovered})
		}
		p.due = now - age + timeout + int64(time.Millisecond)
	case late > timeout/2 && p.state == StateRunning:
		// It was us who stood still (stopped, or a host without CPU to spare): give the tile its chance.
		p.due = now + timeout/2
	default:
		if p.state == StateRunning {
			p.state = StateStuck
			s.event(p, Event{What: Stuck, Age: time.Duration(age)})
			if s.o.KillStuck {
				s.killTile(p, now, "stuck")
				return
			}
		}
		p.due = now + max(timeout/4, int64(time.Millisecond))
	}
}

// wind takes the next step towards a tile's end once it is due.
func (s *Supervisor) wind(p *proc, now int64) {
	switch {
	case p.phase == phaseNone && p.cnc != nil:
		p.state, p.phase, p.due = StateStopping, phaseHalt, now+int64(s.o.HaltGrace)
		p.cnc.Halt()
		if p.spec.Wake != nil {
			p.spec.Wake()
		}
	case p.phase == phaseNone || p.phase == phaseHalt && now >= p.due:
		if p.phase == phaseHalt {
			s.event(p, Event{What: Forced, Cause: fmt.Sprintf("SIGTERM: not halted within %v", s.o.HaltGrace)})
		}
		p.state, p.phase, p.due = StateStopping, phaseTerm, now+int64(s.o.TermGrace)
		p.child.signal(syscall.SIGTERM)
	case p.phase == phaseTerm && now >= p.due:
		s.event(p, Event{What: Forced, Cause: fmt.Sprintf("SIGKILL: not ended within %v of SIGTERM", s.o.TermGrace)})
		s.killTile(p, now, "")
	case p.phase == phaseKill && now >= p.due:
		// Nothing more can be done from here; the pidfd is let go, the zombie-to-be is init's when we end.
		s.event(p, Event{What: Forced, Cause: "left alone: does not die from SIGKILL"})
		s.forget(p)
		p.state, p.due, p.again = StateEnded, never, false
	}
}

func (s *Supervisor) killTile(p *proc, now int64, fault string) {
	p.state, p.phase, p.due, p.fault = StateStopping, phaseKill, now+killBound, fault
	p.child.signal(syscall.SIGKILL)
}

// forget lets go of a process that does not end.
func (s *Supervisor) forget(p *proc) {
	s.unwatch(p.child.pidfd)
	s.unwatch(p.child.ready)
	p.child.abandon()
	p.child = nil
}

// died takes note of a death, which the pidfd told, and decides what follows.
func (s *Supervisor) died(p *proc, now int64) {
	if p.child == nil {
		return
	}
	pid := p.child.proc.Pid
	s.readPipe(p, now) // what it told before it died
	s.unwatch(p.child.pidfd)
	s.unwatch(p.child.ready)
	p.exit = p.child.reap()
	p.child = nil

	e := Event{What: Died, Pid: pid, Exit: p.exit, Restarts: p.restarts, Cause: p.fault}
	e.Expected = p.phase != phaseNone && p.fault == ""
	if p.cnc != nil && e.Cause == "" {
		e.Cause = p.cnc.Cause()
	}
	at := len(s.pending)
	s.event(p, e)
	switch {
	case s.stop && !s.kill && p.keep.pid != 0 && !p.keep.last && p.everReady && p.phase <= phaseHalt && !p.exit.Clean():
		// It died of something else, maybe before it was told: what it held is closed in order all the same (lastCall).
		p.state, p.due = StateWaiting, now
		s.pending[at].Expected, s.pending[at].Again = false, true
	case s.stop:
		p.state, p.due = StateEnded, never
	case p.again:
		p.again = false
		p.state, p.due = StateWaiting, now
		p.keep.upgrade = true
		s.pending[at].Again = true
	case p.endBy != 0 && now >= p.endBy,
		p.spec.Restart == RestartNever,
		p.spec.Restart == RestartOnFailure && p.exit.Clean() && p.fault == "" && (!p.spec.Keep || p.readyAt != 0 || p.cnc != nil && p.cnc.Pid() == pid): // else the tile was never entered
		p.state, p.due = StateEnded, never
	case s.o.Refusal != 0 && p.exit == Exit{Code: s.o.Refusal} && !p.everReady && p.fault == "":
		s.giveUp(p, fmt.Errorf("%w: %s (%v)", ErrRefused, p.spec.name(), p.exit), e.Cause)
	default:
		s.again(p, now)
	}
	if p.state == StateEnded {
		s.endKeeper(p)
	}
	s.sweep()
}

// again schedules a restart after a death whose event was noted last, or gives up.
func (s *Supervisor) again(p *proc, now int64) {
	died := &s.pending[len(s.pending)-1]
	p.recent = slices.DeleteFunc(p.recent, func(t int64) bool { return now-t >= int64(time.Minute) })
	if len(p.recent) >= max(s.o.Budget, 0) && !p.spec.Optional {
		s.giveUp(p, fmt.Errorf("%w: %s died (%v) after %d restarts within a minute", ErrBudget, p.spec.name(), p.exit, len(p.recent)), died.Cause)
		return
	}
	p.recent = append(p.recent, now)
	if p.readyAt != 0 && now-p.readyAt >= int64(s.o.BackoffMax) {
		p.deaths = 0
	}
	after := backoff(p.deaths, s.o.BackoffMin, s.o.BackoffMax)
	if p.spec.Keep { // its clients wait for it
		if p.readyAt != 0 {
			p.deaths = 0
		}
		after = backoff(max(p.deaths-2, 0), s.o.BackoffMin, s.o.BackoffMax)
	}
	p.deaths++
	died.Again, died.After = true, after
	p.state, p.due = StateWaiting, now+int64(after)
}

// retry schedules a start that could not be made for want of something, which is on nobody's budget.
func (s *Supervisor) retry(p *proc, now int64) {
	p.deaths++
	p.state, p.due = StateWaiting, now+int64(backoff(p.deaths+1, s.o.BackoffMin, s.o.BackoffMax))
}

// giveUp stops everything because of one tile: err, with what the tile left as its cause. One that the others do without
// stays down alone.
func (s *Supervisor) giveUp(p *proc, err error, cause string) {
	if s.spared(p) {
		s.event(p, Event{What: LeftDown, Restarts: p.restarts, Cause: cause})
		p.state, p.due = StateEnded, never
		s.endKeeper(p)
		return
	}
	s.event(p, Event{What: GaveUp, Restarts: p.restarts, Cause: cause})
	if cause != "" {
		err = fmt.Errorf("%w: %w", err, errors.New(cause))
	}
	s.err, s.stop = err, true
	p.state, p.due = StateEnded, never
}

// spared reports whether the others do without p.
func (s *Supervisor) spared(p *proc) bool {
	return p.spec.Optional || p.spec.Shared && slices.ContainsFunc(s.procs, func(o *proc) bool {
		return o != p && o.spec.Shared && o.spec.Kind == p.spec.Kind && o.state != StateEnded && o.endBy == 0
	})
}

// backoff is 0 for the first death in a row, then lo, doubled each time, up to hi.
func backoff(deaths int, lo, hi time.Duration) time.Duration {
	if deaths == 0 {
		return 0
	}
	d := lo
	for i := 1; i < deaths && d < hi; i++ {
		d *= 2
	}
	return min(d, hi)
}
