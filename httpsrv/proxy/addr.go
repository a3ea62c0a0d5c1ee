package proxy

import "bytes"

// mapped is ::ffff:0.0.0.0.
var mapped = [16]byte{10: 0xff, 11: 0xff}

// ParseAddr reads an IP address as text, without a zone: what net/netip would take, and no allocation.
func ParseAddr(b []byte) (a [16]byte, ok bool) {
	if bytes.IndexByte(b, ':') >= 0 {
		return parseV6(b)
	}
	return parseV4(b)
}

func parseV4(b []byte) (a [16]byte, ok bool) {
	a = mapped
	for i := range 4 {
		n := 0
		for n < len(b) && b[n] != '.' {
			n++
		}
		v, ok := parsePort(b[:n])
		if !ok || v > 255 || (n == len(b)) != (i == 3) {
			return a, false
		}
		a[12+i] = byte(v)
		if i < 3 {
			b = b[n+1:]
		}
	}
	return a, true
}

// parseV6 reads RFC 4291 section 2.2: eight groups of one to four hexadecimal digits, one run of zero groups as ::, the last two
// groups maybe as an IPv4 address.
func parseV6(b []byte) (a [16]byte, ok bool) {
	at, gap := 0, -1
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		gap, b = 0, b[2:]
	}
	for len(b) > 0 && at < 16 {
		n, v := 0, 0
		for n < len(b) && n < 4 && hex(b[n]) >= 0 {
			v = v<<4 | hex(b[n])
			n++
		}
		if n == 0 {
			return a, false
		}
		if n < len(b) && b[n] == '.' {
			v4, ok := parseV4(b)
			if !ok || at > 12 {
				return a, false
			}
			at += copy(a[at:], v4[12:])
			b = nil
			break
		}
		a[at], a[at+1] = byte(v>>8), byte(v)
		at += 2
		if b = b[n:]; len(b) == 0 {
			break
		}
		if b[0] != ':' || len(b) == 1 {
			return a, false
		}
		if b = b[1:]; b[0] == ':' {
			if gap >= 0 {
				return a, false
			}
			gap, b = at, b[1:]
		}
	}
	if len(b) > 0 || (at == 16) != (gap < 0) {
		return a, false
	}
	if gap >= 0 {
		n := copy(a[16-(at-gap):], a[gap:at])
		clear(a[gap : 16-n])
	}
	return a, true
}

func hex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
