package h1

import "bytes"

// Head is a parsed request head. Its slices point into the bytes given to Parse (or at constants) and live as long as those;
// a nil slice means that the field is absent. It holds no other pointers and may be reused for the next request.
type Head struct {
	Method Method
	Minor  uint8 // of HTTP/1.Minor: 0 or 1

	Len        int // bytes of the head, leading empty lines and the final empty line included
	FieldCount int // field lines
	fieldOff   int // offset of the first field line

	Target []byte // as sent
	Path   []byte // without query and fragment; "/" where the absolute form has none; "*" for OPTIONS *
	Query  []byte // after the first '?', without the fragment; nil without '?', empty for "/x?"

	Host             []byte // of the target in absolute form (RFC 9112 3.2.2), else of the field; nil only in HTTP/1.0
	ContentType      []byte
	AcceptEncoding   []byte
	Origin           []byte
	Cookie           []byte
	Authorization    []byte
	LastEventID      []byte
	XForwardedFor    []byte // the last line of that name, the one the nearest proxy wrote; others by Next
	WsKey            []byte // Sec-WebSocket-Key
	WsVersion        []byte // Sec-WebSocket-Version
	WsProtocol       []byte // Sec-WebSocket-Protocol, its first line
	ContentLength    int64  // -1 without; less than Limits.MaxRequest
	ConnClose        bool   // close in Connection
	ConnKeepAlive    bool   // keep-alive in Connection
	ConnUpgrade      bool   // upgrade in Connection
	UpgradeAny       bool   // there is an Upgrade field
	UpgradeWebSocket bool   // websocket in Upgrade
	Expect100        bool   // Expect: 100-continue in HTTP/1.1: send Continue before waiting for the body

	wsKeyCnt     uint8 // saturating at 2, as the next
	wsVersionCnt uint8
}

// KeepAlive reports whether the client lets the connection live after the response (RFC 9112 9.3).
func (h *Head) KeepAlive() bool {
	if h.ConnClose {
		return false
	}
	return h.Minor >= 1 || h.ConnKeepAlive
}

// BodyLen returns the length of the body in bytes, 0 without one.
func (h *Head) BodyLen() int64 { return max(h.ContentLength, 0) }

// Next walks the field lines of a head that Parse found OK, in the order of p, the bytes that Parse was given. Start with off 0 and
// go on with next; when next is 0 there was no further field and name and value are nil. The value is trimmed.
func (h *Head) Next(p []byte, off int) (name, value []byte, next int) {
	if off == 0 {
		off = h.fieldOff
	}
	if off < 0 || off >= h.Len-2 || h.Len > len(p) {
		return nil, nil, 0
	}
	line := p[off:h.Len]
	lf := bytes.IndexByte(line, '\n')
	colon := bytes.IndexByte(line, ':')
	if lf < 1 || colon < 0 || colon >= lf {
		return nil, nil, 0 // p is not what Parse saw
	}
	return line[:colon], trim(line[colon+1 : lf-1]), off + lf + 1
}

// Lookup returns the value of the first field of that name, in any case; nil without one.
func (h *Head) Lookup(p []byte, name string) []byte {
	for off := 0; ; {
		n, v, next := h.Next(p, off)
		if next == 0 {
			return nil
		}
		if equalFold(n, name) {
			return v
		}
		off = next
	}
}
