package shmem

import (
	"errors"
	"math"
	"math/rand/v2"
	"structs"
	"sync/atomic"
	"testing"
)

type record struct {
	_   structs.HostLayout
	Seq atomic.Uint64
	Len uint32
	Op  uint8
	_   [3]byte
	Key [4]uint64
}

func TestAt(t *testing.T) {
	onMem(t, 4096, func(t *testing.T, m Mem) {
		r, err := At[record](m, 128)
		if err != nil {
			t.Fatal(err)
		}
		r.Seq.Store(7)
		r.Key[3] = 9
		s, err := m.Slice(128, 48)
		if err != nil {
			t.Fatal(err)
		}
		if q := MustAt[record](s, 0); q != r || q.Seq.Load() != 7 || s.Bytes()[40] != 9 {
			t.Error("the slice shows another record")
		}
		if s.Offset() != m.Offset()+128 || !s.SameSpace(m) || s.Len() != 48 || s.ReadOnly() || !s.Aligned(128) || s.Aligned(3) {
			t.Errorf("slice: offset %d len %d", s.Offset(), s.Len())
		}
		v, err := SliceAt[uint32](m, 8, 4)
		if err != nil || len(v) != 4 || cap(v) != 4 {
			t.Fatal(v, err)
		}
		v[3] = 0x01020304
		if m.Bytes()[20] != 4 {
			t.Error("SliceAt shows other memory")
		}
	})
}

func TestAtRefuses(t *testing.T) {
	type withPointer struct {
		A uint64
		B struct{ C [2]*int }
	}
	m := Heap(64, 64)
	at := func(_ any, err error) error { return err }
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"past the end", at(At[uint64](m, 57)), ErrBounds},
		{"offset near 2^64", at(At[uint64](m, math.MaxUint64-3)), ErrBounds},
		{"larger than all", at(At[[65]byte](m, 0)), ErrBounds},
		{"misaligned", at(At[uint64](m, 4)), ErrAlign},
		{"pointer", at(At[withPointer](m, 0)), ErrPointers},
		{"string", at(At[string](m, 0)), ErrPointers},
		{"slice of slices", at(SliceAt[[]byte](m, 0, 1)), ErrPointers},
		{"slice too long", at(SliceAt[uint64](m, 0, 9)), ErrBounds},
		{"slice overflows", at(SliceAt[uint64](m, 0, 1<<61)), ErrBounds},
		{"slice misaligned", at(SliceAt[uint64](m, 1, 1)), ErrAlign},
		{"zero Mem", at(At[byte](Mem{}, 0)), ErrBounds},
		{"Slice", at(m.Slice(60, 5)), ErrBounds},
		{"Slice overflows", at(m.Slice(8, math.MaxUint64-2)), ErrBounds},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.err, c.want)
		}
	}
	if _, err := At[[0]*int](m, 64); err != nil {
		t.Error("nothing at the end:", err)
	}
	if v, err := SliceAt[uint64](m, 64, 0); err != nil || len(v) != 0 {
		t.Error("no values at the end:", v, err)
	}
	if !(Mem{}).IsZero() || m.IsZero() {
		t.Error("IsZero")
	}
	for _, off := range []uint64{4, 57, math.MaxUint64 - 7} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("MustAt(%d) did not panic", off)
				}
			}()
			MustAt[uint64](m, off)
		}()
	}
}

func TestOver(t *testing.T) {
	b := make([]byte, 64)
	m := Over(b)
	*MustAt[byte](m, 8) = 1
	if b[8] != 1 || m.Len() != 64 || m.SameSpace(m) || m.IsZero() {
		t.Error("other bytes, or a lock space")
	}
	if _, err := m.Lock(0); !errors.Is(err, ErrBounds) {
		t.Error(err)
	}
}

func TestHeapAlignment(t *testing.T) {
	for align := uint64(1); align <= 1<<21; align <<= 1 {
		m := Heap(100, align)
		if !m.Aligned(max(align, 8)) || m.Len() != 100 || cap(m.Bytes()) != 100 {
			t.Errorf("align %d", align)
		}
	}
}

// TestSliceModel cuts memory at random and compares with plain slices.
func TestSliceModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	base := Heap(1000, 8)
	for i := range base.Bytes() {
		base.Bytes()[i] = byte(rng.Uint32())
	}
	for range 2000 {
		m, want, off := base, base.Bytes(), uint64(0)
		for range 4 {
			a, n := rng.Uint64N(m.Len()+2), rng.Uint64N(m.Len()+2)
			s, err := m.Slice(a, n)
			if fits := a+n <= m.Len(); fits != (err == nil) {
				t.Fatalf("Slice(%d, %d) of %d: %v", a, n, m.Len(), err)
			}
			if err != nil {
				break
			}
			m, want, off = s, want[a:a+n], off+a
			if string(m.Bytes()) != string(want) || m.Offset() != off {
				t.Fatalf("Slice(%d, %d) shows other bytes", a, n)
			}
		}
	}
}

func TestSpecCopy(t *testing.T) {
	src, dst := Heap(64, 8).Bytes(), make([]byte, 64)
	done, stop := make(chan bool), atomic.Bool{}
	go func() {
		for i := byte(0); !stop.Load(); i++ {
			src[int(i)%64] = i
		}
		close(done)
	}()
	for range 1000 {
		SpecCopy(dst, src)
	}
	stop.Store(true)
	<-done
	SpecCopy(dst[:10], src)
	SpecCopy(dst, src[:10])
	if SpecCopy(dst, src); string(dst) != string(src) {
		t.Error("copy differs")
	}
}

func BenchmarkMustAt(b *testing.B) {
	m := Heap(4096, 128)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		MustAt[record](m, i&31*64).Len++
	}
}
