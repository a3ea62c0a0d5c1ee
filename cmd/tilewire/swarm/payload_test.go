package swarm

import (
	"math"
	"testing"
)

func TestFillPayloadRoundTrip(t *testing.T) {
	for _, size := range []int{16, 17, 23, 24, 31, 64, 125, 1024, 4099} {
		for _, seq := range []uint64{0, 1, 2, 1 << 40, math.MaxUint64} {
			p := make([]byte, size)
			FillPayload(p, seq, -5)
			if s, at := ReadStamp(p); s != seq || at != -5 {
				t.Fatalf("size %d: stamp is %d, %d", size, s, at)
			}
			if at := checkFiller(p[PrefixSz:], seq, 0); at != -1 {
				t.Fatalf("size %d seq %d: byte %d wrong", size, seq, at)
			}
			// Every cut: the rest is verified from its offset on.
			for cut := PrefixSz; cut <= min(size, 80); cut++ {
				if at := checkFiller(p[cut:], seq, uint64(cut-PrefixSz)); at != -1 {
					t.Fatalf("size %d seq %d cut %d: byte %d wrong", size, seq, cut, at)
				}
			}
		}
	}
}

func TestCheckFillerFindsEachByte(t *testing.T) {
	const size = 77
	p := make([]byte, size)
	for off := uint64(0); off < 9; off++ {
		FillPayload(p, 7, 0)
		f := p[PrefixSz+off:]
		for i := range f {
			f[i] ^= 0x10
			if got := checkFiller(f, 7, off); got != i {
				t.Fatalf("offset %d: byte %d changed, %d found", off, i, got)
			}
			f[i] ^= 0x10
		}
	}
	if checkFiller(p[PrefixSz:], 8, 0) != 0 {
		t.Fatal("another seq's filler passes")
	}
}

func TestFillPayloadAllocs(t *testing.T) {
	p := make([]byte, 1024)
	if n := testing.AllocsPerRun(100, func() { FillPayload(p, 9, 1); Stamp(p, 10, 2); checkFiller(p[16:], 9, 0) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkFillPayload1K(b *testing.B) {
	p := make([]byte, 1024)
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		FillPayload(p, 9, 1)
	}
}

func BenchmarkCheckFiller1K(b *testing.B) {
	p := make([]byte, 1024)
	FillPayload(p, 9, 1)
	b.SetBytes(1024)
	b.ReportAllocs()
	for b.Loop() {
		checkFiller(p[PrefixSz:], 9, 0)
	}
}
