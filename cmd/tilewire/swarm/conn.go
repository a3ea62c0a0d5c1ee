package swarm

import (
	"errors"

	"github.com/tilewire/tilewire/shmem"
	"golang.org/x/sys/unix"
)

// connect dials as many clients as may be in flight, at most 64 at a time so that events are not
// left waiting.
func (s *swarm) connect() {
	for range 64 {
		if s.next == len(s.clients) || s.pending >= s.o.ConnectPending {
			return
		}
		i := s.next
		s.next++
		c := &s.clients[i]
		c.state = dialing
		s.pending++
		fd, err := s.dial.dial(i)
		if err != nil {
			s.end(i, End{Kind: EndConnect, Reason: err.Error()})
			continue
		}
		c.fd = int32(fd)
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(i)}
		if err := unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			s.end(i, End{Kind: EndConnect, Reason: "epoll_ctl: " + err.Error()})
		}
	}
}

// event acts on what epoll says of client i.
func (s *swarm) event(i int, events uint32) {
	c := &s.clients[i]
	over := events&(unix.EPOLLERR|unix.EPOLLHUP|unix.EPOLLRDHUP) != 0
	switch c.state {
	case dialing:
		if events&unix.EPOLLOUT == 0 && !over {
			return
		}
		if e, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || e != 0 {
			s.end(i, End{Kind: EndConnect, Reason: "connect: " + unix.Errno(e).Error()})
			return
		}
		s.request(i, c)
	case stalled:
		if over {
			s.dissect(i, c)
		}
	case upgrading:
		s.drain(i, c, over)
	case streaming, closing, leaving:
		if c.role != Slow || c.state != streaming {
			s.drain(i, c, over)
		}
	}
}

// request sends the upgrade request. From here on EPOLLOUT is of no interest, and it costs nothing:
// the socket's buffer never gets full, so that no edge comes.
func (s *swarm) request(i int, c *client) {
	path := s.o.Path
	if c.role == Idle {
		path = s.o.IdlePath
	}
	key := upgradeKey(s.seed, i)
	s.out = appendUpgrade(s.out[:0], s.o.Addr, path, s.o.Subprotocol, key[:])
	c.state = upgrading
	if !send(c.fd, s.out) {
		s.end(i, End{Kind: EndConnect, Reason: "request not taken"})
	}
}

// drain reads client i until there is no more. over says that the end of the stream has been
// announced, so that a short read does not prove the buffer empty.
func (s *swarm) drain(i int, c *client, over bool) {
	for {
		n, errno := recv(c.fd, s.buf)
		if errno == unix.EAGAIN {
			break
		}
		if errno != 0 || n == 0 {
			s.gone(i, errno)
			return
		}
		s.cnt.reads++
		s.cnt.wire += uint64(n)
		if c.state == upgrading {
			if !s.answer(i, c, s.buf[:n]) {
				break
			}
		} else {
			if !c.arrived && c.state == streaming {
				s.arrive(c) // the answer to Hello
			}
			if !s.feed(i, c, s.buf[:n], shmem.Monotonic()) {
				break
			}
		}
		if n < len(s.buf) && !over {
			break // edge-triggered: more bytes bring another event (epoll(7), question 9)
		}
	}
	switch {
	case c.role == Healthy && c.state == streaming:
		s.prog.set(i, c.last)
	case c.state == stalled && over:
		s.dissect(i, c) // the edge that tells of the end is used up
	}
}

// answer takes bytes of the answer to the upgrade request; false when the client reads no further.
func (s *swarm) answer(i int, c *client, p []byte) bool {
	if len(c.part) > 0 {
		c.part = append(c.part, p...)
		p = c.part
	}
	key := upgradeKey(s.seed, i)
	status, head, fault := parseUpgrade(p, key[:])
	switch {
	case status == 0 && len(p) > maxAnswerSz:
		s.end(i, End{Kind: EndRefused, Code: 1, Reason: "answer without end"})
		return false
	case status == 0:
		if len(c.part) == 0 {
			c.part = append(c.part, p...)
		}
		return true
	case fault != "":
		s.end(i, End{Kind: EndRefused, Code: status, Reason: fault})
		return false
	}
	c.part = nil
	c.state = streaming
	if s.o.Hello != nil && c.role != Idle {
		s.out = appendFrame(s.out[:0], opBinary, s.o.Hello, s.mask())
		send(c.fd, s.out) // if it is not taken nothing will come, and the report shows it
	} else {
		s.arrive(c)
	}
	if c.role == Stalling && s.o.StallAfter == 0 {
		c.state = stalled
		c.part = append(c.part, p[head:]...)
		return false
	}
	return s.feed(i, c, p[head:], shmem.Monotonic())
}

// arrive counts client c as connected.
func (s *swarm) arrive(c *client) {
	c.arrived = true
	s.pending--
	s.left--
	s.connected++
	s.open++
}

// dissect reads what a stalled client left in its socket, now that the server has ended it: the
// close frame may be among it.
func (s *swarm) dissect(i int, c *client) {
	rest := c.part
	c.part, c.autopsy, c.state = nil, true, streaming
	if len(rest) == 0 || s.feed(i, c, rest, shmem.Monotonic()) {
		s.drain(i, c, true)
	}
}

// readSlow lets each slow client read its share.
func (s *swarm) readSlow() {
	for _, i := range s.slow {
		c := &s.clients[i]
		if c.state != streaming {
			continue
		}
		n, errno := recv(c.fd, s.buf[:s.o.SlowBytes])
		switch {
		case errno == unix.EAGAIN:
		case errno != 0 || n == 0:
			s.gone(i, errno)
		default:
			s.cnt.reads++
			s.cnt.wire += uint64(n)
			s.feed(i, c, s.buf[:n], shmem.Monotonic())
		}
	}
}

// gone records the end of a stream; errno 0 stands for an orderly one.
func (s *swarm) gone(i int, errno unix.Errno) {
	e := End{Kind: EndOfStream}
	if errno != 0 {
		e = End{Kind: EndReset, Reason: errno.Error()}
	}
	if s.clients[i].state == upgrading && errno == 0 {
		e = End{Kind: EndRefused, Code: 1, Reason: "closed without an answer"}
	}
	s.end(i, e)
}

// giveUp ends all clients that are not connected yet.
func (s *swarm) giveUp() {
	s.next = len(s.clients)
	for i := range s.clients {
		if c := &s.clients[i]; !c.arrived && c.state != ended {
			s.end(i, End{Kind: EndTimeout, Reason: "not connected within " + s.o.ConnectTimeout.String()})
		}
	}
}

// leave waits for what the options want after the window: the ends of stalling clients, then the
// answers to our own closes.
func (s *swarm) leave(done <-chan struct{}) error {
	for until := shmem.Monotonic() + int64(s.o.StallWait); s.alive[Stalling] > 0 && shmem.Monotonic() < until; {
		select {
		case <-done:
			until = 0 // the turn in hand is the last
		default:
		}
		if err := s.wait(1); err != nil {
			return err
		}
	}
	if s.o.CloseWait == 0 {
		return nil
	}
	for i := range s.clients {
		if c := &s.clients[i]; c.state == streaming {
			s.out = appendFrame(s.out[:0], opClose, []byte{1000 >> 8, 1000 & 0xff}, s.mask())
			send(c.fd, s.out)
			s.forget(i, c)
			c.state = leaving
		}
	}
	for until := shmem.Monotonic() + int64(s.o.CloseWait); s.standing() && shmem.Monotonic() < until; {
		if err := s.wait(1); err != nil {
			return err
		}
	}
	return nil
}

// standing says whether a leaving client still has its socket.
func (s *swarm) standing() bool {
	for i := range s.clients {
		if s.clients[i].state == leaving {
			return true
		}
	}
	return false
}

func (s *swarm) shut(c *client) {
	if c.fd >= 0 {
		unix.Close(int(c.fd))
		c.fd = -1
	}
}

func (s *swarm) close() {
	for i := range s.clients {
		s.shut(&s.clients[i])
	}
	if err := unix.Close(s.ep); err != nil && !errors.Is(err, unix.EBADF) {
		panic("swarm: epoll descriptor: " + err.Error())
	}
}
