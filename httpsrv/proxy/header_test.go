package proxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// v2 is a header of version 2 with the given command, family and body.
func v2(cmd, family byte, body ...[]byte) string {
	b := bytes.Join(body, nil)
	return string(binary.BigEndian.AppendUint16(append([]byte(v2Sig), 0x20|cmd, family), uint16(len(b)))) + string(b)
}

func inet(src, dst string, sport, dport uint16) []byte {
	b := append(netip.MustParseAddr(src).AsSlice(), netip.MustParseAddr(dst).AsSlice()...)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, sport), dport)
}

func unixPair() []byte {
	return append(append([]byte("/run/a.sock"), make([]byte, 97)...), make([]byte, 108)...)
}

var (
	in4  = inet("203.0.113.7", "192.0.2.1", 56324, 443)
	in6  = inet("2001:db8::7", "2001:db8::1", 1, 65535)
	tlvs = []byte("\x01\x00\x02h2\x04\x00\x00\x20\x00\x05\x01\x00\x00\x00\x00")
	long = strings.Repeat("x", 200)
)

// What each header says, as text: malformed, own, or address:port.
var headerCases = []struct{ in, want string }{
	{"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n", "203.0.113.7:56324"},
	{"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", "0.0.0.0:0"},
	{"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n", "[2001:db8::7]:1"},
	{"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n", "203.0.113.7:1"},
	{"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
	{"PROXY UNKNOWN\r\n", "own"},
	{"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", "own"}, // 107 bytes
	{"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 655355\r\n", "malformed"},
	{"PROXY UNKNOWN" + long + "\r\n", "malformed"},
	{"PROXY UNKNOWNS\r\n", "malformed"},
	{"PROXY \r\n", "malformed"},
	{"PROXY TCP4\r\n", "malformed"},
	{"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", "malformed"},
	{"PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n", "malformed"},
	{"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "malformed"},
	{"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", "malformed"},
	{"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", "malformed"},
	{"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n", "malformed"},
	{"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n", "malformed"},
	{"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "malformed"},
	{"PROXY\tTCP4 1.1.1.1 2.2.2.2 1 2\r\n", "malformed"},
	{"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", "malformed"},
	{"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", "malformed"},
	{"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n", "malformed"},
	{"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", "malformed"}, // the GET that follows ends in CR LF
	{"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", "malformed"},
	{"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n", "malformed"},
	{"PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n", "malformed"},
	{"PROXY TCP4 ::1 ::2 1 2\r\n", "malformed"},
	{"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n", "malformed"},
	{"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n", "malformed"},
	{"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 " + long, "malformed"},
	{"GET / HTTP/1.1\r\n", "malformed"},
	{"\r\n", "malformed"},

	{v2(1, 0x11, in4), "203.0.113.7:56324"},
	{v2(1, 0x11, in4, tlvs), "203.0.113.7:56324"},
	{v2(1, 0x12, in4), "203.0.113.7:56324"}, // the client came by UDP (QUIC)
	{v2(1, 0x21, in6, tlvs), "[2001:db8::7]:1"},
	{v2(1, 0x22, in6), "[2001:db8::7]:1"},
	{v2(1, 0x21, inet("::ffff:203.0.113.7", "::1", 9, 1)), "203.0.113.7:9"},
	{v2(1, 0x31, unixPair()), "unix"},
	{v2(1, 0x32, unixPair(), tlvs), "unix"},
	{v2(1, 0x00), "own"},
	{v2(1, 0x00, tlvs), "own"},
	{v2(0, 0x00), "own"},
	{v2(0, 0x11, in4), "own"},
	{v2(0, 0xff, tlvs), "own"}, // of LOCAL the family is ignored
	{v2(1, 0x11, in4, make([]byte, MaxLen-v2Head-inetLen)), "203.0.113.7:56324"},
	{v2(1, 0x11, in4, make([]byte, MaxLen-v2Head-inetLen+1)), "malformed"},
	{v2(1, 0x11, in4[:11]), "malformed"},
	{v2(1, 0x21, in6[:35]), "malformed"},
	{v2(1, 0x31, unixPair()[:215]), "malformed"},
	{v2(1, 0x10, in4), "malformed"},
	{v2(1, 0x01, in4), "malformed"},
	{v2(1, 0x13, in4), "malformed"},
	{v2(1, 0x41, in4), "malformed"},
	{v2(2, 0x11, in4), "malformed"},
	{v2Sig + "\x11\x11\x00\x0c" + string(in4), "malformed"}, // version 1
	{v2Sig[:11] + "x\x21\x11\x00\x0c" + string(in4), "malformed"},
}

func (h *Header) text() string {
	switch {
	case h.Own:
		return "own"
	case h.Src == [16]byte{}:
		return "unix"
	}
	return netip.AddrPortFrom(netip.AddrFrom16(h.Src).Unmap(), h.Port).String()
}

const behind = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// Cut at each byte: incomplete up to a point, then the verdict, and the same one with all that follows.
func TestParse(t *testing.T) {
	for _, c := range headerCases {
		in := []byte(c.in + behind)
		last := Incomplete
		for n := range len(in) + 1 {
			var h Header
			st := Parse(in[:n:n], Any, MaxLen, &h)
			if last != Incomplete && st != last {
				t.Fatalf("%q: %v after %d bytes, %v after %d", c.in, last, n-1, st, n)
			}
			last = st
			if st == OK && (h.Len != len(c.in) || n < h.Len || h.text() != c.want) {
				t.Fatalf("%q: %s, %d bytes after %d; want %s, %d", c.in, h.text(), h.Len, n, c.want, len(c.in))
			}
		}
		if want := map[bool]State{true: Malformed, false: OK}[c.want == "malformed"]; last != want {
			t.Errorf("%q: state %d, want %d", c.in, last, want)
		}
	}
}

func TestParseVersions(t *testing.T) {
	one, two := []byte("PROXY UNKNOWN\r\n"), []byte(v2(0, 0))
	for _, c := range []struct {
		v        Versions
		one, two State
	}{{V1, OK, Malformed}, {V2, Malformed, OK}, {Any, OK, OK}, {0, Malformed, Malformed}} {
		var h Header
		if a, b := Parse(one, c.v, MaxLen, &h), Parse(two, c.v, MaxLen, &h); a != c.one || b != c.two {
			t.Errorf("versions %d: %d, %d", c.v, a, b)
		}
	}
	if !Begins(one) || !Begins(two) || Begins([]byte("PROXY")) || Begins([]byte("POST / HTTP/1.1\r\n")) || Begins([]byte("\r\n\r\nGET / HTTP/1.1")) {
		t.Error("Begins")
	}
	if n := len(headerCases[4].in); n > v1Max {
		t.Errorf("longest line is %d bytes", n)
	}
}

var v1Line = regexp.MustCompile(`^PROXY (TCP4|TCP6) ([^ ]+) ([^ ]+) (0|[1-9][0-9]{0,4}) (0|[1-9][0-9]{0,4})\r\n`)

// naive reads a whole header as the specification tells it, with other means. It knows nothing of incomplete ones.
func naive(p []byte) (text string, n int) {
	if i := bytes.Index(p, []byte("\r\n")); i > 0 && i+2 <= 107 && bytes.HasPrefix(p, []byte("PROXY ")) {
		line := string(p[:i+2])
		if line == "PROXY UNKNOWN\r\n" || strings.HasPrefix(line, "PROXY UNKNOWN ") {
			return "own", len(line)
		}
		m := v1Line.FindStringSubmatch(line)
		if m == nil || len(m[0]) != len(line) {
			return "malformed", 0
		}
		var a [2]netip.Addr
		for i := range a {
			var err error
			if a[i], err = netip.ParseAddr(m[2+i]); err != nil || a[i].Zone() != "" || a[i].Is4() != (m[1] == "TCP4") {
				return "malformed", 0
			}
		}
		port, err := strconv.ParseUint(m[4], 10, 16)
		if _, err2 := strconv.ParseUint(m[5], 10, 16); err != nil || err2 != nil {
			return "malformed", 0
		}
		if a[0] == netip.IPv6Unspecified() {
			return "unix", len(line)
		}
		return netip.AddrPortFrom(a[0].Unmap(), uint16(port)).String(), len(line)
	}
	var head struct {
		Sig      [12]byte
		Cmd, Fam uint8
		Len      uint16
	}
	r := bytes.NewReader(p)
	if binary.Read(r, binary.BigEndian, &head) != nil || string(head.Sig[:]) != "\r\n\r\n\x00\r\nQUIT\n" || head.Cmd != 0x20 && head.Cmd != 0x21 ||
		int(head.Len) > r.Len() || int(head.Len) > MaxLen-16 {
		return "malformed", 0
	}
	body := p[16:][:head.Len]
	size := map[uint8]int{0x11: 4, 0x12: 4, 0x21: 16, 0x22: 16, 0x31: 108, 0x32: 108}[head.Fam]
	switch {
	case head.Cmd == 0x20 || head.Fam == 0:
		return "own", 16 + len(body)
	case size == 0 || len(body) < 2*size+4 && size < 108 || len(body) < 2*size:
		return "malformed", 0
	case size == 108:
		return "unix", 16 + len(body)
	}
	a, _ := netip.AddrFromSlice(body[:size])
	if a == netip.IPv6Unspecified() {
		return "unix", 16 + len(body)
	}
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(body[2*size:])).String(), 16 + len(body)
}

// Against a naive reader, whole and cut at any byte.
func FuzzParse(f *testing.F) {
	for _, c := range headerCases {
		f.Add([]byte(c.in+behind), uint16(len(c.in)/2))
	}
	f.Fuzz(func(t *testing.T, p []byte, cut uint16) {
		var h Header
		st := Parse(p, Any, MaxLen, &h)
		want, n := naive(p)
		switch got := h.text(); {
		case st == OK && (got != want || h.Len != n):
			t.Fatalf("%q: %s, %d bytes; want %s, %d", p, got, h.Len, want, n)
		case st != OK && want != "malformed":
			t.Fatalf("%q: state %d, want %s", p, st, want)
		}
		k := int(cut) % (len(p) + 1)
		switch before := Parse(p[:k], Any, MaxLen, &h); {
		case before == Malformed && st != Malformed, before == OK && (st != OK || h.Len > k):
			t.Fatalf("%q: state %d after %d bytes, %d after all", p, before, k, st)
		case before == Incomplete && k >= MaxLen:
			t.Fatalf("%d bytes are still incomplete", k)
		}
	})
}

func TestParseAllocatesNothing(t *testing.T) {
	trust, err := ParseTrust([]string{"10.0.0.0/8", "2001:db8::/32"})
	if err != nil {
		t.Fatal(err)
	}
	var h Header
	one, two, hops := []byte(headerCases[2].in), []byte(v2(1, 0x21, in6, tlvs)), []byte("203.0.113.7, 10.0.0.1, [2001:db8::1]:5")
	if n := testing.AllocsPerRun(100, func() {
		Parse(one, Any, MaxLen, &h)
		Parse(two, Any, MaxLen, &h)
		var w Hops
		w.Add(hops)
		if _, ok := w.Client(&trust); !ok {
			t.Error("no client")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func ExampleParse() {
	received := []byte("PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\nGET / HTTP/1.1\r\n")
	var h Header
	if Parse(received, Any, MaxLen, &h) == OK {
		fmt.Printf("%v:%d, then %q\n", netip.AddrFrom16(h.Src).Unmap(), h.Port, received[h.Len:])
	}
	// Output: 203.0.113.7:56324, then "GET / HTTP/1.1\r\n"
}
