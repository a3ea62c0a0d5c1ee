package h1

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// limits are small, so that the fuzzer and the tables reach them.
var limits = Limits{MaxRequest: 2048, MaxHead: 1024, MaxPath: 127, MaxHeaders: 32}

// outcome is what a request must end in; status 0 with ReasonOK is served, with ReasonIncomplete waits.
type outcome struct {
	class  string
	status uint16
	reason Reason
	in     []string
}

const hostLine = "Host: a.example\r\n"

func get(lines string) string  { return "GET / HTTP/1.1\r\n" + hostLine + lines + "\r\n" }
func post(lines string) string { return "POST / HTTP/1.1\r\n" + hostLine + lines + "\r\n" }

// fields returns n field lines.
func fields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "F%d: v\r\n", i)
	}
	return b.String()
}

// pad returns a GET whose head has exactly n bytes.
func pad(n int) string {
	s := get("X: ")
	return get("X: " + strings.Repeat("x", n-len(s)-2) + "\r\n")
}

var outcomes = []outcome{
	{"valid", 0, ReasonOK, []string{
		get(""), "\r\n" + get(""), "\r\n\r\n" + get(""), get("A:b\r\n"), get("A:\r\n"), get("A: \t b\tc \t\r\n"), get("A: \x80\xff\r\n"),
		get("!#$%&'*+-.^_`|~09azAZ: x\r\n"), get("X: a:b: c\r\n"), get(""), get("Content-Length: 0\r\n"), get("content-length:\t007 \r\n") + "1234567",
		"HEAD /a HTTP/1.1\r\nhOST:\ta:80\t\r\n\r\n", "PUT /a HTTP/1.1\r\n" + hostLine + "Content-Length: 3\r\n\r\nabc",
		post("Content-Length: 3\r\n") + "abc", post("Content-Length: 3\r\nContent-Length: 3\r\n") + "abc",
		"OPTIONS * HTTP/1.1\r\n" + hostLine + "\r\n", "OPTIONS /x HTTP/1.1\r\n" + hostLine + "\r\n",
		"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"GET http://a.example HTTP/1.1\r\n" + hostLine + "\r\n", "GET HTTPS://b:1/x?y HTTP/1.1\r\n" + hostLine + "\r\n",
		"OPTIONS http://a.example HTTP/1.1\r\n" + hostLine + "\r\n", "GET /?a=b&c=%20#f HTTP/1.1\r\n" + hostLine + "\r\n",
		"GET //x/../y;z HTTP/1.1\r\n" + hostLine + "\r\n", "GET /\xc3\xa9 HTTP/1.1\r\n" + hostLine + "\r\n",
		"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "GET / HTTP/1.1\r\nHost: a_b.c:\r\n\r\n", "GET / HTTP/1.1\r\nHost: a%41\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: 1.2.3.4:65535\r\n\r\n", post("Content-Length: 1\r\nExpect: 100-Continue\r\n") + "x",
		get("") + "GET / HTTP/1.1\r\n\x00", get("Connection: close, ,keep-alive\r\n"), get(fields(31)), pad(1024),
		"GET /" + strings.Repeat("p", 126) + " HTTP/1.1\r\n" + hostLine + "\r\n",
	}},
	{"incomplete", 0, ReasonIncomplete, []string{
		"", "\r", "\r\n", "\r\n\r", "\r\n\r\n", "G", "GET", "GET ", "GET /", "GET / ", "GET / HTTP/1.1", "GET / HTTP/1.1\r", "GET / HTTP/1.1\r\n",
		"GET / HTTP/1.1\r\nHost", "GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r", "POST / HTTP/1.1\r\n" + hostLine + "Content-Length: x",
		strings.Repeat("M", 32), "GET / HTTP/1.1 x", pad(1024)[:1023], "GET / HTTP/1.1\rHost: a\r\r",
	}},
	{"bare LF", 400, ReasonBadRequest, []string{
		"\n" + get(""), "GET / HTTP/1.1\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\n", "GET / HTTP/1.1\nHost: a\n\n", "GET /\n\n",
	}},
	{"bare CR", 400, ReasonBadRequest, []string{
		"\rGET / HTTP/1.1\r\n", get("A: b\rc\r\n"), get("A\r: b\r\n"), get("A: b\r\r\n"), get("\rA: b\r\n"), "GET /\r HTTP/1.1\r\n", "GET / HTTP/1.1\r\r\n",
		"GET\r/ HTTP/1.1\r\n", "GET / HTTP/1.1\r\n\rHost: a\r\n", get("A: \r b\r\n"),
	}},
	{"obs-fold", 400, ReasonBadRequest, []string{
		get("A: b\r\n c\r\n"), get("A: b\r\n\tc\r\n"), "GET / HTTP/1.1\r\n Host: a\r\n", get(" \r\n"), get("A: b\r\n \r\n"),
	}},
	{"space before colon", 400, ReasonBadRequest, []string{"GET / HTTP/1.1\r\nHost : a\r\n", get("A : b\r\n"), get("A\t: b\r\n"), post("Content-Length : 1\r\n")}},
	{"field name", 400, ReasonBadRequest, []string{
		get(": b\r\n"), get("A\r\n"), get("A B: c\r\n"), get("A(: b\r\n"), get("\"A\": b\r\n"), get("A\x00: b\r\n"), get("\xc3\xa9: b\r\n"), get("A\x7f: b\r\n"),
		get("A=b\r\n"), get("@: x\r\n"), get("[a]: x\r\n"), get("a,b: x\r\n"), get("a/b: x\r\n"), get("{}: x\r\n"),
	}},
	{"field value", 400, ReasonBadRequest, []string{
		get("A: \x00\r\n"), get("A: b\x00c\r\n"), get("A: \x01\r\n"), get("A: 12345678\x1f\r\n"), get("A: \x7f\r\n"), get("A: 1234567\x7f89\r\n"), get("A:\x0b\r\n"),
	}},
	{"blank lines", 400, ReasonBadRequest, []string{"\r\n\r\n\r\n" + get("")}},
	{"request line", 400, ReasonBadRequest, []string{
		" GET / HTTP/1.1\r\n", "GET  / HTTP/1.1\r\n", "GET /  HTTP/1.1\r\n", "GET / HTTP/1.1 \r\n", "GET\t/ HTTP/1.1\r\n", "GET /\tHTTP/1.1\r\n", "GET /\r\n", "GET \r\n",
		"GET\r\n", "G\x00T / HTTP/1.1\r\n", "GET /\x00 HTTP/1.1\r\n", "GET /a b HTTP/1.1\r\n", "GET /\x7f HTTP/1.1\r\n", "GET /\t HTTP/1.1\r\n", "\x16\x03\x01\x02\x00\x01",
		"G(T / HTTP/1.1\r\n", "\x00",
	}},
	{"target", 400, ReasonBadRequest, []string{
		"GET * HTTP/1.1\r\n" + hostLine + "\r\n", "GET a HTTP/1.1\r\n" + hostLine + "\r\n", "GET ftp://a/ HTTP/1.1\r\n" + hostLine + "\r\n",
		"GET http:///x HTTP/1.1\r\n" + hostLine + "\r\n", "GET http://u@h/x HTTP/1.1\r\n" + hostLine + "\r\n", "GET http:/x HTTP/1.1\r\n" + hostLine + "\r\n",
		"GET ?x HTTP/1.1\r\n" + hostLine + "\r\n", "OPTIONS ** HTTP/1.1\r\n" + hostLine + "\r\n", "GET a:80 HTTP/1.1\r\n" + hostLine + "\r\n",
	}},
	{"version malformed", 400, ReasonBadRequest, []string{
		"GET / http/1.1\r\n", "GET / HTTP/1\r\n", "GET / HTTP/1.\r\n", "GET / HTTP/.1\r\n", "GET / HTTP/1,1\r\n", "GET / HTTP/1.10\r\n", "GET / HTTP/11.1\r\n",
		"GET / HTTP1.1\r\n", "GET / HTTPS/1.1\r\n", "GET / XTTP/1.1\r\n", "GET / HTTP/a.1\r\n", "GET / HTTP/1.a\r\n", "GET / HTTP/-1.1\r\n", "GET / \r\n", "GET / HTTP/9\r\n",
		"GET / HTTP/1.1HTTP/1.1\r\n", "GET / HTTP /1.1\r\n", "GET / HTTP/1.1x\r\n",
	}},
	{"version unsupported", 505, ReasonBadRequest, []string{
		"GET / HTTP/2.0\r\n", "GET / HTTP/0.9\r\n", "GET / HTTP/1.2\r\n", "GET / HTTP/9.9\r\n", "GET / HTTP/3.0\r\n", "GET / HTTP/1.9\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	}},
	{"no Host", 400, ReasonBadRequest, []string{"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\n\r\n", "GET http://a/ HTTP/1.1\r\n\r\n", "FOO / HTTP/1.1\r\n\r\n"}},
	{"two Hosts", 400, ReasonBadRequest, []string{get(hostLine), get("host: b\r\n"), "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"}},
	{"bad Host", 400, ReasonBadRequest, []string{
		"GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a:x\r\n\r\n", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "GET / HTTP/1.1\r\nHost: :80\r\n\r\n", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", "GET / HTTP/1.1\r\nHost: a%4\r\n\r\n", "GET / HTTP/1.1\r\nHost: a%\r\n\r\n", "GET / HTTP/1.1\r\nHost: a?b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", "GET / HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n", "GET / HTTP/1.1\r\nHost: []\r\n\r\n", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n",
	}},
	{"bad Content-Length", 400, ReasonBadRequest, []string{
		post("Content-Length:\r\n"), post("Content-Length: x\r\n"), post("Content-Length: +1\r\n"), post("Content-Length: -1\r\n"), post("Content-Length: 0x1\r\n"),
		post("Content-Length: 1 1\r\n"), post("Content-Length: 1, 1\r\n"), post("Content-Length: 1,\r\n"), post("Content-Length: 0abc\r\n"), post("Content-Length: 1.0\r\n"),
		get("Content-Length: x\r\n"), "OPTIONS / HTTP/1.1\r\n" + hostLine + "Content-Length: -0\r\n\r\n", "DELETE / HTTP/1.1\r\n" + hostLine + "Content-Length: z\r\n\r\n",
		post("Content-Length: 99999999999999999999999x\r\n"),
	}},
	{"differing Content-Length", 400, ReasonBadRequest, []string{
		post("Content-Length: 1\r\nContent-Length: 2\r\n"), get("Content-Length: 1\r\ncontent-length: 01\r\n"), post("Content-Length: 1\r\nA: b\r\nContent-Length: 99999999999999999999\r\n"),
		post("Content-Length: 5\r\nContent-Length:\r\n"),
	}},
	{"Transfer-Encoding", 501, ReasonUnsupportedTransferEncoding, []string{
		post("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", get("transfer-encoding: gzip, chunked\r\n"), post("Transfer-Encoding:\r\n"), post("Transfer-Encoding: identity\r\n"),
		"FOO / HTTP/1.1\r\n" + hostLine + "Transfer-Encoding: chunked\r\n\r\n", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
	}},
	{"Transfer-Encoding and Content-Length", 400, ReasonUnsupportedTransferEncoding, []string{
		post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"), post("Content-Length: 3\r\nTransfer-Encoding: x\r\n"),
	}},
	{"method unknown", 501, ReasonUnknownMethod, []string{
		"FOO / HTTP/1.1\r\n" + hostLine + "\r\n", "get / HTTP/1.1\r\n" + hostLine + "\r\n", "M-SEARCH * HTTP/1.1\r\n" + hostLine + "\r\n", "QUERY / HTTP/1.1\r\n" + hostLine + "\r\n",
		strings.Repeat("M", 33), strings.Repeat("M", 33) + " / HTTP/7.0\r\n", strings.Repeat("M", 32) + " / HTTP/1.1\r\n" + hostLine + "\r\n",
	}},
	{"method not allowed", 405, ReasonUnknownMethod, []string{
		"DELETE / HTTP/1.1\r\n" + hostLine + "\r\n", "PATCH / HTTP/1.1\r\n" + hostLine + "\r\n", "TRACE / HTTP/1.1\r\n" + hostLine + "\r\n", "CONNECT a:1 HTTP/1.1\r\n" + hostLine + "\r\n",
	}},
	{"no length", 411, ReasonMissingContentLength, []string{post(""), "PUT /x HTTP/1.1\r\n" + hostLine + "\r\n", "POST / HTTP/1.0\r\n\r\n"}},
	{"body over the limit", 413, ReasonLargeRequest, []string{
		post("Content-Length: 30000000000000000000\r\n"), post("Content-Length: 18446744073709551615\r\n"), post("Content-Length: 18446744073709551616\r\n"),
		post("Content-Length: 9223372036854775807\r\n"), post("Content-Length: 9223372036854775808\r\n"), post("Content-Length: 2048\r\n"), get("Content-Length: 2048\r\n"),
	}},
	{"target over the limit", 414, ReasonPathTooLong, []string{
		"GET /" + strings.Repeat("p", 127) + " HTTP/1.1\r\n" + hostLine + "\r\n", "GET /" + strings.Repeat("p", 2000), "GET /?" + strings.Repeat("q", 126) + " ",
		"GET /\x00" + strings.Repeat("p", 126), "GET /" + strings.Repeat("p", 126) + "\r\n", // the length is judged before the octets
	}},
	{"head over the limit", 431, ReasonLargeRequest, []string{
		pad(1025), get("A: " + strings.Repeat("x", 5000)), get(strings.Repeat("A: b\r\n", 500)), get(fields(32)), pad(1026)[:1024], get("A: b\x00" + strings.Repeat("x", 5000)),
	}},
	{"expectation", 417, ReasonBadRequest, []string{get("Expect: 200-ok\r\n"), get("Expect:\r\n")}},
	{"first in the stream counts", 400, ReasonBadRequest, []string{
		"GET / HTTP/1.1\r\nA b\r\n" + strings.Repeat("x", 5000), get("Transfer-Encoding: x\r\nA b\r\n"), "FOO bar HTTP/1.1\r\nHost : a\r\n", get("A\r\n") + strings.Repeat("A: b\r\n", 500),
	}},
}

// cutAt parses s as its bytes arrive in pieces that end at the cuts.
func parseCuts(t testing.TB, s []byte, l *Limits, h *Head, cuts ...int) (int, Verdict) {
	t.Helper()
	from := 0
	for _, c := range append(cuts, len(s)) {
		next, v := Parse(s[:c:c], from, l, h)
		if !v.Incomplete() {
			return next, v
		}
		if next < from || next > c {
			t.Fatalf("next %d after from %d with %d bytes", next, from, c)
		}
		from = next
	}
	return from, incomplete
}

// everyCut checks that the outcome of s is the same at once, cut in two anywhere, octet by octet, and in threes.
func everyCut(t testing.TB, s []byte, l *Limits) (Head, Verdict) {
	t.Helper()
	var h, g Head
	next, want := Parse(s, 0, l, &h)
	same := func(how string, n int, v Verdict) {
		if v != want || v.OK() && (n != next || !sameHead(&g, &h)) {
			t.Fatalf("%s: %v %v at %d, at once %v %v at %d: %.200q", how, v, v.Why, n, want, want.Why, next, s)
		}
	}
	for i := range len(s) {
		n, v := parseCuts(t, s, l, &g, i)
		same(fmt.Sprintf("cut at %d", i), n, v)
	}
	for step := 1; step <= 3; step += 2 {
		var cuts []int
		for i := 0; i < len(s); i += step {
			cuts = append(cuts, i)
		}
		n, v := parseCuts(t, s, l, &g, cuts...)
		same(fmt.Sprintf("in pieces of %d", step), n, v)
	}
	return h, want
}

func sameHead(a, b *Head) bool { return reflect.DeepEqual(a, b) }

func TestOutcomes(t *testing.T) {
	for _, o := range outcomes {
		t.Run(o.class, func(t *testing.T) {
			for _, in := range o.in {
				_, v := everyCut(t, []byte(in), &limits)
				if v.Status != o.status || v.Reason != o.reason {
					t.Errorf("%.120q: %v, want %d %v", in, v, o.status, o.reason)
				}
				if v.Failed() != (v.Why != WhyNone) || v.Failed() && v.Why.String() == "" {
					t.Errorf("%.120q: no rule: %v", in, v)
				}
			}
		})
	}
}

// TestRequestLimit: MaxRequest-1 passes, MaxRequest does not, in head and body and in a head alone.
func TestRequestLimit(t *testing.T) {
	for _, c := range []struct {
		in   string
		want uint16
	}{
		{post("Content-Length: 100\r\n"), 0},
		{post("Content-Length: 101\r\n"), 413},
	} {
		l := Limits{MaxRequest: len(c.in) + 101}
		if _, v := everyCut(t, []byte(c.in), &l); v.Status != c.want {
			t.Errorf("%q: %v, want %d", c.in, v, c.want)
		}
	}
	for d, want := range map[int]uint16{0: 431, 1: 0} {
		l := Limits{MaxRequest: len(get("")) + d}
		if _, v := everyCut(t, []byte(get("")), &l); v.Status != want {
			t.Errorf("%d over: %v, want %d", d, v, want)
		}
	}
	l := Limits{MaxRequest: 10} // less than any request
	for _, s := range []string{get(""), "\r\n\r\nGET / HTTP", "GET /" + strings.Repeat("x", 100)} {
		if _, v := everyCut(t, []byte(s), &l); v.Status != 414 || v.Reason != ReasonLargeRequest {
			t.Errorf("%q: %v", s, v)
		}
	}
}

// TestDefaults: a zero Limits has the documented defaults.
func TestDefaults(t *testing.T) {
	var l Limits
	var h Head
	for _, c := range []struct {
		in   string
		want uint16
	}{
		{pad(DefaultMaxHead), 0}, {pad(DefaultMaxHead + 1), 431}, {get(fields(63)), 0}, {get(fields(64)), 431},
		{"GET /" + strings.Repeat("p", 4095) + " HTTP/1.1\r\n" + hostLine + "\r\n", 0},
		{"GET /" + strings.Repeat("p", 4096) + " HTTP/1.1\r\n" + hostLine + "\r\n", 414},
		{post("Content-Length: 1000000\r\n"), 0}, {post("Content-Length: 1048576\r\n"), 413},
	} {
		if _, v := Parse([]byte(c.in), 0, &l, &h); v.Status != c.want {
			t.Errorf("%.60q: %v, want %d", c.in, v, c.want)
		}
	}
	l.Allow = Methods(GET, DELETE)
	if _, v := Parse([]byte("DELETE / HTTP/1.1\r\n"+hostLine+"\r\n"), 0, &l, &h); !v.OK() || h.Method != DELETE {
		t.Errorf("DELETE allowed: %v", v)
	}
	if _, v := Parse([]byte("HEAD / HTTP/1.1\r\n"+hostLine+"\r\n"), 0, &l, &h); v.Status != 405 {
		t.Errorf("HEAD not allowed: %v", v)
	}
}

func TestHead(t *testing.T) {
	in := "\r\nPOST /a/b?c=d?e#f HTTP/1.1\r\nHost: h:1\r\nContent-Type: text/x\r\nAccept-Encoding: zstd, gzip\r\nOrigin: http://o\r\nCookie: k=v\r\n" +
		"Authorization: Bearer t\r\nLast-Event-ID: 7:9\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nCONNECTION: Keep-Alive\r\n" +
		"Connection: x,\tUpGrade , close\r\nUpgrade: h2c, WebSocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: a, b\r\n" +
		"Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody"
	h, v := everyCut(t, []byte(in), &limits)
	if !v.OK() || h.Len != len(in)-4 || h.FieldCount != 17 || h.BodyLen() != 4 || h.Method != POST || h.Minor != 1 {
		t.Fatalf("%v %+v", v, h)
	}
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{h.Target, "/a/b?c=d?e#f"}, {h.Path, "/a/b"}, {h.Query, "c=d?e"}, {h.Host, "h:1"}, {h.ContentType, "text/x"}, {h.AcceptEncoding, "zstd, gzip"},
		{h.Origin, "http://o"}, {h.Cookie, "k=v"}, {h.Authorization, "Bearer t"}, {h.LastEventID, "7:9"}, {h.XForwardedFor, "2.2.2.2"},
		{h.WsKey, "k"}, {h.WsVersion, "13"}, {h.WsProtocol, "a, b"}, {h.Lookup([]byte(in), "x-forwarded-for"), "1.1.1.1"},
	} {
		if string(c.got) != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	if !h.ConnClose || !h.ConnKeepAlive || !h.ConnUpgrade || !h.UpgradeAny || !h.UpgradeWebSocket || !h.Expect100 || h.KeepAlive() {
		t.Errorf("flags: %+v", h)
	}
	if h.Lookup([]byte(in), "absent") != nil {
		t.Error("absent field found")
	}
	n, count := 0, 0
	for {
		var name, value []byte
		if name, value, n = h.Next([]byte(in), n); n == 0 {
			break
		}
		if count++; count == 1 && string(name)+"="+string(value) != "Host=h:1" {
			t.Errorf("first field %q %q", name, value)
		}
	}
	if count != h.FieldCount {
		t.Errorf("%d fields, want %d", count, h.FieldCount)
	}
}

func TestTargetForms(t *testing.T) {
	for _, c := range []struct{ method, target, host, path, query string }{
		{"GET", "/", "a.example", "/", "-"}, {"GET", "/?", "a.example", "/", ""}, {"GET", "/x#?y", "a.example", "/x", "-"},
		{"GET", "http://b", "b", "/", "-"}, {"GET", "hTTp://b:81/c?d", "b:81", "/c", "d"}, {"GET", "https://b?d", "b", "/", "d"},
		{"OPTIONS", "*", "a.example", "*", "-"}, {"OPTIONS", "http://b", "b", "*", "-"}, {"OPTIONS", "http://b/", "b", "/", "-"},
	} {
		h, v := everyCut(t, []byte(c.method+" "+c.target+" HTTP/1.1\r\n"+hostLine+"\r\n"), &limits)
		query := "-"
		if h.Query != nil {
			query = string(h.Query)
		}
		if !v.OK() || string(h.Host) != c.host || string(h.Path) != c.path || query != c.query {
			t.Errorf("%s: %v host %q path %q query %q", c.target, v, h.Host, h.Path, query)
		}
	}
}

func TestKeepAlive(t *testing.T) {
	for in, want := range map[string]bool{
		get(""): true, get("Connection: close\r\n"): false, get("Connection: closed\r\n"): true, get("Connection: foo,CLOSE\r\n"): false,
		"GET / HTTP/1.0\r\n\r\n": false, "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n": true,
		"GET / HTTP/1.0\r\nConnection: Keep-Alive, close\r\n\r\n": false,
	} {
		if h, v := everyCut(t, []byte(in), &limits); !v.OK() || h.KeepAlive() != want {
			t.Errorf("%q: %v, %v", in, v, h.KeepAlive())
		}
	}
	if h, _ := everyCut(t, []byte("POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"), &limits); h.Expect100 {
		t.Error("100-continue in HTTP/1.0")
	}
}

// TestParseLength has the facts of Firedancer's tests (24).
func TestParseLength(t *testing.T) {
	for _, c := range []struct {
		in   string
		want LengthState
		n    uint64
	}{
		{"0", LengthOK, 0}, {"007", LengthOK, 7}, {"18446744073709551615", LengthOK, 1<<64 - 1}, {"0000000000000000000000000000001", LengthOK, 1},
		{"", LengthMalformed, 0}, {" 1", LengthMalformed, 0}, {"0abc", LengthMalformed, 0}, {"1 ", LengthMalformed, 0}, {"-1", LengthMalformed, 0},
		{"18446744073709551616", LengthOverflow, 0}, {"30000000000000000000", LengthOverflow, 0}, {"99999999999999999999999999", LengthOverflow, 0},
		{"99999999999999999999999999x", LengthMalformed, 0},
	} {
		n := uint64(4711)
		got := ParseLength([]byte(c.in), &n)
		if got != c.want || got == LengthOK && n != c.n || got != LengthOK && n != 4711 {
			t.Errorf("%q: %v %d", c.in, got, n)
		}
	}
}

// TestLinear: a head of 64 KiB that arrives octet by octet is looked at a bounded number of times; quadratic work would take minutes.
func TestLinear(t *testing.T) {
	l := Limits{MaxHead: 1 << 20, MaxPath: 1 << 18, MaxRequest: 1 << 21, MaxHeaders: 64}
	for _, s := range []string{
		"GET /" + strings.Repeat("p", 1<<18-1) + " HTTP/1.1\r\n" + hostLine + "A: " + strings.Repeat("x", 1<<18) + "\r\n\r\n",
		get(strings.Repeat("A: "+strings.Repeat("x", 8000)+"\r\n", 60)),
	} {
		var h Head
		from := 0
		var v Verdict
		b := []byte(s)
		for i := 1; i <= len(b); i++ {
			if from, v = Parse(b[:i], from, &l, &h); !v.Incomplete() {
				break
			}
		}
		if !v.OK() {
			t.Fatalf("%v", v)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	in := []byte(browser)
	var h Head
	var l Limits
	if n := testing.AllocsPerRun(100, func() {
		from := 0
		for _, c := range []int{1, 5, 100, len(in)} {
			from, _ = Parse(in[:c], from, &l, &h)
		}
		CheckUpgrade(&h)
		h.Lookup(in, "user-agent")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if !CheckUpgrade(&h).OK() || !bytes.Equal(h.Path, []byte("/ws/topic")) {
		t.Errorf("%+v", h)
	}
}

// browser is a handshake as Chromium sends it.
const browser = "GET /ws/topic?since=12&epoch=3 HTTP/1.1\r\nHost: localhost:8080\r\nConnection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36\r\nUpgrade: websocket\r\n" +
	"Origin: http://localhost:8080\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
	"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct{ name, in string }{{"small", get("")}, {"browser", browser}} {
		b.Run(c.name, func(b *testing.B) {
			in, l, h := []byte(c.in), Limits{}, Head{}
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if _, v := Parse(in, 0, &l, &h); !v.OK() {
					b.Fatal(v)
				}
			}
		})
	}
	b.Run("octets", func(b *testing.B) {
		in, l, h := []byte(browser), Limits{}, Head{}
		b.SetBytes(int64(len(in)))
		b.ReportAllocs()
		for b.Loop() {
			from := 0
			for i := 1; i <= len(in); i++ {
				from, _ = Parse(in[:i], from, &l, &h)
			}
		}
	})
}
