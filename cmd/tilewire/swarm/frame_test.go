package swarm

import (
	"bytes"
	"testing"
)

func TestParseHeader(t *testing.T) {
	for _, c := range []struct {
		h     []byte
		inMsg bool
		fault string
	}{
		{[]byte{0x82, 5}, false, ""},
		{[]byte{0x82, 126, 0, 126}, false, ""},
		{[]byte{0x82, 126, 0, 125}, false, "length not in its shortest form"},
		{[]byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}, false, ""},
		{[]byte{0x82, 127, 0, 0, 0, 0, 0, 0, 255, 255}, false, "length not in its shortest form"},
		{[]byte{0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0}, false, "length above 1 GiB"},
		{[]byte{0xc2, 5}, false, "reserved bit set"},
		{[]byte{0x82, 0x85}, false, "masked by the server"},
		{[]byte{0x83, 5}, false, "unknown opcode"},
		{[]byte{0x8b, 5}, false, "unknown opcode"},
		{[]byte{0x80, 5}, false, "continuation of nothing"},
		{[]byte{0x80, 5}, true, ""},
		{[]byte{0x81, 5}, true, "new message inside a fragmented one"},
		{[]byte{0x09, 5}, false, "fragmented control frame"},
		{[]byte{0x89, 126, 0, 126}, false, "control frame longer than 125 bytes"},
		{[]byte{0x89, 125}, true, ""},
	} {
		if headerSz(c.h[:1]) != 2 || headerSz(c.h) != len(c.h) {
			t.Errorf("% x: header of %d bytes", c.h, headerSz(c.h))
		}
		if _, _, _, fault := parseHeader(c.h, c.inMsg); fault != c.fault {
			t.Errorf("% x: %q, want %q", c.h, fault, c.fault)
		}
	}
}

func TestAppendFrame(t *testing.T) {
	for _, n := range []int{0, 1, 125, 126, 65535} {
		p := bytes.Repeat([]byte{0xa5}, n)
		f := appendFrame(nil, opPing, p, 0x04030201)
		h := 2
		if n > 125 {
			h = 4
		}
		if f[0] != 0x89 || f[1]&0x80 == 0 || len(f) != h+4+n {
			t.Fatalf("%d: % x of %d", n, f[:2], len(f))
		}
		key := f[h : h+4]
		for i, b := range f[h+4:] {
			if b^key[i&3] != 0xa5 {
				t.Fatalf("%d: byte %d", n, i)
			}
		}
	}
}
