package topo

import (
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/tile/keeper"
)

// kept is what the supervisor knows of a tile's keeper (package keeper).
type kept struct {
	i       int32    // of the tile among procs
	rd      int      // read end of the pipe that tells of keepers and successors
	wr      *os.File // nil: it is not made yet
	pid     int      // of the keeper, 0: there is none
	pidfd   int
	calling bool // it was told to make a successor, which has not been told of yet
	upgrade bool // the next successor is made from the program at Spec.Upgrade
	last    bool // it was told to make one while everything is stopped: there is no other
}

// callWithin bounds (ns) the time until a keeper has made a successor. Then the tile is started anew, and what the keeper
// held is lost.
const callWithin = int64(2e9)

// openPipe makes the pipe once for all processes of a tile.
func (s *Supervisor) openPipe(p *proc, i int32) error {
	k := &p.keep
	if !p.spec.Keep || k.wr != nil {
		return nil
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("%w: pipe: %w", ErrKernel, err)
	}
	k.i, k.rd = i, fds[0]
	k.wr = os.NewFile(uintptr(fds[1]), "keeper")
	return s.watch(k.rd, aboutKeep, i)
}

// call has the keeper of a dead tile make its successor.
func (s *Supervisor) call(p *proc, now int64) bool {
	k := &p.keep
	if k.pid == 0 {
		return false
	}
	sig := unix.SIGUSR1
	if k.upgrade && p.spec.Upgrade != "" {
		if _, err := os.Stat(p.spec.Upgrade); err == nil {
			sig = unix.SIGUSR2
		}
	}
	k.upgrade = false
	if err := unix.PidfdSendSignal(k.pidfd, sig, nil, 0); err != nil {
		s.endKeeper(p)
		return false
	}
	k.calling = true
	p.begin(now)
	p.state, p.due = StateWaiting, now+callWithin
	return true
}

// readPipe takes note of what keepers and their tiles tell.
func (s *Supervisor) readPipe(p *proc, now int64) {
	k := &p.keep
	for k.wr != nil {
		var b [keeper.MessageSz]byte
		if n, err := unix.Read(k.rd, b[:]); n != len(b) || err != nil {
			return
		}
		switch tag, pid := keeper.Parse(b); {
		case tag == keeper.TagSuccessor && k.calling && pid == 0:
			k.calling = false // for want of memory or processes
			s.retry(p, now)
			s.event(p, Event{What: Died, Exit: Exit{Code: -1}, Cause: "its keeper could not fork", Restarts: p.restarts, Again: true, After: time.Duration(p.due - now)})
		case tag == keeper.TagSuccessor && k.calling:
			s.attach(p, pid, now)
		case tag == keeper.TagKeeper:
			s.newKeeper(p, pid)
		}
	}
}

// claimPid takes pid, of which a pipe told, for a process of ours: no stray from now on. false: it is no child, or one that is
// claimed already (another's word is not enough), or no descriptor is to be had for it.
func claimPid(pid int) (pidfd int, ok bool) {
	started.mu.Lock()
	defer started.mu.Unlock()
	if _, known := started.pids[pid]; known || pid <= 0 || !slices.Contains(ownChildren(), pid) {
		return -1, false
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, false
	}
	started.pids[pid] = struct{}{}
	return pidfd, true
}

func unclaimPid(pid int) {
	started.mu.Lock()
	defer started.mu.Unlock()
	delete(started.pids, pid)
}

// attach takes the successor for the tile's process.
func (s *Supervisor) attach(p *proc, pid int, now int64) {
	k := &p.keep
	fd, ok := claimPid(pid)
	if !ok {
		return // it is called again when the time is over
	}
	proc, err := os.FindProcess(pid)
	if err != nil {
		unix.Close(fd)
		unclaimPid(pid)
		return
	}
	k.calling = false
	p.child = &child{proc: proc, pidfd: fd, ready: -1}
	p.restarts++
	p.state, p.due = StateBooting, now+int64(s.o.ReadyTimeout)
	s.event(p, Event{What: Restarted, Restarts: p.restarts})
	if err := s.watch(fd, aboutDeath, k.i); err != nil {
		s.killTile(p, now, err.Error())
	}
}

// newKeeper: the tile has made a keeper, which holds all that the one before it held.
func (s *Supervisor) newKeeper(p *proc, pid int) {
	k := &p.keep
	fd, ok := claimPid(pid)
	if !ok {
		return
	}
	s.endKeeper(p)
	k.pid, k.pidfd = pid, fd
	_ = s.watch(fd, aboutKeeper, k.i)
}

// endKeeper ends the keeper that there is; a dead one is only reaped.
func (s *Supervisor) endKeeper(p *proc) {
	k := &p.keep
	if k.calling = false; k.pid == 0 {
		return
	}
	s.unwatch(k.pidfd)
	unix.Close(k.pidfd)
	pid := k.pid
	k.pid = 0
	if st, err := endStray(pid); err == nil {
		if s.watch(st.pidfd, aboutStray, int32(pid)) == nil {
			s.strays[int32(pid)] = st
		} else {
			st.reap()
		}
	}
	unclaimPid(pid)
}

// keeperDied: nobody but the tile holds its connections from now on.
func (s *Supervisor) keeperDied(p *proc) {
	pid := p.keep.pid
	s.endKeeper(p)
	s.event(p, Event{What: Unkept, Pid: pid})
}

// handing reports whether a tile's keeper or successor may be about to be told of: nobody knows then what is a stray.
func (s *Supervisor) handing() bool {
	return slices.ContainsFunc(s.procs, func(p *proc) bool {
		return p.spec.Keep && (p.keep.calling || p.state == StateBooting)
	})
}
