package httpsrv

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/h1"
)

// The suite in conformance_http_cases_test.go, over sockets: every request at
// once, octet by octet, cut in two at every offset, with the client's side
// ended behind it, and with another request behind it. Each ends in exactly one
// well-formed response and the class's close reason, whatever the way.

func confParams() Params {
	p := rigParams()
	p.MaxRequestLen, p.StaticSz = confRequest, 4096
	return p
}

// confRig is a rig without the cost of a listener: clients come by socketpair.
type confRig struct {
	*rig
	keepAlive bool
}

func eachConf(t *testing.T, o TileOptions, f func(r *confRig)) {
	p := confParams()
	o.RequestTimeout, o.CloseTimeout, o.IdleTimeout = 10*time.Second, time.Hour, time.Hour
	rigEach(t, p, o, func(r *rig) { f(&confRig{r, o.KeepAlive}) })
}

// connect admits a client, and returns its connection.
func (r *confRig) connect() (*peer, ConnID) {
	r.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		r.Fatal(err)
	}
	r.tile.admit(fds[1])
	return r.adopt(fds[0]), r.opens[len(r.opens)-1]
}

// gone closes the client and awaits the connection's end.
func (r *confRig) gone(p *peer, id ConnID) CloseReason {
	r.Helper()
	p.close()
	r.peers = r.peers[:0]
	r.until("the connection's end", func() bool { return r.life[id] == 3 })
	why := r.closes[id]
	delete(r.life, id)
	delete(r.closes, id)
	r.opens = r.opens[:0]
	return why
}

// ways are the ways to send a request.
type way struct {
	name string
	cuts []int
	end  bool // the client's side, behind it
	more string
}

func ways(in string) []way {
	next := req("GET", "/never", "")
	w := []way{{name: "at once"}, {name: "at once, half-closed", end: true}, {name: "followed", more: next}, {name: "followed, half-closed", more: next, end: true}}
	var single []int
	for i := 1; i < len(in); i++ {
		single = append(single, i)
	}
	step := 1
	if len(in) > 300 || rigRace { // long ones are mostly padding: some offsets, and both ends
		step = max(len(in)/20, 3)
	}
	for i := 1; i < len(in); i++ {
		if i%step == 0 || !rigRace && (i < 20 || i > len(in)-20) {
			w = append(w, way{name: fmt.Sprint("cut at ", i), cuts: []int{i}, end: i%2 == 0})
		}
	}
	if len(in) > 300 {
		var some []int
		for i := 1; i < len(in); i += 1 + i/7 {
			some = append(some, i)
		}
		return append(w, way{name: "in pieces", cuts: some})
	}
	return append(w, way{name: "octet by octet", cuts: single}, way{name: "octet by octet, half-closed", cuts: single, end: true})
}

// give sends in as w says, the tile working after each piece.
func (r *confRig) give(p *peer, in string, w way) {
	r.Helper()
	from := 0
	for _, cut := range append(slices.Clip(w.cuts), len(in)) {
		piece := in[from:cut]
		if from = cut; cut == len(in) {
			piece += w.more
		}
		p.sendAll(piece)
		r.poll()
		if p.eof {
			return // refused before its end
		}
	}
	if w.end {
		p.shut()
	}
}

// sendAll writes s, unless the server has closed.
func (p *peer) sendAll(s string) {
	p.r.Helper()
	p.r.until("its bytes are taken", func() bool {
		n, err := sysWrite(p.fd, []byte(s))
		s = s[n:]
		return s == "" || err != nil && err != unix.EAGAIN
	})
}

// wellFormed checks what every response must have, and returns it.
func wellFormed(b []byte, method string, conn string) (answer, error) {
	b = []byte(strings.TrimPrefix(string(b), h1.Continue))
	a, err := parseAnswer(b)
	if err != nil {
		return a, err
	}
	n := 0
	length, has := a.field["content-length"]
	if method != "HEAD" && a.status != 204 && a.status != 304 {
		n, err = strconv.Atoi(length)
	}
	line, _, _ := strings.Cut(a.head, "\r\n")
	switch {
	case err != nil, n != len(a.body):
		return a, fmt.Errorf("Content-Length %q, body of %d", length, len(a.body))
	case has && h1.Bodyless(a.status):
		return a, fmt.Errorf("%d with Content-Length", a.status)
	case line != fmt.Sprintf("HTTP/1.1 %d %s", a.status, h1.StatusText(a.status)):
		return a, fmt.Errorf("status line %q", line)
	case a.field["connection"] != conn || len(a.field["date"]) != 29:
		return a, fmt.Errorf("Connection %q, Date %q", a.field["connection"], a.field["date"])
	case (a.status == 405 || a.status == 501) && a.field["allow"] != "GET, HEAD, POST, PUT, OPTIONS":
		return a, fmt.Errorf("%d with Allow: %q", a.status, a.field["allow"])
	}
	return a, nil
}

func method(in string) string {
	m, _, _ := strings.Cut(strings.TrimLeft(in, "\r\n"), " ")
	return m
}

// TestHTTPConformance: conformance list, 1 to 8, and the table of outcomes.
func TestHTTPConformance(t *testing.T) {
	begin, runs := time.Now(), 0
	eachConf(t, TileOptions{}, func(r *confRig) {
		for _, c := range httpClasses {
			for _, cs := range c.cases {
				for _, w := range ways(cs.in) {
					runs++
					p, id := r.connect()
					r.give(p, cs.in, w)
					p.closed()
					a, err := wellFormed(p.in, method(cs.in), "close")
					if err != nil {
						r.Fatalf("%s, %q %s: %v in %q", c.name, short(cs.in), w.name, err, short(string(p.in)))
					}
					if a.status != c.status || c.status == 200 && a.body != cs.body {
						r.Errorf("%s, %q %s: %d %q, want %d %q (%s)", c.name, short(cs.in), w.name, a.status, short(a.body), c.status, short(cs.body), c.rule)
					}
					if why := r.gone(p, id); why != c.why {
						r.Errorf("%s, %q %s: closed as %q, want %q", c.name, short(cs.in), w.name, why.Name(), c.why.Name())
					}
					if r.Failed() {
						break
					}
				}
			}
			if err := r.tile.check(); err != nil {
				r.Fatal(c.name, err)
			}
		}
	})
	cases := 0
	for _, c := range httpClasses {
		cases += len(c.cases)
	}
	t.Logf("%d cases of %d classes, %d connections in %v", cases, len(httpClasses), runs, time.Since(begin).Round(time.Millisecond))
}

// TestHTTPUnfinished: conformance list, 9. Of each request that would be served,
// and of each octet short of it: with the client's side ended it gets nothing,
// after the timeout 408 and its end; never anything else.
func TestHTTPUnfinished(t *testing.T) {
	eachConf(t, TileOptions{}, func(r *confRig) {
		for _, in := range httpUnfinished {
			r.endsShort(in)
			r.timesOut(in)
		}
		for _, c := range httpClasses[:3] {
			for _, cs := range c.cases {
				step := max(1, len(cs.in)/100)
				if rigRace {
					step = max(1, len(cs.in)/10)
				}
				for n := 0; n < len(cs.in); n += step {
					r.endsShort(cs.in[:n])
				}
				r.timesOut(cs.in[:len(cs.in)/2])
				r.timesOut(cs.in[:len(cs.in)-1])
			}
		}
	})
}

// endsShort has a client end its side after a part of a request.
func (r *confRig) endsShort(in string) {
	r.Helper()
	p, id := r.connect()
	p.sendAll(in)
	r.poll()
	p.shut()
	p.closed()
	if got := strings.TrimPrefix(string(p.in), h1.Continue); got != "" {
		r.Fatalf("%q then the end: %q", short(in), got)
	}
	if why := r.gone(p, id); why != CloseExpectedEOF {
		r.Errorf("%q then the end: %v", short(in), why)
	}
}

// timesOut has a client stop in the middle of a request.
func (r *confRig) timesOut(in string) {
	r.Helper()
	p, id := r.connect()
	p.sendAll(in)
	r.quiet()
	r.forward(9900 * time.Millisecond)
	if p.eof {
		r.Fatalf("%q: closed before its time with %q", short(in), p.in)
	}
	r.forward(200 * time.Millisecond)
	p.closed()
	if a, err := wellFormed(p.in, method(in), "close"); err != nil || a.status != 408 {
		r.Fatalf("%q for 10 s: %v, %q", short(in), err, p.in)
	}
	if why := r.gone(p, id); why != CloseTimeout {
		r.Errorf("%q for 10 s: %v", short(in), why)
	}
}

// TestHTTPConformanceKeepAlive: conformance list, 7. With keep-alive a request
// that is served is followed by the next one, unless it closes; one that is
// refused never is.
func TestHTTPConformanceKeepAlive(t *testing.T) {
	next := req("GET", "/next", "Connection: close\r\n")
	eachConf(t, TileOptions{KeepAlive: true}, func(r *confRig) {
		for _, c := range httpClasses {
			for _, cs := range c.cases {
				lives := c.status == 200 && !strings.Contains(cs.in, "Connection: close") && (!strings.Contains(cs.in, "HTTP/1.0") || strings.Contains(cs.in, "keep-alive"))
				for _, w := range []way{{name: "at once", more: next}, {name: "cut", cuts: []int{len(cs.in) / 2}, more: next}, {name: "apart"}} {
					p, id := r.connect()
					r.give(p, cs.in, w)
					if lives {
						a := p.skipContinue().nextAnswer(method(cs.in) == "HEAD")
						if a.field["connection"] != "keep-alive" || a.body != cs.body {
							r.Errorf("%s, %q %s: %q", c.name, short(cs.in), w.name, a.head)
						}
					}
					if w.more == "" {
						p.sendAll(next)
					}
					p.closed()
					want, status, m, body := cs.in, c.status, method(cs.in), cs.body
					if lives {
						want, status, m, body = next, 200, "GET", "GET /next"
					}
					a, err := wellFormed(p.in, m, "close")
					if err != nil || a.status != status || status == 200 && a.body != body {
						r.Fatalf("%s, %q %s: %v, %q to %q", c.name, short(cs.in), w.name, err, short(string(p.in)), short(want))
					}
					if why := r.gone(p, id); why != c.why {
						r.Errorf("%s, %q %s: %v", c.name, short(cs.in), w.name, why)
					}
				}
			}
		}
	})
}

// skipContinue takes an interim response off what the client got.
func (p *peer) skipContinue() *peer {
	p.r.until("something", func() bool { return len(p.in) > 0 || p.eof })
	p.in = []byte(strings.TrimPrefix(string(p.in), h1.Continue))
	return p
}
