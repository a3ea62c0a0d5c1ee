// Command goraw is the limit program of this benchmark in Go: the same single thread, epoll and ring,
// with raw system calls and nothing else. What a Go server loses against it, it loses by its own work; what it
// loses against limit, Go loses. It checks next to nothing; it is no server to be used.
package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"log"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/scripts/bench/feed"
	"github.com/tilewire/tilewire/shmem"
)

const (
	maxFd   = 1 << 16
	ringMax = 4 << 20
)

type client struct {
	cursor    uint64 // bytes of the stream that the socket has taken
	index     int32  // in active, -1 = not subscribed
	streaming bool
	blocked   bool // the socket was full; an EPOLLOUT edge will come
}

type server struct {
	o       feed.Options
	ep      int
	clients [maxFd]client
	active  []int32
	ring    []byte
	ringSz  uint64 // a multiple of frameSz
	head    uint64
	frameSz uint64
	hdrSz   uint64
	seq     uint64
	start   int64 // of publishing at a rate; 0: not yet
	buf     [65536]byte
}

func main() {
	log.SetFlags(0)
	o := feed.Parse()
	runtime.LockOSThread()
	s := &server{o: o, active: make([]int32, 0, maxFd)}
	s.hdrSz = 2
	if o.Size > 125 {
		s.hdrSz = 4
	}
	s.frameSz = s.hdrSz + uint64(o.Size)
	s.ringSz = ringMax / s.frameSz * s.frameSz
	s.ring = make([]byte, s.ringSz)
	for at := uint64(0); at < s.ringSz; at += s.frameSz {
		f := s.ring[at:]
		f[0], f[1] = 0x82, byte(o.Size)
		if o.Size > 125 {
			f[1] = 126
			binary.BigEndian.PutUint16(f[2:], uint16(o.Size))
		}
	}
	s.run()
}

func check(err error, what string) {
	if err != nil {
		log.Fatal(what, ": ", err)
	}
}

func (s *server) run() {
	ap, err := netip.ParseAddrPort(s.o.Listen)
	check(err, "--listen")
	ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	check(err, "socket")
	check(unix.SetsockoptInt(ln, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), "SO_REUSEADDR")
	check(unix.Bind(ln, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}), "bind")
	check(unix.Listen(ln, 4096), "listen")
	sa, err := unix.Getsockname(ln)
	check(err, "getsockname")
	fifo, err := unix.Open(s.o.Credits, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	check(err, s.o.Credits)
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK)
	check(err, "timerfd")
	s.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	check(err, "epoll")
	for _, fd := range []int{ln, fifo, timer} {
		check(unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}), "epoll_ctl")
	}
	fmt.Printf("listening %s:%d\n", ap.Addr(), sa.(*unix.SockaddrInet4).Port)

	var (
		events [512]unix.EpollEvent
		limit  uint64
	)
	for {
		n, errno := epollWait(s.ep, events[:])
		if errno != 0 && errno != unix.EINTR {
			log.Fatal("epoll_wait: ", errno)
		}
		for i := range n {
			switch fd := int(events[i].Fd); fd {
			case ln:
				s.accept(ln)
			case fifo:
				if k, e := read(fd, s.buf[:4096]); e == 0 && k >= 8 {
					limit = binary.LittleEndian.Uint64(s.buf[k-8:])
				}
				if s.o.Rate > 0 && s.start == 0 {
					s.start = shmem.Monotonic()
					ns := max(int64(1e9/s.o.Rate), 200_000)
					it := unix.ItimerSpec{Interval: unix.NsecToTimespec(ns), Value: unix.NsecToTimespec(1)}
					check(unix.TimerfdSettime(timer, 0, &it, nil), "timerfd")
				}
			case timer:
				read(fd, s.buf[:8]) // only to silence it
			default:
				s.event(fd, events[i].Events)
			}
		}
		if s.o.Rate == 0 {
			s.publish(limit)
		} else if s.start != 0 {
			s.publish(uint64(float64(shmem.Monotonic()-s.start)*1e-9*s.o.Rate) + 1)
		}
	}
}

func (s *server) event(fd int, events uint32) {
	if c := &s.clients[fd]; events&unix.EPOLLOUT != 0 && c.blocked {
		c.blocked = false
		if !s.flush(fd) {
			return
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.readable(fd)
	}
}

func (s *server) accept(ln int) {
	for {
		fd, _, err := unix.Accept4(ln, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		check(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), "TCP_NODELAY")
		s.clients[fd] = client{index: -1}
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
		check(unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, fd, &ev), "epoll_ctl")
	}
}

func (s *server) drop(fd int) {
	if c := &s.clients[fd]; c.index >= 0 { // the last one takes its place
		last := s.active[len(s.active)-1]
		s.active[c.index] = last
		s.clients[last].index = c.index
		s.active = s.active[:len(s.active)-1]
		c.index = -1
	}
	unix.Close(fd)
}

func (s *server) readable(fd int) {
	for {
		n, e := recv(fd, s.buf[:])
		switch {
		case e == unix.EAGAIN:
			return
		case e != 0 || n == 0:
			s.drop(fd)
			return
		case !s.clients[fd].streaming:
			s.upgrade(fd, s.buf[:n])
			return
		case s.buf[0]&15 == 8: // a close; pongs are of no interest
			s.drop(fd)
			return
		}
	}
}

// upgrade answers a request that arrived whole; load generators send it in one segment.
func (s *server) upgrade(fd int, p []byte) {
	_, key, ok := bytes.Cut(p, []byte("Sec-WebSocket-Key: "))
	if !ok || len(key) < 24 || !bytes.HasPrefix(p, []byte("GET ")) {
		s.drop(fd)
		return
	}
	sum := sha1.Sum(append(bytes.Clone(key[:24]), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	out := []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n")
	if n, e := send(fd, out); e != 0 || n != len(out) {
		s.drop(fd)
		return
	}
	c := &s.clients[fd]
	c.streaming, c.cursor = true, s.head
	if bytes.HasPrefix(p, []byte("GET /ws ")) {
		c.index = int32(len(s.active))
		s.active = append(s.active, int32(fd))
	}
}

// flush sends everything pending; false when the client was dropped.
func (s *server) flush(fd int) bool {
	c := &s.clients[fd]
	for c.cursor < s.head {
		at := c.cursor % s.ringSz
		n, e := send(fd, s.ring[at:min(at+s.head-c.cursor, s.ringSz)])
		if e != 0 {
			if e == unix.EAGAIN {
				c.blocked = true
				return true
			}
			s.drop(fd)
			return false
		}
		c.cursor += uint64(n)
	}
	return true
}

func (s *server) publish(to uint64) {
	most := s.ringSz / s.frameSz / 2 // at most half the ring in one go
	for s.seq < to {
		for n := uint64(0); s.seq < to && n < most; n++ {
			s.publishOne()
		}
		for i := 0; i < len(s.active); i++ {
			fd := int(s.active[i])
			switch c := &s.clients[fd]; {
			case s.head-c.cursor > s.ringSz: // would be overrun
				s.drop(fd)
				i--
			case !c.blocked && !s.flush(fd):
				i--
			}
		}
	}
}

func (s *server) publishOne() {
	at := s.head%s.ringSz + s.hdrSz
	p := s.ring[at : at+uint64(s.o.Size)]
	s.seq++
	now := s.o.Stamp(s.start, s.seq)
	if s.o.Fill {
		swarm.FillPayload(p, s.seq, now)
	} else {
		swarm.Stamp(p, s.seq, now)
	}
	s.head += s.frameSz
}

func init() {
	if len(os.Args) == 1 {
		fmt.Fprintln(os.Stderr, "usage: goraw --listen IP:PORT --size BYTES --rate N --credits FIFO [--fill]")
		os.Exit(2)
	}
}
