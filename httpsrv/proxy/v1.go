package proxy

import "bytes"

const (
	v1Sig = "PROXY "
	v1Max = 107 // bytes of a line, CR and LF included (section 2.1)
)

// parseV1 reads a line (section 2.1):
//
//	PROXY TCP4|TCP6 SRC DST SPORT DPORT\r\n
//	PROXY UNKNOWN[ anything]\r\n
//
// One space between the fields, ports in decimal without leading zeros.
func parseV1(p []byte, h *Header) State {
	if !agrees(p, v1Sig) {
		return Malformed
	}
	end := bytes.Index(p[:min(len(p), v1Max)], crlf)
	if end < 0 {
		if len(p) >= v1Max {
			return Malformed
		}
		return Incomplete
	}
	if end < len(v1Sig) {
		return Malformed
	}
	h.Len, h.Own, h.Src, h.Port = end+2, false, [16]byte{}, 0
	proto, rest, more := bytes.Cut(p[len(v1Sig):end], space)
	switch string(proto) {
	case "UNKNOWN":
		h.Own = true
		return OK
	case "TCP4", "TCP6":
	default:
		return Malformed
	}
	var f [4][]byte
	for i := range f {
		if !more {
			return Malformed
		}
		f[i], rest, more = bytes.Cut(rest, space)
	}
	v6 := proto[3] == '6'
	src, ok1 := parseFamily(f[0], v6)
	_, ok2 := parseFamily(f[1], v6)
	port, ok3 := parsePort(f[2])
	_, ok4 := parsePort(f[3])
	if more || !ok1 || !ok2 || !ok3 || !ok4 {
		return Malformed
	}
	h.Src, h.Port = src, port
	return OK
}

var crlf, space = []byte("\r\n"), []byte(" ")

func parseFamily(b []byte, v6 bool) ([16]byte, bool) {
	if v6 {
		return parseV6(b)
	}
	return parseV4(b)
}

// parsePort reads 0 to 65535, without leading zeros.
func parsePort(b []byte) (uint16, bool) {
	if len(b) == 0 || len(b) > 5 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return uint16(n), n <= 65535
}
