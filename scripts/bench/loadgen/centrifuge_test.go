package main

import (
	"bytes"
	"testing"
)

func TestCentrifugeUnwrap(t *testing.T) {
	data := []byte("0123456789abcdef")
	wrap := func(tag byte, p []byte) []byte { return append([]byte{tag, byte(len(p))}, p...) }
	pub := append(wrap(0x22, data), 0x30, 9) // offset follows
	push := wrap(0x22, append(append([]byte{0x12, 5}, "bench"...), wrap(0x22, pub)...))
	frame := append([]byte{byte(len(push))}, push...)
	frame = append(frame, 4, 0x08, 1, 0x2a, 0) // a connect result
	m, rest, ok := centrifugeUnwrap(frame)
	if !ok || !bytes.Equal(m, data) || len(rest) != 5 {
		t.Fatalf("%q %d %v", m, len(rest), ok)
	}
	if m, rest, ok = centrifugeUnwrap(rest); !ok || m != nil || len(rest) != 0 {
		t.Fatalf("%q %d %v", m, len(rest), ok)
	}
	for n := range len(frame) - 6 {
		if n > 0 {
			if _, _, ok := centrifugeUnwrap(frame[:n]); ok {
				t.Fatalf("%d bytes pass", n)
			}
		}
	}
}
