package h1

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

// stricter holds the rules by which we refuse what net/http's ReadRequest lets through, each with the reason why we stay with it.
// A refusal by any other rule must be a refusal there too.
var stricter = map[Why]string{
	WhyBareLF:            "net/http takes LF for CRLF; two readings of one stream are how requests are smuggled",
	WhyMethodLong:        "answered 501 before the rest is read",
	WhyMethodUnknown:     "net/http leaves the method to the handler",
	WhyMethodNotAllowed:  "likewise",
	WhyTargetSyntax:      "net/http takes any URL, such as ftp://h/ or * for GET",
	WhyTargetLong:        "our limit",
	WhyVersionSyntax:     "net/http reads a version that is followed by blanks",
	WhyVersion:           "ReadRequest reads any HTTP/d.d, the server refuses later",
	WhyFold:              "net/http unfolds",
	WhyFieldName:         "ReadRequest keeps names with blanks, before the colon too, where other parsers drop them",
	WhyFieldValue:        "net/http trims and unfolds before it looks, so a CR at the end of a value is gone",
	WhyFieldCount:        "our limit",
	WhyHeadLong:          "our limit",
	WhyHostMissing:       "ReadRequest leaves it to the server",
	WhyHostTwice:         "likewise",
	WhyHostSyntax:        "likewise; its server checks the characters only",
	WhyOriginTwice:       "ours",
	WhyLengthMissing:     "net/http takes a POST without length as one without body",
	WhyBodyLong:          "our limit; net/http has none",
	WhyLengthDiffers:     "net/http compares numbers, we compare what was sent",
	WhyTransferEncoding:  "we have no chunked bodies",
	WhyLengthAndEncoding: "net/http lets the coding win",
	WhyExpect:            "ReadRequest leaves it to the server",
}

// laxer tells why net/http may refuse what we let through; empty if there is no reason.
func laxer(in []byte, err error) string {
	switch {
	case in[0] == '\r':
		return "net/http passes over no empty line before the request line"
	case strings.Contains(err.Error(), "parse "):
		return "we do not decode the target: bad escapes and the like are up to the application, which gets a 404 from it"
	}
	return ""
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
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(in)))
		if v.Failed() {
			if err == nil && stricter[v.Why] == "" {
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
