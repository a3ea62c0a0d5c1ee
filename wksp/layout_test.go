package wksp

import (
	"fmt"
	"hash/fnv"
	"reflect"
	"strings"
	"testing"
)

// layoutOf lists the fields of a shared struct: name, offset, size.
func layoutOf(v any) string {
	t := reflect.TypeOf(v)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d:", t.Name(), t.Size())
	for i := range t.NumField() {
		if f := t.Field(i); f.Type.Size() > 0 {
			fmt.Fprintf(&b, " %s@%d+%d", f.Name, f.Offset, f.Type.Size())
		}
	}
	return b.String()
}

var golden = []struct {
	v    any
	want string
}{
	{header{}, "header 512: magic@0+8 version@8+4 hdrLen@12+4 hash@16+8 size@24+8 partMax@32+8 dataMax@40+8 partsOff@48+8 namesOff@56+8 dataOff@64+8 seed@72+8 born@80+8 name@88+40 ownerLock@128+8 ownerPid@136+8 ownerSince@144+8 dirty@152+8 seq@160+8 rebuilt@168+8 roots@176+16 first@192+4 last@196+4 idle@200+4 _@204+52 _@256+256"},
	{part{}, "part 64: lo@0+8 hi@8+8 tag@16+8 gen@24+4 slack@28+4 prev@32+4 next@36+4 left@40+4 right@44+4 pleft@48+4 pright@52+4 _@56+8"},
	{nameRow{}, "nameRow 64: name@0+40 left@40+4 right@44+4 _@48+16"},
}

// TestLayout holds every shared struct to its offsets, and the constant LayoutHash to the structs.
func TestLayout(t *testing.T) {
	h := fnv.New64a()
	for _, g := range golden {
		got := layoutOf(g.v)
		if got != g.want {
			t.Errorf("layout changed: raise Version\n got %s\nwant %s", got, g.want)
		}
		h.Write([]byte(got + "\n"))
	}
	if h.Sum64() != LayoutHash {
		t.Errorf("LayoutHash = %#x, the structs give %#x", LayoutHash, h.Sum64())
	}
	if f, _ := reflect.TypeOf(header{}).FieldByName("ownerLock"); f.Offset != lockOff {
		t.Error("lockOff is not the offset of header.ownerLock")
	}
}

func TestFootprint(t *testing.T) {
	for _, c := range []struct{ parts, data, want uint64 }{
		{1, 1, 4096 + 128},
		{1, 129, 4096 + 256},
		{28, 4096, 8192}, // 512 + 28*128 = 4096 exactly
		{29, 4096, 8192 + 4096},
		{1000, 1 << 20, 131072 + 1<<20},
		{MaxParts, MaxData, 0x800001000 + MaxData},
	} {
		if got, err := Footprint(c.parts, c.data); err != nil || got != c.want {
			t.Errorf("Footprint(%d, %d) = %d, %v, want %d", c.parts, c.data, got, err, c.want)
		}
	}
	for _, c := range [][2]uint64{{0, 1}, {1, 0}, {MaxParts + 1, 1}, {1, MaxData + 1}, {^uint64(0), ^uint64(0)}} {
		if _, err := Footprint(c[0], c[1]); err == nil {
			t.Errorf("Footprint(%d, %d): no error", c[0], c[1])
		}
	}
}

// TestEstimates: what the estimates give fits, and is the most that fits.
func TestEstimates(t *testing.T) {
	for _, f := range []uint64{0, 512, 4096, 4097, 8192, 10000, 1 << 16, 1<<20 + 77, 1 << 30, 1 << 40, ^uint64(0)} {
		for _, avg := range []uint64{0, 1, 100, 4096, 1 << 20, ^uint64(0)} {
			p := PartMaxEst(f, avg)
			if p == 0 {
				continue
			}
			d := DataMaxEst(f, p)
			if d == 0 {
				t.Errorf("footprint %d, avg %d: partMax %d leaves no data", f, avg, p)
				continue
			}
			got, err := Footprint(p, d)
			if err != nil || got > f {
				t.Errorf("footprint %d, avg %d: partMax %d dataMax %d make %d, %v", f, avg, p, d, got, err)
			}
			if more, err := Footprint(p, d+Granule); err == nil && more <= f {
				t.Errorf("footprint %d: dataMax %d is not the most", f, d)
			}
		}
	}
}
