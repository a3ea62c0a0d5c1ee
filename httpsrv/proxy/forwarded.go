package proxy

import "bytes"

// maxLines and maxHops bound what is looked at of X-Forwarded-For: a longer way is malformed.
const (
	maxLines = 16
	maxHops  = 64
)

// Hops is the X-Forwarded-For of a request, whose lines count as one list:
//
//	X-Forwarded-For: client, first proxy, second proxy
//
// Each proxy adds the address that it was connected from at the end; only what trusted ones added can be believed.
type Hops struct {
	lines [maxLines][]byte
	n     int
	over  bool
}

// Add takes the value of the next line, in the order of the request.
func (h *Hops) Add(value []byte) {
	if h.n == maxLines {
		h.over = true
		return
	}
	h.lines[h.n] = value
	h.n++
}

// Client returns the last address that is not a trusted proxy's or, if all are, the first one. ok is false without an address,
// and if something else stands behind or in the place of the one that is wanted, or if the way is too long.
func (h *Hops) Client(t *Trust) (addr [16]byte, ok bool) {
	if h.over {
		return addr, false
	}
	hops := 0
	for i := h.n - 1; i >= 0; i-- {
		for rest := h.lines[i]; rest != nil; hops++ {
			hop := rest
			if k := bytes.LastIndexByte(rest, ','); k >= 0 {
				hop, rest = rest[k+1:], rest[:k]
			} else {
				rest = nil
			}
			a, is := parseHop(bytes.Trim(hop, " \t"))
			if !is || hops == maxHops {
				return a, false
			}
			if addr, ok = a, true; !t.Has(&a) {
				return a, true
			}
		}
	}
	return addr, ok
}

// parseHop reads an address, maybe with a port: 192.0.2.1, 192.0.2.1:80, 2001:db8::1, [2001:db8::1], [2001:db8::1]:80.
func parseHop(b []byte) (a [16]byte, ok bool) {
	port := []byte(nil)
	switch k := bytes.IndexByte(b, ']'); {
	case len(b) > 0 && b[0] == '[' && k > 0:
		port = b[k+1:]
		a, ok = parseV6(b[1:k])
	case bytes.Count(b, colon) == 1:
		k = bytes.IndexByte(b, ':')
		port = b[k:]
		a, ok = parseV4(b[:k])
	default:
		a, ok = ParseAddr(b)
	}
	if len(port) > 0 {
		_, is := parsePort(port[1:])
		ok = ok && port[0] == ':' && is
	}
	return a, ok && a != [16]byte{}
}

var colon = []byte(":")
