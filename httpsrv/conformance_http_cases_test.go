package httpsrv

import (
	"fmt"
	"strings"
)

// httpClass is a class of requests that end alike.
type httpClass struct {
	name   string
	rule   string // where it is written
	status int    // 200: served, with the body beside the case
	why    CloseReason
	cases  []httpCase
}

// httpCase is a request, and for one that is served the body of the answer.
type httpCase struct{ in, body string }

// each makes a case of every value put into the place of %s in a request.
func each(format string, values ...string) (cs []httpCase) {
	for _, v := range values {
		cs = append(cs, httpCase{in: strings.Replace(format, "%s", v, 1)})
	}
	return cs
}

// raw makes cases of whole requests.
func raw(in ...string) []httpCase { return each("%s", in...) }

func all(lists ...[]httpCase) (cs []httpCase) {
	for _, l := range lists {
		cs = append(cs, l...)
	}
	return cs
}

// Places for a value in an otherwise good request.
const (
	inField  = "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n"                    // a field line
	inValue  = "GET / HTTP/1.1\r\nHost: x\r\nA: %s\r\n\r\n"                 // a field's value
	inHost   = "GET / HTTP/1.1\r\nHost: %s\r\n\r\n"                         //
	inTarget = "GET %s HTTP/1.1\r\nHost: x\r\n\r\n"                         //
	inVer    = "GET / %s\r\nHost: x\r\n\r\n"                                //
	inMethod = "%s / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"      //
	inLength = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\nab" //
	inPost   = "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n2\r\nab\r\n0\r\n\r\n"
)

// Limits of the server that the suite runs against.
const (
	confRequest = 8192 // Params.MaxRequestLen
	confTarget  = 4096 // octets of a target
	confFields  = 64   // field lines
)

// ofLength is a GET of n octets.
func ofLength(n int) string {
	return strings.Replace(inValue, "%s", strings.Repeat("v", n-len(inValue)+2), 1)
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "F%d: v\r\n", i)
	}
	return b.String()
}

// bodied is a POST with a body of n octets.
func bodied(n int) string {
	return fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", n) + strings.Repeat("b", n)
}

// largestBody is what a POST of the greatest length holds.
var largestBody = confRequest - 1 - (len(bodied(8000)) - 8000)

var httpClasses = []httpClass{
	{"valid", "RFC 9112 section 2", 200, CloseOK, []httpCase{
		{req("GET", "/", ""), "GET /"}, {req("GET", "/a/b.html", ""), "GET /a/b.html"}, {req("GET", "/a?q=1&r=%20", ""), "GET /a"}, {req("GET", "/?", ""), "GET /"},
		{req("GET", "/a#frag", ""), "GET /a"}, {req("GET", "//a//b", ""), "GET //a//b"}, {req("GET", "/%41%zz", ""), "GET /%41%zz"}, {req("GET", "/a;b=c,d", ""), "GET /a;b=c,d"},
		{req("GET", "/\xc3\xa9", ""), "GET /\xc3\xa9"}, {req("GET", "/../../etc", ""), "GET /../../etc"}, {req("GET", "/\"<>\\^`{|}", ""), "GET /\"<>\\^`{|}"},
		{req("HEAD", "/a", ""), ""}, {req("OPTIONS", "*", ""), "OPTIONS *"}, {req("OPTIONS", "/x", ""), "OPTIONS /x"},
		{req("POST", "/", "Content-Length: 0\r\n"), ""}, {req("POST", "/", "Content-Length: 2\r\n") + "ab", "ab"}, {req("PUT", "/", "Content-Length: 3\r\n") + "\r\n\r", "\r\n\r"},
		{req("POST", "/", "Content-Length: 0002\r\n") + "ab", "ab"}, {req("POST", "/", "Content-Length: 2\r\nContent-Length: 2\r\n") + "ab", "ab"},
		{req("POST", "/", "content-length:2\r\n") + "ab", "ab"}, {req("POST", "/", "CONTENT-LENGTH:\t 2 \t\r\n") + "ab", "ab"},
		{req("POST", "/", "Content-Length: 38\r\n") + req("GET", "/smuggled", "X: 1\r\n")[:38], req("GET", "/smuggled", "X: 1\r\n")[:38]},
		{req("POST", "/", "Content-Length: 4\r\n") + "\x00\xff\r\n", "\x00\xff\r\n"}, {req("OPTIONS", "/x", "Content-Length: 2\r\n") + "ab", "OPTIONS /x"},
		{req("GET", "/", "A:b\r\n"), "GET /"}, {req("GET", "/", "A:\r\n"), "GET /"}, {req("GET", "/", "A: \t\r\n"), "GET /"}, {req("GET", "/", "A:\tb c\td \t\r\n"), "GET /"},
		{req("GET", "/", "A: b: c :d\r\n"), "GET /"}, {req("GET", "/", "A: \x80\xff\r\n"), "GET /"}, {req("GET", "/", "A: \"q, \\\"r\" (c)\r\n"), "GET /"},
		{req("GET", "/", "!#$%&'*+-.^_`|~0aZ: x\r\n"), "GET /"}, {req("GET", "/", "A: 1\r\nA: 2\r\na: 3\r\n"), "GET /"},
		{req("GET", "/", strings.Repeat("A: b\r\n", confFields-1)), "GET /"}, {req("GET", "/", "Accept: */*;q=0.1, text/html\r\nUser-Agent: a/1 (b; c) d\r\nCookie: a=b; c=d\r\n"), "GET /"},
		{"GET / HTTP/1.1\r\nhost:x\r\n\r\n", "GET /"}, {"GET / HTTP/1.1\r\nHOST: x:80\r\n\r\n", "GET /"}, {"GET / HTTP/1.1\r\nA: b\r\nHost: x\r\n\r\n", "GET /"},
		{"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "GET /"}, {"GET / HTTP/1.1\r\nHost: 127.0.0.1:65535\r\n\r\n", "GET /"}, {"GET / HTTP/1.1\r\nHost: x:\r\n\r\n", "GET /"},
		{"GET / HTTP/1.1\r\nHost: a-b_c.example\r\n\r\n", "GET /"}, {"GET / HTTP/1.1\r\nHost: %41b\r\n\r\n", "GET /"}, {"GET / HTTP/1.1\r\nHost: a,(b)!$&'*+;=~\r\n\r\n", "GET /"}, {"GET / HTTP/1.1\r\nHost: [2001:db8::1.2.3.4]\r\n\r\n", "GET /"},
		{"GET / HTTP/1.0\r\n\r\n", "GET /"}, {"GET / HTTP/1.0\r\nHost: x\r\n\r\n", "GET /"}, {"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab", "ab"},
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET /"}, {req("GET", "/", "Connection: close\r\n"), "GET /"}, {req("GET", "/", "Connection: TE, x, Keep-Alive,,\r\n"), "GET /"},
		{"\r\n" + req("GET", "/", ""), "GET /"}, {"\r\n\r\n" + req("GET", "/", ""), "GET /"}, {req("GET", "/", "TE: trailers\r\nTrailer: X\r\n"), "GET /"},
		{req("GET", "/", "Upgrade: h2c\r\nConnection: Upgrade\r\n"), "GET /"}, {req("GET", "/", "Upgrade: websocket\r\n"), "GET /"}, {req("GET", "/", "Transfer-Encoding-X: chunked\r\n"), "GET /"},
		{req("POST", "/", "Expect: 100-continue\r\nContent-Length: 2\r\n") + "ab", "ab"}, {req("GET", "/", "Expect: 100-Continue\r\n"), "GET /"}, {"GET / HTTP/1.0\r\nExpect: x\r\n\r\n", "GET /"},
		{req("GET", "/"+strings.Repeat("p", confTarget-1), ""), "GET /" + strings.Repeat("p", confTarget-1)}, {ofLength(confRequest - 1), "GET /"},
		{bodied(largestBody), strings.Repeat("b", largestBody)},
	}},
	{"absolute form", "RFC 9112 section 3.2.2", 200, CloseOK, []httpCase{
		{req("GET", "http://x/a?b", ""), "GET /a"}, {req("GET", "http://x", ""), "GET /"}, {req("GET", "HTTP://x:80/a", ""), "GET /a"}, {req("GET", "https://x/", ""), "GET /"},
		{req("GET", "http://other.example/a", ""), "GET /a"}, {req("GET", "http://[::1]:1/a", ""), "GET /a"}, {req("GET", "http://x?q", ""), "GET /"}, {req("OPTIONS", "http://x", ""), "OPTIONS *"},
		{"GET http://x/a HTTP/1.0\r\n\r\n", "GET /a"},
	}},
	{"GET with a body", "RFC 9110 section 9.3.1", 200, CloseOK, []httpCase{
		{req("GET", "/", "Content-Length: 2\r\n") + "ab", "GET /"}, {req("GET", "/", "Content-Length: 0\r\n"), "GET /"}, {req("GET", "/", "Content-Length: 5\r\n") + "GET /", "GET /"},
		{req("HEAD", "/", "Content-Length: 2\r\n") + "ab", ""}, {req("GET", "/", "Content-Length: 4\r\n") + "\r\n\r\n", "GET /"}, {"GET / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", "GET /"},
	}},

	{"Transfer-Encoding", "RFC 9112 section 6.1", 501, CloseUnsupportedTransferEncoding, all(
		each(inPost, "Transfer-Encoding: chunked", "transfer-encoding:chunked", "TRANSFER-ENCODING: CHUNKED", "Transfer-Encoding: \tchunked\t", "Transfer-Encoding: gzip",
			"Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, gzip", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: identity", "Transfer-Encoding:",
			"Transfer-Encoding: ,", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunked;a=b", "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: chu nked",
			"Transfer-Encoding: \x80chunked", "Transfer-Encoding: x\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
			"Transfer-Encoding: chunked\r\nTrailer: A", "Transfer-Encoding: chunked\r\nExpect: 100-continue", "Transfer-Encoding: chunked\r\nConnection: keep-alive"),
		raw(req("GET", "/", "Transfer-Encoding: chunked\r\n")+"0\r\n\r\n", req("HEAD", "/", "Transfer-Encoding: x\r\n"), req("OPTIONS", "/", "Transfer-Encoding: chunked\r\n"),
			req("PUT", "/", "Transfer-Encoding: chunked\r\n"), req("DELETE", "/", "Transfer-Encoding: chunked\r\n"), req("BREW", "/", "Transfer-Encoding: chunked\r\n"),
			"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", handshake("/ws")[:len(handshake("/ws"))-2]+"Transfer-Encoding: chunked\r\n\r\n"),
	)},
	{"Transfer-Encoding and Content-Length", "RFC 9112 section 6.1", 400, CloseUnsupportedTransferEncoding, all(
		each(inPost, "Transfer-Encoding: chunked\r\nContent-Length: 2", "Content-Length: 2\r\nTransfer-Encoding: chunked", "Content-Length: 0\r\nTransfer-Encoding: chunked",
			"Transfer-Encoding: identity\r\nContent-Length: 2", "Transfer-Encoding:\r\nContent-Length: 2", "Content-Length: 99999999\r\nTransfer-Encoding: x",
			"Content-Length: 2\r\nA: b\r\ntransfer-encoding: chunked", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\nContent-Length: 2"),
		raw(req("GET", "/", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"), "POST / HTTP/1.0\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nab"),
	)},

	{"no Host in HTTP/1.1", "RFC 9112 section 3.2", 400, CloseBadRequest, raw(
		"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\n\r\n", "HEAD / HTTP/1.1\r\n\r\n", "OPTIONS * HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab",
		"GET http://x/ HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHosts: x\r\n\r\n", "GET / HTTP/1.1\r\nX-Host: x\r\n\r\n", "BREW / HTTP/1.1\r\n\r\n",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "\r\nGET / HTTP/1.1\r\n\r\n",
	)},
	{"two Hosts", "RFC 9112 section 3.2", 400, CloseBadRequest, all(
		each(inField, "Host: x", "host: y", "HOST:", "A: b\r\nHost: x"), raw("GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", "GET http://x/ HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
	)},
	{"bad Host", "RFC 9110 section 7.2", 400, CloseBadRequest, all(
		each(inHost, "", " ", "a b", "a/b", "a?b", "a#b", "u@h", "http://a", "a:x", "a:-1", "a:65536", "a:1:2", "a:8 0", ":80", ":", "[::1", "[::1]x", "[]", "[g]", "::1", "a%", "a%4", "a%4g",
			"a\\b", "<a>", "\"a\"", "a\tb", "\xc3\xa9.example", "a|b", "a^b", "{a}"),
		raw("GET / HTTP/1.0\r\nHost: a b\r\n\r\n", "GET / HTTP/1.0\r\nHost:\r\n\r\n"),
	)},

	{"method that exists", "RFC 9110 section 15.5.6", 405, CloseUnknownMethod, all(
		each(inMethod, "DELETE", "PATCH", "TRACE", "CONNECT"), raw("CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", "DELETE /a HTTP/1.0\r\n\r\n", "TRACE * HTTP/1.1\r\nHost: x\r\n\r\n"),
	)},
	{"method that does not", "RFC 9110 section 9.1", 501, CloseUnknownMethod, all(
		each(inMethod, "BREW", "get", "Get", "GETS", "GE", "G", "POSTX", "post", "QUERY", "PROPFIND", "M-SEARCH", "PRI", "MKCOL", "LOCK", "!#$%&'*+-.^_`|~", "0", "GET.", "UPDATEREDIRECTREF", strings.Repeat("M", 32)),
		raw(strings.Repeat("M", 33), strings.Repeat("M", 5000)),
	)},

	{"bad Content-Length", "RFC 9112 section 6.3", 400, CloseBadRequest, all(
		each(inLength, "", "x", "2x", "x2", "+2", "-2", "-0", "0x2", "2.0", "2,", ",2", "2, 2", "2 2", "2;", "2e1", "\"2\"", "0b10", "2_0", "\x802", "99999999999999999999999x", "-99999999999999999999", "٢"),
		raw(req("GET", "/", "Content-Length: x\r\n"), req("HEAD", "/", "Content-Length: -1\r\n"), req("OPTIONS", "/", "Content-Length: 1,1\r\n"), req("DELETE", "/", "Content-Length: x\r\n"),
			req("BREW", "/", "Content-Length:\r\n"), "POST / HTTP/1.0\r\nContent-Length: x\r\n\r\n"),
	)},
	{"differing Content-Length", "RFC 9112 section 6.3", 400, CloseBadRequest, all(
		each(inLength, "2\r\nContent-Length: 3", "2\r\nContent-Length: 02", "2\r\ncontent-length: 1", "0\r\nA: b\r\nContent-Length: 2", "2\r\nContent-Length: 2\r\nContent-Length: 1", "2\r\nContent-Length:",
			"2\r\nContent-Length: 99999999999999999999"), raw(req("GET", "/", "Content-Length: 0\r\nContent-Length: 1\r\n")),
	)},
	{"no length", "RFC 9110 section 15.5.12", 411, CloseMissingContentLengthHeader, raw(
		req("POST", "/", ""), req("PUT", "/", ""), "POST / HTTP/1.0\r\n\r\n", req("POST", "/", "Content-Length-X: 2\r\n")+"ab", req("POST", "/", "Connection: close\r\n")+"until the end",
	)},

	{"bad field name", "RFC 9110 section 5.1", 400, CloseBadRequest, each(inField,
		": b", "A", "A B: c", "A(: b", "A): b", "A,: b", "A/: b", "A;: b", "A<: b", "A=: b", "A>: b", "A?: b", "A@: b", "A[: b", "A\\: b", "A]: b", "A{: b", "A}: b", "\"A\": b", "A\x00: b", "A\x01: b",
		"A\x7f: b", "\x80: b", "\xc3\xa9: b", "=", "A=b", "\"", "Content-Length\x00: 5", "Transfer-Encoding\x0b: chunked", "ABC", "GET / HTTP/1.1",
	)},
	{"space before the colon", "RFC 9112 section 5.1", 400, CloseBadRequest, all(
		each(inField, "A : b", "A\t: b", "A  : b", "Host : x", "Content-Length : 0", "Transfer-Encoding : chunked", "A :"), raw("GET / HTTP/1.1\r\nHost : x\r\n\r\n", "GET / HTTP/1.0\r\nA : b\r\n\r\n"),
	)},
	{"obs-fold", "RFC 9112 section 5.2", 400, CloseBadRequest, all(
		each(inField, "A: b\r\n c", "A: b\r\n\tc", "A:\r\n b", "A: b\r\n ", "A: b\r\n \r\n c", " A: b", "\tA: b", " ", "A: b\r\n Content-Length: 5", "Transfer-Encoding:\r\n chunked"),
		raw("GET / HTTP/1.1\r\n Host: x\r\n\r\n", "GET / HTTP/1.1\r\n \r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n x\r\n\r\n"),
	)},
	{"control octet in a value", "RFC 9110 section 5.5", 400, CloseBadRequest, all(
		each(inValue, "\x00", "b\x00", "\x00b", "b\x00c", "\x01", "\x08", "\x0b", "\x0c", "\x0e", "\x1b[0m", "\x1f", "\x7f", "b\x7fc", "12345678\x00"),
		each(inHost, "x\x00", "\x00"), each(inLength, "2\x00", "\x002", "2\x0b"),
	)},
	{"bare CR", "RFC 9112 section 2.2", 400, CloseBadRequest, all(
		each(inValue, "b\rc", "b\r", "\rb", "\r", "b\r\rc", "b\r c"), each(inField, "A\r: b", "\rA: b", "A:\rb", "\r", "A: b\rC: d"),
		raw("GET /\r HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\rHost: x\r\r\n", "GET / HTTP/1.1\rHost: x\r\n\r\n", "GET / HTTP/1.1\r\r\nHost: x\r\n\r\n", "GET\r/ HTTP/1.1\r\nHost: x\r\n\r\n",
			"\rGET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\r\n", "\r\r\n"+req("GET", "/", "")),
	)},
	{"bare LF", "RFC 9112 section 2.2", 400, CloseBadRequest, raw(
		"GET / HTTP/1.1\nHost: x\n\n", "GET / HTTP/1.1\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\n", "GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
		"\n"+req("GET", "/", ""), "GET / HTTP/1.0\n\n", "GET /\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\n\r\nab", "GET / HTTP/1.1\r\nHost: x\r\nA: b\nTransfer-Encoding: chunked\r\n\r\n",
	)},

	{"request line", "RFC 9112 section 3", 400, CloseBadRequest, raw(
		" GET / HTTP/1.1\r\n", "\tGET / HTTP/1.1\r\n", "GET  / HTTP/1.1\r\n", "GET /  HTTP/1.1\r\n", "GET / HTTP/1.1 \r\n", "GET\t/ HTTP/1.1\r\n", "GET /\tHTTP/1.1\r\n", "GET /\r\n", "GET \r\n", "GET\r\n",
		"GET / a HTTP/1.1\r\n", "G\x00T / HTTP/1.1\r\n", "G(T / HTTP/1.1\r\n", ": / HTTP/1.1\r\n", "\x00", "\x16\x03\x01\x02\x00\x01\x00", "\x80", "{}\r\n", "GET/HTTP/1.1\r\n", "\r\n\r\n\r\n"+req("GET", "/", ""),
		"HTTP/1.1 200 OK\r\n\r\n", "GET / HTTP/1.1 HTTP/1.1\r\n", "(", "<policy-file-request/>\x00", "SSH-2.0-x\r\n",
	)},
	{"target", "RFC 9112 section 3.2", 400, CloseBadRequest, each(inTarget,
		"*", "a", "a/b", "?q", "#f", "x:80", "http:/x", "http:///a", "http://", "http://u@x/", "http://a b/", "http://x:y/", "http://[::1/", "ftp://x/", "HTTPX://x/", "/\x00", "/\x01", "/a\x7f", "\\", "/\x0b", "**",
		"http://\xc3\xa9/", "javascript:x",
	)},
	{"malformed version", "RFC 9112 section 2.3", 400, CloseBadRequest, each(inVer,
		"HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/1.10", "HTTP/11.1", "HTTP/01.1", "HTTP/1,1", "HTTP/1.x", "HTTP/x.1", "HTTP/-1.1", "HTTP/+1.1", "http/1.1", "Http/1.1", "HTTPS/1.1", "HTTP 1.1", "HTTP1.1", "XTTP/1.1",
		"/1.1", "1.1", "HTTP/", "HTTP/1.1x", "HTTP/1.1\x00", "HTTP/1 .1", "HTTP/9", "ICY", "HTTP/1.1;a", "HTTP/\xb11.1",
	)},
	{"unsupported version", "RFC 9110 section 15.6.6", 505, CloseBadRequest, all(
		each(inVer, "HTTP/0.9", "HTTP/1.2", "HTTP/1.9", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9", "HTTP/0.0"), raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
	)},

	{"head over the limit", "RFC 6585 section 5", 431, CloseLargeRequest, raw(
		ofLength(confRequest), ofLength(confRequest+1), ofLength(20000), req("GET", "/", "A: "+strings.Repeat("v", 100000)), req("GET", "/", strings.Repeat("A: b\r\n", 20000)),
		req("GET", "/", numbered(confFields)), req("GET", "/", numbered(confFields+1)), "GET / HTTP/1.1\r\nHost: x\r\n"+strings.Repeat("n", 20000), "POST / HTTP/1.1\r\nHost: x"+strings.Repeat("\r\nA: b", 2000),
	)},
	{"target over the limit", "RFC 9110 section 15.5.15", 414, ClosePathTooLong, raw(
		req("GET", "/"+strings.Repeat("p", confTarget), ""), req("GET", "/?"+strings.Repeat("q", confTarget-1), ""), req("POST", "/"+strings.Repeat("p", 100000), ""), "GET /"+strings.Repeat("p", 20000),
		"GET /"+strings.Repeat("\x00", 20000), req("GET", "http://x/"+strings.Repeat("p", confTarget), ""),
	)},
	{"body over the limit", "RFC 9110 section 15.5.14", 413, CloseLargeRequest, all(
		each(inLength, fmt.Sprint(largestBody+1), fmt.Sprint(confRequest), "9999999", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616",
			"30000000000000000000", strings.Repeat("9", 100), strings.Repeat("0", 100)+"8192"),
		raw(req("GET", "/", "Content-Length: 8192\r\n"), req("POST", "/", "Expect: 100-continue\r\nContent-Length: 99999\r\n"), bodied(20000)),
	)},
	{"expectation", "RFC 9110 section 10.1.1", 417, CloseBadRequest, each(inField, "Expect: x", "Expect:", "Expect: 200-ok", "Expect: 100-continue, x", "Expect: 100")},
	{"two Origins", "RFC 6454 section 7.3", 400, CloseBadRequest, each(inField, "Origin: http://a\r\nOrigin: http://b", "Origin: a\r\norigin: a")},
}

// httpUnfinished never get whole, besides what is short of a valid request.
var httpUnfinished = []string{
	"\r\n", "\r", "G", "GET", "GET /", "GET / HTTP/1.1", "GET / HTTP/1.1\r", "GET / HTTP/1.1\r\nHost: x", "GET / HTTP/1.1\r\nHost: x\r\n\r", "GET / HTTP/1.1\rHost: x\r\r",
	"GET / HTTP/1.1 and so on", "GET / HTTP/1.1\r\nHost: x\r\nA\x00", "GET / HTTP/1.1\r\nA: \x00", "GET /" + strings.Repeat("p", confTarget-1), strings.Repeat("M", 32),
	"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n", req("POST", "/", "Content-Length: 2\r\n") + "a", bodied(largestBody)[:confRequest-2],
	"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", confFields-1), ofLength(confRequest - 1)[:confRequest-2], "DELETE / HTTP/1.1\r\nHost: x\r\n", "GET / HTTP/2.0\r",
}
