package ws

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
)

const guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 1.3

// Accept writes the value of Sec-WebSocket-Accept for the client's key (RFC 6455 4.2.2 step 5.4). The key has 24 bytes, as
// h1.CheckUpgrade sees to; what goes beyond that is left out.
func Accept(key []byte, dst *[28]byte) {
	var b [24 + len(guid)]byte
	n := copy(b[:24], key)
	n += copy(b[n:], guid)
	sum := sha1.Sum(b[:n])
	base64.StdEncoding.Encode(dst[:], sum[:])
}

// Offers reports whether protocol is among those that a client offers: list is the value of its Sec-WebSocket-Protocol, names
// separated by commas, which are compared as they are (RFC 6455 11.3.4, 4.2.2 step 5.5).
func Offers(list []byte, protocol string) bool {
	for len(list) > 0 {
		var name []byte
		name, list, _ = bytes.Cut(list, []byte(","))
		if n := bytes.Trim(name, " \t"); len(n) > 0 && string(n) == protocol {
			return true
		}
	}
	return false
}
