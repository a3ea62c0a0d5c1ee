//go:build explore

package httpsrv

import (
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// simSocket is one TCP connection: the server's end as Linux keeps it
// (net/ipv4/tcp.c: tcp_poll, tcp_sendmsg, tcp_recvmsg, tcp_reset, __tcp_close),
// and what is on its way. The client's end takes in all that arrives, unless it
// stalls.
type simSocket struct {
	w    *simWorld
	cl   *simClient
	fd   int      // the server's descriptor; 0: not accepted yet
	item *simItem // its place in the epoll
	tile *simTile

	snd, rcv       []byte // send and receive buffer
	sndCap, rcvCap int
	noSpace        bool // a sender waits for room: EPOLLOUT will come
	shut           bool // our side is ended: FIN goes after snd
	finOut         bool // the client has seen it
	peerFin        bool
	err            unix.Errno // sk_err: reported once
	dead           bool       // state CLOSE
	linger         bool       // close is a reset
	closed         bool       // the descriptor is
	locked         bool       // in the middle of a call

	up          []byte // on their way to the server
	upFin       bool
	upRst       bool
	clientGone  bool  // its process is: what arrives is answered by RST
	taken       int   // bytes that sends took
	given       int   // bytes that receives gave
	sentAt      int64 // the tile's time at the last send that took something
	refused     bool  // a send did not take all, or nothing
	brokenByNet bool

	inline  bool  // SO_OOBINLINE
	wrote   int   // bytes that the client wrote
	urgents []int // of these, offsets of urgent ones that are on their way
	came    int   // bytes that arrived
	urgent  int   // offset of the last urgent one among them
	urges   bool  // that is not read yet
	holes   int   // urgent ones that a receive left out
}

// free is the room in the send buffer, writable what Linux calls enough of it
// to wake a writer for (__sk_stream_is_writeable).
func (s *simSocket) free() int      { return s.sndCap - len(s.snd) }
func (s *simSocket) writable() bool { return s.free() > 0 && s.free() >= len(s.snd)/2 }

// mask is tcp_poll.
func (s *simSocket) mask() (m uint32) {
	if s.dead || s.shut && s.peerFin {
		m |= unix.EPOLLHUP
	}
	if s.peerFin || s.dead {
		m |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if len(s.rcv) > 0 {
		m |= unix.EPOLLIN
	}
	switch {
	case s.shut || s.dead || s.writable():
		m |= unix.EPOLLOUT
	default:
		s.noSpace = true
	}
	if s.err != 0 {
		m |= unix.EPOLLERR
	}
	if s.urges {
		m |= unix.EPOLLPRI
	}
	return m
}

func (s *simSocket) wake(key uint32) {
	if s.item != nil {
		s.item.wake(key)
	}
}

// send takes up to most bytes of the pieces, in more than one step.
func (s *simSocket) send(v *shmem.Iovs, most int) (n int, e unix.Errno) {
	if s.err != 0 {
		e, s.err = s.err, 0
		return 0, e
	}
	if s.dead || s.shut {
		return 0, unix.EPIPE
	}
	most = min(most, s.free(), v.Bytes())
	s.locked = true
	for i := range v.Len() {
		p := v.Piece(i)
		p = p[:min(len(p), most-n)]
		for len(p) > 0 {
			k := len(p)
			if s.w.chance(s.w.plan.between) {
				k = 1 + s.w.rnd.IntN(k)
			}
			s.snd = append(s.snd, p[:k]...)
			p = p[k:]
			if n += k; n < most {
				s.w.meanwhile()
			}
		}
	}
	s.locked = false
	s.taken += n
	s.sentAt = s.tile.t.now
	if n < v.Bytes() {
		s.noSpace, s.refused = true, true
		if n == 0 {
			return 0, unix.EAGAIN
		}
	}
	return n, 0
}

func (s *simSocket) recv(p []byte) (int, unix.Errno) {
	if s.urges && !s.inline && s.urgent == s.given+s.holes {
		s.rcv = s.rcv[:copy(s.rcv, s.rcv[1:])]
		s.holes++
		s.urges = false
	}
	if n := copy(p, s.rcv); n > 0 {
		if to := s.urgent - s.given - s.holes; s.urges && to > 0 { // it stops there (tcp_recvmsg_locked)
			n = min(n, to)
		}
		s.rcv = s.rcv[:copy(s.rcv, s.rcv[n:])]
		s.given += n
		s.urges = s.urges && s.urgent >= s.given+s.holes
		return n, 0
	}
	if e := s.err; e != 0 {
		s.err = 0
		return 0, e
	}
	if s.peerFin || s.dead {
		return 0, 0
	}
	return 0, unix.EAGAIN
}

// die is the end of the state machine: nothing of ours is sent any more, what
// was received can still be read.
func (s *simSocket) die(e unix.Errno) {
	s.dead, s.err, s.snd = true, e, nil
	s.up, s.upFin, s.upRst = nil, false, false
	s.wake(0)
}

// reset is an RST of the server's.
func (s *simSocket) reset() {
	if !s.dead {
		s.die(0)
		s.cl.ended(true)
	}
}

func (s *simSocket) close() {
	s.closed, s.item = true, nil
	switch {
	case s.dead:
	case s.linger, len(s.rcv) > 0: // unread bytes are answered by a reset
		s.reset()
	default:
		s.shut = true
	}
}

// move has the network carry something in either direction, all: everything.
// It reports whether anything moved.
func (s *simSocket) move(all bool) (moved bool) {
	portion := func(n int) int {
		if all || s.w.plan.bursts || n == 0 || s.w.chance(0.3) {
			return n
		}
		return 1 + s.w.rnd.IntN(n)
	}
	if n := len(s.snd); n > 0 && s.clientGone {
		s.snd, s.upRst, moved = nil, true, true
	} else if n > 0 && !s.cl.stalled {
		n = portion(n)
		b := s.snd[:n]
		s.w.tell("client %d gets %d bytes: %s", s.cl.n, n, simBytes(b))
		s.cl.take(b)
		s.snd = s.snd[:copy(s.snd, s.snd[n:])]
		moved = true
	}
	if s.noSpace && s.writable() && !s.dead && (all || s.w.chance(0.7)) {
		s.noSpace, moved = false, true
		s.wake(unix.EPOLLOUT)
	}
	if s.shut && len(s.snd) == 0 && !s.finOut && !s.dead && !s.cl.stalled {
		s.finOut, moved = true, true
		s.w.tell("client %d gets the server's FIN", s.cl.n)
		s.cl.ended(false)
	}
	return s.moveUp(portion) || moved
}

func (s *simSocket) moveUp(portion func(int) int) bool {
	switch n := min(len(s.up), s.rcvCap-len(s.rcv)); {
	case s.locked || s.dead:
	case s.upRst && (len(s.up) == 0 || s.w.chance(0.5)): // it may overtake
		s.w.tell("RST of client %d arrives", s.cl.n)
		e := unix.ECONNRESET
		if s.peerFin {
			e = unix.EPIPE
		}
		s.die(e)
		return true
	case n > 0 && s.closed: // bytes for a socket that nobody has
		s.w.tell("bytes of client %d meet a closed socket: RST", s.cl.n)
		s.reset()
		return true
	case n > 0:
		n = portion(n)
		s.w.tell("%d bytes of client %d arrive", n, s.cl.n)
		s.rcv = append(s.rcv, s.up[:n]...)
		s.up = s.up[:copy(s.up, s.up[n:])]
		for s.came += n; len(s.urgents) > 0 && s.urgents[0] < s.came; s.urgents = s.urgents[1:] {
			s.urgent, s.urges = s.urgents[0], true // the last one counts
		}
		s.wake(unix.EPOLLIN)
		return true
	case s.upFin && len(s.up) == 0 && !s.peerFin:
		s.w.tell("FIN of client %d arrives", s.cl.n)
		s.peerFin = true
		s.wake(0)
		return true
	}
	return false
}

// cut is a failure of the network: both ends are told.
func (s *simSocket) cut(e unix.Errno) {
	if s.dead || s.locked {
		return
	}
	s.brokenByNet = true
	s.die(e)
	s.cl.ended(true)
}
