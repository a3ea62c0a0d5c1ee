package h1

// Limits bound a request. The zero value of a field means its default.
type Limits struct {
	// MaxRequest bounds head and body together, in bytes: MaxRequest-1 passes, MaxRequest is refused with 413 (the rule of
	// fd_http_server's max_request_len). Default 1 MiB.
	MaxRequest int
	// MaxHead bounds the head, in bytes, its empty line included: MaxHead passes. Over it: 431, or 414 within the request line.
	// Never more than MaxRequest-1. Default 16 KiB.
	MaxHead int
	// MaxPath bounds the request target as sent, query included: MaxPath passes, one more is refused with 414. Default 4096.
	MaxPath int
	// MaxHeaders bounds the number of field lines: MaxHeaders passes, one more is refused with 431. Default 64.
	MaxHeaders int
	// Allow is the set of methods that are let through; other recognised methods are refused with 405, all others with 501.
	// Default Served.
	Allow MethodSet
}

// The defaults of Limits.
const (
	DefaultMaxRequest = 1 << 20
	DefaultMaxHead    = 16 << 10
	DefaultMaxPath    = 4096
	DefaultMaxHeaders = 64
)

// maxMethod is longer than any registered method (IANA: UPDATEREDIRECTREF, 17).
const maxMethod = 32

// maxBlank is how many empty lines before a request line are passed over (RFC 9112 2.2: at least one).
const maxBlank = 2

func or(v, def int) int {
	if v > 0 {
		return v
	}
	return def
}

func (l *Limits) maxRequest() int { return or(l.MaxRequest, DefaultMaxRequest) }
func (l *Limits) maxHead() int    { return min(or(l.MaxHead, DefaultMaxHead), l.maxRequest()-1) }
func (l *Limits) maxPath() int    { return or(l.MaxPath, DefaultMaxPath) }
func (l *Limits) maxHeaders() int { return or(l.MaxHeaders, DefaultMaxHeaders) }

func (l *Limits) allow() MethodSet {
	if l.Allow != 0 {
		return l.Allow
	}
	return Served
}
