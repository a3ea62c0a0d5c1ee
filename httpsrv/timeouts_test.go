package httpsrv

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// A head has RequestTimeout from accept, however it drips.
func TestHeadTimeout(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		p := r.dial(0)
		head := req("GET", "/", "")
		for i := range 11 {
			p.send([]byte{head[i]})
			r.quiet()
			if p.eof {
				r.Fatalf("closed after %d s", i)
			}
			r.forward(900 * time.Millisecond)
		}
		r.forward(200 * time.Millisecond)
		if a := p.answered(); a.status != 408 || a.field["connection"] != "close" {
			r.Errorf("%q", a.head)
		}
		if n := r.count("closed_timeout"); n > 1 {
			r.Errorf("%d timeouts", n)
		}
	})
}

// A body goes on as long as bytes come, and as the whole has its least rate.
func TestBodyTimeout(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{BodyTimeout: 10 * time.Second}, func(r *rig) {
		head := req("POST", "/", "Content-Length: 3000\r\n")
		stops := r.dial(0).send([]byte(head), []byte("abc"))
		r.quiet()
		r.forward(9900 * time.Millisecond)
		r.quiet()
		if stops.eof {
			r.Fatal("closed before its time")
		}
		r.forward(200 * time.Millisecond)
		if a := stops.answered(); a.status != 408 {
			r.Errorf("%q", a.head)
		}

		drips := r.dial(0).send([]byte(head))
		r.quiet()
		for n := 0; !drips.eof; n++ {
			if n > 13 { // 10 s, and 3 s for 3,000 bytes
				r.Fatal("a byte a second goes on for ever")
			}
			drips.send([]byte("x"))
			r.quiet()
			if n < 12 && drips.eof {
				r.Fatalf("closed after %d s", n)
			}
			r.forward(1010 * time.Millisecond)
			r.quiet()
		}
		if a := drips.answered(); a.status != 408 {
			r.Errorf("%q", a.head)
		}

		good := r.dial(0).send([]byte(head))
		r.quiet()
		for range 6 {
			r.forward(2 * time.Second)
			good.send([]byte(strings.Repeat("y", 500)))
			r.quiet()
		}
		if a := good.answered(); a.status != 200 || len(a.body) != 3000 {
			r.Errorf("%q", a.head)
		}
	})
}

// A request that is whole in the socket is served although the tile was late.
func TestRequestOfStoppedTile(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		p := r.dial(0).send([]byte("GET / HT"))
		r.quiet()
		if _, err := sysWrite(p.fd, []byte("TP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			r.Fatal(err)
		}
		r.skew += 60e9
		r.tile.now += r.skew
		r.tile.timedOut(r.opens[0].Slot())
		if a := p.answered(); a.status != 200 {
			r.Errorf("%q", a.head)
		}
	})
}

// A response goes on as long as the client takes some of it, and no longer.
func TestResponseWriteTimeout(t *testing.T) {
	p := rigParams()
	p.StaticSz = 1 << 21
	big := strings.Repeat("0123456789abcdef", 1<<16)
	rigEach(t, p, TileOptions{SndBuf: 8192}, func(r *rig) {
		static, err := r.s.AddStatic("big", []byte(big))
		if err != nil {
			r.Fatal(err)
		}
		r.onRequest = func(q *Request) Response { return Response{StaticBody: static} }
		slow, stops := r.dial(4096), r.dial(4096)
		slow.stall, stops.stall = true, true
		slow.send([]byte(req("GET", "/", "")))
		stops.send([]byte(req("GET", "/", "")))
		r.until("both are stuck", func() bool { return r.count("sends_partial") >= 2 })
		r.quiet()
		for range 6 {
			r.forward(9 * time.Second)
			from := r.count("sent_bytes")
			for r.count("sent_bytes") == from { // some, not all
				buf := make([]byte, 4096)
				n, _ := unix.Read(slow.fd, buf)
				slow.in = append(slow.in, buf[:max(n, 0)]...)
				r.tile.Poll(r.tile.now, 0)
			}
		}
		if n := r.count("closed_too_slow"); n != 1 {
			r.Fatalf("%d closed as too slow", n)
		}
		slow.stall, stops.stall = false, false
		if a := slow.answered(); a.body != big {
			r.Errorf("%d bytes", len(a.body))
		}
		if stops.closed(); !stops.reset {
			r.Error("no reset")
		}
	})
}

// A stream that takes nothing for WriteTimeout is closed with 4001, one that takes
// a little is not; neither if it follows no ring and reads no replies.
func TestStreamWriteTimeout(t *testing.T) {
	p := rigParams()
	p.OutgoingBufferSz = 1 << 22
	rigEach(t, p, TileOptions{SndBuf: 8192}, func(r *rig) {
		st := r.produce()
		slow, stops, own := r.dial(4096).stream("/ws"), r.dial(4096).stream("/ws"), r.dial(4096).stream("/own")

		slow.stall, stops.stall, own.stall = true, true, true
		r.quiet()
		r.broadcast(st, strings.Repeat("big", 20000))
		ask := textFrame(strings.Repeat("q", 4000))
		for range 40 {
			if _, err := sysWrite(own.fd, ask); err != nil {
				break // it is not read from any more
			}
			r.quiet()
		}
		// Each is closed 10 s after it took something for the last time, and not before.
		last, pos, gone := [3]int64{}, [3]uint64{}, [3]int64{}
		for n := 0; gone[1] == 0 || gone[2] == 0 || n < 300; n++ {
			if n > 1000 {
				r.Fatalf("closed: %v", gone)
			}
			r.forward(100 * time.Millisecond)
			for i := range gone {
				c := &r.tile.conns[r.opens[i].Slot()]
				if p := c.pos().pos; p != pos[i] {
					last[i], pos[i] = r.tile.now, p
				}
				if c.state != stStream && gone[i] == 0 {
					gone[i] = r.tile.now - last[i]
				}
			}
			if n%50 == 0 { // a little, every 5 s
				buf := make([]byte, 4096)
				n, _ := unix.Read(slow.fd, buf)
				slow.in = append(slow.in, buf[:max(n, 0)]...)
			}
		}
		for i, g := range gone {
			if i == 0 && g != 0 || i > 0 && (g < 9.99e9 || g > 10.3e9) {
				r.Errorf("client %d closed %d ns after it took something", i, g)
			}
		}
		stops.stall, own.stall = false, false
		stops.closed() // the close frame stood behind what they did not read
		own.closed()
		slow.stall = false
		slow.want(OpText, strings.Repeat("big", 20000))
		r.until("counted", func() bool { return r.count("closed_ws_client_too_slow") == 2 })
		st.Close()
	})
}

// Deadlines that moved on while nobody looked are kept, whatever came first.
func TestDeadlinesTogether(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{PingInterval: 5 * time.Second, RequestTimeout: 2 * time.Second}, func(r *rig) {
		p := r.dial(0).stream("/own")
		r.quiet()
		p.send(textFrame("half a message")[:10]) // holds buffers
		r.quiet()
		c := &r.tile.conns[r.opens[0].Slot()]
		for range 100 {
			r.forward(100 * time.Millisecond)
			r.quiet()
			if c.deadline == 0 || c.ping == 0 || r.tile.wheel.where[r.opens[0].Slot()] == 0 {
				r.Fatalf("deadline %d, ping %d, in the wheel: %d", c.deadline, c.ping, r.tile.wheel.where[r.opens[0].Slot()])
			}
			if d := c.due(); d+int64(2*wheelTick) < r.tile.now {
				r.Fatalf("overdue by %d ns", r.tile.now-d)
			}
		}
		if r.count("pings_sent") != 1 {
			r.Errorf("%d pings", r.count("pings_sent"))
		}
	})
}

func TestOptionsRefused(t *testing.T) {
	p := rigParams()
	rigMems(t, mustFootprint(t, p), func(t *testing.T, m shmem.Mem) {
		if err := New(m, p); err != nil {
			t.Fatal(err)
		}
		s, err := Join(m)
		if err != nil {
			t.Fatal(err)
		}
		for name, o := range map[string]TileOptions{
			"RequestTimeout": {RequestTimeout: -1}, "BodyTimeout": {BodyTimeout: -1}, "IdleTimeout": {IdleTimeout: -1},
			"WriteTimeout": {WriteTimeout: -1}, "CloseTimeout": {CloseTimeout: -1}, "PongTimeout": {PongTimeout: -1}, "MaxLag": {MaxLag: -1},
			"MaxConnectionsPerIP": {MaxConnectionsPerIP: -1}, "AcceptRate": {AcceptRate: -1}, "OnFull": {OnFull: 2},
			"origin": {AllowOrigins: []string{"http://ok", "example.com"}},
		} {
			if _, err := s.TakeTile(0, o); !errors.Is(err, ErrParams) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
			if s.TileHeld(0) {
				t.Fatal("the role is kept")
			}
		}
		s.Leave()
	})
}

// What accepted sockets are given: no Nagle delay, and a bounded send buffer.
func TestAcceptedSocket(t *testing.T) {
	for _, sndBuf := range []int{0, 32 << 10} {
		rigEach(t, rigParams(), TileOptions{SndBuf: sndBuf}, func(r *rig) {
			r.dial(0)
			r.until("accepted", func() bool { return len(r.opens) == 1 })
			fd := int(r.tile.conns[r.opens[0].Slot()].fd)
			nodelay, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
			if err != nil || nodelay == 0 {
				r.Error("TCP_NODELAY", nodelay, err)
			}
			want := sndBuf
			if want == 0 {
				want = defaultSndBuf
			}
			got, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
			if err != nil || got > 2*want { // the kernel doubles it, for its own structs
				r.Error("SO_SNDBUF", got, err)
			}
		})
	}
}

// A client that takes nothing of its response leaves nothing behind for long:
// what is in the socket's buffer when it is closed has WriteTimeout.
func TestOrphan(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{WriteTimeout: 3 * time.Second}, func(r *rig) {
		p := r.dial(4096)
		p.stall = true
		p.send([]byte(req("GET", "/", "")))
		r.until("accepted", func() bool { return len(r.opens) == 1 })
		c := &r.tile.conns[r.opens[0].Slot()]
		r.until("sent", func() bool { return c.state == stLinger })
		r.tile.orphan(c)
		if ms, err := unix.GetsockoptInt(int(c.fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); err != nil || ms != 3000 {
			r.Error("TCP_USER_TIMEOUT", ms, err)
		}
		p.stall = false
		if a := p.answered(); a.status != 200 {
			r.Errorf("%q", a.head)
		}
	})
}
