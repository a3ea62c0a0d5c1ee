package httpsrv

import (
	"golang.org/x/sys/unix"
)

// receiveTurns bounds the reads from one connection in a row.
const receiveTurns = 16

// pausePending is how many messages of its own a client may leave waiting
// before it is no longer read from: a client that does not read its replies
// gets no further requests in.
const pausePending = 16

// receive reads from a connection what there is, a bounded amount.
func (t *NetTile) receive(slot uint32) {
	c := &t.conns[slot]
	if c.flags&flWaitBuf != 0 || c.evFlags&evWaits != 0 {
		if c.state == stAwait { // a stream goes on by itself
			c.flags |= flMore
		}
		return
	}
	switch c.state {
	case stRequest:
		t.readRequest(slot, c)
	case stStream, stClosing:
		t.readFrames(slot, c)
		t.boundHold(slot, c)
	case stLinger:
		t.discard(slot, c)
	default: // a response is being sent: its end has the socket looked at again
		c.flags |= flMore
	}
}

// read is one receive into p. stop: nothing more now, or the connection is gone.
func (t *NetTile) read(slot uint32, p []byte) (n int, stop bool) {
	n, e := sys.recv(int(t.conns[slot].fd), p)
	switch {
	case n > 0:
		step(ptReceived)
		t.cnt.Cell(cntRecvs).Inc()
		t.cnt.Cell(cntRecvBytes).Add(uint64(n))
		return n, false
	case e == unix.EAGAIN:
		t.conns[slot].flags &^= flUrgent
		return 0, true
	case passing(e):
		t.later(slot)
		return 0, true
	case e != 0:
		t.drop(slot, t.conns[slot].lostReason())
		return 0, true
	}
	t.ended(slot)
	return 0, true
}

// ended: the client has ended its side.
func (t *NetTile) ended(slot uint32) {
	c := &t.conns[slot]
	switch c.state {
	case stRequest:
		if rx := c.rxNow(); rx.done > 0 && rx.end == rx.done { // between two requests
			t.drop(slot, CloseOK)
			return
		}
		t.drop(slot, CloseExpectedEOF)
	case stStream:
		t.drop(slot, CloseExpectedEOF) // without a close frame
	case stClosing:
		if c.flags&(flPeerClose|flFailed) != 0 && c.flags&flSentClose == 0 {
			return // only its side: our close frame is still to be sent
		}
		t.drop(slot, c.reason)
	default:
		t.drop(slot, c.reason)
	}
}

// discard reads away what comes after all was sent, until the peer's end.
func (t *NetTile) discard(slot uint32, c *conn) {
	var waste [4096]byte
	for range receiveTurns {
		if _, stop := t.read(slot, waste[:]); stop {
			return
		}
	}
	t.later(slot)
}

// boundHold sets the time within which a stream must finish what it holds
// buffers for, once there are others who wait for one (timedOut).
func (t *NetTile) boundHold(slot uint32, c *conn) {
	if c.state != stStream {
		return
	}
	switch holds := c.recvBuf|c.msgBuf != 0; {
	case holds && c.deadline == 0:
		t.setDeadline(slot, t.opt.RequestTimeout.Nanoseconds())
	case !holds:
		c.deadline = 0
	}
}

// holdsOn is reached when a stream has held buffers for that long. While nobody
// waits for one it may; else it is closed, and its buffers go to the others.
func (t *NetTile) holdsOn(slot uint32, c *conn) {
	switch p := t.port(c); {
	case len(t.waiters) == 0, c.flags&flWaitBuf != 0, t.local[slot].waitsReply, // or it waits itself, for others
		p != nil && p.first != 0: // or it is the application that is slow
		t.setDeadline(slot, t.opt.RequestTimeout.Nanoseconds())
		return
	}
	why := CloseTimeout
	if t.owing(c) { // it was not read from because it does not read
		why = CloseWsClientTooSlow
	}
	id := t.connID(slot)
	if t.closeSoon(slot, why.code(), why.String(), why); c.state != stClosing || t.connID(slot) != id {
		return
	}
	c.flags |= flFailed
	rx := *c.rxNow()
	rx.done = rx.end
	c.rxCommit(&rx)
	t.putBuf(&t.recv, &c.recvBuf)
	t.putBuf(&t.msg, &c.msgBuf)
}

// waitBuf leaves a connection unread until a pool has a buffer again.
func (t *NetTile) waitBuf(slot uint32, c *conn) {
	t.cnt.Cell(cntBufWaits).Inc()
	c.flags |= flWaitBuf
	if l := &t.local[slot]; !l.waits {
		l.waits = true
		t.waiters = append(t.waiters, slot)
	}
}
