package ws

import (
	"bytes"
	"fmt"
	"testing"
)

func naiveMask(p []byte, key [4]byte, phase int) []byte {
	out := make([]byte, len(p))
	for i := range p {
		out[i] = p[i] ^ key[(phase+i)&3]
	}
	return out
}

var key = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// TestUnmaskCopy: every length around the word sizes, at every phase and every alignment of both sides, writing nothing beside.
func TestUnmaskCopy(t *testing.T) {
	src := make([]byte, 2048)
	for i := range src {
		src[i] = byte(i*7 + i>>3)
	}
	for _, n := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 31, 32, 33, 39, 40, 63, 64, 65, 71, 100, 127, 129, 1023, 1024, 1025, 1541} {
		for phase := range 4 {
			want := naiveMask(src[:n], key, phase)
			for so := range 8 {
				for do := range 8 {
					in := append(make([]byte, so, 2056), src[:n]...)[so:]
					out := bytes.Repeat([]byte{0xee}, do+n+9)
					if p := UnmaskCopy(out[do:], in, key, phase); p != (phase+n)&3 {
						t.Fatalf("n %d phase %d: new phase %d", n, phase, p)
					}
					if !bytes.Equal(out[do:do+n], want) || out[do+n] != 0xee {
						t.Fatalf("n %d phase %d at %d to %d: %x, want %x", n, phase, so, do, out, want)
					}
				}
			}
			in := bytes.Clone(src[:n])
			UnmaskCopy(in, in, key, phase)
			if !bytes.Equal(in, want) {
				t.Fatalf("in place: n %d phase %d", n, phase)
			}
		}
	}
}

func FuzzUnmaskCopy(f *testing.F) {
	f.Add([]byte("Hello, this is a masked payload of some length"), uint32(0x37fa213d), uint16(5), uint16(11), byte(1))
	f.Add(make([]byte, 200), uint32(0xff00ff00), uint16(33), uint16(100), byte(3))
	f.Add(make([]byte, 3000), uint32(0x01020304), uint16(1), uint16(1500), byte(2))
	f.Fuzz(func(t *testing.T, p []byte, k uint32, a, b uint16, ph byte) {
		key := [4]byte{byte(k), byte(k >> 8), byte(k >> 16), byte(k >> 24)}
		phase := int(ph & 3)
		want := naiveMask(p, key, phase)
		i := int(a) % (len(p) + 1)
		j := i + int(b)%(len(p)-i+1)
		out := make([]byte, len(p)+16)
		lo := out[ph&15:]
		n := UnmaskCopy(lo, p[:i], key, phase)
		n = UnmaskCopy(lo[i:], p[i:j], key, n)
		n = UnmaskCopy(lo[j:], p[j:], key, n)
		if n != (phase+len(p))&3 || !bytes.Equal(lo[:len(p)], want) {
			t.Fatalf("cut at %d and %d, phase %d: %x, want %x", i, j, phase, lo[:len(p)], want)
		}
	})
}

func BenchmarkUnmaskCopy(b *testing.B) {
	for _, n := range []int{16, 128, 1024, 65536, 1 << 24} {
		src, dst := make([]byte, n), make([]byte, n)
		b.Run(fmt.Sprintf("%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				UnmaskCopy(dst, src, key, 1)
			}
		})
		b.Run(fmt.Sprintf("copy/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				copy(dst, src)
			}
		})
	}
}
