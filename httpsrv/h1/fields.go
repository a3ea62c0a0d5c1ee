package h1

import (
	"bytes"
	"math"
)

// facts is what the field lines say together, until the head is complete.
type facts struct {
	bad     Why    // first rule broken that makes it 400
	length  uint64 // of Content-Length
	rawLen  []byte // its value as sent; nil without
	over    bool   // Content-Length over 2^64-1
	coding  bool   // Transfer-Encoding is there
	expect  bool   // an Expect other than 100-continue
	hostCnt int
}

func (f *facts) fail(w Why) {
	if f.bad == WhyNone {
		f.bad = w
	}
}

// field takes note of one field. The name is a token, the value is trimmed.
func (f *facts) field(h *Head, name, value []byte) {
	switch len(name) {
	case 4:
		if equalFold(name, "host") {
			f.host(h, value)
		}
	case 6:
		switch {
		case equalFold(name, "origin"):
			if h.Origin != nil {
				f.fail(WhyOriginTwice)
			}
			h.Origin = value
		case equalFold(name, "expect"):
			if equalFold(value, "100-continue") {
				h.Expect100 = h.Minor >= 1 // RFC 9110 10.1.1: ignored in HTTP/1.0
			} else {
				f.expect = true
			}
		case equalFold(name, "cookie"):
			first(&h.Cookie, value)
		}
	case 7:
		if equalFold(name, "upgrade") {
			h.UpgradeAny = true
			h.UpgradeWebSocket = h.UpgradeWebSocket || hasToken(value, "websocket")
		}
	case 10:
		if equalFold(name, "connection") {
			h.ConnClose = h.ConnClose || hasToken(value, "close")
			h.ConnKeepAlive = h.ConnKeepAlive || hasToken(value, "keep-alive")
			h.ConnUpgrade = h.ConnUpgrade || hasToken(value, "upgrade")
		}
	case 12:
		if equalFold(name, "content-type") {
			first(&h.ContentType, value)
		}
	case 13:
		switch {
		case equalFold(name, "authorization"):
			first(&h.Authorization, value)
		case equalFold(name, "last-event-id"):
			first(&h.LastEventID, value)
		}
	case 14:
		if equalFold(name, "content-length") {
			f.contentLength(value)
		}
	case 15:
		switch {
		case equalFold(name, "accept-encoding"):
			first(&h.AcceptEncoding, value)
		case equalFold(name, "x-forwarded-for"):
			h.XForwardedFor = value
		}
	case 17:
		switch {
		case equalFold(name, "transfer-encoding"):
			f.coding = true
		case equalFold(name, "sec-websocket-key"):
			h.WsKey = value
			h.wsKeyCnt = min(h.wsKeyCnt+1, 2)
		}
	case 21:
		if equalFold(name, "sec-websocket-version") {
			h.WsVersion = value
			h.wsVersionCnt = min(h.wsVersionCnt+1, 2)
		}
	case 22:
		if equalFold(name, "sec-websocket-protocol") {
			first(&h.WsProtocol, value)
		}
	}
}

func first(dst *[]byte, value []byte) {
	if *dst == nil {
		*dst = value
	}
}

func (f *facts) host(h *Head, value []byte) {
	f.hostCnt++
	switch {
	case f.hostCnt > 1:
		f.fail(WhyHostTwice)
	case !validHost(value):
		f.fail(WhyHostSyntax)
	}
	h.Host = value
}

func (f *facts) contentLength(value []byte) {
	var n uint64
	switch s := ParseLength(value, &n); {
	case f.rawLen != nil && !bytes.Equal(f.rawLen, value):
		f.fail(WhyLengthDiffers)
	case s == LengthMalformed:
		f.fail(WhyLengthSyntax)
	case s == LengthOverflow:
		f.over = true
	}
	f.length, f.rawLen = n, value
}

// judge applies the rules about the head as a whole, in the order that Parse documents.
func (f *facts) judge(h *Head, l *Limits) Verdict {
	if f.hostCnt == 0 && h.Minor >= 1 {
		f.fail(WhyHostMissing)
	}
	if f.bad != WhyNone {
		return bad(f.bad)
	}
	if f.coding {
		if f.rawLen != nil {
			return Verdict{400, ReasonUnsupportedTransferEncoding, WhyLengthAndEncoding}
		}
		return Verdict{501, ReasonUnsupportedTransferEncoding, WhyTransferEncoding}
	}
	if h.Method == MethodUnknown {
		return Verdict{501, ReasonUnknownMethod, WhyMethodUnknown}
	}
	if !l.allow().Has(h.Method) {
		return Verdict{405, ReasonUnknownMethod, WhyMethodNotAllowed}
	}
	if !h.splitTarget() {
		return bad(WhyTargetSyntax)
	}
	if f.rawLen != nil {
		if f.over || f.length > math.MaxInt64 || int64(f.length) >= int64(l.maxRequest()-h.Len) {
			return Verdict{413, ReasonLargeRequest, WhyBodyLong}
		}
		h.ContentLength = int64(f.length)
	} else if h.Method == POST || h.Method == PUT || h.Method == PATCH {
		return Verdict{411, ReasonMissingContentLength, WhyLengthMissing}
	}
	if f.expect && h.Minor >= 1 {
		return Verdict{417, ReasonBadRequest, WhyExpect}
	}
	return Verdict{}
}

// LengthState is what ParseLength found.
type LengthState uint8

// The outcomes of ParseLength.
const (
	LengthOK        LengthState = iota
	LengthMalformed             // not 1*DIGIT: empty, signs, white space, lists
	LengthOverflow              // over 2^64-1
)

// ParseLength reads a value of Content-Length (RFC 9110 8.6: 1*DIGIT, leading zeros allowed). *n is written only for LengthOK.
func ParseLength(b []byte, n *uint64) LengthState {
	if len(b) == 0 {
		return LengthMalformed
	}
	var v uint64
	over := false
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 {
			return LengthMalformed
		}
		if v > (math.MaxUint64-d)/10 {
			over = true // go on: the rest may still be malformed
		}
		v = v*10 + d
	}
	if over {
		return LengthOverflow
	}
	*n = v
	return LengthOK
}

// hasToken reports whether the comma-separated list holds the token, in any case (RFC 9110 5.6.1; empty elements are passed over).
func hasToken(list []byte, token string) bool {
	for len(list) > 0 {
		e := list
		if i := bytes.IndexByte(list, ','); i >= 0 {
			e, list = list[:i], list[i+1:]
		} else {
			list = nil
		}
		if equalFold(trim(e), token) {
			return true
		}
	}
	return false
}
