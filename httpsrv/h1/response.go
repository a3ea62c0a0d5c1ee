package h1

import "strconv"

// Continue is the interim response to Expect: 100-continue.
const Continue = "HTTP/1.1 100 Continue\r\n\r\n"

// Field is one field of a response.
type Field struct{ Name, Value string }

// Conn says what becomes of the connection after the response.
type Conn uint8

// The values of Conn.
const (
	ConnClose     Conn = iota // Connection: close
	ConnKeepAlive             // Connection: keep-alive
)

// RespHead is the head of a response. Empty strings and zero values leave their field out, except ContentLength.
type RespHead struct {
	Status int // 200..999; 101 by Append101, 100 by Continue
	Conn   Conn
	// ContentLength is the length of the body, or what it would be in answer to HEAD, in bytes. -1: the body ends with the connection,
	// which makes it close. Left out for 204 and 304.
	ContentLength int64
	Date          *[29]byte // of FormatDate

	ContentType, ContentEncoding, CacheControl, Location, Vary string

	AllowOrigin, AllowMethods, AllowHeaders string // Access-Control-Allow-*
	MaxAge                                  int64  // Access-Control-Max-Age, seconds; none if <= 0

	Allow      MethodSet // 405 and OPTIONS
	RetryAfter int       // 503, 429: seconds; none if <= 0
	WsVersion  bool      // 426: Upgrade: websocket and Sec-WebSocket-Version: 13

	// Extra fields, in this order. Connection, Content-Length, Transfer-Encoding and Upgrade are the writer's own and refused.
	Extra []Field
}

// AppendHead appends the head to dst, its empty line included, within the capacity of dst. It returns dst as it was and false when the
// head does not fit, a name is no token, a value holds a control octet (CR, LF and NUL among them: nothing can be smuggled into the
// stream), or the status is out of range.
func AppendHead(dst []byte, r *RespHead) ([]byte, bool) {
	w := writer{b: dst, ok: true}
	w.head(r, r.Conn, r.ContentType, r.ContentLength)
	return w.done(dst)
}

// AppendError appends a whole response with the status and its phrase as a short text body. ContentType and ContentLength of r are
// ignored. head says that the request was a HEAD: the body is left out. It fails as AppendHead does.
func AppendError(dst []byte, r *RespHead, head bool) ([]byte, bool) {
	w := writer{b: dst, ok: true}
	if Bodyless(r.Status) {
		w.head(r, r.Conn, "", 0)
		return w.done(dst)
	}
	text := StatusText(r.Status)
	n := len("000 \n") + len(text)
	w.head(r, r.Conn, "text/plain; charset=utf-8", int64(n))
	if !head {
		w.num(int64(r.Status))
		w.raw(" ")
		w.raw(text)
		w.raw("\n")
	}
	return w.done(dst)
}

// Append101 appends the answer to a WebSocket handshake (RFC 6455 4.2.2). protocol is the subprotocol chosen among those the client
// offered, empty for none; date may be nil. It fails as AppendHead does.
func Append101(dst []byte, accept *[28]byte, protocol string, date *[29]byte) ([]byte, bool) {
	w := writer{b: dst, ok: true}
	w.raw("HTTP/1.1 101 Switching Protocols\r\n")
	w.date(date)
	w.raw("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ")
	w.bytes(accept[:])
	w.raw("\r\n")
	w.field("Sec-WebSocket-Protocol: ", protocol)
	w.raw("\r\n")
	return w.done(dst)
}

// writer appends within a slice's capacity; once something did not fit or was refused, ok stays false.
type writer struct {
	b  []byte
	ok bool
}

func (w *writer) done(dst []byte) ([]byte, bool) {
	if !w.ok {
		return dst, false
	}
	return w.b, true
}

func (w *writer) raw(s string) {
	if !w.ok || len(s) > cap(w.b)-len(w.b) {
		w.ok = false
		return
	}
	w.b = append(w.b, s...)
}

func (w *writer) bytes(s []byte) {
	if !w.ok || len(s) > cap(w.b)-len(w.b) {
		w.ok = false
		return
	}
	w.b = append(w.b, s...)
}

func (w *writer) num(v int64) {
	var b [20]byte
	w.bytes(strconv.AppendInt(b[:0], v, 10))
}

// value appends a field's value and the end of its line.
func (w *writer) value(v string) {
	for i := range len(v) {
		if class[v[i]]&isCtl != 0 {
			w.ok = false
			return
		}
	}
	w.raw(v)
	w.raw("\r\n")
}

// field appends a field, unless its value is empty. name goes on with a colon and a space.
func (w *writer) field(name, v string) {
	if v != "" {
		w.raw(name)
		w.value(v)
	}
}

func (w *writer) number(name string, v int64) {
	w.raw(name)
	w.num(v)
	w.raw("\r\n")
}

func (w *writer) date(d *[29]byte) {
	if d != nil {
		w.raw("Date: ")
		w.bytes(d[:])
		w.raw("\r\n")
	}
}

func (w *writer) head(r *RespHead, conn Conn, contentType string, length int64) {
	if r.Status < 200 || r.Status > 999 {
		w.ok = false
		return
	}
	w.raw("HTTP/1.1 ")
	w.num(int64(r.Status))
	w.raw(" ")
	w.raw(StatusText(r.Status))
	w.raw("\r\n")
	w.date(r.Date)
	w.field("Content-Type: ", contentType)
	w.field("Content-Encoding: ", r.ContentEncoding)
	w.field("Cache-Control: ", r.CacheControl)
	w.field("Location: ", r.Location)
	w.field("Vary: ", r.Vary)
	w.field("Access-Control-Allow-Origin: ", r.AllowOrigin)
	w.field("Access-Control-Allow-Methods: ", r.AllowMethods)
	w.field("Access-Control-Allow-Headers: ", r.AllowHeaders)
	if r.MaxAge > 0 {
		w.number("Access-Control-Max-Age: ", r.MaxAge)
	}
	if r.Allow != 0 {
		w.allow(r.Allow)
	}
	if r.RetryAfter > 0 {
		w.number("Retry-After: ", int64(r.RetryAfter))
	}
	if r.WsVersion {
		w.raw("Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n")
	}
	for i := range r.Extra {
		w.extra(&r.Extra[i])
	}
	if !Bodyless(r.Status) {
		if length >= 0 {
			w.number("Content-Length: ", length)
		} else {
			conn = ConnClose
		}
	}
	w.connection(conn, r.WsVersion)
	w.raw("\r\n")
}

// connection writes the Connection field; who sends Upgrade names it there (RFC 9110 7.8).
func (w *writer) connection(conn Conn, upgrade bool) {
	if conn == ConnKeepAlive {
		w.raw("Connection: keep-alive")
	} else {
		w.raw("Connection: close")
	}
	if upgrade {
		w.raw(", upgrade")
	}
	w.raw("\r\n")
}

func (w *writer) allow(s MethodSet) {
	w.raw("Allow: ")
	sep := ""
	for m := GET; m < methodCnt; m++ {
		if s.Has(m) {
			w.raw(sep)
			w.raw(m.String())
			sep = ", "
		}
	}
	w.raw("\r\n")
}

func (w *writer) extra(f *Field) {
	n := f.Name
	for i := range len(n) {
		if class[n[i]]&isToken == 0 {
			w.ok = false
		}
	}
	if n == "" || same(n, "connection") || same(n, "content-length") || same(n, "transfer-encoding") || same(n, "upgrade") {
		w.ok = false
	}
	w.raw(n)
	w.raw(": ")
	w.value(f.Value)
}

// same compares with a name in lower case, without regard to case.
func same(a, lowerCase string) bool {
	if len(a) != len(lowerCase) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lowerCase[i] {
			return false
		}
	}
	return true
}
