package ws

import (
	"encoding/binary"
	"unicode/utf8"
)

// The close codes of RFC 6455 7.4.1 and the IANA registry.
const (
	CodeNormal      uint16 = 1000
	CodeGoingAway   uint16 = 1001
	CodeProtocol    uint16 = 1002
	CodeUnsupported uint16 = 1003
	CodeNone        uint16 = 1005 // never on the wire: the close frame was empty
	CodeInvalid     uint16 = 1007 // text that is not UTF-8
	CodePolicy      uint16 = 1008
	CodeTooBig      uint16 = 1009
	CodeInternal    uint16 = 1011
	CodeRestart     uint16 = 1012
	CodeOverload    uint16 = 1013
)

// MaxReason is the longest reason of a close frame, in octets.
const MaxReason = MaxControl - 2

// ValidCloseCode reports whether code may stand in a close frame: 1000-1003, 1007-1014 and 3000-4999.
func ValidCloseCode(code uint16) bool {
	switch {
	case code >= 3000:
		return code <= 4999
	case code >= 1007:
		return code <= 1014
	}
	return code >= 1000 && code <= 1003
}

// ParseClose reads the unmasked payload of a close frame. An empty one has the code CodeNone. fail is 0, or the code to answer with:
// CodeProtocol for a single octet or an invalid code, CodeInvalid for a reason that is not UTF-8. reason points into p.
func ParseClose(p []byte) (code uint16, reason []byte, fail uint16) {
	switch {
	case len(p) == 0:
		return CodeNone, nil, 0
	case len(p) == 1:
		return CodeNone, nil, CodeProtocol
	}
	code, reason = binary.BigEndian.Uint16(p), p[2:]
	if !ValidCloseCode(code) {
		return code, reason, CodeProtocol
	}
	if !utf8.Valid(reason) {
		return code, reason, CodeInvalid
	}
	return code, reason, 0
}

// PutClose writes a whole close frame of the server into dst, which holds at least 4+len(reason) bytes (127 are always enough), and
// returns its length. A code of 0 or CodeNone makes an empty payload. The reason is cut to MaxReason octets, between code points.
func PutClose(dst []byte, code uint16, reason string) int {
	if code == 0 || code == CodeNone {
		return PutHeader(dst, OpClose, true, 0)
	}
	if len(reason) > MaxReason {
		n := MaxReason
		for n > 0 && !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	w := PutHeader(dst, OpClose, true, uint64(2+len(reason)))
	binary.BigEndian.PutUint16(dst[w:], code)
	return w + 2 + copy(dst[w+2:], reason)
}
