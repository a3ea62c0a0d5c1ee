package httpsrv

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

func sysWrite(fd int, b []byte) (int, error) {
	n, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	return max(n, 0), err
}

// The client closes: its code comes back, what was published before is still
// delivered, nothing after, and the server ends the TCP connection.
func TestClientCloses(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		st := r.produce()
		for _, half := range []bool{false, true} {
			for _, code := range []uint16{1000, 1001, 3000, 4999, 0} {
				p := r.dial(0).stream("/ws")
				r.quiet()
				st.WriteString("before")
				if _, err := st.WsBroadcast(OpText); err != nil {
					r.Fatal(err)
				}
				f := closeFrame(code, "bye")
				if code == 0 {
					f = frame(ws.OpClose, true, "")
				}
				// Both in the kernel's hands before the tile looks again.
				if _, err := sysWrite(p.fd, append(f, textFrame("nothing counts after it")...)); err != nil {
					r.Fatal(err)
				}
				if half {
					p.shut()
				}
				p.want(OpText, "before")
				st.WriteString("after")
				if _, err := st.WsBroadcast(OpText); err != nil {
					r.Fatal(err)
				}
				if code == 0 {
					p.want(ws.OpClose, "")
					p.closed()
				} else if text := p.wantClose(code); text != "" {
					r.Errorf("text %q", text)
				}
				p.close()
			}
		}
		r.until("all are gone", func() bool { n, _ := r.tile.Conns(); return n == 0 })
		if n := r.count("closed_ok"); n != 10 {
			r.Errorf("%d of 10 closed as ok", n)
		}
		if len(r.got) != 0 {
			r.Errorf("messages %q", r.got)
		}
		st.Close()
	})
}

// The server closes: WsClose with each reason's code and text; the client's
// answer ends it. Without an answer it ends after CloseTimeout.
func TestServerCloses(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{CloseTimeout: time.Second}, func(r *rig) {
		for why := range closeReasonCnt {
			p := r.dial(0).stream("/ws")
			r.quiet()
			id := r.opens[len(r.opens)-1]
			if err := r.tile.WsClose(id, why); err != nil {
				r.Fatal(err)
			}
			if err := r.tile.WsClose(id, why); !errors.Is(err, ErrConn) {
				r.Error("closed twice:", err)
			}
			op, s := p.next()
			if op != ws.OpClose || s[2:] != why.String() {
				r.Fatalf("%#x %q", op, s)
			}
			r.quiet()
			if p.eof {
				r.Error("the server did not wait for the answer")
			}
			if why%2 == 0 {
				p.send(frame(ws.OpClose, true, s[:2]))
			} else {
				r.forward(1100 * time.Millisecond)
			}
			p.closed()
			p.close()
			r.until("WsClose", func() bool { return r.life[id] == 3 })
			if r.closes[id] != why {
				r.Errorf("%v closed as %v", why, r.closes[id])
			}
			if err := r.tile.Close(id, why); !errors.Is(err, ErrConn) {
				r.Error("a stale id was taken:", err)
			}
		}
	})
}

// Ids that name nothing are refused, also when their slot has another connection.
func TestStaleIDs(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		p := r.dial(0).stream("/ws")
		r.quiet()
		old := r.opens[0]
		p.close()
		r.until("closed", func() bool { return r.life[old] == 3 })
		q := r.dial(0).stream("/ws")
		r.quiet()
		now := r.opens[1]
		if now.Slot() != old.Slot() || now.Gen() == old.Gen() || now.Tile() != 0 {
			r.Fatalf("ids %v and %v", old, now)
		}
		for _, id := range []ConnID{0, old, now + 1<<32, now | 7<<24, now | 0xffffff, ^ConnID(0)} {
			if err := r.tile.Close(id, CloseOperator); !errors.Is(err, ErrConn) {
				r.Errorf("Close(%v): %v", id, err)
			}
			if err := r.tile.WsClose(id, CloseOperator); !errors.Is(err, ErrConn) {
				r.Errorf("WsClose(%v): %v", id, err)
			}
			st := r.tile.Stage()
			st.WriteString("for nobody")
			if _, err := st.WsSend(id, OpText); id != 0 && err != nil || id == 0 && !errors.Is(err, ErrConn) {
				r.Errorf("WsSend(%v): %v", id, err)
			}
		}
		r.quiet()
		if n := r.count("side_dropped"); n != 3 { // the others name other tiles or nobody
			r.Errorf("%d messages were dropped, want 3", n)
		}
		if len(q.in) != 0 || q.eof {
			r.Errorf("%q", q.in)
		}
	})
}

// Drain: every WebSocket gets what was published and 1001 with the text, other
// requests are dropped or answered, nobody new gets in.
func TestDrain(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{CloseTimeout: time.Second}, func(r *rig) {
		st := r.produce()
		var ps []*peer
		for i := range 4 {
			ps = append(ps, r.dial(0).stream([]string{"/ws", "/own"}[i%2]))
		}
		half := r.dial(0).send([]byte("GET / HT"))
		r.until("all are in", func() bool { return r.count("accepted") == 5 })
		r.quiet()
		st.WriteString("last")
		if _, err := st.WsBroadcast(OpText); err != nil {
			r.Fatal(err)
		}
		r.tile.Drain(CodeGoingAway, "going away", CloseShutdown, 0)
		for i, p := range ps {
			if i%2 == 0 {
				p.want(OpText, "last")
			}
			op, s := p.next()
			if op != ws.OpClose || s != "\x03\xe9going away" {
				r.Errorf("%#x %q", op, s)
			}
			if i < 2 {
				p.send(frame(ws.OpClose, true, s[:2]))
				p.closed()
			}
		}
		half.closed()
		r.until("those who answered are gone", func() bool { n, _ := r.tile.Conns(); return n <= 4 })
		r.forward(1100 * time.Millisecond)
		for _, p := range ps[2:] { // those who did not answer
			p.closed()
		}
		if n := r.count("closed_shutdown"); n != 5 {
			r.forward(1100 * time.Millisecond)
			if n = r.count("closed_shutdown"); n != 5 {
				r.Errorf("%d of 5 closed as shutdown", n)
			}
		}
		if len(r.tile.listeners) != 1 || r.tile.listeners[0].fd != -1 {
			r.Error("still listening")
		}
		st.Close()
	})
}

// A listener may be closed from any callback, also of the accept that it serves.
func TestDrainFromCallback(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		r.onRequest = func(q *Request) Response {
			r.tile.StopListening()
			return r.body(Response{}, "the last one")
		}
		p, q := r.dial(0), r.dial(0)
		p.send([]byte(req("GET", "/", "")))
		if a := p.answered(); a.body != "the last one" {
			r.Errorf("%+v", a)
		}
		q.send([]byte(req("GET", "/", "")))
		q.closed()
	})
}

// A client that resets in the middle is noticed, whatever it was doing, and a
// connection that was being closed keeps its reason.
func TestResets(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{SndBuf: 8192}, func(r *rig) {
		st := r.produce()
		rst := func(p *peer) {
			if err := unix.SetsockoptLinger(p.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
				r.Fatal(err)
			}
			p.close()
		}
		ends := func(why CloseReason) {
			id := r.opens[len(r.opens)-1]
			r.until("closed", func() bool { return r.life[id] == 3 })
			if r.closes[id] != why {
				r.Errorf("closed as %q, want %q", r.closes[id], why)
			}
		}
		p := r.dial(0).send([]byte("GET"))
		r.until("accepted", func() bool { return len(r.opens) == 1 })
		rst(p)
		ends(ClosePeerReset)
		p = r.dial(0).stream("/ws")
		rst(p)
		ends(ClosePeerReset)
		p = r.dial(0).stream("/ws")
		p.close()
		ends(CloseExpectedEOF)
		p = r.dial(4096).stream("/ws")
		p.stall = true
		for range 10 {
			st.WriteString(strings.Repeat("x", 10000))
			if _, err := st.WsBroadcast(OpText); err != nil {
				r.Fatal(err)
			}
			r.quiet()
		}
		if err := r.tile.WsClose(r.opens[len(r.opens)-1], CloseOperator); err != nil {
			r.Fatal(err)
		}
		r.quiet()
		rst(p)
		ends(CloseOperator)
		st.Close()
	})
}

// What a client that broke the protocol goes on sending is read away while our
// close frame waits behind what it has yet to read.
func TestFloodAfterFault(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{SndBuf: 8192, CloseTimeout: time.Hour}, func(r *rig) {
		st := r.produce()
		p := r.dial(4096).stream("/ws")
		p.stall = true
		want := strings.Repeat("x", 100000)
		st.WriteString(want)
		if _, err := st.WsBroadcast(OpText); err != nil {
			r.Fatal(err)
		}
		r.until("a part is sent", func() bool { return r.count("sends_partial") > 0 })
		p.send([]byte{0x83, 0x80, 0, 0, 0, 0}, []byte(strings.Repeat("flood", 20000)))
		r.quiet()
		if n, _ := r.tile.Conns(); n != 1 {
			r.Fatal("dropped before its close frame")
		}
		p.stall = false
		p.want(OpText, want)
		p.wantClose(1002)
		st.Close()
	})
}
