package ws

import "encoding/binary"

// UnmaskCopy copies src to dst, XORed with key (RFC 6455 5.3), 64 bytes a step. phase is the index (0..3, taken modulo 4) of the key's
// octet that belongs to src[0]: 0 at the start of a payload, then what the call before returned. dst holds at least len(src) bytes and
// either is src or does not overlap it. The result is the phase of the octet after src.
func UnmaskCopy(dst, src []byte, key [4]byte, phase int) int {
	n := len(src)
	dst = dst[:n]
	phase &= 3
	k := binary.LittleEndian.Uint32(key[:])
	k = k>>(8*uint(phase)) | k<<(32-8*uint(phase)) // a shift by 32 gives 0
	w := uint64(k)<<32 | uint64(k)
	for len(src) > 64 { // one more than is taken: slices that may end up empty cost instructions
		s, d := src[:64:64], dst[:64:64]
		binary.LittleEndian.PutUint64(d, binary.LittleEndian.Uint64(s)^w)
		binary.LittleEndian.PutUint64(d[8:], binary.LittleEndian.Uint64(s[8:])^w)
		binary.LittleEndian.PutUint64(d[16:], binary.LittleEndian.Uint64(s[16:])^w)
		binary.LittleEndian.PutUint64(d[24:], binary.LittleEndian.Uint64(s[24:])^w)
		binary.LittleEndian.PutUint64(d[32:], binary.LittleEndian.Uint64(s[32:])^w)
		binary.LittleEndian.PutUint64(d[40:], binary.LittleEndian.Uint64(s[40:])^w)
		binary.LittleEndian.PutUint64(d[48:], binary.LittleEndian.Uint64(s[48:])^w)
		binary.LittleEndian.PutUint64(d[56:], binary.LittleEndian.Uint64(s[56:])^w)
		src, dst = src[64:], dst[64:]
	}
	for len(src) >= 8 && len(dst) >= 8 {
		binary.LittleEndian.PutUint64(dst, binary.LittleEndian.Uint64(src)^w)
		src, dst = src[8:], dst[8:]
	}
	for i := range src {
		if i < len(dst) {
			dst[i] = src[i] ^ byte(w)
		}
		w >>= 8 // at most 7 octets are left
	}
	return (phase + n) & 3
}
