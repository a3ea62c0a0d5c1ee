package ws

import (
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
