package ws

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseClose(t *testing.T) {
	for _, c := range []struct {
		in     string
		code   uint16
		reason string
		fail   uint16
	}{
		{"", 1005, "", 0}, {"\x03", 1005, "", 1002}, {"\x03\xe8", 1000, "", 0}, {"\x03\xe8Hello World!", 1000, "Hello World!", 0},
		{"\x03\xe8" + strings.Repeat("*", 123), 1000, strings.Repeat("*", 123), 0}, {"\x13\x87\xc3\xa9", 4999, "é", 0},
		{"\x00\x00", 0, "", 1002}, {"\x03\xed", 1005, "", 1002}, {"\x03\xe8\xff", 1000, "\xff", 1007}, {"\x03\xe8\xc3", 1000, "\xc3", 1007},
		{"\x03\xe8\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80", 1000, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80", 1007}, {"\xff\xff\xff", 65535, "\xff", 1002},
	} {
		if code, reason, fail := ParseClose([]byte(c.in)); code != c.code || string(reason) != c.reason || fail != c.fail {
			t.Errorf("%q: %d %q %d", c.in, code, reason, fail)
		}
	}
}

// TestValidCloseCode has Autobahn's cases 7.7 and 7.9 and the registry's edges.
func TestValidCloseCode(t *testing.T) {
	for _, c := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		if !ValidCloseCode(c) {
			t.Errorf("%d refused", c)
		}
	}
	for _, c := range []uint16{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		if ValidCloseCode(c) {
			t.Errorf("%d accepted", c)
		}
	}
}

func TestPutClose(t *testing.T) {
	for _, c := range []struct {
		code   uint16
		reason string
		want   string
	}{
		{0, "x", ""}, {1005, "", ""}, {1000, "", ""}, {1001, "going", "going"}, {4001, strings.Repeat("a", 123), strings.Repeat("a", 123)},
		{4001, strings.Repeat("a", 124), strings.Repeat("a", 123)}, {4001, strings.Repeat("é", 80), strings.Repeat("é", 61)},
		{4001, strings.Repeat("日", 42), strings.Repeat("日", 41)}, {4001, "a" + strings.Repeat("😀", 31), "a" + strings.Repeat("😀", 30)},
	} {
		var b [127]byte
		var h Header
		n := PutClose(b[:], c.code, c.reason)
		if !ParseHeader(b[:n], &h) || h.Op != OpClose || !h.Fin || h.HdrLen+int(h.Len) != n {
			t.Fatalf("%d %q: %x", c.code, c.reason, b[:n])
		}
		code, reason, fail := ParseClose(b[h.HdrLen:n])
		want := c.code
		if want == 0 {
			want = CodeNone
		}
		if code != want || string(reason) != c.want || fail != 0 || !utf8.Valid(reason) {
			t.Errorf("%d %q: %d %q %d", c.code, c.reason, code, reason, fail)
		}
	}
}
