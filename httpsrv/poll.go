package httpsrv

import (
	"golang.org/x/sys/unix"
)

// What an epoll event is about (Pad); a connection's is its generation, from 1 on.
const (
	evBell     = -1
	evListener = -2
)

// Poll does what there is to do: messages to deliver, connections to accept,
// bytes to read, deadlines. It does a bounded amount and returns how much that
// was; with nothing to do it waits up to timeoutMs for something, woken by the
// sockets and by producers (doorbell). now is shmem.Monotonic.
func (t *NetTile) Poll(now int64, timeoutMs int) int {
	t.now = now
	work := t.deliver()
	t.lookMoved()
	work += t.resume()
	slept := false
	if work > 0 {
		timeoutMs = 0
	}
	if timeoutMs != 0 {
		timeoutMs = t.appsIn(t.retryIn(t.wheel.wait(now, timeoutMs)))
		t.bell.Sleep()
		if t.behind() || t.roomCame() {
			t.bell.Awake()
			timeoutMs = 0
		} else {
			slept = true
		}
	}
	if t.rings {
		t.ringApps()
	}
	n := t.wait(timeoutMs)
	if slept {
		t.bell.Awake()
		t.now = sys.now()
		work += t.deliver()
	}
	for i := range t.events[:n] {
		t.event(&t.events[i])
	}
	t.flush()
	if t.refused.n > 0 {
		t.refused.expire(t.now)
	}
	if t.now >= t.lag.next {
		t.lagDue()
	}
	if t.drain.on && (t.now >= t.drain.next || t.drain.left <= 0) {
		t.drainDue()
	}
	t.wheel.advance(t.now, t.due)
	t.lookApps()
	t.flush()
	if t.rings {
		t.ringApps()
	}
	return work + n
}

// briefly is how many ms of a wait the Go scheduler is not told of.
const briefly = 8

// wait waits for events, at first without a word to the Go scheduler: where
// messages come every few ms, its monitor would cost a quarter of the CPU.
func (t *NetTile) wait(timeoutMs int) int {
	if timeoutMs < 0 {
		n, _ := sys.wait(t.ep, t.events[:t.opt.PollEvents], timeoutMs)
		return n
	}
	n, e := sys.waitRaw(t.ep, t.events[:t.opt.PollEvents], min(timeoutMs, briefly))
	if n == 0 && e == 0 && timeoutMs > briefly {
		n, _ = sys.wait(t.ep, t.events[:t.opt.PollEvents], timeoutMs-briefly)
	}
	return n // an error is EINTR: nothing yet
}

// retryIn shortens a wait to the time at which a listener that met a shortage is tried again, a socket that was
// refused is let go, who holds up the others' replies has had its time, or the next client is sent away.
func (t *NetTile) retryIn(timeoutMs int) int {
	sooner := func(at int64) {
		if ms := int(max(at-t.now, 0)/1e6) + 1; timeoutMs < 0 || ms < timeoutMs {
			timeoutMs = ms
		}
	}
	for i := range t.listeners {
		if l := &t.listeners[i]; l.more {
			sooner(l.retryAt)
		}
	}
	if q := &t.refused; q.n > 0 {
		sooner(q.till[q.from])
	}
	if until := t.rep.until; until != 0 {
		sooner(until)
	}
	if t.drain.on {
		sooner(t.drain.next)
	}
	return timeoutMs
}

func (t *NetTile) behind() bool {
	for _, rd := range t.rd {
		if rd.behind() {
			return true
		}
	}
	return false
}

func (t *NetTile) event(ev *unix.EpollEvent) {
	switch ev.Pad {
	case evBell:
		t.bell.Drain()
		return
	case evListener:
		t.accept(&t.listeners[ev.Fd])
		return
	}
	slot := uint32(ev.Fd)
	c := &t.conns[slot]
	if c.state == stFree || int32(c.gen.Load()) != ev.Pad {
		return // closed earlier in this batch
	}
	if ev.Events&unix.EPOLLERR != 0 {
		t.drop(slot, c.lostReason())
		return
	}
	if ev.Events&unix.EPOLLOUT != 0 && c.flags&flBlocked != 0 {
		c.flags &^= flBlocked
		t.touch(slot)
	}
	if ev.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		c.flags |= flPeerEOF
	}
	if ev.Events&unix.EPOLLPRI != 0 {
		c.flags |= flUrgent
	}
	if ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		if c.state == stRequest { // one that is in the buffer already may come first
			c.flags |= flMore
		}
		t.receive(slot)
	}
}

// touch has slot's bytes sent before Poll returns.
func (t *NetTile) touch(slot uint32) {
	if l := &t.local[slot]; !l.dirty {
		l.dirty = true
		t.dirty = append(t.dirty, slot)
	}
}

func (t *NetTile) flush() {
	for i := 0; i < len(t.dirty); i++ { // grows while it is walked
		slot := t.dirty[i]
		l := &t.local[slot]
		if l.dirty = false; t.conns[slot].state != stFree {
			t.send(slot)
		}
	}
	t.dirty = t.dirty[:0]
}

// later has slot read from at the next Poll.
func (t *NetTile) later(slot uint32) {
	if l := &t.local[slot]; !l.again {
		l.again = true
		t.again = append(t.again, slot)
	}
}

// resume goes on with what the last Poll left: readers whose turn was over,
// those that awaited a buffer or place for a reply, listeners.
func (t *NetTile) resume() (work int) {
	t.turnReplies()
	if len(t.again) > 0 {
		t.again, t.spare = t.spare[:0], t.again
		for _, slot := range t.spare {
			t.local[slot].again = false
			c := &t.conns[slot]
			if c.flags&flRetry != 0 {
				c.flags &^= flRetry | flBlocked
				t.touch(slot)
			}
			if c.state != stFree {
				work++
				t.receive(slot)
			}
		}
	}
	if t.freed && len(t.waiters) > 0 {
		t.freed = false
		t.waiters, t.waited = t.waited[:0], t.waiters // who has to wait again does so behind the others
		for _, slot := range t.waited {
			t.local[slot].waits = false
			if c := &t.conns[slot]; c.state != stFree && c.flags&flWaitBuf != 0 {
				c.flags &^= flWaitBuf
				work++
				t.receive(slot)
			}
		}
	}
	for i := range t.listeners {
		if l := &t.listeners[i]; l.more && t.now >= l.retryAt {
			work += t.accept(l)
		}
	}
	work += t.resumeApps()
	t.flush()
	return work
}
