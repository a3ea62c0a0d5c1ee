package h1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// differences is where we and net/http's ReadRequest part, found by fuzzing: what one refuses and the other reads, with a
// request that shows it. A refusal of ours by a rule that is not here must be a refusal there too.
var differences = []struct {
	why    Why // the rule by which we refuse; WhyNone: net/http does
	in     string
	reason string
}{
	// We refuse, net/http reads.
	{WhyBareLF, "GET / HTTP/1.1\nHost: a\n\n", "net/http takes LF for CRLF; two readings of one stream are how requests are smuggled"},
	{WhyMethodLong, strings.Repeat("M", 33) + " / HTTP/1.1\r\nHost: a\r\n\r\n", "answered 501 before the rest is read"},
	{WhyMethodUnknown, "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", "net/http leaves the method to the handler"},
	{WhyMethodNotAllowed, "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "likewise"},
	{WhyTargetSyntax, "GET ftp://h/ HTTP/1.1\r\nHost: a\r\n\r\n", "net/http takes any URL, and * for GET"},
	{WhyTargetLong, "GET /" + strings.Repeat("p", 127) + " HTTP/1.1\r\nHost: a\r\n\r\n", "our limit"},
	{WhyVersion, "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "ReadRequest reads any HTTP/d.d, the server refuses later"},
	{WhyFold, get("A: b\r\n c\r\n"), "net/http unfolds"},
	{WhyFieldName, get("A B: c\r\n"), "ReadRequest keeps names with blanks, where other parsers drop them"},
	{WhyFieldCount, get(fields(32)), "our limit"},
	{WhyHeadLong, pad(1025), "our limit"},
	{WhyHostMissing, "GET / HTTP/1.1\r\n\r\n", "ReadRequest leaves it to the server"},
	{WhyHostSyntax, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "ReadRequest leaves it to the server, which checks the characters only"},
	{WhyOriginTwice, get("Origin: a\r\nOrigin: b\r\n"), "ours: it would be unclear which one to check"},
	{WhyLengthMissing, post(""), "net/http takes a POST without length as one without body"},
	{WhyBodyLong, post("Content-Length: 9999999\r\n"), "our limit; net/http has none"},
	{WhyTransferEncoding, post("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", "we have no chunked bodies"},
	{WhyLengthAndEncoding, post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n") + "0\r\n\r\n", "net/http lets the coding win"},
	{WhyExpect, get("Expect: x\r\n"), "ReadRequest leaves it to the server"},

	// We read, net/http refuses.
	{WhyNone, "\r\n" + get(""), blankLine},
	{WhyNone, "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", undecoded},
}

const (
	blankLine = "net/http passes over no empty line before the request line (RFC 9112 2.2: at least one should be)"
	undecoded = "we do not decode the target: bad escapes and the like are up to the application, which gets a 404 from it"
)

// stricter tells why we refuse by that rule what net/http reads; empty if there is no reason.
func stricter(w Why) string {
	for _, d := range differences {
		if d.why == w && w != WhyNone {
			return d.reason
		}
	}
	return ""
}

// laxer tells why net/http may refuse what we let through; empty if there is no reason.
func laxer(in []byte, err error) string {
	switch {
	case in[0] == '\r':
		return blankLine
	case strings.Contains(err.Error(), "parse "):
		return undecoded
	}
	return ""
}

// TestDifferences: each row is what it says, and the row is needed.
func TestDifferences(t *testing.T) {
	for _, d := range differences {
		var h Head
		_, v := Parse([]byte(d.in), 0, &limits, &h)
		_, err := http.ReadRequest(bufio.NewReader(strings.NewReader(d.in)))
		switch {
		case v.Why != d.why || v.OK() != (d.why == WhyNone):
			t.Errorf("%.60q: we say %d %v, the table %v", d.in, v.Status, v.Why, d.why)
		case (err == nil) == v.OK():
			t.Errorf("%.60q: no difference: %v and net/http's %v", d.in, v.Why, err)
		case v.OK() && laxer([]byte(d.in), err) != d.reason:
			t.Errorf("%.60q: %v", d.in, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, o := range outcomes {
		for _, in := range o.in {
			if len(in) < 600 {
				f.Add([]byte(in), uint16(len(in)/2))
			}
		}
	}
	f.Add([]byte(browser), uint16(100))
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		if len(in) > 1<<14 {
			return
		}
		var h, g Head
		n, v := Parse(in, 0, &limits, &h)
		if len(in) > 0 {
			c := int(cut) % len(in)
			if m, w := parseCuts(t, in, &limits, &g, c/2, c); w != v || v.OK() && (m != n || !sameHead(&g, &h)) {
				t.Fatalf("cut at %d and %d: %v at %d, at once %v at %d: %q", c/2, c, w, m, v, n, in)
			}
		}
		if v.Incomplete() {
			if len(in) >= limits.MaxHead {
				t.Fatalf("incomplete over the limit: %q", in)
			}
			return
		}
		rd := bufio.NewReader(bytes.NewReader(in))
		r, err := http.ReadRequest(rd)
		if v.Failed() {
			if err == nil && stricter(v.Why) == "" {
				t.Fatalf("refused as %v, net/http reads %+v: %q", v.Why, r, in)
			}
			return
		}
		if err != nil {
			if laxer(in, err) == "" {
				t.Fatalf("net/http: %v: %q", err, in)
			}
			return
		}
		compare(t, in, &h, r)
		// Both see the next request at the same octet.
		if end := h.Len + int(h.BodyLen()); end <= len(in) {
			body, err := io.ReadAll(r.Body)
			rest, _ := io.ReadAll(rd)
			if err != nil || !bytes.Equal(body, in[h.Len:end]) || !bytes.Equal(rest, in[end:]) {
				t.Fatalf("%q: body and rest %q, %q; net/http %q, %q, %v", in, in[h.Len:end], in[end:], body, rest, err)
			}
		}
		CheckUpgrade(&h)
	})
}

// compare checks that we and net/http read the same request.
func compare(t *testing.T, in []byte, h *Head, r *http.Request) {
	t.Helper()
	if r.Method != h.Method.String() || r.RequestURI != string(h.Target) || r.ProtoMinor != int(h.Minor) || r.Host != string(h.Host) {
		t.Fatalf("%q: %v %q HTTP/1.%d %q, net/http %v %q HTTP/1.%d %q", in, h.Method, h.Target, h.Minor, h.Host, r.Method, r.RequestURI, r.ProtoMinor, r.Host)
	}
	if r.ContentLength != h.BodyLen() {
		t.Fatalf("%q: body of %d, net/http %d", in, h.BodyLen(), r.ContentLength)
	}
	if r.Close == h.KeepAlive() {
		t.Fatalf("%q: keep-alive %v, net/http closes %v", in, h.KeepAlive(), r.Close)
	}
	count := map[string]int{}
	for off := 0; ; {
		var name, value []byte
		if name, value, off = h.Next(in, off); off == 0 {
			break
		}
		k := http.CanonicalHeaderKey(string(name))
		count[k]++
		if k == "Host" || k == "Content-Length" { // kept elsewhere, or deduplicated
			continue
		}
		if vs := r.Header[k]; len(vs) < count[k] || vs[count[k]-1] != string(value) {
			t.Fatalf("%q: %s: %q, net/http %q", in, k, value, vs)
		}
	}
	for k, vs := range r.Header {
		if len(vs) != count[k] && k != "Content-Length" && !(k == "Cache-Control" && count["Pragma"] > 0) {
			t.Fatalf("%q: %d of %s, net/http %d", in, count[k], k, len(vs))
		}
	}
}
