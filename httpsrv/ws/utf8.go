package ws

import (
	"encoding/binary"
	"math/bits"
)

// UTF8 checks a text message incrementally: fragment by fragment and, within a fragment, as the bytes arrive. The zero value stands
// at the start of a message. It is four bytes of plain data and may lie in shared memory.
//
// It is the automaton of the Unicode standard's table 3-7, so it fails at the first octet that no valid text can go on with (fail fast,
// as Autobahn's cases 6.4 ask). One row of a table holds the next state for all nine states, six bits each, and the state is the number
// of bits to shift the row by: one load and one shift per octet (the idea is Per Vognsen's shift-based DFA).
type UTF8 struct {
	// State is 0 between code points, 6 once invalid, else a multiple of 6 up to 48; other values count as invalid.
	State uint32
}

// The states, as shifts.
const (
	u8Start  = 6 * iota // between code points
	u8Reject            // for good
	u8One               // one continuation octet is missing
	u8Two               // two are
	u8E0                // two, the first A0..BF
	u8ED                // two, the first 80..9F
	u8Three             // three
	u8F0                // three, the first 90..BF
	u8F4                // three, the first 80..8F
	u8End
)

const u8ASCII = 0x8080808080808080

var u8Table = makeU8Table()

func makeU8Table() (t [256]uint64) {
	for b := range t {
		c := byte(b)
		in := func(lo, hi byte) bool { return c >= lo && c <= hi }
		row := uint64(0)
		set := func(from uint, to uint64) { row |= to << from }
		for s := uint(0); s < u8End; s += 6 {
			to := uint64(u8Reject)
			switch {
			case s == u8Start:
				switch {
				case c < 0x80:
					to = u8Start
				case in(0xC2, 0xDF):
					to = u8One
				case c == 0xE0:
					to = u8E0
				case c == 0xED:
					to = u8ED
				case in(0xE1, 0xEF):
					to = u8Two
				case c == 0xF0:
					to = u8F0
				case in(0xF1, 0xF3):
					to = u8Three
				case c == 0xF4:
					to = u8F4
				}
			case s == u8One && in(0x80, 0xBF):
				to = u8Start
			case s == u8Two && in(0x80, 0xBF), s == u8E0 && in(0xA0, 0xBF), s == u8ED && in(0x80, 0x9F):
				to = u8One
			case s == u8Three && in(0x80, 0xBF), s == u8F0 && in(0x90, 0xBF), s == u8F4 && in(0x80, 0x8F):
				to = u8Two
			}
			set(s, to)
		}
		t[b] = row
	}
	return t
}

// Write goes on with p and reports whether the text can still be valid. Once false it stays false until Reset.
func (u *UTF8) Write(p []byte) bool {
	if u.State >= u8End || u.State%6 != 0 {
		u.State = u8Reject
		return false
	}
	s := uint64(u.State)
	for len(p) > 8 { // one more than is taken: a slice that may end up empty costs instructions
		if s&63 == u8Start {
			w := binary.LittleEndian.Uint64(p) & u8ASCII
			if w == 0 {
				p = skipASCII(p[8:])
				continue
			}
			p = p[bits.TrailingZeros64(w)/8:]
			for len(p) > 8 && p[0]-0xC2 <= 0xDF-0xC2 && p[1]&0xC0 == 0x80 { // most of what is not ASCII in Europe
				p = p[2:]
			}
			if len(p) <= 8 {
				break
			}
			if p[0] < 0x80 {
				continue
			}
		}
		s = u8Table[p[0]] >> (s & 63)
		s = u8Table[p[1]] >> (s & 63)
		s = u8Table[p[2]] >> (s & 63)
		s = u8Table[p[3]] >> (s & 63)
		s = u8Table[p[4]] >> (s & 63)
		s = u8Table[p[5]] >> (s & 63)
		s = u8Table[p[6]] >> (s & 63)
		s = u8Table[p[7]] >> (s & 63)
		if s&63 == u8Reject {
			break
		}
		p = p[8:]
	}
	if len(p) == 8 && s&63 == u8Start && binary.LittleEndian.Uint64(p)&u8ASCII == 0 {
		p = nil
	}
	if s&63 != u8Reject {
		for _, c := range p {
			s = u8Table[c] >> (s & 63)
		}
	}
	u.State = uint32(s & 63)
	return u.State != u8Reject
}

// skipASCII returns p from the first word of 8 octets on that is not all ASCII, or that is its last.
func skipASCII(p []byte) []byte {
	word := func(p []byte, i int) uint64 { return binary.LittleEndian.Uint64(p[i:]) }
	for len(p) > 64 {
		q := p[:64]
		a := word(q, 0) | word(q, 8)
		if a&u8ASCII != 0 {
			break
		}
		a |= word(q, 16) | word(q, 24) | word(q, 32) | word(q, 40) | word(q, 48) | word(q, 56)
		if a&u8ASCII != 0 {
			p = p[16:]
			break
		}
		p = p[64:]
	}
	for len(p) > 8 && word(p, 0)&u8ASCII == 0 {
		p = p[8:]
	}
	return p
}

// Done reports whether the text may end here: valid so far and no code point begun.
func (u *UTF8) Done() bool { return u.State == u8Start }

// Reset begins a new message.
func (u *UTF8) Reset() { u.State = u8Start }
