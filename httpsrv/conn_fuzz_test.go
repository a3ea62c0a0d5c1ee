package httpsrv

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/h1"
	"github.com/tilewire/tilewire/httpsrv/ws"
	"github.com/tilewire/tilewire/shmem"
)

// script is what the fuzzer chose, byte by byte; 0 when it is used up.
type script struct{ b []byte }

func (s *script) next() byte {
	if len(s.b) == 0 {
		return 0
	}
	v := s.b[0]
	s.b = s.b[1:]
	return v
}

func (s *script) n(n int) int { return int(s.next()) % n }

func (s *script) bytes(n int) []byte {
	n = min(n, len(s.b))
	v := s.b[:n]
	s.b = s.b[n:]
	return v
}

// fuzzPeer is a client over a socketpair, and what came out of it.
type fuzzPeer struct {
	fd  int
	out []byte
}

func (p *fuzzPeer) drain() {
	var buf [4096]byte
	for p.fd >= 0 {
		n, err := unix.Read(p.fd, buf[:])
		if n <= 0 || err != nil {
			return
		}
		p.out = append(p.out, buf[:n]...)
	}
}

// judge checks that what a client got is one response (with keep-alive any
// number), or a 101 and whole frames with nothing after a close frame. Its end
// may be cut off by a reset.
func (p *fuzzPeer) judge(keepAlive bool) error {
	b := bytes.TrimPrefix(p.out, []byte(h1.Continue))
	for keepAlive {
		head, rest, ok := bytes.Cut(b, []byte("\r\n\r\n"))
		if !ok || !bytes.HasSuffix(head, []byte("\r\nConnection: keep-alive")) {
			break
		}
		a, err := parseAnswer(b[:len(head)+4])
		if err != nil {
			return err
		}
		if n := 0; a.field["content-length"] != "" && !bytes.HasPrefix(rest, []byte("HTTP/1.1 ")) { // else of a HEAD
			if fmt.Sscan(a.field["content-length"], &n); len(rest) < n {
				return nil
			}
			rest = rest[n:]
		}
		b = bytes.TrimPrefix(rest, []byte(h1.Continue))
	}
	head, rest, ok := bytes.Cut(b, []byte("\r\n\r\n"))
	if !ok {
		if len(b) > 0 && !bytes.HasPrefix(b, []byte("HTTP/1.1 "[:min(9, len(b))])) {
			return fmt.Errorf("%q is no response", b)
		}
		return nil
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
		a, err := parseAnswer(b)
		if err == nil && a.status < 200 {
			err = fmt.Errorf("status %d", a.status)
		}
		if n := 0; err == nil && a.field["content-length"] != "" {
			if fmt.Sscan(a.field["content-length"], &n); len(a.body) > n {
				err = fmt.Errorf("%d bytes of a body of %d", len(a.body), n)
			}
		}
		return err
	}
	closed := false
	for len(rest) > 0 {
		var h ws.Header
		if !ws.ParseHeader(rest, &h) {
			return nil
		}
		if closed {
			return fmt.Errorf("%q after the close frame", rest)
		}
		if !h.Fin || h.Rsv != 0 || h.Masked || h.HdrLen != ws.HeaderLen(h.Len) || h.Op != OpText && h.Op != OpBinary && h.Op != ws.OpPing && h.Op != ws.OpPong && h.Op != ws.OpClose {
			return fmt.Errorf("frame %+v at %q", h, rest)
		}
		if uint64(len(rest)-h.HdrLen) < h.Len {
			return nil
		}
		payload := rest[h.HdrLen : h.HdrLen+int(h.Len)]
		if h.Op != ws.OpPing && h.Op != ws.OpPong && h.Op != ws.OpClose && len(bytes.Trim(payload, string(payload[:min(1, len(payload))]))) != 0 {
			return fmt.Errorf("torn message %q", payload) // every message here repeats one byte
		}
		rest, closed = rest[h.HdrLen+int(h.Len):], h.Op == ws.OpClose
	}
	return nil
}

// FuzzConn drives connections through their states: the fuzzer chooses the
// clients' bytes and how they are cut, what callbacks answer, send, stage, and
// close, what is broadcast, and how time goes. Nothing crashes, the tile's
// invariants hold after every step, and no client gets torn bytes.
func FuzzConn(f *testing.F) {
	p := tinyParams()
	p.TileCnt, p.RingCnt, p.AppCnt = 1, 1, 0
	m := shmem.Heap(mustFootprint(f, p), Align())
	bell := fmt.Sprintf("%s/tilewire-fuzz-bell-%d", os.TempDir(), os.Getpid())
	f.Cleanup(func() { os.Remove(bell) })

	upgrade := []byte{0, 1, 0, 9, 0, 2, 2}
	f.Add([]byte{})
	f.Add(upgrade)
	for op := range byte(16) { // some of everything after an upgrade
		f.Add(append(append([]byte{}, upgrade...), op, op, 3, 2, op, 0x81, 5, 'h', 'e', 'l', 'l', 'o', 2, 4, 200, 2, 3, op, 9, 1, 7, 2, 12, 2, 2, 3))
		f.Add(bytes.Repeat([]byte{0, op, 2, 4, op, 5, 2, 3, 10, op}, 20))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 4096 {
			return
		}
		for full, keep := range []bool{RefuseNewcomer: false, EvictSlowest: true} {
			fuzzConn(t, m, p, TileOptions{BellPath: bell, SndBuf: 4096, KeepAlive: keep, PingInterval: 3 * time.Second, PongTimeout: 5 * time.Second, OnFull: OnFull(full), MaxLag: time.Minute}, &script{in})
		}
	})
}

func fuzzConn(t *testing.T, m shmem.Mem, p Params, o TileOptions, sc *script) {
	if err := New(m, p); err != nil {
		t.Fatal(err)
	}
	s, err := Join(m)
	if err != nil {
		t.Fatal(err)
	}
	static, err := s.AddStatic("s", []byte(strings.Repeat("s", 1000)))
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Produce(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()

	o.ReplyWait = time.Duration(len(sc.b)%2) * time.Second // replies wait for each other, or not
	var tl *NetTile
	var ids []ConnID
	life := map[ConnID]int{}
	step := func(c ConnID, from, to int) {
		if life[c] != from {
			t.Fatalf("%v goes to %d from %d", c, to, life[c])
		}
		life[c] = to
	}
	stuff := func() string { // every message repeats one byte: torn ones show
		return strings.Repeat(string(rune('a'+sc.n(26))), sc.n(256)*sc.n(12))
	}
	someone := func() ConnID {
		if len(ids) == 0 || sc.n(16) == 0 {
			return ConnID(sc.next()) << 24
		}
		return ids[sc.n(len(ids))]
	}
	act := func() { // anything that a callback may do
		for range sc.n(4) {
			switch sc.n(7) {
			case 0:
				tl.Stage().WriteString(stuff())
			case 1:
				tl.Stage().Unstage()
				tl.Stage().WriteString(stuff())
				_, _ = tl.Stage().WsSend(someone(), OpText)
			case 2:
				st.WriteString(stuff())
				_, _ = st.WsBroadcast(OpBinary)
			case 3:
				st.WriteString(stuff())
				_, _ = st.WsSend(someone(), OpText)
			case 4:
				_ = tl.Close(someone(), CloseReason(sc.next()))
			case 5:
				_ = tl.WsClose(someone(), CloseReason(sc.n(int(closeReasonCnt))))
			case 6:
				_, _ = tl.Stage().WsBroadcast(OpText)
			}
		}
	}
	o.Callbacks = Callbacks{
		Request: func(q *Request) Response {
			act()
			r := Response{}
			switch sc.n(6) {
			case 0, 1, 2:
				r = Response{UpgradeWebsocket: true, Ring: sc.n(3) - 1, History: uint32(sc.next())}
				return r
			case 3:
				r.StaticBody = static
			case 4:
				tl.Stage().Unstage()
				tl.Stage().WriteString(stuff())
				_ = tl.Stage().Body(&r)
			}
			r.Status = sc.n(7) * 100
			r.Close = r.Status == 300
			r.Location = string(sc.bytes(sc.n(8)))
			r.Extra = []h1.Field{{Name: "X" + string(sc.bytes(sc.n(4))), Value: string(sc.bytes(sc.n(8)))}}
			r.MaxAge, r.RetryAfter = int64(sc.next()), sc.n(3)
			return r
		},
		Open:      func(c ConnID) { step(c, 0, 1); ids = append(ids, c); act() },
		Close:     func(c ConnID, _ CloseReason) { step(c, 1, 3); act() },
		WsOpen:    func(c ConnID) { step(c, 1, 2); act() },
		WsMessage: func(c ConnID, _ byte, _ []byte) { act() },
		WsClose:   func(c ConnID, _ CloseReason) { step(c, 2, 3); act() },
	}
	if tl, err = s.TakeTile(0, o); err != nil {
		t.Fatal(err)
	}
	defer tl.Release()

	var peers []*fuzzPeer
	defer func() {
		for _, p := range peers {
			if p.fd >= 0 {
				unix.Close(p.fd)
			}
		}
	}()
	now := shmem.Monotonic()
	poll := func() {
		tl.Poll(now, 0)
		if err := tl.check(); err != nil {
			t.Fatal(err)
		}
	}
	for steps := 0; len(sc.b) > 0 && steps < 2000; steps++ {
		op := sc.n(14)
		var p *fuzzPeer
		if len(peers) > 0 {
			p = peers[sc.n(len(peers))]
		}
		if p == nil && op != 0 && op != 4 {
			op = 0
		}
		write := func(b []byte) {
			if p.fd >= 0 {
				_, _ = sysWrite(p.fd, b)
			}
		}
		switch op {
		case 0:
			if len(peers) >= 32 {
				continue
			}
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			setInherited(fds[1], 4096)
			p = &fuzzPeer{fd: fds[0]}
			peers = append(peers, p)
			tl.admit(fds[1])
			if sc.n(2) == 0 { // as most clients begin
				write([]byte(handshake("/")))
			}
		case 1:
			write(sc.bytes(sc.n(64)))
		case 2:
			poll()
		case 3:
			p.drain()
		case 4:
			st.WriteString(stuff())
			_, _ = st.WsBroadcast(OpText)
		case 5:
			st.WriteString(stuff())
			_, _ = st.WsSend(someone(), OpBinary)
		case 6:
			now += int64(time.Duration(sc.next()) * 50 * time.Millisecond)
		case 7:
			if n := sc.n(3); n == 0 && p.fd >= 0 {
				p.drain()
				unix.Close(p.fd)
				p.fd = -1
			} else if n == 1 && p.fd >= 0 {
				_ = unix.Shutdown(p.fd, unix.SHUT_WR)
			}
		case 8:
			write([]byte(handshake("/")))
		case 9:
			write([]byte([]string{req("GET", "/", ""), req("POST", "/", "Content-Length: 5\r\n"), "12345", req("HEAD", "/", "Expect: 100-continue\r\n")}[sc.n(4)]))
		case 10: // a frame, most likely good
			write(frame(sc.next()&0xf, sc.n(4) > 0, string(sc.bytes(sc.n(140)))))
		case 11:
			write(frame([]byte{ws.OpPing, OpText, ws.OpCont, ws.OpClose}[sc.n(4)], sc.n(3) > 0, strings.Repeat("z", sc.n(256)*sc.n(20))))
		case 12:
			act()
			tl.afterCallback()
		case 13:
			if sc.n(8) == 0 {
				tl.Drain(CodeGoingAway, "drain", CloseDrain, time.Second)
			}
		}
	}
	for range 4 { // whoever is left reads, answers nothing, and times out
		for range 50 {
			poll()
			for _, p := range peers {
				p.drain()
			}
		}
		sc.b = nil
		tl.Drain(CodeGoingAway, "end", CloseShutdown, time.Second)
		now += 11e9
	}
	for range 50 {
		poll()
	}
	for i, p := range peers {
		p.drain()
		if err := p.judge(o.KeepAlive); err != nil {
			t.Fatalf("client %d: %v", i, err)
		}
	}
	if n, _ := tl.Conns(); n != 0 {
		t.Fatalf("%d connections never end", n)
	}
	for c, v := range life {
		if v != 3 {
			t.Fatalf("%v never ended: %d", c, v)
		}
	}
}
