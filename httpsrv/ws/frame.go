package ws

import "encoding/binary"

// The opcodes (RFC 6455 5.2).
const (
	OpCont   byte = 0x0
	OpText   byte = 0x1
	OpBinary byte = 0x2
	OpClose  byte = 0x8
	OpPing   byte = 0x9
	OpPong   byte = 0xA
)

const (
	MaxHeaderLen = 14  // of a masked frame with a 64-bit length
	MaxControl   = 125 // payload of a control frame (RFC 6455 5.5)
)

// Header is the head of one frame.
type Header struct {
	Fin    bool
	Rsv    byte // the bits RSV1-3, 0..7
	Op     byte // 0..15
	Masked bool
	Mask   [4]byte // zero unless Masked
	Len    uint64  // payload, octets; all 64 bits as sent
	HdrLen int     // octets of this header, 2..14

	lenBits uint8 // the 7-bit length as sent: shows whether the shortest form was used
}

// ParseHeader reads the header at the start of p. It returns false, with *h undefined, when p holds less than the whole header.
func ParseHeader(p []byte, h *Header) bool {
	if len(p) < 2 {
		return false
	}
	b0, b1 := p[0], p[1]
	l := b1 & 0x7f
	n := 2
	switch l {
	case 126:
		n = 4
	case 127:
		n = 10
	}
	masked := b1&0x80 != 0
	if masked {
		n += 4
	}
	if len(p) < n {
		return false
	}
	h.Fin, h.Rsv, h.Op = b0&0x80 != 0, b0>>4&7, b0&0xf
	h.Masked, h.HdrLen, h.lenBits = masked, n, l
	switch l {
	case 126:
		h.Len = uint64(binary.BigEndian.Uint16(p[2:]))
	case 127:
		h.Len = binary.BigEndian.Uint64(p[2:])
	default:
		h.Len = uint64(l)
	}
	if masked {
		h.Mask = [4]byte(p[n-4:])
	} else {
		h.Mask = [4]byte{}
	}
	return true
}

// HeaderLen returns the length of a server's header for n octets of payload: 2, 4 or 10.
func HeaderLen(n uint64) int {
	switch {
	case n <= 125:
		return 2
	case n <= 0xffff:
		return 4
	}
	return 10
}

// PutHeader writes an unmasked header (server to client) into dst, which holds at least HeaderLen(n) bytes, and returns its length.
func PutHeader(dst []byte, op byte, fin bool, n uint64) int { return put(dst, op, fin, n, 0) }

// PutClientHeader writes a masked header (client to server) into dst, which holds at least HeaderLen(n)+4 bytes, and returns its length.
func PutClientHeader(dst []byte, op byte, fin bool, n uint64, key [4]byte) int {
	w := put(dst, op, fin, n, 0x80)
	return w + copy(dst[w:w+4], key[:])
}

func put(dst []byte, op byte, fin bool, n uint64, mask byte) int {
	b0 := op & 0xf
	if fin {
		b0 |= 0x80
	}
	switch {
	case n <= 125:
		_ = dst[1]
		dst[0], dst[1] = b0, mask|byte(n)
		return 2
	case n <= 0xffff:
		_ = dst[3]
		dst[0], dst[1] = b0, mask|126
		binary.BigEndian.PutUint16(dst[2:], uint16(n))
		return 4
	}
	_ = dst[9]
	dst[0], dst[1] = b0, mask|127
	binary.BigEndian.PutUint64(dst[2:], n)
	return 10
}
