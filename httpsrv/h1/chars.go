package h1

import "encoding/binary"

// Classes of octets, one bit each.
const (
	isToken = 1 << iota // tchar of RFC 9110 5.6.2
	isHost              // unreserved and sub-delims of RFC 3986 2.2, 2.3: reg-name without pct-encoded
	isHex
	isCtl // refused in field values and targets: 0-31 but HTAB, and 127
)

var class = makeClass()

func makeClass() (t [256]uint8) {
	mark := func(s string, bits uint8) {
		for i := range len(s) {
			t[s[i]] |= bits
		}
	}
	for c := range 128 {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'f', c >= 'A' && c <= 'F':
			t[c] |= isToken | isHost | isHex
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
			t[c] |= isToken | isHost
		case c < 0x20 && c != '\t', c == 0x7f:
			t[c] |= isCtl
		}
	}
	mark("!#$%&'*+-.^_`|~", isToken)
	mark("-._~!$&'()*+,;=", isHost)
	return t
}

// clean reports whether b holds no control octet other than HTAB; octets over 127 pass (obs-text, RFC 9110 5.5). Eight octets a step.
func clean(b []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		w := binary.LittleEndian.Uint64(b)
		low := (w - 0x20*ones) &^ w & highs // may name octets above a true one besides
		d := w ^ 0x7f*ones
		del := (d - ones) &^ d & highs
		if low|del != 0 {
			for _, c := range b[:8] {
				if class[c]&isCtl != 0 {
					return false
				}
			}
		}
		b = b[8:]
	}
	for _, c := range b {
		if class[c]&isCtl != 0 {
			return false
		}
	}
	return true
}

// trim cuts optional white space (SP, HTAB) at both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// equalFold compares ASCII without regard to case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if c != s[i] && lower(c) != lower(s[i]) {
			return false
		}
	}
	return true
}
