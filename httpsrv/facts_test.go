package httpsrv

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// What the tests of the model (Firedancer's fd_http_server) assert, ported. Facts 1 to 5, of staging, are in
// stage_test.go (TestFact...), 24, of Content-Length, in h1 (TestParseLength).

// refused sends one request, which must end in this status and be closed for this reason, once.
func (r *rig) refused(in string, status int, why CloseReason) {
	r.Helper()
	p := r.dial(0).send([]byte(in))
	if a := p.answered(); a.status != status {
		r.Errorf("%d, want %d", a.status, status)
	}
	p.close()
	r.until("the close callback", func() bool { return len(r.closes) == 1 })
	for _, got := range r.closes {
		if got != why {
			r.Errorf("closed as %v, want %v", got, why)
		}
	}
	r.quiet()
	if n := r.count("closed_" + why.Name()); n != 1 {
		r.Errorf("closed %d times", n)
	}
}

// Fact 8: a Content-Length beyond 2^64 is one close, LARGE_REQUEST.
func TestFact8HugeContentLength(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		r.refused(req("POST", "/", "Content-Length: 30000000000000000000\r\n"), 413, CloseLargeRequest)
	})
}

// Fact 9: polling with a limit of 1 serves one connection a call.
func TestFact9PollLimit(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{PollEvents: 1}, func(r *rig) {
		served := 0
		r.onRequest = func(*Request) Response { served++; return Response{} }
		for range 5 {
			r.dial(0)
		}
		r.until("all are in", func() bool { return r.count("accepted") == 5 })
		r.quiet()
		for _, p := range r.peers {
			if _, err := sysWrite(p.fd, []byte(req("GET", "/", ""))); err != nil {
				r.Fatal(err)
			}
		}
		for calls := 1; served < 5; calls++ {
			before := served
			r.tile.Poll(shmem.Monotonic(), 0)
			if served > before+1 {
				r.Fatalf("call %d served %d", calls, served-before)
			}
			if calls > 5+5*4 { // each may bring the end of another's response in between
				r.Fatalf("%d served after %d calls", served, calls)
			}
		}
	})
}

// readable reports whether the epoll has something.
func readable(t testing.TB, fd int) bool {
	t.Helper()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	if err != nil && err != unix.EINTR {
		t.Fatal(err)
	}
	return n == 1
}

// Facts 11 to 13: after accept a connection is read from when bytes come; one that has something to be sent is written to
// as soon as its socket takes more, and not asked before; with nothing to do Poll returns 0.
func TestFact11To13Interest(t *testing.T) {
	p := rigParams()
	p.StaticSz = 1 << 21
	rigEach(t, p, TileOptions{SndBuf: 8192}, func(r *rig) {
		idle := func(when string) {
			r.Helper()
			r.quiet()
			if n := r.tile.Poll(shmem.Monotonic(), 0); n != 0 || readable(r, r.tile.Fd()) {
				r.Errorf("%s: an idle Poll returned %d, or Fd is readable", when, n)
			}
		}
		body := strings.Repeat("x", 1<<20)
		static, err := r.s.AddStatic("b", []byte(body))
		if err != nil {
			r.Fatal(err)
		}
		r.onRequest = func(*Request) Response { return Response{StaticBody: static} }
		c := r.dial(4096)
		idle("accepted") // 11
		c.stall = true
		if _, err := sysWrite(c.fd, []byte(req("GET", "/", ""))); err != nil {
			r.Fatal(err)
		}
		if !readable(r, r.tile.Fd()) {
			r.Error("bytes have come, and Fd is not readable")
		}
		r.until("the socket is full", func() bool { return r.count("sends_partial") > 0 })
		idle("blocked") // 13; 12: no interest while the socket takes nothing
		c.stall = false
		c.pump()
		r.until("it takes more", func() bool { return readable(r, r.tile.Fd()) }) // 12
		if a := c.answered(); a.body != body {
			r.Errorf("%d bytes", len(a.body))
		}
		c.close()
		r.until("its end", func() bool { return r.count("conns_now") == 0 })
		idle("served")
	})
}

// Fact 14: a masked empty ping is answered by an empty pong.
func TestFact14EmptyPing(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		c := r.dial(0).stream("/ws").send([]byte{0x89, 0x80, 0xde, 0xad, 0xbe, 0xef})
		r.until("a pong", func() bool { return len(c.in) >= 2 })
		if !bytes.Equal(c.in, []byte{0x8a, 0}) {
			r.Errorf("%x", c.in)
		}
	})
}

// Fact 15: a 302 carries Location.
func TestFact15Redirect(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		r.onRequest = func(*Request) Response { return Response{Status: 302, Location: "/over/there?x=1"} }
		a := r.dial(0).send([]byte(req("GET", "/", ""))).answered()
		if a.status != 302 || a.field["location"] != "/over/there?x=1" || a.field["content-length"] != "0" {
			r.Errorf("%q", a.head)
		}
	})
}

// Fact 16: a POST with chunked and Content-Length is UNSUPPORTED_TRANSFER_ENCODING.
func TestFact16ChunkedAndLength(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		r.refused(req("POST", "/", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")+"0\r\n\r\n", 400, CloseUnsupportedTransferEncoding)
	})
}

// Fact 17: Content-Length 1 and 2 is BAD_REQUEST.
func TestFact17TwoLengths(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		r.refused(req("POST", "/", "Content-Length: 1\r\nContent-Length: 2\r\n")+"ab", 400, CloseBadRequest)
	})
}

// The model's limits are tested beside ours: a request of max_request_len-1 passes, one of max_request_len does not
// (TestRequestLength); a target of 127 octets and 32 fields pass, one more of either does not (h1.TestOutcomes).

// Fact 25, live: 5 connections, 2 WebSockets, requests of up to 64 KiB, frames of 2048 octets, 100 messages queued, a ring
// of 4096 octets: 5000 GETs and 20 POSTs of JSON are served while two clients stream, then a broadcast a second reaches both.
func TestFact25Live(t *testing.T) {
	gets := 5000
	if rigRace {
		gets = 500
	}
	p := Params{
		MaxConnectionCnt: 5, MaxWsConnectionCnt: 2, MaxRequestLen: 65536, MaxWsRecvFrameLen: 65536, MaxWsSendFrameCnt: 100,
		OutgoingBufferSz: 4096, RingDepth: 128, TileCnt: 1, RingCnt: 1,
	}
	rigEach(t, p, TileOptions{}, func(r *rig) {
		type call struct {
			ID     int    `json:"id"`
			Method string `json:"method"`
			Params string `json:"params"`
		}
		r.onRequest = func(q *Request) Response {
			switch q.Method {
			case MethodPost:
				var c call
				if err := json.Unmarshal(q.Body, &c); err != nil {
					return r.body(Response{Status: 400}, err.Error())
				}
				if err := json.NewEncoder(r.tile.Stage()).Encode(map[string]any{"id": c.ID, "result": len(c.Params)}); err != nil {
					r.Error(err)
				}
				resp := Response{ContentType: "application/json"}
				if err := r.tile.Stage().Body(&resp); err != nil {
					r.Error(err)
				}
				return resp
			default:
				return r.route(q)
			}
		}
		st := r.produce()
		defer st.Close()
		clients := []*peer{r.dial(0).stream("/ws"), r.dial(0).stream("/ws")}
		r.dial(0).send([]byte(handshake("/ws"))).wantStatus(503)
		big := strings.Repeat("z", 2048)
		ask := func(in, want string) {
			r.Helper()
			p := r.dial(0).send([]byte(in))
			if a := p.answered(); a.status != 200 || a.body != want {
				r.Fatalf("%d %q, want %q", a.status, a.body, want)
			}
			p.close()
			r.peers = r.peers[:2]
		}
		for i := range gets {
			ask(req("GET", fmt.Sprint("/", i), ""), fmt.Sprint("GET /", i))
			if i%500 == 0 {
				clients[i/500%2].send(textFrame(big)).want(OpText, big)
			}
		}
		for i := range 20 {
			n := i * 3200
			body := fmt.Sprintf(`{"id":%d,"method":"m","params":"%s"}`, i, strings.Repeat("p", n))
			ask(req("POST", "/", fmt.Sprintf("Content-Length: %d\r\n", len(body)))+body, fmt.Sprintf("{\"id\":%d,\"result\":%d}\n", i, n))
		}
		for i := range 10 {
			msg := fmt.Sprint(i, strings.Repeat("b", 1000))
			r.broadcast(st, msg)
			for _, c := range clients {
				c.want(OpText, msg)
			}
			r.forward(time.Second)
		}
		if n := r.count("accepted"); n != uint64(gets+20+3) || r.count("rejected") != 1 {
			r.Errorf("%d accepted, %d rejected", n, r.count("rejected"))
		}
	})
}

// wantStatus awaits the one response of the connection.
func (p *peer) wantStatus(status int) {
	p.r.Helper()
	if a := p.answered(); a.status != status {
		p.r.Errorf("%d, want %d", a.status, status)
	}
	p.close()
	p.r.peers = p.r.peers[:len(p.r.peers)-1]
}
