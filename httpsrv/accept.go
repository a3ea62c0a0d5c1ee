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

// accept takes those who wait, a batch at most. What goes wrong is weather: it
// is counted, and the tile goes on.
func (t *NetTile) accept(l *listener) (n int) {
	l.more = true
	for ; n < acceptBatch; n++ {
		if l.fd < 0 || t.deaf { // StopListening, PauseListening
			l.more = false
			return n
		}
		if wait := t.rate.take(t.now); wait > 0 {
			t.cnt.Cell(cntPaced).Inc()
			l.retryAt = t.now + wait
			return n
		}
		fd, e := t.acceptFrom(l.fd)
		if e != 0 {
			t.rate.put()
		}
		switch e {
		case 0:
			t.opt.Steering.Took()
			t.admit(fd)
			t.tellLoad()
		case unix.EAGAIN:
			l.more = false
			t.drained()
			return n
		case unix.EINVAL: // it does not listen any more
			l.more = false
			return n
		case unix.EINTR:
		case unix.ECONNABORTED, unix.EPERM, unix.EPROTO, unix.ENOPROTOOPT, unix.EOPNOTSUPP,
			unix.ENETDOWN, unix.ENETUNREACH, unix.EHOSTDOWN, unix.EHOSTUNREACH, unix.ENONET, unix.ETIMEDOUT:
			// This one's own trouble, or a firewall's; the next one may have none (accept(2)).
			t.cnt.Cell(cntAcceptErr).Inc()
		case unix.EMFILE, unix.ENFILE:
			t.cnt.Cell(cntAcceptErr).Inc()
			if !t.turnAway(l) {
				l.retryAt = t.now + acceptRetry
				return n
			}
		default: // ENOMEM, ENOBUFS
			t.cnt.Cell(cntAcceptErr).Inc()
			l.retryAt = t.now + acceptRetry
			return n
		}
	}
	return n
}

// drained tells the program that steers connections that all who were sent here are counted.
func (t *NetTile) drained() {
	for i := range t.listeners {
		if t.listeners[i].more {
			return
		}
	}
	t.opt.Steering.Drained()
}

// turnAway answers somebody for whom there is no descriptor: with the one that
// is held in reserve for that. Else he would stand in the backlog, and all who
// come after him. false: there is none.
func (t *NetTile) turnAway(l *listener) bool {
	if t.refused.n > 0 { // these hold descriptors for nobody's good
		t.refused.expire(0)
		return true
	}
	if t.reserve < 0 {
		t.reserve = openReserve()
		return false
	}
	sys.close(t.reserve)
	t.reserve = -1
	fd, e := t.acceptFrom(l.fd)
	if e == 0 {
		t.cnt.Cell(cntRejected).Inc()
		t.refuseSocket(fd, 503)
		t.refused.expire(0)
		t.opt.Steering.Took()
		t.tellLoad()
	}
	t.reserve = openReserve()
	l.more = e != unix.EAGAIN // the kernel asks for the descriptor first, and only then whether anybody is there
	return e == 0
}

// openReserve returns a descriptor that is good for nothing but being closed, or -1.
func openReserve() int {
	fd, err := sys.spare()
	if err != nil {
		return -1
	}
	return fd
}

// acceptFrom takes one connection; with TileOptions.Survive its socket outlives the process.
func (t *NetTile) acceptFrom(fd int) (int, unix.Errno) {
	if t.opt.Survive {
		return sys.acceptKept(fd, &t.accepted)
	}
	return sys.accept(fd, &t.accepted)
}

// admit gives a socket a slot, or refuses it.
func (t *NetTile) admit(fd int) {
	step(ptAccepted)
	var from conn
	t.setPeer(&from)
	t.meet(&from)
	if t.full(&from.peer) {
		t.cnt.Cell(cntRejectedAddr).Inc()
		t.refuseSocket(fd, 429)
		return
	}
	if !t.roomHTTP() {
		t.cnt.Cell(cntRejected).Inc()
		t.refuseSocket(fd, 503)
		return
	}
	slot := t.free[len(t.free)-1]
	c := &t.conns[slot]
	gen := c.gen.Load() + 1
	if gen&0x7fffffff == 0 { // 0 names nobody, and negative ones are other events
		gen = 1
	}
	gen &= 0x7fffffff
	if err := t.watch(fd, connEvents, int32(slot), int32(gen)); err != nil {
		t.cnt.Cell(cntAcceptErr).Inc() // ENOMEM, ENOSPC
		t.refuseSocket(fd, 503)
		return
	}
	t.free = t.free[:len(t.free)-1]
	*c = conn{fd: int32(fd), ring: NoRing, opened: t.now, peer: from.peer, peerPort: from.peerPort, fwd: from.fwd}
	c.rx[0].buf = t.req.get()
	c.gen.Store(gen)
	step(ptAccepted)
	c.slow, c.state = slowState, stRequest
	t.httpNow++
	t.order.push(queueHTTP, slot)
	t.count(c)
	t.cnt.Cell(cntAccepted).Inc()
	t.cnt.Cell(cntConnsNow).Inc()
	t.tellLoad()
	t.setDeadline(slot, t.opt.RequestTimeout.Nanoseconds())
	if t.cb.Open != nil {
		t.cb.Open(t.connID(slot))
	}
}

// connEvents are what epoll tells of a connection.
const connEvents = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// watchConn has epoll tell of a connection that is in the table.
func (t *NetTile) watchConn(slot uint32, c *conn) error {
	return t.watch(int(c.fd), connEvents, int32(slot), int32(c.gen.Load()))
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

// dateField is a Date field's value, formatted once a second.
type dateField struct {
	date    [29]byte
	dateSec int64
}

func (d *dateField) today() *[29]byte {
	if sec, ok := sys.unixSec(); ok && sec != d.dateSec {
		d.dateSec = sec
		h1.FormatDate(&d.date, sec)
	}
	return &d.date
}
