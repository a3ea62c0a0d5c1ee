package h1

import "bytes"

var (
	pathRoot = []byte("/")
	pathStar = []byte("*")
)

// splitTarget sets Path and Query, and Host for the absolute form (RFC 9112 3.2). It reports whether the form fits the method.
// A fragment, which has no place in a target, is cut off as most servers do.
func (h *Head) splitTarget() bool {
	t := h.Target
	if len(t) == 1 && t[0] == '*' {
		h.Path = t
		return h.Method == OPTIONS
	}
	if t[0] != '/' {
		n := 0
		switch {
		case len(t) >= 7 && equalFold(t[:7], "http://"):
			n = 7
		case len(t) >= 8 && equalFold(t[:8], "https://"):
			n = 8
		default:
			return false
		}
		t = t[n:]
		end := bytes.IndexAny(t, "/?#")
		if end < 0 {
			end = len(t)
		}
		if !validHost(t[:end]) {
			return false
		}
		h.Host = t[:end]
		t = t[end:]
		if len(t) == 0 && h.Method == OPTIONS {
			h.Path = pathStar
			return true
		}
	}
	if i := bytes.IndexByte(t, '#'); i >= 0 {
		t = t[:i]
	}
	if i := bytes.IndexByte(t, '?'); i >= 0 {
		t, h.Query = t[:i], t[i+1:]
	}
	if len(t) == 0 {
		t = pathRoot
	}
	h.Path = t
	return true
}

// validHost reports whether b is uri-host [":" port] with a host that is not empty (RFC 9110 4.2.1, 7.2; RFC 3986 3.2.2): a reg-name
// or IPv4 address, or an IP literal in brackets. The port is empty or at most 65535.
func validHost(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	i := 0
	if b[0] == '[' {
		for i = 1; i < len(b) && (class[b[i]]&isHex != 0 || b[i] == ':' || b[i] == '.'); i++ {
		}
		if i < 3 || i == len(b) || b[i] != ']' {
			return false
		}
		i++
	} else {
		for ; i < len(b) && b[i] != ':'; i++ {
			switch {
			case class[b[i]]&isHost != 0:
			case b[i] == '%' && i+2 < len(b) && class[b[i+1]]&class[b[i+2]]&isHex != 0:
				i += 2
			default:
				return false
			}
		}
		if i == 0 {
			return false
		}
	}
	if i == len(b) {
		return true
	}
	if b[i] != ':' {
		return false
	}
	port := 0
	for _, c := range b[i+1:] {
		if c < '0' || c > '9' {
			return false
		}
		if port = port*10 + int(c-'0'); port > 65535 {
			return false
		}
	}
	return true
}
