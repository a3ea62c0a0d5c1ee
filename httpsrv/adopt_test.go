package httpsrv

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// A request or message that kills whoever handles it is given up with its connection; deaths for other reasons don't add up.
func TestFatal(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		const a, b = ConnID(1<<32 | 1), ConnID(2<<32 | 2)
		for i, c := range []struct{ busy, want ConnID }{
			{a, 0}, {a, 0}, {a, a}, {a, a}, // until it is gone
			{b, 0}, {b, 0}, {0, 0}, {b, 0}, {b, 0}, {a, 0}, {b, 0}, {b, 0}, {b, b},
		} {
			r.tile.slot.busy.Store(uint64(c.busy))
			if got := r.tile.fatal(); got != c.want {
				r.Errorf("death %d while %v is handled: %v, want %v", i, c.busy, got, c.want)
			}
			if r.tile.slot.busy.Load() != 0 {
				r.Error("it is still busy")
			}
		}
		busy := ConnID(0)
		r.onRequest = func(q *Request) Response {
			busy = ConnID(r.tile.slot.busy.Load())
			return Response{Status: 204}
		}
		p := r.dial(0)
		p.send([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		r.until("it was handled", func() bool { return busy != 0 })
		if busy != r.opens[0] || r.tile.slot.busy.Load() != 0 {
			r.Errorf("%v was handled, and is %v", busy, r.opens)
		}
		p.close()
	})
}

// Urgent bytes come in their place, and the kernel's counts agree with what is read.
func TestUrgentData(t *testing.T) {
	fd, addr, err := ListenSocket("127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	poll := func(fd int) {
		t.Helper()
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20_000); n != 1 {
			t.Fatal("nothing comes: ", err)
		}
	}
	poll(fd)
	s, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(s)
	send := func(b string, flags int) {
		t.Helper()
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if e := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte(b), flags, nil) }); e != nil || err != nil {
			t.Fatal(e, err)
		}
	}
	send("abc", 0)
	send("X", unix.MSG_OOB)
	send("defgh", 0)
	const all = "abcXdefgh"
	for got := ""; got != all; {
		poll(s)
		tx, rx, _, err := linux{}.position(s)
		if err != nil || tx != 0 || rx != uint64(len(got)) {
			t.Fatalf("after %q: %d sent, %d taken, %v", got, tx, rx, err)
		}
		var b [4]byte
		n, e := shmem.Recv(s, b[:])
		if e != 0 || n == 0 {
			t.Fatal(n, e)
		}
		if got += string(b[:n]); got != all[:min(len(got), len(all))] {
			t.Fatalf("%q", got)
		}
	}
}
