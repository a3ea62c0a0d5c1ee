package httpsrv

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/h1"
	"github.com/tilewire/tilewire/shmem"
)

// checkPort tests the invariants of a tile's side of an application.
func (t *NetTile) checkPort(p *appPort) error {
	bound, units, waits := 0, 0, 0
	for i := range t.conns {
		if c := &t.conns[i]; c.state != stFree && t.port(c) == p {
			bound++
			units += int(c.evUnits)
			if c.evFlags&evWaits != 0 {
				waits++
			}
			if c.state == stStream && c.evUnits != 1 {
				return fmt.Errorf("slot %d streams and keeps room for %d events", i, c.evUnits)
			}
		}
	}
	n, last := 0, uint32(0)
	for s := p.first; s != 0 && n <= len(t.conns); s = t.local[s-1].evNext {
		if t.local[s-1].evPrev != last || t.conns[s-1].evFlags&evWaits == 0 {
			return fmt.Errorf("slot %d in the list of those that wait for room: flags %x, previous %d, want %d", s-1, t.conns[s-1].evFlags, t.local[s-1].evPrev, last)
		}
		n, last = n+1, s
	}
	free := p.q.size - (p.q.head - p.q.hdr.tail.Load())
	if bound != p.bound || uint64(units)*evSz != p.reserved || n != waits || p.first != 0 && last != p.last || p.reserved > free {
		return fmt.Errorf("application %d: %d bound, room kept for %d, %d wait, %d in list; it says %+v, %d bytes free", p.id, bound, units, waits, n, *p, free)
	}
	return nil
}

// appRig is a rig whose requests an application answers, driven by the test too.
type appRig struct {
	*rig
	app  *App
	dir  string
	log  []string // events, in words
	ends map[ConnID]uint64

	request func(q *Request) Response
	message func(c ConnID, op byte, data []byte)
}

func appParams() Params {
	p := rigParams()
	p.AppCnt = 1
	p.MaxWsRecvFrameLen = 4096
	p.ReplyBufferSz, p.ReplyDepth = 1<<16, 256
	return p
}

func appEach(t *testing.T, p Params, o TileOptions, f func(r *appRig)) {
	t.Helper()
	rigEach(t, p, o, func(r *rig) {
		a := &appRig{rig: r, dir: t.TempDir(), ends: map[ConnID]uint64{}}
		r.onRequest = func(*Request) Response { return Response{Forward: true} }
		a.join()
		f(a)
		a.leave()
	})
}

// join takes the application's role.
func (a *appRig) join() {
	a.Helper()
	note := func(format string, args ...any) { a.log = append(a.log, fmt.Sprintf(format, args...)) }
	var err error
	a.app, err = a.s.TakeApp(0, AppOptions{BellPath: a.dir + "/app", Bound: 20 * time.Millisecond, Callbacks: Callbacks{
		Open:  func(c ConnID) { note("open %d", c.Slot()) },
		Close: func(c ConnID, why CloseReason) { note("close %d %s", c.Slot(), why.Name()) },
		Request: func(q *Request) Response {
			note("request %d %s %s", q.Conn.Slot(), q.Method, q.Path)
			if a.request != nil {
				return a.request(q)
			}
			return a.answer(q)
		},
		WsOpen: func(c ConnID) {
			if a.app.Event().Conn != c {
				a.Errorf("event of %v in WsOpen of %v", a.app.Event().Conn, c)
			}
			note("wsopen %d tag %d again %v", c.Slot(), a.app.Event().Tag, a.app.Event().Again)
		},
		WsMessage: func(c ConnID, op byte, data []byte) {
			if ev := a.app.Event(); ev.Conn != c || ev.End <= a.ends[c] {
				a.Errorf("event %+v in a message of %v after end %d", ev, c, a.ends[c])
			}
			a.ends[c] = a.app.Event().End
			if a.message != nil {
				a.message(c, op, data)
				return
			}
			note("message %d %s", c.Slot(), short(string(data)))
			a.send(c, op, "echo "+string(data))
		},
		WsClose: func(c ConnID, why CloseReason) { note("wsclose %d %s", c.Slot(), why.Name()) },
	}})
	if err != nil {
		a.Fatal(err)
	}
}

// leave gives the role back, after the tile has dropped its connections.
func (a *appRig) leave() {
	a.Helper()
	for _, p := range a.peers {
		p.close()
	}
	a.peers = nil
	a.settle(func() bool { n, _ := a.tile.Conns(); return n == 0 })
	if st := a.app.Stats(); st.Corrupt != 0 {
		a.Errorf("%+v", st)
	}
	if err := a.tile.check(); err != nil {
		a.Error(err)
	}
	q := a.app.tiles[0].q
	a.turn()
	if h := q.hdr.head.Load(); h != q.tail {
		a.Errorf("%d bytes of events are left", h-q.tail)
	}
	if err := a.app.Release(); err != nil {
		a.Error(err)
	}
}

// die ends the application as a crash does: its role is free, nothing is said.
func (a *appRig) die() {
	a.Helper()
	if err := a.app.Release(); err != nil {
		a.Fatal(err)
	}
}

func (a *appRig) send(c ConnID, op byte, text string) {
	a.Helper()
	if _, err := a.app.Stage().WriteString(text); err != nil {
		a.Error(err)
	}
	if _, err := a.app.Stage().WsSend(c, op); err != nil {
		a.Error(err)
	}
}

// answer is the application of most tests.
func (a *appRig) answer(q *Request) Response {
	switch string(q.Path) {
	case "/ws":
		return Response{UpgradeWebsocket: true, Ring: NoRing, Tag: 7}
	case "/ring":
		return Response{UpgradeWebsocket: true, Tag: 8}
	}
	return a.text(Response{ContentType: "text/plain"}, q.Method.String()+" "+string(q.Path)+" "+string(q.Body))
}

func (a *appRig) text(r Response, s string) Response {
	a.Helper()
	if _, err := a.app.Stage().WriteString(s); err != nil {
		a.Error(err)
	}
	if err := a.app.Stage().Body(&r); err != nil {
		a.Error(err)
	}
	return r
}

// turn lets the application work.
func (a *appRig) turn() {
	for a.app.Poll(0) > 0 {
	}
}

// settle lets tile and application work until ok.
func (a *appRig) settle(ok func() bool) {
	a.Helper()
	a.until("tile and application get there", func() bool {
		a.turn()
		return ok()
	})
}

// both lets them work until neither has anything to do.
func (a *appRig) both() {
	for idle := 0; idle < 20; idle++ {
		if a.app.Poll(0)+a.poll() > 0 {
			idle = 0
		}
	}
}

// open makes p a WebSocket of the application.
func (a *appRig) open(p *peer, target string) {
	a.Helper()
	p.send([]byte(handshake(target)))
	a.settle(func() bool { return p.eof || bytes.Contains(p.in, []byte("\r\n\r\n")) })
	head, rest, _ := bytes.Cut(p.in, []byte("\r\n\r\n"))
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
		a.Fatalf("handshake answered %q", head)
	}
	p.in = rest
}

func (a *appRig) want(p *peer, op byte, payloads ...string) {
	a.Helper()
	for range payloads {
		a.both()
	}
	p.want(op, payloads...)
}

func (a *appRig) logged(want ...string) {
	a.Helper()
	a.turn()
	if got := strings.Join(a.log, "; "); got != strings.Join(want, "; ") {
		a.Errorf("the application saw\n %s\nwant\n %s", got, strings.Join(want, "; "))
	}
	a.log = nil
}

func (a *appRig) get(p *peer, req string) answer {
	a.Helper()
	p.send([]byte(req))
	a.settle(func() bool { return p.eof })
	p.close() // who closes second ends the server's wait
	return p.answered()
}

// The whole of a connection's life, answered by an application.
func TestAppAnswers(t *testing.T) {
	appEach(t, appParams(), TileOptions{}, func(a *appRig) {
		static, err := a.s.AddStatic("s", []byte("static body"))
		if err != nil {
			t.Fatal(err)
		}
		if r := a.get(a.dial(0), "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"); r.status != 200 || r.body != "POST /x body" ||
			r.field["content-type"] != "text/plain" || r.field["content-length"] != "12" || r.field["date"] == "" {
			t.Errorf("%+v", r)
		}
		a.both()
		slot := a.opens[0].Slot()
		a.logged(fmt.Sprintf("open %d", slot), fmt.Sprintf("request %d POST /x", slot), fmt.Sprintf("close %d ok", slot))
		if r := a.get(a.dial(0), "HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 200 || r.body != "" || r.field["content-length"] != "8" {
			t.Errorf("HEAD: %+v", r)
		}
		for _, c := range []struct {
			resp         func() Response
			status       int
			body, length string
		}{
			{func() Response { return Response{Status: 201, StaticBody: static} }, 201, "static body", "11"},
			{func() Response { return Response{Status: 204} }, 204, "", ""},
			{func() Response { return Response{Status: 405} }, 405, "", "0"},
			{func() Response { return a.text(Response{}, strings.Repeat("b", 40000)) }, 200, strings.Repeat("b", 40000), "40000"},
			{func() Response { return Response{Extra: []h1.Field{{Name: "Bad Name", Value: "x"}}} }, 500, "", "0"},
			{func() Response { return Response{Location: strings.Repeat("l", 2000)} }, 500, "", "0"},
			{func() Response { // sent something else after the body: it is no longer there
				r := a.text(Response{}, "body")
				if _, err := a.app.Stage().WriteString("x"); !errors.Is(err, ErrStaged) {
					t.Errorf("staged after a body: %v", err)
				}
				_, _ = a.app.Stage().WsSend(1<<32, OpText)
				return r
			}, 500, "", "0"},
			{func() Response { return Response{StaticBody: Static{off: 1 << 40, len: 4}} }, 500, "500 Internal Server Error\n", "26"},
			{func() Response { return Response{UpgradeWebsocket: true} }, 426, "426 Upgrade Required\n", "21"},
			{func() Response { return Response{UpgradeWebsocket: true, Ring: 9} }, 500, "", "0"},
		} {
			a.request = func(*Request) Response { return c.resp() }
			if r := a.get(a.dial(0), "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != c.status || r.body != c.body || r.field["content-length"] != c.length {
				t.Errorf("%+v, want %d %q", r, c.status, short(c.body))
			}
		}
		a.request = nil
		a.both()
		a.log = nil

		p := a.dial(0)
		a.open(p, "/ws")
		slot = a.opens[len(a.opens)-1].Slot()
		p.send(textFrame("one"), frame(OpBinary, false, "tw"), frame(0, true, "o"))
		a.want(p, OpText, "echo one")
		a.want(p, OpBinary, "echo two")
		p.send(closeFrame(1000, ""))
		a.both()
		p.wantClose(1000)
		p.close()
		a.both()
		s := strconv.Itoa(int(slot))
		a.logged("open "+s, "request "+s+" GET /ws", "wsopen "+s+" tag 7 again false", "message "+s+" one", "message "+s+" two", "wsclose "+s+" ok")
		if st := a.app.Stats(); st.Corrupt+st.Repeats != 0 {
			t.Errorf("%+v", st)
		}
		if n := a.count("side_dropped"); n != 0 {
			t.Errorf("%d answers dropped", n)
		}
	})
}

// Answers that come later, to whom they belong, and only once.
func TestAppRespondsLater(t *testing.T) {
	appEach(t, appParams(), TileOptions{AppTimeout: 3 * time.Second}, func(a *appRig) {
		var asked []ConnID
		a.request = func(q *Request) Response {
			asked = append(asked, q.Conn)
			return Response{Later: true}
		}
		var ps []*peer
		for i := range 3 {
			p := a.dial(0)
			ps = append(ps, p)
			p.send([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
			a.settle(func() bool { return len(asked) == i+1 })
		}
		for _, i := range []int{1, 0} {
			r := a.text(Response{}, fmt.Sprint("answer ", i))
			if err := a.app.Respond(asked[i], &r); err != nil {
				t.Fatal(err)
			}
			if err := a.app.Respond(asked[i], &r); !errors.Is(err, ErrConn) {
				t.Errorf("answered twice: %v", err)
			}
			if got := ps[i].answered(); got.body != fmt.Sprint("answer ", i) {
				t.Errorf("%d got %+v", i, got)
			}
		}
		a.forward(4 * time.Second)
		if got := ps[2].answered(); got.status != 503 || got.field["retry-after"] == "" {
			t.Errorf("without an answer: %+v", got)
		}
		dropped := a.count("side_dropped")
		if err := a.app.Respond(asked[2], &Response{}); err != nil {
			t.Errorf("the application did not know: %v", err)
		}
		a.until("the late answer is dropped", func() bool { return a.count("side_dropped") == dropped+1 })
		a.both()
		if err := a.app.Respond(asked[2], &Response{}); !errors.Is(err, ErrConn) {
			t.Errorf("after the connection's end: %v", err)
		}
		for _, id := range []ConnID{0, 1 << 32 << 20, ConnID(1)<<32 | 5<<24} {
			if err := a.app.Respond(id, &Response{}); !errors.Is(err, ErrConn) {
				t.Errorf("%v: %v", id, err)
			}
		}
	})
}

// The application ends connections, with a code and text of its own.
func TestAppCloses(t *testing.T) {
	appEach(t, appParams(), TileOptions{}, func(a *appRig) {
		for _, c := range []struct {
			code       uint16
			text       string
			want       uint16
			wantedText string
		}{{4321, "enough", 4321, "enough"}, {0, "", 1000, ""}, {1005, "x", 1011, ""}, {3000, "\xff", 3000, ""}, {1001, strings.Repeat("é", 200), 1001, strings.Repeat("é", 61)}} {
			p := a.dial(0)
			a.open(p, "/ws")
			id := a.opens[len(a.opens)-1]
			a.both()
			a.send(id, OpText, "before")
			if err := a.app.WsClose(id, c.code, c.text); err != nil {
				t.Fatal(err)
			}
			a.send(id, OpText, "after")
			p.want(OpText, "before")
			if text := p.wantClose(c.want); text != c.wantedText {
				t.Errorf("%d %q: text %q", c.code, c.text, text)
			}
			p.close()
			a.both()
			if w := "wsclose " + strconv.Itoa(int(id.Slot())) + " application"; a.log[len(a.log)-1] != w {
				t.Errorf("%q, want %q", a.log[len(a.log)-1], w)
			}
		}
		p := a.dial(0)
		a.open(p, "/ws")
		if err := a.app.Close(a.opens[len(a.opens)-1]); err != nil {
			t.Fatal(err)
		}
		p.closed()
		a.request = func(q *Request) Response {
			if err := a.app.Close(q.Conn); err != nil {
				t.Error(err)
			}
			return Response{}
		}
		p = a.dial(0).send([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
		a.settle(func() bool { return p.eof })
		if len(p.in) != 0 {
			t.Errorf("a closed request got %q", p.in)
		}
	})
}

// Only connections that are its own, in the state for it, take an application's answers.
func TestAppAnswersForOthersAreDropped(t *testing.T) {
	appEach(t, appParams(), TileOptions{}, func(a *appRig) {
		a.onRequest = func(q *Request) Response {
			if string(q.Path) == "/own" {
				return Response{UpgradeWebsocket: true, Ring: NoRing}
			}
			return Response{Forward: true}
		}
		own := a.dial(0).stream("/own")
		id := a.opens[0]
		part := a.dial(0).send([]byte("GET / HTTP/1.1\r\n"))
		a.until("it is there", func() bool { return len(a.opens) == 2 })
		for _, to := range []ConnID{id, a.opens[1], id + 1<<32, connID(1, 0, 0xffffff)} {
			for _, op := range []byte{opClose, opUpgrade, opResponse} {
				if err := a.app.tell(&appConn{id: to}, op, "x"); err != nil {
					t.Fatal(err)
				}
			}
		}
		a.both()
		if n := a.count("side_dropped"); n != 12 {
			t.Errorf("%d dropped, want 12", n)
		}
		own.send(textFrame("hi"))
		own.want(OpText, "hi")
		part.send([]byte("Host: h\r\n\r\n"))
		a.settle(func() bool { return part.eof })
		if r := part.answered(); r.status != 200 {
			t.Errorf("%+v", r)
		}
	})
}

// An application that does not keep up holds its clients up, one after the
// other, and nothing is lost or changes its order; others are not held up.
func TestAppSlowHoldsClientsUp(t *testing.T) {
	p := appParams()
	p.MaxConnectionCnt, p.MaxWsConnectionCnt, p.MsgBufCnt = 8, 12, 4
	appEach(t, p, TileOptions{SndBuf: 8 << 10, RequestTimeout: 2 * time.Second}, func(a *appRig) {
		a.onRequest = func(q *Request) Response {
			if string(q.Path) == "/own" {
				return Response{UpgradeWebsocket: true, Ring: NoRing}
			}
			return Response{Forward: true}
		}
		const clients, each = 8, 400
		got := map[ConnID]int{}
		total := 0
		a.message = func(c ConnID, _ byte, data []byte) {
			head, _, _ := strings.Cut(string(data), " ")
			if n, err := strconv.Atoi(head); err != nil || n != got[c] || len(data) != msgLen(n) {
				t.Errorf("client %v: message %q of %d bytes after %d", c, head, len(data), got[c])
			}
			got[c]++
			total++
		}
		var ps []*peer
		for range clients {
			p := a.dial(0)
			a.open(p, "/ws")
			ps = append(ps, p)
		}
		own := a.dial(0).stream("/own")
		a.both()
		// The application stops. All send until nobody takes anything more.
		next := make([]int, clients)
		rest := make([][]byte, clients)
		pushed := func() (moved bool) {
			for i, p := range ps {
				for p.fd >= 0 {
					if len(rest[i]) == 0 {
						if next[i] == each {
							break
						}
						head := strconv.Itoa(next[i]) + " "
						rest[i] = textFrame(head + strings.Repeat("x", msgLen(next[i])-len(head)))
						next[i]++
					}
					n, _ := sysWrite(p.fd, rest[i])
					if n <= 0 {
						break
					}
					rest[i] = rest[i][n:]
					moved = true
				}
			}
			return moved
		}
		for idle := 0; idle < 50; idle++ {
			if pushed() {
				idle = 0
			}
			if a.poll() > 0 {
				idle = 0
			}
			if err := a.tile.check(); err != nil {
				t.Fatal(err)
			}
		}
		if total != 0 || a.count("app_waits") < clients || a.tile.ports[0].first == 0 {
			t.Fatalf("%d messages handled, %d waits: nobody is held up", total, a.count("app_waits"))
		}
		if n := a.tile.q0().size - (a.tile.q0().head - a.tile.q0().hdr.tail.Load()); n < clients*evSz {
			t.Errorf("%d bytes are left for %d closes", n, clients)
		}
		own.send(textFrame("not mine"))
		own.want(OpText, "not mine")
		a.forward(10 * time.Second) // who waits for the application is not closed for it
		ps[0].send()                // lets the tile work
		if a.count("closed_timeout") != 0 {
			t.Error("closed for what the application is to blame for")
		}
		// One of them goes away meanwhile; what it sent is delivered before its close.
		gone := a.opens[3]
		ps[3].shut()
		reset := a.opens[4]
		_ = unix.SetsockoptLinger(ps[4].fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		ps[4].close()
		a.both()
		a.until("everything is handled", func() bool {
			pushed()
			a.app.Poll(0)
			if err := a.tile.check(); err != nil {
				t.Fatal(err)
			}
			for i, id := range a.opens[:clients] {
				if id == reset { // who resets gives up what waits
					continue
				}
				if got[id] != each && id != gone || id == gone && next[i] < got[id] {
					return false
				}
			}
			return true
		})
		a.both()
		if a.tile.ports[0].first != 0 || a.tile.q0().hdr.want.Load() != 0 {
			t.Error("somebody still waits")
		}
		if got[gone] == 0 {
			t.Error("nothing of who went away")
		}
	})
}

// Who waits for room keeps what it holds, whatever others want of it, and can be
// closed all the same.
func TestAppWaitersKeepAndLetGo(t *testing.T) {
	p := appParams()
	p.MsgBufCnt = 4
	appEach(t, p, TileOptions{RequestTimeout: 2 * time.Second, CloseTimeout: time.Hour, AppGrace: time.Hour}, func(a *appRig) {
		a.onRequest = func(q *Request) Response {
			if string(q.Path) == "/own" {
				return Response{UpgradeWebsocket: true, Ring: NoRing}
			}
			return Response{Forward: true}
		}
		var got []string
		a.message = func(_ ConnID, _ byte, data []byte) { got = append(got, short(string(data))) }
		var ps []*peer
		for range 5 {
			c := a.dial(0)
			a.open(c, "/ws")
			ps = append(ps, c)
		}
		own := a.dial(0).stream("/own")
		a.both()
		// The queue is full to the last byte that is not kept, and nobody waits yet.
		sent := 0
		fill := func() {
			for q := a.tile.q0(); q.fits(evLen(1), a.tile.ports[0].reserved); sent++ {
				ps[0].send(textFrame("t"))
				a.quiet()
			}
		}
		fill()
		if a.tile.ports[0].first != 0 || int(a.count("messages")) != sent {
			t.Fatalf("%d messages taken of %d", a.count("messages"), sent)
		}
		// The others stand in the middle of messages, as many as have a share of the buffers.
		for _, c := range ps[1:] {
			c.send(frame(OpText, false, "in two"))
			a.quiet()
		}
		if n := len(a.tile.msg.free); n != 2 {
			t.Errorf("%d message buffers are free", n)
		}
		own.send(textFrame("mine"))
		own.want(OpText, "mine")
		ps[1].send(frame(0, true, "")) // nothing of it is left in a buffer but that it ended
		a.quiet()
		if a.tile.ports[0].first == 0 {
			t.Fatal("it does not wait for room")
		}
		a.forward(3 * time.Second)
		a.forward(3 * time.Second)
		if err := a.tile.check(); err != nil {
			t.Fatal(err)
		}
		_, ws := a.tile.Conns()
		if n := a.count("closed_timeout"); n != 0 || ws != 6 {
			t.Fatalf("%d were closed for the application's slowness, %d are left", n, ws)
		}
		a.settle(func() bool { return len(got) == sent+1 })
		for _, c := range ps[2:] {
			c.send(frame(0, true, ""))
		}
		a.settle(func() bool { return len(got) == sent+4 })
		for _, m := range got[sent:] {
			if m != "in two" {
				t.Errorf("at the end came %q", got[sent:])
			}
		}

		// Once more, and now it dies while they wait.
		fill()
		ps[2].send(textFrame("waits"))
		a.quiet()
		if a.tile.ports[0].first == 0 {
			t.Fatal("it does not wait for room")
		}
		a.die()
		a.forward(appLook)
		a.forward(appLook)
		a.forward(2 * time.Hour)
		for _, c := range ps {
			c.wantClose(1013) // and its answer is read
			c.close()
		}
		own.send(textFrame("still"))
		own.want(OpText, "still")
		a.join()
	})
}

// q0 is the queue of application 0.
func (t *NetTile) q0() *evq { return t.ports[0].q }

// msgLen varies, up to the greatest message.
func msgLen(n int) int { return 12 + n*n*37%4000 }

// Requests wait for room as well, whole, and are answered in their order.
func TestAppRequestsWaitForRoom(t *testing.T) {
	p := appParams()
	p.MaxConnectionCnt, p.MaxWsConnectionCnt, p.MaxRequestLen = 32, 1, 4000
	p.EventBufferSz = 0
	appEach(t, p, TileOptions{}, func(a *appRig) {
		var order []string
		a.request = func(q *Request) Response {
			order = append(order, string(q.Path))
			if len(q.Body) != 3000 {
				t.Errorf("%s has %d bytes", q.Path, len(q.Body))
			}
			return a.text(Response{}, string(q.Path))
		}
		var ps []*peer
		for i := range 30 {
			ps = append(ps, a.dial(0).send(fmt.Appendf(nil, "POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: 3000\r\n\r\n", i), bytes.Repeat([]byte("b"), 3000)))
			a.quiet()
		}
		waiting := int(a.count("app_waits"))
		if waiting < 20 {
			t.Fatalf("%d requests wait", waiting)
		}
		if err := a.tile.check(); err != nil {
			t.Fatal(err)
		}
		ps[29].close() // gone before its turn: never was
		a.quiet()
		ps[28].shut()
		for i, p := range ps[:29] {
			a.settle(func() bool { return p.eof })
			if r := p.answered(); r.status != 200 || r.body != fmt.Sprint("/", i) {
				t.Errorf("%d: %+v", i, r)
			}
		}
		for i, path := range order {
			if path != fmt.Sprint("/", i) {
				t.Fatalf("answered in the order %v", order)
			}
		}
	})
}

// Not joined, dead, back again.
func TestAppDeathAndReturn(t *testing.T) {
	appEach(t, appParams(), TileOptions{AppGrace: 5 * time.Second}, func(a *appRig) {
		a.request = func(q *Request) Response {
			if string(q.Path) == "/later" {
				return Response{Later: true}
			}
			return a.answer(q)
		}
		first, second := a.dial(0), a.dial(0)
		a.open(first, "/ws")
		a.open(second, "/ring")
		a.both()
		a.log = nil
		id1 := a.opens[0]
		asked := a.dial(0).send([]byte("GET /later HTTP/1.1\r\nHost: h\r\n\r\n"))
		head := a.dial(0).send([]byte("HEAD /later HTTP/1.1\r\nHost: h\r\n\r\n"))
		a.settle(func() bool { return len(a.log) == 4 })
		a.send(id1, OpText, "last words")
		// One more request and message that it never sees.
		unseen := a.dial(0).send([]byte("GET /unseen HTTP/1.1\r\nHost: h\r\n\r\n"))
		first.send(textFrame("to the next"))
		a.quiet()
		a.die()
		a.forward(appLook)
		for _, p := range []*peer{asked, head, unseen} {
			if r := p.answered(); r.status != 503 || r.field["retry-after"] != "1" || (p == head) != (r.body == "") {
				t.Errorf("pending at its death: %+v", r)
			}
		}
		if n := a.count("app_lost"); n != 3 {
			t.Errorf("app_lost is %d", n)
		}
		first.want(OpText, "last words")
		if r := a.dial(0).send([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")).answered(); r.status != 503 || r.field["retry-after"] != "1" {
			t.Errorf("while it is gone: %+v", r)
		}
		a.onRequest = func(*Request) Response { return Response{Forward: true, Status: 404} }
		if r := a.dial(0).send([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")).answered(); r.status != 404 {
			t.Errorf("while it is gone, with an answer for that: %+v", r)
		}
		second.send(textFrame("held")) // WebSockets stay, and their events are kept
		a.quiet()
		second.close()
		a.quiet()

		a.log = nil
		a.join()
		a.both()
		s1, s2 := strconv.Itoa(int(id1.Slot())), strconv.Itoa(int(a.opens[1].Slot()))
		// The first lives: told at once. The second is gone by now: its message is not.
		a.logged("wsopen "+s1+" tag 7 again true", "message "+s1+" to the next",
			"wsopen "+s2+" tag 8 again true", "message "+s2+" held", "wsclose "+s2+" expected_eof")
		first.want(OpText, "echo to the next")
		first.send(textFrame("more"))
		a.want(first, OpText, "echo more")
		if r := a.get(a.dial(0), "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 200 {
			t.Errorf("after its return: %+v", r)
		}

		a.die()
		a.forward(appLook)
		a.forward(6 * time.Second)
		if text := first.wantClose(1013); text != "application is gone" {
			t.Errorf("close text %q", text)
		}
		if n := a.count("closed_app_gone"); n == 0 {
			t.Error("no close counted")
		}
		a.log = nil
		a.join()
		a.both()
		a.logged() // of the first connection's end it has heard of nothing
	})
}

// A successor takes over within one look of the tile: requests of before get
// 503 all the same, those of afterwards are answered.
func TestAppSuccessorAtOnce(t *testing.T) {
	for _, looks := range []bool{false, true} {
		appSuccessor(t, looks)
	}
}

func appSuccessor(t *testing.T, looks bool) {
	appEach(t, appParams(), TileOptions{}, func(a *appRig) {
		before := a.dial(0).send([]byte("GET /before HTTP/1.1\r\nHost: h\r\n\r\n"))
		a.quiet()
		answered := a.dial(0).send([]byte("GET /answered HTTP/1.1\r\nHost: h\r\n\r\n"))
		a.quiet()
		// It answers the second, dies before the tile takes it over.
		a.request = func(q *Request) Response {
			if string(q.Path) == "/before" {
				return Response{Later: true}
			}
			return a.answer(q)
		}
		a.turn()
		a.die()
		if looks {
			a.tile.look(&a.tile.ports[0]) // right then, before it has taken the answer over
		}
		a.request = nil
		a.log = nil
		a.join()
		after := a.dial(0).send([]byte("GET /after HTTP/1.1\r\nHost: h\r\n\r\n"))
		a.settle(func() bool { return after.eof && answered.eof && before.eof })
		if r := before.answered(); r.status != 503 {
			t.Errorf("before: %+v", r)
		}
		if r := answered.answered(); r.status != 200 || r.body != "GET /answered " {
			t.Errorf("answered: %+v", r)
		}
		if r := after.answered(); r.status != 200 {
			t.Errorf("after: %+v", r)
		}
		if _, err := a.s.TakeApp(0, AppOptions{BellPath: a.dir + "/app"}); !errors.Is(err, ErrRole) {
			t.Errorf("the role is given twice: %v", err)
		}
		for _, i := range []int{-1, 1} {
			if _, err := a.s.TakeApp(i, AppOptions{}); !errors.Is(err, ErrParams) {
				t.Errorf("application %d: %v", i, err)
			}
		}
		if err := Delete(a.s.mem); !errors.Is(err, ErrJoined) {
			t.Errorf("deleted under an application: %v", err)
		}
	})
}

// What a tile's successor may repeat is dropped the second time.
func TestAppDropsRepeats(t *testing.T) {
	appEach(t, appParams(), TileOptions{}, func(a *appRig) {
		p := a.dial(0)
		a.open(p, "/ws")
		p.send(textFrame("one"))
		a.want(p, OpText, "echo one")
		id := a.opens[0]
		q, port := a.tile.q0(), &a.tile.ports[0]
		again := func(e event, data string) {
			e.conn = uint64(id)
			if !q.put(&e, []byte(data), port.reserved) {
				t.Fatal("no room")
			}
		}
		rx := a.tile.conns[id.Slot()].rxNow()
		end := rx.done
		a.both()
		a.log = nil
		again(event{kind: evRequest, end: 10}, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		again(event{kind: evOpen, end: end - 9}, "")
		again(event{kind: evMessage, op: OpText, end: end}, "one")
		again(event{kind: evMessage, op: OpText, end: end - 1}, "older")
		a.logged()
		if n := a.app.Stats().Repeats; n != 4 {
			t.Errorf("%d repeats, want 4", n)
		}
		p.send(textFrame("two"))
		a.want(p, OpText, "echo two")
		p.close()
		a.both()
		a.log = nil
		again(event{kind: evClose, end: end}, "")
		again(event{kind: evMessage, op: OpText, end: end}, "one")
		again(event{kind: evOpen, end: end}, "")
		a.logged()
		// The slot's next connection is another one, and late repeats don't touch it.
		p = a.dial(0)
		a.open(p, "/ws")
		if next := a.opens[1]; next.Slot() != id.Slot() {
			t.Fatalf("slot %d, want %d again", next.Slot(), id.Slot())
		}
		a.both()
		a.log = nil
		again(event{kind: evClose, end: end}, "")
		a.logged()
		p.send(textFrame("three"))
		a.want(p, OpText, "echo three")
	})
}

// With keep-alive requests of one connection are answered in their order, by the
// application and by the tile; an answer goes to the request that it is for.
func TestAppKeepAlive(t *testing.T) {
	appEach(t, appParams(), TileOptions{KeepAlive: true, AppTimeout: 3 * time.Second}, func(a *appRig) {
		a.onRequest = func(q *Request) Response {
			if string(q.Path) == "/tile" {
				return a.body(Response{}, "of the tile")
			}
			return Response{Forward: true}
		}
		get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n" }
		p := a.dial(0).send([]byte(get("/1") + get("/tile") + "HEAD /2 HTTP/1.1\r\nHost: h\r\n\r\n" +
			"POST /3 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" + get("/4") + "GET /5 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
		a.settle(func() bool { return p.eof })
		rest := string(p.in)
		for i, want := range []string{"GET /1 ", "of the tile", "", "POST /3 abc", "GET /4 ", "GET /5 "} {
			head, after, ok := strings.Cut(rest, "\r\n\r\n")
			conn := "\r\nConnection: keep-alive"
			if i == 5 {
				conn = "\r\nConnection: close"
			}
			if !ok || !strings.HasPrefix(head, "HTTP/1.1 200 ") || !strings.HasSuffix(head, conn) || !strings.HasPrefix(after, want) {
				t.Fatalf("answer %d: %q", i, rest)
			}
			rest = after[len(want):]
		}
		p.close()
		a.both()
		if n := len(a.log); n != 7 || a.log[0] != "open 0" || a.log[6] != "close 0 ok" {
			t.Errorf("the application saw %q", a.log)
		}

		// It ends the connection; and it answers too late, while the next request waits.
		a.request = func(q *Request) Response {
			r := a.text(Response{}, "bye")
			r.Close = true
			return r
		}
		if r := a.get(a.dial(0), get("/")); r.body != "bye" || r.field["connection"] != "close" {
			t.Errorf("%+v", r)
		}
		var asked ConnID
		a.request = func(q *Request) Response {
			asked = q.Conn
			return Response{Later: true}
		}
		p = a.dial(0).send([]byte(get("/late")))
		a.settle(func() bool { return asked != 0 })
		late := *a.app.awaits(asked)
		if err := a.app.Respond(asked, &Response{}); err != nil {
			t.Fatal(err)
		}
		a.settle(func() bool { return bytes.HasSuffix(p.in, []byte("\r\n\r\n")) })
		p.in = nil
		asked = 0
		p.send([]byte(get("/next")))
		a.settle(func() bool { return asked != 0 })
		dropped := a.count("side_dropped")
		late.state = apAwaits
		if err := a.app.respond(&late, &Response{Status: 999}); err != nil {
			t.Fatal(err)
		}
		a.until("the answer to another request is dropped", func() bool { return a.count("side_dropped") > dropped })
		if len(p.in) != 0 {
			t.Errorf("got %q", p.in)
		}
		r := a.text(Response{Status: 205}, "no content in this one")
		if err := a.app.Respond(asked, &r); err != nil {
			t.Fatal(err)
		}
		a.settle(func() bool { return bytes.HasSuffix(p.in, []byte("\r\n\r\n")) })
		if got, err := parseAnswer(p.in); err != nil || got.status != 205 || got.field["content-length"] != "0" {
			t.Errorf("%q, %v", p.in, err)
		}
		// Then it becomes a WebSocket.
		p.in, a.request = nil, nil
		a.open(p, "/ws")
		p.send(textFrame("hi"))
		a.want(p, OpText, "echo hi")
	})
}

// A connection that lives on may go from one application to another and back.
func TestAppTwo(t *testing.T) {
	p := appParams()
	p.AppCnt = 2
	appEach(t, p, TileOptions{KeepAlive: true}, func(a *appRig) {
		a.onRequest = func(q *Request) Response {
			n, err := strconv.Atoi(string(q.Query))
			if err != nil || n > 1 {
				return Response{Forward: true, App: n + 1}
			}
			return Response{Forward: true, App: n}
		}
		var other *App
		var log []string
		other, err := a.s.TakeApp(1, AppOptions{BellPath: a.dir + "/other", Callbacks: Callbacks{
			Open: func(c ConnID) { log = append(log, "open") },
			Request: func(q *Request) Response {
				r := Response{}
				log = append(log, "request")
				_, _ = other.Stage().WriteString("of the other")
				if err := other.Stage().Body(&r); err != nil {
					t.Error(err)
				}
				return r
			},
			Close: func(c ConnID, why CloseReason) { log = append(log, "close "+why.Name()) },
		}})
		if err != nil {
			t.Fatal(err)
		}
		c := a.dial(0)
		for i, want := range []string{"GET /x ", "of the other", "of the other", "GET /x ", "of the other", "GET /x "} {
			n := strings.Count("of the other", want)
			c.send(fmt.Appendf(nil, "GET /x?%d HTTP/1.1\r\nHost: h\r\n\r\n", n))
			a.settle(func() bool { other.Poll(0); return bytes.HasSuffix(c.in, []byte(want)) })
			if r, err := parseAnswer(c.in); err != nil || r.status != 200 || r.body != want {
				t.Fatalf("answer %d: %q, %v", i, c.in, err)
			}
			c.in = nil
			if err := a.tile.check(); err != nil {
				t.Fatal(err)
			}
		}
		c.close()
		a.both()
		for other.Poll(0) > 0 {
		}
		a.logged("open 0", "request 0 GET /x", "close 0 ok", "open 0", "request 0 GET /x", "close 0 ok", "open 0", "request 0 GET /x", "close 0 ok")
		if got := strings.Join(log, " "); got != "open request request close ok open request close ok" {
			t.Errorf("the other saw %s", got)
		}
		if r := a.get(a.dial(0), "GET /x?7 HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 500 {
			t.Errorf("application 8 of 2: %+v", r)
		}
		if err := other.Release(); err != nil {
			t.Error(err)
		}
	})
}

// A tile that dies leaves its connections' ends for the application.
func TestAppTileLost(t *testing.T) {
	p := appParams()
	size, err := Footprint(p)
	if err != nil {
		t.Fatal(err)
	}
	m := shmem.Heap(size, Align())
	if err := newAt(m, p, ^uint64(0)-20); err != nil {
		t.Fatal(err)
	}
	r := joinRig(t, m, TileOptions{})
	a := &appRig{rig: r, dir: t.TempDir(), ends: map[ConnID]uint64{}}
	r.onRequest = func(*Request) Response { return Response{Forward: true} }
	a.join()
	for range 3 {
		a.open(a.dial(0), "/ws")
	}
	a.request = func(*Request) Response { return Response{Later: true} }
	a.dial(0).send([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
	a.both()
	a.log = nil
	// What a killed process leaves is what is in the table; its sockets are closed.
	left := bytes.Clone(m.Bytes()[r.s.tileOff(0)+r.s.lay.conns : r.s.tileOff(0)+r.s.lay.pending])
	head := a.tile.q0().head
	a.tile.Release()
	copy(m.Bytes()[r.s.tileOff(0)+r.s.lay.conns:], left)
	a.tile.q0().hdr.head.Store(head)
	for _, p := range r.peers {
		p.close()
	}
	r.peers = nil
	if a.tile, err = a.s.TakeTile(0, TileOptions{BellPath: t.TempDir() + "/bell", Callbacks: r.callbacks()}); err != nil {
		t.Fatal(err)
	}
	defer a.tile.Release()
	if err := a.tile.check(); err != nil {
		t.Error(err)
	}
	a.turn()
	if len(a.log) != 4 {
		t.Errorf("the application saw %q", a.log)
	}
	for _, l := range a.log {
		if !strings.HasSuffix(l, " tile_lost") {
			t.Errorf("the application saw %q", a.log)
		}
	}
	if a.tile.ports[0].bound != 0 || a.tile.ports[0].reserved != 0 {
		t.Errorf("%+v", a.tile.ports[0])
	}
	if err := a.app.Release(); err != nil {
		t.Error(err)
	}
}

// An application that answers more than its ring holds waits for the tile, up to
// its bound: no answer is overwritten before the tile has taken it over.
func TestAppWaitsForTile(t *testing.T) {
	p := appParams()
	p.ReplyDepth, p.ReplyBufferSz = 64, 1<<14
	appEach(t, p, TileOptions{}, func(a *appRig) {
		c := a.dial(0)
		a.open(c, "/ws")
		id := a.opens[0]
		a.both()
		sent := 0
		for ; ; sent++ {
			if sent > 1000 {
				t.Fatal("a ring of 64 took 1,000 messages that nobody took over")
			}
			_, err := a.app.Stage().WriteString(fmt.Sprint("n", sent))
			if err == nil {
				_, err = a.app.Stage().WsSend(id, OpText)
			} else {
				a.app.Stage().Unstage()
			}
			if err != nil {
				if !errors.Is(err, ErrBusy) {
					t.Fatal(err)
				}
				break
			}
		}
		if sent < 32 {
			t.Errorf("busy after %d", sent)
		}
		for i := range sent {
			c.want(OpText, fmt.Sprint("n", i))
		}
		a.send(id, OpText, "and on")
		c.want(OpText, "and on")
	})
}

// Events and answers allocate nothing, on either side.
func TestAppAllocatesNothing(t *testing.T) {
	if rigRace {
		t.Skip("the race detector allocates")
	}
	appEach(t, appParams(), TileOptions{}, func(a *appRig) {
		c := a.dial(0)
		a.open(c, "/ws")
		a.both()
		handled := 0
		a.app.cb.WsMessage = func(c ConnID, op byte, data []byte) {
			handled++
			_, _ = a.app.Stage().Write(data)
			_, _ = a.app.Stage().WsSend(c, op)
		}
		msg := textFrame("some message of a usual length, answered by the application")
		var waste [4096]byte
		once := func() {
			_, _ = sysWrite(c.fd, msg)
			for n := handled; handled == n; {
				a.tile.Poll(shmem.Monotonic(), 0)
				a.app.Poll(0)
			}
			for n := 0; n < len(msg)-4; {
				a.tile.Poll(shmem.Monotonic(), 0)
				if got, _ := shmem.Recv(c.fd, waste[:]); got > 0 {
					n += got
				}
			}
		}
		for range 300 {
			once()
		}
		if n := testing.AllocsPerRun(1000, once); n != 0 {
			t.Errorf("%v allocations an event", n)
		}
	})
}
