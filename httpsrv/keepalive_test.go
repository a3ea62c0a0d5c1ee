package httpsrv

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

func keepAlive() TileOptions {
	return TileOptions{KeepAlive: true, RequestTimeout: 10 * time.Second, IdleTimeout: time.Minute, CloseTimeout: time.Second}
}

// takeAnswer takes one whole response off what a client has received. heads says that it answers a HEAD.
func (p *peer) takeAnswer(heads bool) (a answer, ok bool) {
	p.r.Helper()
	head, rest, ok := strings.Cut(string(p.in), "\r\n\r\n")
	if !ok {
		return a, false
	}
	a, err := parseAnswer([]byte(head + "\r\n\r\n"))
	if err != nil {
		p.r.Fatalf("%v in %q", err, p.in)
	}
	n, _ := strconv.Atoi(a.field["content-length"])
	if heads {
		n = 0
	}
	if len(rest) < n {
		return a, false
	}
	a.body = rest[:n]
	p.in = []byte(rest[n:])
	return a, true
}

// nextAnswer awaits one response.
func (p *peer) nextAnswer(heads bool) (a answer) {
	p.r.Helper()
	ok := false
	p.r.until("a response", func() bool {
		a, ok = p.takeAnswer(heads)
		return ok || p.eof
	})
	if !ok {
		p.r.Fatalf("the connection ended with %q, want a response", short(string(p.in)))
	}
	return a
}

// An HTTP/1.1 connection lives on after its response, an HTTP/1.0 one when it asks for it; either ends when the client or
// the application says so. Its slot is free afterwards.
func TestKeepAlive(t *testing.T) {
	const http10 = "GET /a HTTP/1.0\r\n"
	rigEach(t, rigParams(), keepAlive(), func(r *rig) {
		for _, c := range []struct {
			name, in string
			lives    bool
		}{
			{"1.1", req("GET", "/a", ""), true},
			{"1.1 with keep-alive", req("GET", "/a", "Connection: Keep-Alive\r\n"), true},
			{"1.1 that closes", req("GET", "/a", "Connection: foo, Close\r\n"), false},
			{"1.1 close wins", req("GET", "/a", "Connection: keep-alive\r\nConnection: close\r\n"), false},
			{"1.0", http10 + "\r\n", false},
			{"1.0 with keep-alive", http10 + "Connection: keep-alive\r\n\r\n", true},
			{"a body", req("POST", "/a", "Content-Length: 6\r\n") + "GET /a", true},
			{"an error of the application", req("GET", "/status?404", ""), true},
			{"nothing in it", req("GET", "/status?204", ""), true},
			{"what is refused closes", req("BREW", "/a", ""), false},
			{"a response that can't be sent closes", req("GET", "/status?7", ""), false},
		} {
			p := r.dial(0)
			for i := range 3 {
				p.send([]byte(c.in))
				a := p.nextAnswer(false)
				if want := map[bool]string{true: "keep-alive", false: "close"}[c.lives]; a.field["connection"] != want {
					r.Errorf("%s, request %d: Connection: %s, want %s", c.name, i, a.field["connection"], want)
				}
				if !c.lives {
					p.closed()
					break
				}
			}
			if p.eof == c.lives {
				r.Errorf("%s: ended: %v", c.name, p.eof)
			}
			id := r.opens[len(r.opens)-1]
			p.close()
			r.until("its end", func() bool { return r.life[id] == 3 })
			if c.lives && r.closes[id] != CloseOK {
				r.Errorf("%s: %v", c.name, r.closes[id])
			}
		}
		r.onRequest = func(*Request) Response { return Response{Close: true} }
		if a := r.dial(0).send([]byte(req("GET", "/", ""))).answered(); a.field["connection"] != "close" {
			r.Errorf("the application closes: %q", a.head)
		}
	})
}

// Requests sent in one go are answered in their order, each with its own body,
// however they are cut; the parser goes on behind each body, and what is
// refused ends it.
func TestPipelining(t *testing.T) {
	rigEach(t, rigParams(), keepAlive(), func(r *rig) {
		type ask struct{ in, body string }
		script := []ask{
			{req("GET", "/1", ""), "GET /1"}, {req("POST", "/2", "Content-Length: 5\r\n") + "GET /", "GET /"}, {req("HEAD", "/3", ""), ""},
			{"\r\n" + req("PUT", "/4", "Content-Length: 0\r\n"), ""}, {req("OPTIONS", "*", ""), "OPTIONS *"}, {req("GET", "/5", "Content-Length: 2\r\n") + "\r\n", "GET /5"},
			{req("GET", "/status?304", ""), ""}, {req("GET", "/6", "Connection: close\r\n"), "GET /6"}, {req("GET", "/never", ""), ""},
		}
		var all strings.Builder
		for _, s := range script {
			all.WriteString(s.in)
		}
		check := func(how string, p *peer) {
			r.Helper()
			for i, s := range script[:len(script)-1] {
				a := p.nextAnswer(strings.HasPrefix(s.in, "HEAD"))
				if a.body != s.body {
					r.Fatalf("%s: answer %d is %q, want %q", how, i+1, a.body, s.body)
				}
			}
			p.closed()
			if len(p.in) != 0 {
				r.Fatalf("%s: %q after the last answer", how, p.in)
			}
			p.close()
			r.peers = r.peers[:0]
		}
		check("at once", r.dial(0).send([]byte(all.String())))
		for _, step := range []int{1, 7, 100} {
			p := r.dial(0)
			for rest := all.String(); rest != ""; {
				n := min(step, len(rest))
				p.send([]byte(rest[:n]))
				rest = rest[n:]
				r.poll()
			}
			check(fmt.Sprint("by ", step), p)
		}
		for cut := 1; cut < all.Len(); cut += 1 + cut%3 {
			p := r.dial(0).send([]byte(all.String()[:cut]))
			r.quiet()
			check(fmt.Sprint("cut at ", cut), p.send([]byte(all.String()[cut:])))
		}
		p := r.dial(0).send([]byte(req("GET", "/1", "") + "BAD\r\n\r\n" + req("GET", "/2", "")))
		if a := p.nextAnswer(false); a.status != 200 {
			r.Error(a.head)
		}
		if a := p.answered(); a.status != 400 || a.field["connection"] != "close" {
			r.Errorf("%q", p.in)
		}
	})
}

// Far more is pipelined than the request buffer and the socket's take: the
// buffer is full in the middle of requests of all lengths, and every one is
// answered. The client ends its side at once, and gets them all.
func TestPipelineLonger(t *testing.T) {
	rigEach(t, rigParams(), keepAlive(), func(r *rig) {
		p := r.dial(0)
		var in, want strings.Builder
		n := 0
		for ; in.Len() < 200_000; n++ {
			body := fmt.Sprint(n) + strings.Repeat("b", n*37%3900)
			in.WriteString(req("POST", "/", fmt.Sprintf("Content-Length: %d\r\n", len(body))) + body)
			want.WriteString(body)
			for range n % 5 {
				in.WriteString(req("GET", "/s", ""))
				want.WriteString("GET /s")
			}
		}
		p.send([]byte(in.String()))
		p.shut()
		var got strings.Builder
		r.until("the server ends the connection", func() bool {
			for {
				a, ok := p.takeAnswer(false)
				if !ok {
					return p.eof
				}
				got.WriteString(a.body)
			}
		})
		if got.String() != want.String() {
			r.Errorf("%d bytes of bodies, want %d", got.Len(), want.Len())
		}
		if r.count("closed_ok") != 1 {
			r.Error("the client's end is not counted as one in order")
		}
	})
}

// Nothing is read while a response waits for its client, and the requests
// behind it are answered once it was taken.
func TestPipelineBlocked(t *testing.T) {
	p := rigParams()
	p.StaticSz = 1 << 21
	o := keepAlive()
	o.SndBuf = 8192
	big := strings.Repeat("0123456789abcdef", 1<<16)
	rigEach(t, p, o, func(r *rig) {
		static, err := r.s.AddStatic("big", []byte(big))
		if err != nil {
			r.Fatal(err)
		}
		asked := 0
		r.onRequest = func(*Request) Response { asked++; return Response{StaticBody: static} }
		p := r.dial(4096)
		p.stall = true
		p.send([]byte(strings.Repeat(req("GET", "/", ""), 3)))
		r.until("the socket is full", func() bool { return r.count("sends_partial") > 0 })
		r.quiet()
		if asked != 1 {
			r.Errorf("%d requests reached the application", asked)
		}
		p.stall = false
		for range 3 {
			if a := p.nextAnswer(false); a.body != big {
				r.Errorf("%d bytes", len(a.body))
			}
		}
	})
}

// Between two requests a client has IdleTimeout, for a request RequestTimeout
// from its first byte on; an unfinished one is answered 408, an idle connection
// just ends.
func TestIdleTimeout(t *testing.T) {
	rigEach(t, rigParams(), keepAlive(), func(r *rig) {
		idle, half, behind := r.dial(0), r.dial(0), r.dial(0)
		for _, p := range []*peer{idle, half} {
			p.send([]byte(req("GET", "/", ""))).nextAnswer(false)
		}
		behind.send([]byte(req("GET", "/", "") + "GET")).nextAnswer(false) // the rest of a second one never comes
		r.quiet()
		r.forward(10100 * time.Millisecond)
		if a := behind.answered(); a.status != 408 {
			r.Errorf("%q", behind.in)
		}
		r.forward(40 * time.Second)
		half.send([]byte("GET / HT"))
		r.quiet()
		r.forward(9 * time.Second)
		if idle.eof || half.eof {
			r.Error("closed before its time")
		}
		r.forward(1100 * time.Millisecond)
		idle.closed()
		if a := half.answered(); a.status != 408 || len(idle.in) != 0 {
			r.Errorf("%q, %q", half.in, idle.in)
		}
		for _, p := range r.peers {
			p.close()
		}
		r.until("counted", func() bool { return r.count("closed_timeout") == 3 })
	})
}

// Who lives on never keeps a newcomer out: of eight slots six may, and the
// seventh's response says close.
func TestKeepAliveLeavesRoom(t *testing.T) {
	rigEach(t, rigParams(), keepAlive(), func(r *rig) {
		for i := range 20 {
			a := r.dial(0).send([]byte(req("GET", "/", ""))).nextAnswer(false)
			if want := map[bool]string{true: "keep-alive", false: "close"}[i < 6]; a.status != 200 || a.field["connection"] != want {
				r.Errorf("connection %d: %d, %s", i, a.status, a.field["connection"])
			}
			if i >= 6 {
				p := r.peers[len(r.peers)-1]
				p.closed()
				p.close()
			}
			r.quiet()
		}
		if n := r.count("rejected"); n != 0 {
			r.Errorf("%d refused", n)
		}
	})
}

// A connection that was kept alive may become a WebSocket, and a drain ends
// those that are idle.
func TestKeepAliveThenUpgrade(t *testing.T) {
	rigEach(t, rigParams(), keepAlive(), func(r *rig) {
		st := r.produce()
		defer st.Close()
		p := r.dial(0)
		p.send([]byte(req("GET", "/", "") + handshake("/ws"))).nextAnswer(false)
		r.until("101", func() bool { return strings.HasSuffix(string(p.in), "\r\n\r\n") })
		if !strings.HasPrefix(string(p.in), "HTTP/1.1 101 ") {
			r.Fatalf("%q", p.in)
		}
		p.in = nil
		r.broadcast(st, "hello")
		p.want(OpText, "hello")
		p.send(textFrame("echo")).want(OpText, "echo")
		late := r.dial(0).send([]byte(req("GET", "/", "") + handshake("/ws") + "early"))
		late.nextAnswer(false)
		if a := late.answered(); a.status != 400 {
			r.Errorf("early data: %q", a.head)
		}
		idle := r.dial(0)
		idle.send([]byte(req("GET", "/", ""))).nextAnswer(false)
		r.tile.Drain(CodeGoingAway, "bye", CloseDrain, time.Second)
		p.wantClose(CodeGoingAway)
		idle.closed()
	})
}

// A 100 that the client is sent does not disturb the order.
func TestKeepAliveExpect(t *testing.T) {
	rigEach(t, rigParams(), keepAlive(), func(r *rig) {
		p := r.dial(0)
		for range 3 {
			p.send([]byte(req("POST", "/", "Content-Length: 3\r\nExpect: 100-continue\r\n")))
			r.until("100", func() bool { return strings.HasSuffix(string(p.in), "\r\n\r\n") })
			if string(p.in) != "HTTP/1.1 100 Continue\r\n\r\n" {
				r.Fatalf("%q", p.in)
			}
			p.in = nil
			if a := p.send([]byte("abc")).nextAnswer(false); a.body != "abc" {
				r.Errorf("%+v", a)
			}
		}
	})
}

// Requests that end exactly where the buffer does leave nothing behind, and what
// the socket holds besides brings no event any more: it is read all the same.
func TestPipelineExact(t *testing.T) {
	rigEach(t, rigParams(), keepAlive(), func(r *rig) {
		first := req("GET", "/1", "")
		second := req("POST", "/", "Content-Length: 4000\r\n")
		n := 4096 - len(first) - len(second)
		second = strings.Replace(second, "4000", fmt.Sprint(n), 1)
		in := first + second + strings.Repeat("b", n) + req("GET", "/3", "")
		p := r.dial(0)
		r.quiet()
		if n, err := sysWrite(p.fd, []byte(in)); n != len(in) || err != nil {
			r.Fatal(n, err)
		}
		for _, want := range []int{6, n, 6} {
			if a := p.nextAnswer(false); len(a.body) != want {
				r.Errorf("%d bytes, want %d", len(a.body), want)
			}
		}
	})
}

// net/http's client reuses one connection for requests of all kinds.
func TestKeepAliveNetHTTP(t *testing.T) {
	rigEach(t, rigParams(), keepAlive(), func(r *rig) {
		stop, stopped := make(chan bool), make(chan bool)
		go func() { // the tile's thread
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
					r.tile.Poll(shmem.Monotonic(), 1)
				}
			}
		}()
		c := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: 10 * time.Second}
		for i := range 200 {
			method, target, body, status := "GET", fmt.Sprint("/", i), "", 200
			want := "GET " + target
			switch i % 5 {
			case 1:
				method, body = "POST", strings.Repeat("b", i*7)
				want = body
			case 2:
				method, want = "HEAD", ""
			case 3:
				target, status, want = "/status?204", 204, ""
			case 4:
				target, status, want = "/status?404", 404, "text of 404"
			}
			q, err := http.NewRequest(method, "http://"+r.addr+target, strings.NewReader(body))
			if err != nil {
				r.Fatal(err)
			}
			resp, err := c.Do(q)
			if err != nil {
				r.Fatal(i, err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != status || string(got) != want {
				r.Errorf("%s %s: %d %q, %v", method, target, resp.StatusCode, got, err)
			}
		}
		c.CloseIdleConnections()
		close(stop)
		<-stopped
		if n := r.count("accepted"); n != 1 {
			r.Errorf("%d connections", n)
		}
	})
}

// Where a connection stands is in its memory to the byte, for a tile's successor:
// what came, where the next request begins, what went out.
func TestKeepAlivePositions(t *testing.T) {
	rigEach(t, rigParams(), keepAlive(), func(r *rig) {
		p := r.dial(0)
		r.until("accepted", func() bool { return len(r.opens) == 1 })
		c := &r.tile.conns[r.opens[0].Slot()]
		came, done := 0, 0
		send := func(in string) {
			p.send([]byte(in))
			came += len(in)
		}
		stands := func(when string) {
			r.Helper()
			rx := c.rxNow()
			if rx.end != uint64(came) || rx.done != uint64(done) || rx.left != 0 || c.pos().pos != uint64(p.total) || c.pos().src() != srcRing || c.pendPos != c.pendEnd {
				r.Errorf("%s: rx %+v, want end %d, done %d; tx %+v, %d bytes came out", when, *rx, came, done, c.pos(), p.total)
			}
		}
		stands("new")
		for i := range 200 { // the buffer is full every few turns
			body := strings.Repeat("b", i*41%3000)
			in := req("POST", "/", fmt.Sprintf("Content-Length: %d\r\n", len(body))) + body
			send(in)
			p.nextAnswer(false)
			done += len(in)
			r.quiet()
			stands("after a request")
			in = req("GET", "/", "")
			half := 1 + i%(len(in)-1)
			send(in + in[:half])
			p.nextAnswer(false)
			done += len(in)
			r.quiet()
			stands("after a request, with a part of the next")
			send(in[half:])
			p.nextAnswer(false)
			done += len(in)
			r.quiet()
			stands("after a request in two parts")
		}
	})
}

// Requests that come while earlier ones wait in the buffer are read, although
// the event that told of them came while one of these was answered.
func TestPipelineGoesOn(t *testing.T) {
	rigEach(t, rigParams(), keepAlive(), func(r *rig) {
		p := r.dial(0)
		r.until("it is in", func() bool { return r.count("accepted") == 1 })
		r.quiet()
		ask := func(target string) string { return req("GET", target, "") }
		for _, part := range []string{ask("/1") + ask("/2") + ask("/3"), ask("/4")} {
			if _, err := sysWrite(p.fd, []byte(part)); err != nil {
				r.Fatal(err)
			}
			r.poll()
		}
		for i := 1; i <= 4; i++ {
			if a := p.nextAnswer(false); a.body != fmt.Sprint("GET /", i) {
				r.Errorf("answer %d: %q", i, a.body)
			}
		}
	})
}
