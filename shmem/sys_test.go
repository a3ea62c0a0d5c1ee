package shmem

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func streamPair(t testing.TB) (a, b int) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0], fds[1]
}

func TestSendRecv(t *testing.T) {
	a, b := streamPair(t)
	buf := make([]byte, 256)
	if n, e := Recv(b, buf); n != 0 || e != unix.EAGAIN {
		t.Error("nothing there:", n, e)
	}
	if n, e := Recv(b, nil); n != 0 || e != unix.EINVAL {
		t.Error("no room:", n, e)
	}
	if n, e := Send(a, []byte("hello")); n != 5 || e != 0 {
		t.Error(n, e)
	}
	var v Iovs
	if n, e := Sendv(a, &v); n != 0 || e != 0 {
		t.Error("empty list:", n, e)
	}
	v.Add(nil)
	v.Add([]byte(" "))
	if n, e := Sendv(a, &v); n != 1 || e != 0 || v.Len() != 1 {
		t.Error("one piece:", n, e)
	}
	v.Reset()
	want := []byte("hello ")
	for i := range MaxIovs {
		p := bytes.Repeat([]byte{byte('a' + i)}, i+1)
		if !v.Add(p) {
			t.Error("no room for piece", i)
		}
		want = append(want, p...)
	}
	if v.Add([]byte("x")) || v.Len() != MaxIovs || v.Bytes() != len(want)-6 {
		t.Error("a piece too many", v.Len(), v.Bytes())
	}
	if n, e := Sendv(a, &v); n != v.Bytes() || e != 0 {
		t.Error(n, e)
	}
	if n, e := Recv(b, buf); e != 0 || !bytes.Equal(buf[:n], want) {
		t.Errorf("%q %v", buf[:n], e)
	}
	for e := unix.Errno(0); e != unix.EAGAIN; {
		if _, e = Send(a, make([]byte, 4096)); e != 0 && e != unix.EAGAIN {
			t.Fatal(e)
		}
	}
	unix.Close(b)
	if n, e := Send(a, buf); n != 0 || e != unix.EPIPE { // and no SIGPIPE
		t.Error(n, e)
	}
	if n, e := Send(-1, buf); n != 0 || e != unix.EBADF {
		t.Error(n, e)
	}
}

func TestAcceptEpoll(t *testing.T) {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(l)
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	unix.Listen(l, 16)
	ep, _ := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	defer unix.Close(ep)
	unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, l, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l)})
	ev := make([]unix.EpollEvent, 4)
	if n, e := EpollWait(ep, ev, 0); n != 0 || e != 0 {
		t.Error("looking:", n, e)
	}
	began := time.Now()
	if n, e := EpollWait(ep, ev, 5); n != 0 || e != 0 && e != unix.EINTR || e == 0 && time.Since(began) < 4*time.Millisecond {
		t.Error("waiting:", n, e, time.Since(began))
	}
	if fd, e := Accept(l, nil); fd != -1 || e != unix.EAGAIN {
		t.Error("nobody waits:", fd, e)
	}
	sa, _ := unix.Getsockname(l)
	for i := range 2 {
		c, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		defer unix.Close(c)
		if err := unix.Connect(c, sa); err != nil {
			t.Fatal(err)
		}
		if n, e := EpollWait(ep, ev, 1000*i); n != 1 || e != 0 || ev[0].Fd != int32(l) {
			t.Error(n, e)
		}
		var from *unix.RawSockaddrAny
		if i == 1 {
			from = new(unix.RawSockaddrAny)
		}
		fd, e := Accept(l, from)
		if fd < 0 || e != 0 || from != nil && from.Addr.Family != unix.AF_INET {
			t.Fatal(fd, e)
		}
		defer unix.Close(fd)
		if fl, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); fl&unix.O_NONBLOCK == 0 {
			t.Error("blocking")
		}
	}
	var from unix.RawSockaddrAny
	if n := testing.AllocsPerRun(100, func() { Accept(l, &from); EpollWait(ep, ev, 0); EpollWait(ep, ev, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSendAllocatesNothing(t *testing.T) {
	a, b := streamPair(t)
	msg, buf := make([]byte, 100), make([]byte, 4096)
	if n := testing.AllocsPerRun(100, func() {
		var v Iovs
		v.Add(msg)
		v.Add(msg)
		Send(a, msg)
		Sendv(a, &v)
		Recv(b, buf)
		Monotonic()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestMonotonic(t *testing.T) {
	var ts unix.Timespec
	for range 1000 {
		a := Monotonic()
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
		if b, m := Monotonic(), ts.Nano(); m < a || m > b {
			t.Fatalf("CLOCK_MONOTONIC %d is not within %d and %d", m, a, b)
		}
	}
}

func BenchmarkSend(b *testing.B) {
	x, y := streamPair(b)
	msg, buf := make([]byte, 64), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		Send(x, msg)
		Recv(y, buf)
	}
}
