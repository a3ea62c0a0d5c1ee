package httpsrv

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/h1"
)

const (
	acceptBatch = 64
	acceptRetry = 50e6 // ns after a shortage of descriptors or memory
)

// accept takes those who wait, a batch at most. Shortages are counted and
// tried again; none of them ends the tile.
func (t *NetTile) accept(l *listener) (n int) {
	l.more = true
	for ; n < acceptBatch; n++ {
		if l.fd < 0 { // StopListening
			l.more = false
			return n
		}
		fd, e := sys.accept(l.fd, &t.accepted)
		switch e {
		case 0:
			t.admit(fd)
		case unix.EAGAIN:
			l.more = false
			return n
		case unix.EINTR, unix.ECONNABORTED:
		default:
			t.cnt.Cell(cntAcceptErr).Inc()
			l.retryAt = t.now + acceptRetry
			return n
		}
	}
	return n
}

// admit gives a socket a slot, or refuses it.
func (t *NetTile) admit(fd int) {
	p := &t.srv.params
	var req uint32
	if t.httpNow < p.MaxConnectionCnt && len(t.free) > 0 {
		req = t.req.get()
	}
	if req == 0 {
		t.cnt.Cell(cntRejected).Inc()
		t.refuseSocket(fd)
		return
	}
	slot := t.free[len(t.free)-1]
	c := &t.conns[slot]
	gen := c.gen.Load() + 1
	if gen&0x7fffffff == 0 { // 0 names nobody, and negative ones are other events
		gen = 1
	}
	gen &= 0x7fffffff
	t.free = t.free[:len(t.free)-1]
	*c = conn{fd: int32(fd), ring: NoRing, opened: t.now}
	c.rx[0].buf = req
	c.gen.Store(gen)
	c.slow, c.state = slowState, stRequest
	t.setPeer(c)
	t.httpNow++
	t.cnt.Cell(cntAccepted).Inc()
	t.cnt.Cell(cntConnsNow).Inc()
	if err := t.watch(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET, int32(slot), int32(gen)); err != nil {
		t.cnt.Cell(cntAcceptErr).Inc() // ENOMEM, ENOSPC: nothing to be done for this one
		t.reset(slot, CloseLimit)
		return
	}
	t.setDeadline(slot, t.opt.RequestTimeout.Nanoseconds())
	if t.cb.Open != nil {
		t.cb.Open(t.connID(slot))
	}
}

func (t *NetTile) connID(slot uint32) ConnID { return connID(t.conns[slot].gen.Load(), t.id, slot) }

func (t *NetTile) setPeer(c *conn) {
	switch sa := &t.accepted; sa.Addr.Family {
	case unix.AF_INET:
		copy(c.peer[:], "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff")
		for i := range 4 {
			c.peer[12+i] = byte(sa.Addr.Data[2+i])
		}
	case unix.AF_INET6:
		for i := range 8 {
			c.peer[i] = byte(sa.Addr.Data[6+i])
		}
		for i := range 8 {
			c.peer[8+i] = byte(sa.Pad[i])
		}
	default:
		return
	}
	c.peerPort = binary.BigEndian.Uint16([]byte{byte(t.accepted.Addr.Data[0]), byte(t.accepted.Addr.Data[1])})
}

// refuseSocket answers 503 to somebody for whom there is no slot.
func (t *NetTile) refuseSocket(fd int) {
	var buf [512]byte
	r := h1.RespHead{Status: 503, RetryAfter: 1, Date: t.today()}
	if b, ok := h1.AppendError(buf[:0], &r, false); ok {
		_, _ = sys.send(fd, b) // a fresh socket takes it whole
	}
	_ = sys.shutWr(fd)
	// Bytes left unread would turn the close into a reset and take the answer along.
	_, _ = sys.recv(fd, buf[:])
	sys.close(fd)
}

// today returns the Date field's value, formatted once a second.
func (t *NetTile) today() *[29]byte {
	if sec, ok := sys.unixSec(); ok && sec != t.dateSec {
		t.dateSec = sec
		h1.FormatDate(&t.date, sec)
	}
	return &t.date
}
