package echo

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// What a first-class server shows (11 to 22 of the list that the project was given), as a client sees it. The rules about the
// server's own side (slow readers, floods, staging) are in httpsrv's tests: TestFloodPausesReading, TestEviction, TestBuffersRunOut,
// TestHoldersAreBounded, TestRepliesWait, TestPongBetweenFrames.

const goodKey = "dGhlIHNhbXBsZSBub25jZQ=="

// opening is a handshake with one line replaced, or left out.
func opening(name, line string) string {
	s := "GET /x HTTP/1.1\r\n"
	if name == "" && line != "" {
		s = line + "\r\n"
	}
	for _, l := range []string{"Host: a", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: " + goodKey, "Sec-WebSocket-Version: 13"} {
		if name != "" && strings.HasPrefix(l, name+":") {
			l = line
		}
		if l != "" {
			s += l + "\r\n"
		}
	}
	return s + "\r\n"
}

// answer sends raw bytes and reads the response.
func answer(t *testing.T, in string) *http.Response {
	t.Helper()
	c := dial(t)
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, in); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatalf("%q: %v", in, err)
	}
	return resp
}

// 11: 101 only for GET, HTTP/1.1, Host, Upgrade, a Connection token, exactly one key of 16 octets and version 13; any case, lists of
// tokens, optional white space.
func TestList11Handshake(t *testing.T) {
	for _, c := range []struct {
		name, line string
		status     int
	}{
		{"", "", 101},
		{"Upgrade", "UPGRADE: WebSocket", 101},
		{"Upgrade", "Upgrade:websocket", 101},
		{"Upgrade", "Upgrade: h2c , websocket", 101},
		{"Upgrade", "Upgrade: \t websocket \t", 101},
		{"Connection", "connection: keep-alive, UPGRADE", 101},
		{"Connection", "Connection: keep-alive\r\nConnection: upgrade", 101},
		{"Connection", "Connection: ,, Upgrade ,", 101},
		{"Sec-WebSocket-Key", "sec-websocket-key:  " + goodKey + "  ", 101},
		{"Sec-WebSocket-Version", "SEC-WEBSOCKET-VERSION: 13", 101},

		{"", "POST /x HTTP/1.1\r\nContent-Length: 0", 405},
		{"", "HEAD /x HTTP/1.1", 405},
		{"", "GET /x HTTP/1.0", 400},
		{"Host", "", 400},
		{"Host", "Host: a\r\nHost: b", 400},
		{"Upgrade", "", 200}, // no upgrade was asked for: an ordinary GET
		{"Upgrade", "Upgrade: websockets", 200},
		{"Connection", "", 400},
		{"Connection", "Connection: keep-alive", 400},
		{"Connection", "Connection: Upgraded", 400},
		{"Sec-WebSocket-Key", "", 400},
		{"Sec-WebSocket-Key", "Sec-WebSocket-Key:", 400},
		{"Sec-WebSocket-Key", "Sec-WebSocket-Key: " + strings.Repeat("A", 24), 400}, // 18 octets
		{"Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA", 400},       // 15 octets
		{"Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAA-==", 400},
		{"Sec-WebSocket-Key", "Sec-WebSocket-Key: " + goodKey + "\r\nSec-WebSocket-Key: " + goodKey, 400},
		{"Sec-WebSocket-Version", "", 400},
		{"Sec-WebSocket-Version", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13", 400},
	} {
		resp := answer(t, opening(c.name, c.line))
		if resp.StatusCode != c.status {
			t.Errorf("%s %q: %d, want %d", c.name, c.line, resp.StatusCode, c.status)
		}
		if a := resp.Header.Get("Sec-WebSocket-Accept"); (a == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") != (c.status == 101) {
			t.Errorf("%s %q: %d with Sec-WebSocket-Accept %q", c.name, c.line, resp.StatusCode, a)
		}
		if c.status == 101 && (!strings.EqualFold(resp.Header.Get("Upgrade"), "websocket") || !strings.EqualFold(resp.Header.Get("Connection"), "upgrade")) {
			t.Errorf("%s %q: fields %v", c.name, c.line, resp.Header)
		}
		if c.status >= 400 && !resp.Close {
			t.Errorf("%s %q: %d without Connection: close", c.name, c.line, resp.StatusCode)
		}
	}
}

// 12: another version is 426, with the version that would do.
func TestList12Version(t *testing.T) {
	for _, v := range []string{"0", "8", "12", "14", "130", "013", "13x", "13, 8", ""} {
		resp := answer(t, opening("Sec-WebSocket-Version", "Sec-WebSocket-Version: "+v))
		if resp.StatusCode != 426 || resp.Header.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("version %q: %d %v", v, resp.StatusCode, resp.Header)
		}
	}
}

// 13: no extension and no subprotocol that was not asked for, and none of those that were, since there is none.
func TestList13Extensions(t *testing.T) {
	for _, line := range []string{"", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits", "Sec-WebSocket-Protocol: chat, superchat"} {
		resp := answer(t, opening("Host", "Host: a\r\n"+line))
		if line == "" {
			resp = answer(t, opening("", ""))
		}
		if resp.StatusCode != 101 || resp.Header["Sec-Websocket-Extensions"] != nil || resp.Header["Sec-Websocket-Protocol"] != nil {
			t.Errorf("%q: %d %v", line, resp.StatusCode, resp.Header)
		}
	}
}

// 14: what comes after the head before it was answered is nobody's frame.
func TestList14EarlyData(t *testing.T) {
	before := server.Counter("messages")
	if resp := answer(t, opening("", "")+string(fr(txt, "early").bytes())); resp.StatusCode != 400 {
		t.Errorf("%d", resp.StatusCode)
	}
	if n := server.Counter("messages") - before; n != 0 {
		t.Errorf("%d messages were taken", n)
	}
}

// 15, 16, 17: which code for which fault, each as soon as it shows, counted under its reason.
func TestList15to17Codes(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte // nothing more comes: the fault must show by now
		code int
		why  string
	}{
		{"text without a mask", frame{b0: txt, data: "x", plain: true}.bytes(), 1002, "ws_bad_mask"},
		{"ping without a mask, two octets of it", []byte{ping, 4}, 1002, "ws_bad_mask"},
		{"RSV1", []byte{txt | 0x40, 0x80}, 1002, "protocol"},
		{"opcode 3", []byte{fin | 3, 0x80}, 1002, "ws_unknown_opcode"},
		{"opcode 15", []byte{fin | 15, 0x80}, 1002, "ws_unknown_opcode"},
		{"ping of 126 octets", []byte{ping, 0x80 | 126}, 1002, "ws_control_frame_too_large"},
		{"ping without FIN", []byte{ws.OpPing, 0x80}, 1002, "protocol"},
		{"close without FIN", []byte{ws.OpClose, 0x82}, 1002, "protocol"},
		{"continuation of nothing", []byte{cont, 0x80}, 1002, "ws_expected_text_opcode"},
		{"text within a message", append(fr(ws.OpText, "a").bytes(), txt, 0x80), 1002, "ws_expected_cont_opcode"},
		{"close of one octet", fr(clos, "\x03").bytes(), 1002, "protocol"},
		{"close with 1006", fr(clos, code(1006)).bytes(), 1002, "protocol"},
		{"length not in its shortest form", []byte{txt, 0x80 | 126, 0, 5, 1, 2, 3, 4}, 1002, "protocol"},
		{"length of 2^63", fr(bin, "").head(1 << 63), 1002, "protocol"},
		{"bad UTF-8 in the first of three fragments", fr(ws.OpText, "\xc0").bytes(), 1007, "bad_utf8"},
		{"bad UTF-8 across fragments", wire(fr(ws.OpText, "\xe2\x82"), fr(ws.OpCont, "x")), 1007, "bad_utf8"},
		{"text that ends within a code point", wire(fr(ws.OpText, "\xe2"), fr(cont, "\x82")), 1007, "bad_utf8"},
		{"bad UTF-8 in a close reason", fr(clos, code(1000)+"\xff").bytes(), 1007, "bad_utf8"},
		{"one octet over the limit, by its header", fr(txt, "").head(16<<20 + 1), 1009, "ws_oversize_frame"},
		{"length of 2^63-1", fr(bin, "").head(1<<63 - 1), 1009, "ws_oversize_frame"},
		{"sum of fragments", append(fr(ws.OpBinary, "abc").bytes(), fr(ws.OpCont, "").head(16<<20-2)...), 1009, "ws_oversize_frame"},
	} {
		cl := upgraded(t)
		before := server.Counter("closed_" + c.why)
		if _, err := cl.Write(c.in); err != nil {
			t.Fatal(err)
		}
		if err := cl.expect(closed(c.code), end()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		cl.Close()
		awaitCounter(t, "closed_"+c.why, before+1)
	}
}

// 18: type and order are kept, control frames are answered between fragments.
func TestList18Order(t *testing.T) {
	c := upgraded(t)
	defer c.Close()
	var in []byte
	var want []event
	for i := range 300 {
		op := ws.OpText + byte(i%2)
		s := fmt.Sprint("message ", i)
		in = append(in, fr(op, s[:3]).bytes()...)
		in = append(in, fr(cont, s[3:]).bytes()...)
		want = append(want, event{op, s})
	}
	wrote := make(chan error, 1)
	go func() { _, err := c.Write(in); wrote <- err }()
	if err := c.expect(want...); err != nil {
		t.Error(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	for _, s := range []turn{
		send(events(pong("within")), fr(ws.OpBinary, "a"), fr(ping, "within")),
		send(events(binry("ab")), fr(cont, "b")),
	} {
		if _, err := c.Write(s.out); err != nil {
			t.Fatal(err)
		}
		if err := c.expect(s.want...); err != nil {
			t.Error(err)
		}
	}
}

// 20: a close is answered with a close, after the messages before it, with nothing after it, and the server ends the connection; also when
// the client has ended its side, and when it floods.
func TestList20Close(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, half := range []bool{false, true} {
		c := upgraded(t)
		in := wire(fr(txt, "first"), fr(bin, long), fr(clos, code(3000)+"bye"), fr(txt, "not any more"), fr(ping, "nor this"))
		wrote := make(chan error, 1)
		go func() {
			_, err := c.Write(in)
			if half && err == nil {
				err = c.Conn.(interface{ CloseWrite() error }).CloseWrite()
			}
			wrote <- err
		}()
		if err := c.expect(text("first"), binry(long), closed(3000), end()); err != nil {
			t.Errorf("half %v: %v", half, err)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
		c.Close()
	}
}

// 19: a pong repeats the payload; of a burst all are answered while the client reads; and never within a data frame: each event here is
// a whole frame.
func TestList19Pongs(t *testing.T) {
	c := upgraded(t)
	defer c.Close()
	big := payload(ws.OpBinary, 1<<20)
	var in []byte
	for i := range 200 {
		in = append(in, fr(ping, fmt.Sprint(i)).bytes()...)
		if i == 100 {
			in = append(in, fr(bin, big).bytes()...)
		}
	}
	wrote := make(chan error, 1)
	go func() { _, err := c.Write(in); wrote <- err }()
	message, next := false, 0
	for next < 200 || !message {
		e, err := c.read()
		switch {
		case err != nil:
			t.Fatal(err)
		case e == binry(big) && !message && next > 100:
			message = true
		case e.op == ws.OpPong: // while the message was being sent, only the latest may have been answered
			var n int
			if fmt.Sscan(e.data, &n); n < next || n > next && !message && next < 100 {
				t.Fatalf("pong %q, want %d", e.data, next)
			}
			next = n + 1
		default:
			t.Fatalf("%v after pong %d, message %v", e, next-1, message)
		}
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

// 21: clients that send and never read are no longer read from, and harm nobody.
func TestList21SlowReaders(t *testing.T) {
	var slow []*client
	in := fr(bin, payload(ws.OpBinary, 64<<10)).bytes()
	for range 8 {
		c := upgraded(t)
		defer c.Close()
		slow = append(slow, c)
	}
	taken := make(chan int, len(slow))
	for _, c := range slow {
		_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		go func() {
			n := 0
			for ; n < 10000; n++ {
				if _, err := c.Write(in); err != nil { // the deadline: nobody takes it any more
					break
				}
			}
			taken <- n
		}()
	}
	good := upgraded(t)
	defer good.Close()
	trips := 0
	for left := len(slow); left > 0 || trips < 200; trips++ {
		exchange(t, good, fr(txt, "still here").bytes(), 0, text("still here"))
		select {
		case n := <-taken:
			if left--; n > 500 { // kernel buffers and 17 replies
				t.Errorf("%d messages of 64 KiB were taken from a client that reads nothing", n)
			}
		default:
		}
	}
	t.Logf("%d round trips beside %d slow readers", trips, len(slow))
}

// 22: floods of tiny fragments, of empty ones and of pings, and partial frames, cost memory that was set aside at start and no more.
func TestList22Floods(t *testing.T) {
	const n = 50000
	tiny, want := fr(ws.OpText, "").bytes(), ""
	for i := range n {
		tiny = append(tiny, fr(ws.OpCont, "xy"[:i%3]).bytes()...)
	}
	want = strings.Repeat("xxy", n/3) + "x"[:min(n%3, 2)/2]
	var parts []*client // hold a part of a frame each
	for range 8 {       // there are 16 buffers for such messages
		c := upgraded(t)
		defer c.Close()
		if _, err := c.Write(fr(bin, zero(100)).bytes()[:50]); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, c)
	}
	whole(t, append(tiny, fr(cont, "").bytes()...), 0, text(want))
	c := upgraded(t)
	defer c.Close()
	var pings []byte
	for range n {
		pings = append(pings, fr(ping, "").bytes()...)
	}
	wrote := make(chan error, 1)
	go func() { _, err := c.Write(append(pings, fr(txt, "last").bytes()...)); wrote <- err }()
	got := 0
	for {
		e, err := c.read()
		if err != nil {
			t.Fatal(err)
		}
		if e == text("last") {
			break
		}
		if e != pong("") || got > n {
			t.Fatalf("%v after %d pongs", e, got)
		}
		got++
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	for _, c := range parts {
		c.Close()
	}
}
