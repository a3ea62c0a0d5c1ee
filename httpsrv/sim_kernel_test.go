//go:build explore

package httpsrv

import (
	"slices"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// simKernel plays the kernel of one run for all tiles. Descriptor numbers are
// never given twice, so that a second close, and any call on a closed one, is
// seen. In each call the others may act before it, in its middle and after it,
// and the process that makes it may die.
type simKernel struct {
	w    *simWorld
	fds  map[int]any // *simEpoll, *simListener, *simSocket, *simSpare
	next int
}

// simListener is a listening socket.
type simListener struct {
	tile    *simTile
	item    *simItem
	queue   []*simSocket
	listens bool
	inline  bool // SO_OOBINLINE
}

// simSpare is a descriptor held in reserve.
type simSpare struct{ tile *simTile }

func (l *simListener) mask() uint32 {
	if len(l.queue) > 0 {
		return unix.EPOLLIN
	}
	return 0
}

// running is the process that makes the call.
func (k *simKernel) running() *simProcess { return k.w.running[len(k.w.running)-1] }

func (k *simKernel) open(f any) int {
	k.next++
	k.fds[k.next] = f
	return k.next
}

// enter is the way into the kernel, and back: others act, or the process dies.
func (k *simKernel) enter() {
	w := k.w
	w.meanwhile()
	if n := len(w.running); n > 0 {
		w.running[n-1].age()
	}
}

// weather is one of errs now and then.
func (k *simKernel) weather(errs ...unix.Errno) unix.Errno {
	if k.w.calm || !k.w.chance(k.w.plan.weather) {
		return 0
	}
	return errs[k.w.rnd.IntN(len(errs))]
}

func (k *simKernel) socketOf(fd int, call string) *simSocket {
	s, ok := k.fds[fd].(*simSocket)
	if !ok {
		k.w.fail("%s of descriptor %d, which is no open connection", call, fd)
	}
	return s
}

func (k *simKernel) now() int64 { return k.w.now }

func (k *simKernel) unixSec() (int64, bool) { return 1e9 + k.w.now/1e9, true }

func (k *simKernel) accept(fd int, from *unix.RawSockaddrAny) (int, unix.Errno) {
	l, ok := k.fds[fd].(*simListener)
	if !ok {
		k.w.fail("accept of descriptor %d, which is no listener", fd)
	}
	k.enter()
	if e := k.weather(unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.EINTR, unix.ECONNABORTED, unix.EPERM); e != 0 {
		if e == unix.ECONNABORTED && len(l.queue) > 0 {
			l.queue[0].cut(unix.ECONNABORTED)
			l.queue = l.queue[1:]
		}
		k.w.tell("tile %d: accept: %v", l.tile.id, e)
		return -1, e
	}
	if len(l.queue) == 0 {
		return -1, unix.EAGAIN
	}
	s := l.queue[0]
	l.queue = l.queue[1:]
	s.fd = k.open(s)
	s.tile, s.inline = l.tile, l.inline
	l.tile.accepted++
	*from = unix.RawSockaddrAny{Addr: unix.RawSockaddr{Family: unix.AF_INET}}
	from.Addr.Data[0], from.Addr.Data[1] = int8(uint16(s.cl.n)>>8), int8(uint8(s.cl.n))
	k.w.tell("tile %d accepts client %d as %d", l.tile.id, s.cl.n, s.fd)
	k.enter()
	return s.fd, 0
}

func (k *simKernel) recv(fd int, p []byte) (int, unix.Errno) {
	s := k.socketOf(fd, "recv")
	k.enter()
	s.checkReceived()
	e := k.weather(unix.EINTR, unix.ENOMEM, unix.ENOBUFS)
	n := 0
	if e == 0 {
		n, e = s.recv(p)
	}
	k.w.tell("tile %d: recv from client %d: %d of up to %d, %v", s.tile.id, s.cl.n, n, len(p), simErr(e))
	k.enter()
	return n, e
}

func (k *simKernel) send(fd int, p []byte) (int, unix.Errno) {
	var v shmem.Iovs
	v.Add(p)
	return k.sendv(fd, &v)
}

func (k *simKernel) sendv(fd int, v *shmem.Iovs) (int, unix.Errno) {
	s := k.socketOf(fd, "send")
	k.enter()
	s.checkSent()
	if e := k.weather(unix.EINTR, unix.ENOMEM, unix.ENOBUFS); e != 0 {
		s.refused = true
		k.w.tell("tile %d: send to client %d: %v", s.tile.id, s.cl.n, e)
		return 0, e
	}
	most := v.Bytes()
	if most > 0 && !k.w.calm && k.w.chance(k.w.plan.short) {
		most = k.w.rnd.IntN(most)
	}
	n, e := s.send(v, most)
	k.w.tell("tile %d: send to client %d: %d of %d in %d pieces, %v", s.tile.id, s.cl.n, n, v.Bytes(), v.Len(), simErr(e))
	k.enter()
	return n, e
}

func (k *simKernel) shutWr(fd int) error {
	s := k.socketOf(fd, "shutdown")
	k.enter()
	k.w.tell("tile %d: shutdown of client %d", s.tile.id, s.cl.n)
	if s.dead {
		return unix.ENOTCONN
	}
	s.shut = true
	s.wake(0)
	return nil
}

func (k *simKernel) resetAtClose(fd int) { k.socketOf(fd, "setsockopt").linger = true }

func (k *simKernel) close(fd int) {
	f, ok := k.fds[fd]
	if !ok {
		k.w.fail("close of descriptor %d, which is not open", fd)
	}
	k.enter()
	k.shut(fd, f)
	k.enter()
}

// shut closes a descriptor, by a call or at its process's death.
func (k *simKernel) shut(fd int, f any) {
	delete(k.fds, fd)
	switch f := f.(type) {
	case *simSocket:
		k.w.tell("descriptor of client %d is closed (reset: %v)", f.cl.n, f.linger || len(f.rcv) > 0)
		if f.item != nil {
			f.item.gone = true
		}
		f.close()
	case *simListener:
		f.listens = false
		if f.item != nil {
			f.item.gone = true
		}
		for _, s := range f.queue {
			s.closed = true
			s.reset()
		}
	}
}

// exit closes what t's process had open.
func (k *simKernel) exit(t *simTile) {
	for _, fd := range k.openFds(t) {
		k.shut(fd, k.fds[fd])
	}
}

// openFds lists the descriptors of a tile, or of all (nil).
func (k *simKernel) openFds(of *simTile) (fds []int) {
	for fd, f := range k.fds {
		var t *simTile
		switch f := f.(type) {
		case *simSocket:
			t = f.tile
		case *simListener:
			t = f.tile
		case *simEpoll:
			t = f.tile
		case *simSpare:
			t = f.tile
		}
		if of == nil || of == t {
			fds = append(fds, fd)
		}
	}
	slices.Sort(fds)
	return fds
}

func (k *simKernel) epoll() (int, error) {
	k.enter()
	if e := k.weather(unix.EMFILE, unix.ENOMEM); e != 0 {
		return -1, e
	}
	return k.open(&simEpoll{w: k.w, tile: k.running().tile}), nil
}

func (k *simKernel) watch(ep, fd int, ev *unix.EpollEvent) error {
	e, ok := k.fds[ep].(*simEpoll)
	if !ok {
		k.w.fail("epoll_ctl of descriptor %d, which is no epoll", ep)
	}
	k.enter()
	it := &simItem{ep: e, ev: *ev}
	switch f := k.fds[fd].(type) {
	case *simSocket:
		if e := k.weather(unix.ENOMEM, unix.ENOSPC); e != 0 {
			k.w.tell("tile %d: epoll_ctl for client %d: %v", f.tile.id, f.cl.n, e)
			f.refused = true
			return e
		}
		f.item, it.mask = it, f.mask
	case *simListener:
		f.item, it.mask = it, f.mask
	default: // the doorbell's is a real one
		k.running().bell, it.mask = it, func() uint32 { return unix.EPOLLIN }
		return nil
	}
	it.wake(it.mask())
	return nil
}

func (k *simKernel) waitRaw(ep int, ev []unix.EpollEvent, ms int) (int, unix.Errno) {
	return k.wait(ep, ev, ms)
}

// wait lets the others act until there is an event or the time is over.
func (k *simKernel) wait(ep int, ev []unix.EpollEvent, ms int) (int, unix.Errno) {
	w, e := k.w, k.fds[ep].(*simEpoll)
	k.enter()
	p := k.running()
	if ms != 0 {
		p.lieDown()
		w.tell("%s sleeps for %d ms", p.name, ms)
	}
	until := w.now + int64(ms)*1e6
	for turn := 0; ; turn++ {
		if n := e.collect(ev); n > 0 {
			return n, 0
		}
		if ms == 0 || ms > 0 && w.now >= until {
			return 0, 0
		}
		if w.chance(0.02) {
			return 0, unix.EINTR
		}
		if w.calm || turn > 60 || w.depth > 2 { // nobody else is going to do anything
			if ms < 0 {
				return 0, unix.EINTR
			}
			w.now = until
			continue
		}
		w.depth++
		w.step()
		w.depth--
		if !p.asleep() {
			p.bell.wake(unix.EPOLLIN)
		}
	}
}

func (k *simKernel) spare() (int, error) {
	if e := k.weather(unix.EMFILE, unix.ENOMEM); e != 0 {
		return -1, e
	}
	return k.open(&simSpare{k.running().tile}), nil
}

func (k *simKernel) socket(int) (int, error) {
	if e := k.weather(unix.EMFILE, unix.ENOBUFS); e != 0 {
		return -1, e
	}
	return k.open(&simListener{tile: k.running().tile}), nil
}

func (k *simKernel) setsockopt(fd, level, opt, v int) error {
	switch f := k.fds[fd].(type) {
	case *simSocket:
		return nil
	case *simListener:
		if level == unix.SOL_SOCKET && opt == unix.SO_OOBINLINE { // never refused
			f.inline = v != 0
		}
	}
	return k.startUp(fd, unix.ENOMEM)
}

func (k *simKernel) bind(fd int, _ unix.Sockaddr) error { return k.startUp(fd, unix.EADDRINUSE) }

func (k *simKernel) listen(fd, _ int) error { return k.startUp(fd, unix.EADDRINUSE) }

func (k *simKernel) startUp(fd int, e unix.Errno) error {
	l, ok := k.fds[fd].(*simListener)
	if !ok {
		k.w.fail("a call for a listener with descriptor %d", fd)
	}
	if e := k.weather(e); e != 0 {
		return e
	}
	l.listens = true
	return nil
}

func (k *simKernel) sockname(int) (unix.Sockaddr, error) {
	return &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{127, 0, 0, 1}}, nil
}

func simErr(e unix.Errno) string {
	if e == 0 {
		return "ok"
	}
	return unix.ErrnoName(e)
}

func (k *simKernel) acceptKept(fd int, from *unix.RawSockaddrAny) (int, unix.Errno) {
	return k.accept(fd, from)
}

func (k *simKernel) peername(fd int) (unix.Sockaddr, error) {
	return &unix.SockaddrInet4{Port: k.socketOf(fd, "getpeername").cl.n}, nil
}

func (k *simKernel) inherited() (fds []int, err error) {
	for _, fd := range k.openFds(k.running().tile) {
		if _, ok := k.fds[fd].(*simSocket); ok {
			fds = append(fds, fd)
		}
	}
	return fds, nil
}

func (k *simKernel) position(fd int) (tx, rx uint64, state uint8, err error) {
	k.enter()
	s := k.socketOf(fd, "TCP_INFO")
	switch {
	case s.dead:
		state = tcpClose
	case s.shut && s.peerFin:
		state = tcpClosing
	case s.shut:
		state = tcpFinWait1
	case s.peerFin:
		state = tcpCloseWait
	default:
		state = tcpEstablished
	}
	return uint64(s.taken), uint64(s.given + s.holes), state, nil
}

// exitKept closes what t's process had open, but for the sockets: a keeper has them.
func (k *simKernel) exitKept(t *simTile) {
	for _, fd := range k.openFds(t) {
		switch f := k.fds[fd].(type) {
		case *simSocket:
			if f.item != nil {
				f.item.gone = true
			}
		case *simListener:
			if fd != t.fd { // it was being made
				k.shut(fd, f)
				continue
			}
			if f.item != nil {
				f.item.gone = true
			}
		default:
			k.shut(fd, f)
		}
	}
}
