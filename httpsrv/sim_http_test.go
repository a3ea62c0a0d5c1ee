//go:build explore

package httpsrv

import (
	"bytes"
	"fmt"
	"strings"
)

// simHTTP is an HTTP client: requests, good or bad, and for each exactly one
// whole response, in their order.
type simHTTP struct {
	c     *simClient
	reqs  []simRequest
	said  int // requests written
	half  bool
	calls int // that reached the application
	next  int // request that is being answered
	last  bool
	in    []byte // of the response to it
}

// simRequest is a request, and what it must be answered with.
type simRequest struct {
	text   string
	status []int // one of these
	body   []byte
	head   bool // no body comes
	bad    bool // refused by the server itself, with a text of its own

	forwarded int // step at which the application was asked for
}

func newSimHTTP(c *simClient) *simHTTP {
	h := &simHTTP{c: c, reqs: []simRequest{simRequestOf(c)}}
	for c.w.plan.keepAlive && len(h.reqs) < 12 && !h.reqs[len(h.reqs)-1].bad && c.w.chance(0.8) {
		h.reqs = append(h.reqs, simRequestOf(c))
	}
	for i := range h.reqs {
		h.reqs[i].text = c.hop(h.reqs[i].text, i)
	}
	return h
}

func simRequestOf(c *simClient) simRequest {
	r := c.w.rnd
	n := r.IntN(200)
	if r.IntN(3) == 0 {
		n = r.IntN(int(min(c.w.plan.p.ReplyBufferSz, 1500)))
	}
	text := simNoise[r.IntN(1000):][:r.IntN(200)]
	get := func(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n" }
	ok := func(req string, body []byte) simRequest { return simRequest{text: req, status: []int{200}, body: body} }
	bad := func(req string, status ...int) simRequest { return simRequest{text: req, status: status, bad: true} }
	switch r.IntN(20) {
	case 0, 1:
		return ok(get("/page"), simNoise[:1500])
	case 2:
		return simRequest{text: strings.Replace(get("/page"), "GET", "HEAD", 1), status: []int{200}, head: true}
	case 3, 4, 5:
		return ok(get(fmt.Sprintf("/bytes?n=%d", n)), simNoise[:n])
	case 6, 7:
		return ok(fmt.Sprintf("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(text), text), text)
	case 8:
		return ok(fmt.Sprintf("PUT /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", len(text), text), text)
	case 9:
		return simRequest{text: get("/nowhere"), status: []int{404}}
	case 10:
		return simRequest{text: get("/empty"), status: []int{204}}
	case 11:
		return bad("GET / HTTP/1.1\r\n\r\n", 400)
	case 12:
		return bad("BLAH / HTTP/1.1\r\nHost: x\r\n\r\n", 501)
	case 13:
		return bad("GET / HTTP/1.1\r\nHost: x\r\nbroken field\r\n\r\n", 400)
	case 14:
		return bad("GET / HTTP/1.1\r\nHost: x\r\nA: "+strings.Repeat("x", 500)+"\r\n\r\n", 431, 413)
	case 15:
		return bad("POST /echo HTTP/1.1\r\nHost: x\r\n\r\n", 411)
	case 16:
		return bad("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("y", 2000), 413)
	case 17:
		return bad("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501)
	case 18:
		return bad(strings.Replace(handshake("/ws"), "13", "12", 1), 426)
	}
	return bad(get("/ws"), 426)
}

func (h *simHTTP) String() string {
	r := h.reqs[min(h.next, len(h.reqs)-1)].text
	return fmt.Sprintf("%q (%d of %d)", r[:min(40, len(r))], h.next, len(h.reqs))
}

func (h *simHTTP) step() {
	c := h.c
	switch {
	case h.said < len(h.reqs):
		for h.said < len(h.reqs) && (h.said <= h.next || c.w.chance(0.5)) { // else it awaits the answers
			c.out = append(c.out, h.reqs[h.said].text...)
			h.said++
		}
	case h.next == len(h.reqs) && !h.last:
		c.end("has all its answers, and closes")
	case len(c.out) == 0 && !h.half:
		h.half = true
		if c.w.chance(0.2) { // it has said all; the answers are awaited
			c.w.tell("client %d ends its side after its requests", c.n)
			c.s.upFin = !c.s.dead
		}
	}
}

// reached: the application has a request, the next one that is not bad.
func (h *simHTTP) reached(q *Request) {
	if t := h.c.tile; h.calls > 0 && t.deaths > 0 && h.asks(h.reqs[h.calls-1].text, q) && h.calls > h.next && (h.calls == len(h.reqs) || !h.asks(h.reqs[h.calls].text, q)) {
		h.c.checkClient(h.calls - 1)
		return // its tile died before it answered
	}
	if h.calls >= len(h.reqs) {
		h.c.w.fail("client %d: the application got %d requests of %d", h.c.n, h.calls+1, len(h.reqs))
	}
	r := h.reqs[h.calls].text
	h.c.checkClient(h.calls)
	h.calls++
	if !h.asks(r, q) {
		h.c.w.fail("client %d: sent %q, the application got %v %s with body %s", h.c.n, r, q.Method, q.Path, simBytes(q.Body))
	}
}

func (h *simHTTP) asks(r string, q *Request) bool {
	return strings.HasSuffix(r, string(q.Body)) && strings.HasPrefix(r, q.Method.String()+" "+string(q.Path)) && strings.Contains(r, string(q.Headers.Lookup("X-Forwarded-For")))
}

func (h *simHTTP) take(b []byte) {
	h.in = append(h.in, b...)
	for len(h.in) > 0 {
		n, why := h.response()
		if why != "" {
			h.c.w.fail("client %d: %s in answer to %s: %q", h.c.n, why, h, h.in)
		}
		if n == 0 {
			return
		}
		h.in = h.in[n:]
	}
}

// response looks at what has come of a response, and returns its length once it
// is whole; or what is wrong with it.
func (h *simHTTP) response() (n int, wrong string) {
	if h.last || h.next >= h.said && !h.c.turnedAway() {
		return 0, "more than was asked for"
	}
	r := &h.reqs[h.next]
	const interim = "HTTP/1.1 100 Continue\r\n\r\n"
	if strings.Contains(r.text, "100-continue") && bytes.HasPrefix(h.in, []byte(interim)) {
		return len(interim), ""
	}
	if n := min(9, len(h.in)); string(h.in[:n]) != "HTTP/1.1 "[:n] {
		return 0, "no response"
	}
	end := bytes.Index(h.in, []byte("\r\n\r\n")) + 4
	if end < 4 {
		return 0, ""
	}
	a, err := parseAnswer(h.in)
	if err != nil {
		return 0, err.Error()
	}
	length := 0
	fmt.Sscan(a.field["content-length"], &length)
	as := false // answered as it must be
	for _, s := range r.status {
		as = as || s == a.status
	}
	if !as {
		if wrong := h.unasked(a.status); wrong != "" {
			return 0, wrong
		}
	}
	whole := end + length
	if r.head && (as || h.c.app && a.status != 408 && !h.c.turnedAway()) {
		whole = end
	} else if got := a.body[:min(length, len(a.body))]; as && !r.bad && (length != len(r.body) || string(r.body[:len(got)]) != got) {
		return 0, "another body"
	}
	if len(h.in) < whole {
		return 0, ""
	}
	h.next++
	h.last = a.field["connection"] != "keep-alive"
	return whole, ""
}

// unasked tells whether there is a reason for this status.
func (h *simHTTP) unasked(status int) (wrong string) {
	c := h.c
	switch {
	case status == 503 && (c.busy || c.turnedAway() || c.tile.shortAt >= c.step0 || c.tile.t.cnt.Cell(cntRejected).Load() > 0):
	case status == 408 && c.late():
	case c.app && status == 500 && (c.busy || c.w.app.asked == c && c.w.app.a.lastErr != nil):
	case c.app && (status == 503 || status == 404 && c.n%3 == 0) && (c.w.app.excuses(h.reqs[h.next].forwarded) || status == 503 && c.w.plan.app.within < 1e13 && c.late()):
	default:
		return fmt.Sprintf("status %d, want %v", status, h.reqs[h.next].status)
	}
	return ""
}

// over: what came ends with a whole response that says so.
func (h *simHTTP) over(reset bool) {
	if c := h.c; !c.excused() && (len(h.in) > 0 || !h.last && !(c.s.peerFin && h.next == len(h.reqs))) {
		c.w.fail("client %d: the connection ends (reset %v) after %q in answer to %s, told as %s", c.n, reset, h.in, h, c.why.Name())
	}
}

func (h *simHTTP) late(age int64) bool { return age >= h.c.w.plan.reqTime || h.c.undelivered() }

func (h *simHTTP) finish() {
	for h.said < len(h.reqs) {
		h.step()
	}
}

func (h *simHTTP) served() bool {
	return h.c.gotFin || h.c.gotRst || h.c.app && h.c.busy || h.next == len(h.reqs) && !h.last && len(h.in) == 0
}
