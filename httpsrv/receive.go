package httpsrv

import (
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
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
	if c.flags&flWaitBuf != 0 {
		return
	}
	switch c.state {
	case stRequest:
		t.readRequest(slot, c)
	case stStream, stClosing:
		t.readFrames(slot, c)
	case stLinger:
		t.discard(slot, c)
	default: // a response is being sent: its end has the socket looked at again
		c.flags |= flMore
	}
}

// read is one receive into p. stop: nothing more now, or the connection is gone.
func (t *NetTile) read(slot uint32, p []byte) (n int, stop bool) {
	n, e := shmem.Recv(int(t.conns[slot].fd), p)
	switch {
	case n > 0:
		t.cnt.Cell(cntRecvs).Inc()
		t.cnt.Cell(cntRecvBytes).Add(uint64(n))
		return n, false
	case e == unix.EAGAIN:
		return 0, true
	case e == unix.EINTR, e == unix.ENOMEM, e == unix.ENOBUFS:
		t.later(slot)
		return 0, true
	case e != 0:
		t.drop(slot, ClosePeerReset)
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
		t.drop(slot, CloseExpectedEOF)
	case stStream:
		t.drop(slot, CloseExpectedEOF) // without a close frame
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

// waitBuf leaves a connection unread until a pool has a buffer again.
func (t *NetTile) waitBuf(slot uint32, c *conn) {
	t.cnt.Cell(cntBufWaits).Inc()
	c.flags |= flWaitBuf
	t.waiters = append(t.waiters, slot)
}
