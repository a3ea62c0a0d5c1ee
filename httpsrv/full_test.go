package httpsrv

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOnFullNames(t *testing.T) {
	for _, f := range []OnFull{RefuseNewcomer, EvictSlowest} {
		if g, err := ParseOnFull(f.String()); g != f || err != nil {
			t.Error(f, g, err)
		}
	}
	if _, err := ParseOnFull("both"); !errors.Is(err, ErrParams) || OnFull(7).String() != "unknown" {
		t.Error(err)
	}
}

// With EvictSlowest a newcomer never starves: the connection that waits longest
// goes, one for each newcomer, and never one that was upgraded.
func TestEvictWaiting(t *testing.T) {
	p := rigParams()
	p.MaxConnectionCnt, p.MaxWsConnectionCnt = 3, 2
	rigEach(t, p, TileOptions{OnFull: EvictSlowest}, func(r *rig) {
		streams := []*peer{r.dial(0).stream("/own"), r.dial(0).stream("/own")}
		var waiting []*peer
		for i := range 3 {
			waiting = append(waiting, r.dial(0).send([]byte("GET")))
			r.until("accepted", func() bool { return len(r.opens) == 3+i })
		}
		for i := range 20 {
			if a := r.dial(0).send([]byte(req("GET", "/", ""))).answered(); a.status != 200 {
				r.Fatalf("newcomer %d: %q", i, a.head)
			}
			r.forward(time.Millisecond) // so that there is an order in time
		}
		for _, w := range waiting {
			w.closed()
		}
		if n := r.count("closed_evicted"); n < 3 || n > 20 || r.count("rejected") != 0 {
			r.Errorf("%d evicted, %d refused", n, r.count("rejected"))
		}
		for i := range 3 {
			if why := r.closes[r.opens[2+i]]; why != CloseEvicted {
				r.Errorf("%v", why)
			}
		}
		for _, s := range streams {
			s.send(textFrame("still here")).want(OpText, "still here")
		}
	})
}

// With EvictSlowest and all streams taken the client furthest behind goes first;
// when nobody is behind, who came first, with 1013.
func TestEvictStream(t *testing.T) {
	p := rigParams()
	p.MaxWsConnectionCnt = 3
	p.OutgoingBufferSz = 1 << 22
	rigEach(t, p, TileOptions{OnFull: EvictSlowest, SndBuf: 8192, WriteTimeout: time.Hour}, func(r *rig) {
		st := r.produce()
		first, a, b := r.dial(0).stream("/ws"), r.dial(4096), r.dial(4096)
		a.stall, b.stall = true, true
		a.stream("/ws")
		r.broadcast(st, strings.Repeat("a", 60000)) // b is not there yet: it will be less far behind
		first.want(OpText, strings.Repeat("a", 60000))
		r.until("a is blocked", func() bool { return r.count("blocked_now") == 1 })
		b.stream("/ws")
		r.quiet()
		r.broadcast(st, strings.Repeat("b", 60000))
		first.want(OpText, strings.Repeat("b", 60000))
		r.until("both are blocked", func() bool { return r.count("blocked_now") == 2 })
		gone := func(i int, why CloseReason) {
			r.until("evicted", func() bool { return r.life[r.opens[i]] == 3 })
			if r.closes[r.opens[i]] != why {
				r.Errorf("%v closed as %v", r.opens[i], r.closes[r.opens[i]])
			}
		}
		var news []*peer
		for i, want := range []int{1, 2} {
			news = append(news, r.dial(0).stream("/ws"))
			gone(want, CloseEvicted)
			if n := r.count("closed_evicted"); n != uint64(i+1) {
				r.Errorf("%d evicted", n)
			}
		}
		news = append(news, r.dial(0).stream("/ws"))
		gone(0, CloseEvicted)
		first.wantClose(CodeOverloaded)
		r.broadcast(st, "to the three")
		for _, p := range news {
			p.want(OpText, "to the three")
		}
		if _, ws := r.tile.Conns(); ws != 3 {
			r.Errorf("%d streams", ws)
		}
		st.Close()
	})
}

// One address has so many connections; those beyond get 429. Others are served,
// and one that ends makes room.
func TestMaxConnectionsPerIP(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{MaxConnectionsPerIP: 3}, func(r *rig) {
		ps := []*peer{r.dial(0).stream("/ws"), r.dial(0).stream("/ws"), r.dial(0)}
		r.until("accepted", func() bool { return len(r.opens) == 3 })
		for range 5 {
			a := r.dial(0).send([]byte(req("GET", "/", ""))).answered()
			if a.status != 429 || a.field["retry-after"] == "" || a.field["connection"] != "close" {
				r.Errorf("%q", a.head)
			}
		}
		if r.count("rejected_address") != 5 || r.count("rejected") != 0 {
			r.Errorf("%d refused for their address, %d others", r.count("rejected_address"), r.count("rejected"))
		}
		from := r.dialFrom([4]byte{127, 0, 0, 2})
		if a := from.send([]byte(req("GET", "/", ""))).answered(); a.status != 200 {
			r.Errorf("%q", a.head)
		}
		ps[0].close()
		r.until("one is gone", func() bool { n, _ := r.tile.Conns(); return n <= 3 })
		r.until("its place is free", func() bool {
			p := r.dial(0)
			p.send([]byte(req("GET", "/", "")))
			p.closed()
			return bytes.HasPrefix(p.in, []byte("HTTP/1.1 200 "))
		})
	})
}

// dialFrom connects from another address of the loopback network.
func (r *rig) dialFrom(ip [4]byte) *peer {
	r.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		r.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: ip}); err != nil {
		r.Fatal(err)
	}
	var port int
	if _, err := fmt.Sscanf(r.addr, "127.0.0.1:%d", &port); err != nil {
		r.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		r.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		r.Fatal(err)
	}
	return r.adopt(fd)
}

// A unix socket has no address, and no limit by it.
func TestUnixSocketHasNoAddress(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{MaxConnectionsPerIP: 1}, func(r *rig) {
		addr, err := r.tile.Listen("unix:" + r.TempDir() + "/s")
		if err != nil {
			r.Fatal(err)
		}
		r.dialTo(addr, 0).stream("/ws")
		r.dialTo(addr, 0).stream("/ws")
	})
}

// Beyond the rate newcomers wait in the backlog; nobody is turned away.
func TestAcceptRate(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{AcceptRate: 2}, func(r *rig) {
		var ps []*peer
		for range 6 {
			ps = append(ps, r.dial(0).send([]byte(req("GET", "/", ""))))
		}
		r.quiet()
		if n := r.count("accepted"); n != 2 {
			r.Fatalf("%d accepted at once", n)
		}
		if ms := r.tile.retryIn(-1); ms < 1 || ms > 501 {
			r.Errorf("sleeps %d ms", ms)
		}
		for i := range 4 {
			r.forward(510 * time.Millisecond)
			r.quiet()
			if n := r.count("accepted"); n != uint64(3+i) {
				r.Errorf("%d accepted after %d half seconds", n, i+1)
			}
		}
		for _, p := range ps {
			if a := p.answered(); a.status != 200 {
				r.Errorf("%q", a.head)
			}
		}
		if r.count("accept_paced") == 0 || r.count("rejected") != 0 {
			r.Errorf("%d times paced, %d refused", r.count("accept_paced"), r.count("rejected"))
		}
	})
}

// A newcomer who is refused before his request has come reads the answer all the
// same; the sockets kept for that are few, and go after a moment.
func TestRefusedReadsAnswer(t *testing.T) {
	p := rigParams()
	p.MaxConnectionCnt = 1
	rigEach(t, p, TileOptions{RequestTimeout: time.Hour}, func(r *rig) {
		r.dial(0)
		r.until("accepted", func() bool { return len(r.opens) == 1 })
		var ps []*peer
		for range 2 * refusedMax {
			ps = append(ps, r.dial(0))
		}
		r.until("all are refused", func() bool { return r.count("rejected") == 2*refusedMax })
		if r.tile.refused.n != refusedMax {
			r.Errorf("%d are kept", r.tile.refused.n)
		}
		for _, p := range ps[refusedMax:] {
			if err := unix.Send(p.fd, []byte(req("GET", "/", "")), unix.MSG_NOSIGNAL); err != nil {
				r.Fatal("the request met a reset:", err)
			}
		}
		for _, p := range ps {
			if a := p.answered(); a.status != 503 || p.reset {
				r.Errorf("%q, reset %v", a.head, p.reset)
			}
		}
		if ms := r.tile.retryIn(-1); ms < 1 || ms > 501 {
			r.Errorf("sleeps %d ms", ms)
		}
		r.forward(600 * time.Millisecond)
		if r.tile.refused.n != 0 {
			r.Errorf("%d are kept for ever", r.tile.refused.n)
		}
	})
}

// A callback that is told of an eviction may close whom it was for.
func TestEvictionCallbackCloses(t *testing.T) {
	p := rigParams()
	p.MaxWsConnectionCnt = 1
	rigEach(t, p, TileOptions{OnFull: EvictSlowest}, func(r *rig) {
		r.dial(0).stream("/own")
		r.onClose = func(c ConnID, why CloseReason) {
			if why == CloseEvicted {
				if err := r.tile.Close(r.opens[1], CloseOperator); err != nil {
					r.Error(err)
				}
			}
		}
		q := r.dial(0).send([]byte(handshake("/own")))
		if q.closed(); len(q.in) != 0 {
			r.Errorf("%q", q.in)
		}
		if n, _ := r.tile.Conns(); n != 0 {
			r.Errorf("%d connections", n)
		}
	})
}
