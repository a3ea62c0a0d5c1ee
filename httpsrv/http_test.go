package httpsrv

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/httpsrv/h1"
)

func req(method, target, more string) string {
	return method + " " + target + " HTTP/1.1\r\nHost: x\r\n" + more + "\r\n"
}

var httpCases = []struct {
	name, in   string
	status     int
	body, want string // want: a part of the head
	why        CloseReason
}{
	{"get", req("GET", "/a?b", ""), 200, "GET /a", "Content-Length: 6\r\n", CloseOK},
	{"head", req("HEAD", "/a", ""), 200, "", "Content-Length: 7\r\n", CloseOK},
	{"post", req("POST", "/", "Content-Type: x/y\r\nContent-Length: 5\r\n") + "12345", 200, "12345", "Content-Type: x/y\r\n", CloseOK},
	{"put nothing", req("PUT", "/", "Content-Length: 0\r\n"), 200, "", "Content-Length: 0\r\n", CloseOK},
	{"options", req("OPTIONS", "*", ""), 200, "OPTIONS *", "", CloseOK},
	{"no body", req("GET", "/empty", ""), 200, "", "Content-Length: 0\r\n", CloseOK},
	{"redirect", req("GET", "/status?302", ""), 302, "text of 302", "Location: /elsewhere\r\n", CloseOK},
	{"204", req("GET", "/status?204", ""), 204, "", "", CloseOK},
	{"304", req("GET", "/status?304", ""), 304, "", "", CloseOK},
	{"404", req("GET", "/status?404", ""), 404, "text of 404", "", CloseOK},
	{"405 of the application", req("GET", "/status?405", ""), 405, "text of 405", "Allow: GET, HEAD, POST, PUT, OPTIONS\r\n", CloseOK},
	{"no such status", req("GET", "/status?7", ""), 500, "500 Internal Server Error\n", "", CloseInternal},
	{"the application cannot switch protocols so", req("GET", "/status?101", ""), 500, "500 Internal Server Error\n", "", CloseInternal},
	{"second request", req("GET", "/a", "") + req("GET", "/b", ""), 200, "GET /a", "", CloseOK},

	{"no host", "GET / HTTP/1.1\r\n\r\n", 400, "400 Bad Request\n", "", CloseBadRequest},
	{"garbage", "\x16\x03\x01\x00\x05hello", 400, "400 Bad Request\n", "", CloseBadRequest},
	{"lengths differ", req("POST", "/", "Content-Length: 1\r\nContent-Length: 2\r\n") + "ab", 400, "400 Bad Request\n", "", CloseBadRequest},
	{"delete", req("DELETE", "/", ""), 405, "405 Method Not Allowed\n", "Allow: GET, HEAD, POST, PUT, OPTIONS\r\n", CloseUnknownMethod},
	{"brew", req("BREW", "/", ""), 501, "501 Not Implemented\n", "", CloseUnknownMethod},
	{"post without length", req("POST", "/", ""), 411, "411 Length Required\n", "", CloseMissingContentLengthHeader},
	{"chunked", req("POST", "/", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", 501, "501 Not Implemented\n", "", CloseUnsupportedTransferEncoding},
	{"chunked with length", req("POST", "/", "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), 400, "400 Bad Request\n", "", CloseUnsupportedTransferEncoding},
	{"huge length", req("POST", "/", "Content-Length: 30000000000000000000\r\n"), 413, "413 Content Too Large\n", "", CloseLargeRequest},
	{"one byte too many", req("POST", "/", fmt.Sprintf("Content-Length: %04d\r\n", 4096-50)), 413, "413 Content Too Large\n", "", CloseLargeRequest},
	{"long head", req("GET", "/", "X: "+strings.Repeat("y", 5000)+"\r\n"), 431, "431 Request Header Fields Too Large\n", "", CloseLargeRequest},
	{"many fields", req("GET", "/", strings.Repeat("X: y\r\n", 100)), 431, "431 Request Header Fields Too Large\n", "", CloseLargeRequest},
	{"long path", req("GET", "/"+strings.Repeat("y", 5000), ""), 414, "414 URI Too Long\n", "", CloseLargeRequest},
	{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "505 HTTP Version Not Supported\n", "", CloseBadRequest},

	{"upgrade of nothing", req("GET", "/ws", ""), 426, "426 Upgrade Required\n", "Sec-WebSocket-Version: 13\r\n", CloseWsMissingUpgrade},
	{"upgrade without key", strings.Replace(handshake("/ws"), "Sec-WebSocket-Key", "Not-Key", 1), 400, "400 Bad Request\n", "", CloseWsMissingKeyHeader},
	{"key of 18 octets", strings.Replace(handshake("/ws"), goodKey, strings.Repeat("A", 24), 1), 400, "400 Bad Request\n", "", CloseWsBadKey},
	{"no version", strings.Replace(handshake("/ws"), "Sec-WebSocket-Version", "Not-Version", 1), 400, "400 Bad Request\n", "", CloseWsMissingVersionHeader},
	{"version 8", strings.Replace(handshake("/ws"), "Version: 13", "Version: 8", 1), 426, "426 Upgrade Required\n", "Sec-WebSocket-Version: 13\r\n", CloseWsUnexpectedVersion},
	{"no connection token", strings.Replace(handshake("/ws"), "Connection: Upgrade", "Connection: x", 1), 400, "400 Bad Request\n", "", CloseWsMissingUpgrade},
	{"upgrade by head", strings.Replace(handshake("/ws"), "GET", "HEAD", 1), 405, "", "Allow: GET\r\n", CloseUnknownMethod},
	{"early data", handshake("/ws") + "\x81\x80abcd", 400, "400 Bad Request\n", "", CloseBadRequest},
}

// The outcome is the same however the bytes are cut.
func TestRequests(t *testing.T) {
	o := TileOptions{RequestTimeout: time.Hour, CloseTimeout: time.Hour}
	rigEach(t, rigParams(), o, func(r *rig) {
		for _, c := range httpCases {
			for _, step := range []int{0, 1, 7, 2000} {
				if step == 1 && len(c.in) > 1000 {
					continue
				}
				p := r.dial(0)
				if step == 0 {
					p.send([]byte(c.in))
				} else if c.name == "early data" || c.name == "second request" {
					p.close() // what comes later is another case
					continue
				}
				for rest := c.in; step > 0 && rest != "" && !p.eof; {
					n := min(step, len(rest))
					p.send([]byte(rest[:n]))
					rest = rest[n:]
					r.poll()
				}
				a := p.answered()
				if a.status != c.status || c.body != a.body || !strings.Contains(a.head+"\r\n", c.want) {
					r.Errorf("%s by %d: %d %q\n%s", c.name, step, a.status, a.body, a.head)
				}
				if !strings.HasPrefix(a.field["connection"], "close") || a.field["date"] == "" {
					r.Errorf("%s: head %q", c.name, a.head)
				}
				_, has := a.field["content-length"]
				if bodyless := h1.Bodyless(a.status); bodyless == has {
					r.Errorf("%s: Content-Length %v for %d", c.name, has, a.status)
				}
				id := r.opens[len(r.opens)-1]
				p.close()
				r.until("close callback", func() bool { return r.life[id] == 3 })
				if r.closes[id] != c.why {
					r.Errorf("%s by %d: closed as %q, want %q", c.name, step, r.closes[id], c.why)
				}
				if err := r.tile.check(); err != nil {
					r.Fatal(c.name, err)
				}
			}
		}
	})
}

// A request of MaxRequestLen-1 bytes passes.
func TestRequestLength(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		head := req("POST", "/", "Content-Length: 4000\r\n")
		n := 4096 - len(head)
		head = strings.Replace(head, "4000", fmt.Sprint(n-1), 1)
		p := r.dial(0)
		p.send([]byte(head), []byte(strings.Repeat("b", n-1)))
		if a := p.answered(); a.status != 200 || len(a.body) != n-1 {
			r.Errorf("%d, %d bytes", a.status, len(a.body))
		}
		p = r.dial(0)
		p.send([]byte(strings.Replace(head, fmt.Sprint(n-1), fmt.Sprint(n), 1)))
		if a := p.answered(); a.status != 413 {
			r.Errorf("%d for one byte more", a.status)
		}
	})
}

func TestRequestFields(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		r.onRequest = func(q *Request) Response {
			h := &q.Headers
			if string(q.Path) != "/p" || string(q.Query) != "q=1" || string(h.Host) != "h:1" || string(h.Origin) != "http://o" ||
				string(h.AcceptEncoding) != "br" || string(h.LastEventID) != "7" || string(h.Lookup("x-other")) != "o" || h.UpgradeWebsocket {
				r.Errorf("request %+v", q)
			}
			return Response{
				ContentEncoding: "br", CacheControl: "no-store", AllowOrigin: "*", AllowMethods: "GET", AllowHeaders: "X", MaxAge: 60,
				RetryAfter: 3, Extra: []h1.Field{{Name: "X-More", Value: "m"}},
			}
		}
		p := r.dial(0).send([]byte("GET /p?q=1 HTTP/1.1\r\nHost: h:1\r\nOrigin: http://o\r\nAccept-Encoding: br\r\nLast-Event-ID: 7\r\nX-Other: o\r\n\r\n"))
		a := p.answered()
		for k, v := range map[string]string{
			"content-encoding": "br", "cache-control": "no-store", "access-control-allow-origin": "*",
			"access-control-allow-methods": "GET", "access-control-allow-headers": "X", "access-control-max-age": "60", "retry-after": "3", "x-more": "m",
		} {
			if a.field[k] != v {
				r.Errorf("%s: %q, want %q", k, a.field[k], v)
			}
		}
		// What would split the response is not sent.
		r.onRequest = func(*Request) Response { return Response{Location: "/\r\nX: y"} }
		if a := r.dial(0).send([]byte(req("GET", "/", ""))).answered(); a.status != 500 {
			r.Errorf("%d %q", a.status, a.head)
		}
		r.onRequest = func(*Request) Response {
			return Response{Extra: []h1.Field{{Name: "X", Value: strings.Repeat("x", headBufSz)}}}
		}
		if a := r.dial(0).send([]byte(req("GET", "/", ""))).answered(); a.status != 500 {
			r.Errorf("%d for a head larger than its buffer", a.status)
		}
	})
}

func TestExpectContinue(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		p := r.dial(0).send([]byte(req("POST", "/", "Content-Length: 3\r\nExpect: 100-continue\r\n")))
		r.until("100", func() bool { return strings.HasSuffix(string(p.in), "\r\n\r\n") })
		if string(p.in) != h1.Continue {
			r.Fatalf("%q", p.in)
		}
		p.in = nil
		p.send([]byte("a"))
		r.quiet()
		if a := p.send([]byte("bc")).answered(); a.status != 200 || a.body != "abc" {
			r.Errorf("%+v", a)
		}
	})
}

// A body larger than the socket's buffers goes out whole, staged or static.
func TestLargeBody(t *testing.T) {
	p := rigParams()
	p.ReplyBufferSz, p.StaticSz = 1<<21, 1<<21
	big := strings.Repeat("0123456789abcdef", 1<<16)
	rigEach(t, p, TileOptions{SndBuf: 8192}, func(r *rig) {
		static, err := r.s.AddStatic("big", []byte(big))
		if err != nil {
			r.Fatal(err)
		}
		for _, how := range []string{"staged", "static"} {
			r.onRequest = func(q *Request) Response {
				if how == "static" {
					return Response{StaticBody: static}
				}
				return r.body(Response{}, big)
			}
			p := r.dial(4096)
			p.stall = true
			p.send([]byte(req("GET", "/", "")))
			r.until("the socket is full", func() bool { return r.count("sends_partial") > 0 })
			p.stall = false
			if a := p.answered(); a.body != big || a.field["content-length"] != fmt.Sprint(len(big)) {
				r.Errorf("%s: %d of %d bytes, head %q", how, len(a.body), len(big), a.head)
			}
			h := r.dial(0).send([]byte(req("HEAD", "/", ""))).answered()
			if h.body != "" || h.field["content-length"] != fmt.Sprint(len(big)) {
				r.Errorf("%s: HEAD %q", how, h.head)
			}
		}
	})
}

// A staged body whose place in the reply ring is needed again before the client
// took it ends in a reset, never in other bytes.
func TestBodyReclaimed(t *testing.T) {
	p := rigParams()
	p.ReplyBufferSz = 1 << 18
	rigEach(t, p, TileOptions{SndBuf: 8192}, func(r *rig) {
		n := 0
		r.onRequest = func(*Request) Response {
			n++
			return r.body(Response{}, strings.Repeat(fmt.Sprint(n), 200000))
		}
		slow := r.dial(4096)
		slow.stall = true
		slow.send([]byte(req("GET", "/", "")))
		r.until("the socket is full", func() bool { return r.count("sends_partial") > 0 })
		if a := r.dial(0).send([]byte(req("GET", "/", ""))).answered(); a.body != strings.Repeat("2", 200000) {
			r.Errorf("second: %d bytes", len(a.body))
		}
		slow.stall = false
		slow.closed()
		if !slow.reset || strings.Contains(string(slow.in[200:]), "2") {
			r.Errorf("first: reset %v after %d bytes", slow.reset, slow.total)
		}
		r.until("counted", func() bool { return r.count("closed_too_slow") == 1 })
	})
}

func TestTimeouts(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{RequestTimeout: 5 * time.Second, BodyTimeout: 5 * time.Second, CloseTimeout: time.Second}, func(r *rig) {
		head := r.dial(0).send([]byte("GET / HT"))
		body := r.dial(0).send([]byte(req("POST", "/", "Content-Length: 9\r\n") + "ab"))
		mute := r.dial(0)
		answered := r.dial(0).send([]byte(req("GET", "/", "")))
		answered.closed() // and does not close its side
		r.until("all are accepted", func() bool { return r.count("accepted") == 4 })
		r.quiet()
		r.forward(4900 * time.Millisecond)
		if n := r.count("closed_ok"); n != 1 {
			r.Errorf("%d lingering connections were closed", n)
		}
		if head.eof || body.eof || mute.eof {
			r.Error("closed before its time")
		}
		r.forward(200 * time.Millisecond)
		for _, p := range []*peer{head, body} {
			if a := p.answered(); a.status != 408 {
				r.Errorf("%d %q", a.status, a.head)
			}
		}
		if mute.closed(); len(mute.in) != 0 {
			r.Errorf("%q for nothing", mute.in)
		}
		r.forward(2 * time.Second)
		if n := r.count("closed_timeout"); n != 3 {
			r.Errorf("%d timeouts, want 3", n)
		}
	})
}

// A client that ends its side after a whole request gets its answer; one in the
// middle of a request gets none.
func TestHalfClose(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		p := r.dial(0).send([]byte(req("GET", "/x", "")))
		p.shut()
		if a := p.answered(); a.status != 200 || a.body != "GET /x" {
			r.Errorf("%+v", a)
		}
		p = r.dial(0).send([]byte("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"))
		p.shut()
		if p.closed(); len(p.in) != 0 {
			r.Errorf("%q for a part of a request", p.in)
		}
		r.until("counted", func() bool { return r.count("closed_expected_eof") == 1 })
		r.dial(0).close()
		r.until("counted", func() bool { return r.count("closed_expected_eof") == 2 })
	})
}

// With no callback everything is 404.
func TestNoCallbacks(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		r.tile.cb = Callbacks{}
		if a := r.dial(0).send([]byte(req("GET", "/", ""))).answered(); a.status != 404 {
			r.Errorf("%+v", a)
		}
	})
}

// A response for which no pending entry is left must not be cut short silently.
func TestNoPendingEntry(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		held := r.tile.pends.free
		r.onRequest = func(q *Request) Response {
			r.tile.pends.free = nil
			return r.body(Response{}, "body")
		}
		p := r.dial(0).send([]byte(req("GET", "/", "")))
		p.closed()
		if !p.reset || len(p.in) != 0 {
			r.Errorf("reset %v, %q", p.reset, p.in)
		}
		r.tile.pends.free = held
	})
}

// Static bodies survive the tile's callbacks staging at the same time, and
// callbacks may close the connection that they answer.
func TestCallbackCloses(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		r.onRequest = func(q *Request) Response {
			if err := r.tile.Close(q.Conn, CloseOperator); err != nil {
				r.Error(err)
			}
			if err := r.tile.Close(q.Conn, CloseOperator); err == nil {
				r.Error("closed twice")
			}
			return r.body(Response{}, "gone")
		}
		p := r.dial(0).send([]byte(req("GET", "/", "")))
		if p.closed(); len(p.in) != 0 {
			r.Errorf("%q", p.in)
		}
		if r.count("closed_operator") != 1 {
			r.Error("not counted")
		}
	})
}
