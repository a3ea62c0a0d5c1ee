package wksp

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// words is a name as it lies in shared memory: 40 bytes, zero padded, as five little-endian words.
type words [5]uint64

// packName checks name and packs it. Errors: ErrBadName.
func packName(name string) (words, error) {
	var k words
	if len(name) == 0 || len(name) > MaxName {
		return k, fmt.Errorf("%w: %q has %d bytes (1 to %d)", ErrBadName, clip(name), len(name), MaxName)
	}
	var b [MaxName]byte
	copy(b[:], name)
	for i := range len(name) {
		if !nameByte(b[i], i == 0) {
			return k, fmt.Errorf("%w: %q at byte %d (letters, digits, and after the first also . _ - /)", ErrBadName, clip(name), i)
		}
	}
	for i := range k {
		k[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return k, nil
}

// unpack returns the name; ok is false if there is none or its bytes are not a name.
func (k words) unpack() (name string, ok bool) {
	var b [MaxName]byte
	for i, v := range k {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	n := 0
	for n < MaxName && b[n] != 0 {
		if !nameByte(b[n], n == 0) {
			return "", false
		}
		n++
	}
	for _, c := range b[n:] {
		if c != 0 {
			return "", false
		}
	}
	return string(b[:n]), n > 0
}

func nameByte(c byte, first bool) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	case c == '.', c == '_', c == '-', c == '/':
		return !first
	}
	return false
}

// less orders names by their words; not alphabetical, but the same in every process.
func (k words) less(o words) bool {
	for i := range k {
		if k[i] != o[i] {
			return k[i] < o[i]
		}
	}
	return false
}

func loadName(a *[5]atomic.Uint64) (k words) {
	for i := range k {
		k[i] = a[i].Load()
	}
	return k
}

func clip(s string) string { return s[:min(len(s), 2*MaxName)] }
