package proxy

import "encoding/binary"

// The binary header (section 2.2):
//
//	0    signature
//	12   version 2 in the high four bits, command in the low ones: 0 LOCAL, 1 PROXY
//	13   address family in the high four bits, transport in the low ones
//	14   length of what follows, big endian
//	16   source and destination address, source and destination port, TLVs
const (
	v2Sig  = "\r\n\r\n\x00\r\nQUIT\n"
	v2Head = 16

	inetLen  = 12 // two addresses and two ports
	inet6Len = 36
	unixLen  = 216
)

func parseV2(p []byte, max int, h *Header) State {
	if !agrees(p, v2Sig) || len(p) > 12 && p[12]>>4 != 2 || len(p) > 12 && p[12]&15 > 1 {
		return Malformed
	}
	if len(p) < v2Head {
		return Incomplete
	}
	n := int(binary.BigEndian.Uint16(p[14:]))
	if v2Head+n > max {
		return Malformed
	}
	own, family := p[12]&15 == 0, p[13]
	least := 0
	switch family {
	case 0x11, 0x12:
		least = inetLen
	case 0x21, 0x22:
		least = inet6Len
	case 0x31, 0x32:
		least = unixLen
	case 0:
		own = true
	default: // of LOCAL the family is not looked at
		if !own {
			return Malformed
		}
	}
	if !own && n < least {
		return Malformed
	}
	if len(p) < v2Head+n {
		return Incomplete
	}
	h.Len, h.Own, h.Src, h.Port = v2Head+n, own, [16]byte{}, 0
	if own {
		return OK
	}
	switch a := p[v2Head:]; least {
	case inetLen:
		h.Src = mapped
		copy(h.Src[12:], a[:4])
		h.Port = binary.BigEndian.Uint16(a[8:])
	case inet6Len:
		copy(h.Src[:], a[:16])
		h.Port = binary.BigEndian.Uint16(a[32:])
	}
	return OK
}
