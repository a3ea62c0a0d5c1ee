package swarm

import "encoding/binary"

// PrefixSz is the size in bytes of what precedes the filler: seq and publish time. It is the
// smallest payload.
const PrefixSz = 16

// FillPayload writes a whole message into dst: seq, now (shmem.Monotonic) and the filler of seq. It is what
// ModeFull verifies. len(dst) is the message's size and must be at least PrefixSz. No allocation;
// below 0.1 ns per byte.
//
// ModeSeq does not look at the filler. A publisher that wants to cost nothing fills its buffer (or a
// template that it copies) once with FillPayload and calls Stamp for each message.
func FillPayload(dst []byte, seq uint64, now int64) {
	Stamp(dst, seq, now)
	p := dst[PrefixSz:]
	w, step := filler(seq)
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, w)
		p = p[8:]
		w += step
	}
	for i := range p {
		p[i] = byte(w >> (8 * uint(i)))
	}
}

// Stamp writes only seq and now (shmem.Monotonic) into the first PrefixSz bytes of dst.
func Stamp(dst []byte, seq uint64, now int64) {
	_ = dst[PrefixSz-1]
	binary.LittleEndian.PutUint64(dst, seq)
	binary.LittleEndian.PutUint64(dst[8:], uint64(now))
}

// ReadStamp returns what Stamp wrote. len(p) must be at least PrefixSz.
func ReadStamp(p []byte) (seq uint64, now int64) {
	_ = p[PrefixSz-1]
	return binary.LittleEndian.Uint64(p), int64(binary.LittleEndian.Uint64(p[8:]))
}

// filler returns the first word of a message's filler and the odd distance between its words. Both
// depend on all bits of seq, so that a byte of another message, or of another place in the same one,
// differs. Multipliers: the golden ratio and the first constant of splitmix64.
func filler(seq uint64) (base, step uint64) {
	x := (seq + 1) * 0x9e3779b97f4a7c15
	x ^= x >> 29
	return x, (x*0xbf58476d1ce4e5b9)>>1 | 1
}

// checkFiller compares p with the filler of seq from byte off of the filler on. It returns the
// index in p of the first wrong byte, or -1.
func checkFiller(p []byte, seq, off uint64) int {
	base, step := filler(seq)
	w := base + (off>>3)*step
	i := 0
	if b := uint(off & 7); b != 0 { // the rest of a word that was cut
		for ; b < 8 && i < len(p); b, i = b+1, i+1 {
			if p[i] != byte(w>>(8*b)) {
				return i
			}
		}
		w += step
	}
	for ; len(p)-i >= 8; i += 8 {
		if binary.LittleEndian.Uint64(p[i:]) != w {
			break // the loop below finds the byte
		}
		w += step
	}
	for b := uint(0); b < 8 && i < len(p); b, i = b+1, i+1 {
		if p[i] != byte(w>>(8*b)) {
			return i
		}
	}
	return -1
}
