package wksp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// hostile joins memory whose bytes may be anything and calls everything: nothing may crash, hang, or reach outside.
func hostile(t testing.TB, m shmem.Mem) {
	w, err := Join(m)
	if err != nil {
		_ = Delete(m)
		return
	}
	r := join(t, m.AsReadOnly())
	r.Patience, w.Patience = 0, 0
	readAll := func() {
		_ = r.Verify()
		_, _ = r.Usage()
		_, _ = r.Owner()
		for _, o := range r.Names() {
			if _, err := packName(o.Name); err != nil {
				t.Fatalf("a name that is none: %q", o.Name)
			}
			_, _ = r.Lookup(o.Name)
		}
		_, _ = r.Lookup("obj")
		l, err := r.TagQuery()
		ok(t, err)
		for _, o := range l {
			if o.Gaddr < w.dataLo || o.Gaddr+o.Size > w.dataHi || o.Mem.Len() != o.Size {
				t.Fatalf("out of bounds: %+v", o)
			}
			_, _ = r.Laddr(o.Gaddr, o.Size)
			_, _ = r.Tag(o.Gaddr + o.Size - 1)
		}
	}
	readAll()
	verified := w.Verify() == nil
	l, _ := w.TagQuery()
	var gs []uint64
	for i := range 6 {
		if g, err := w.Alloc(uint64(1)<<(2*i), 1000, 5); err == nil {
			gs = append(gs, g)
			if verified {
				for _, o := range l {
					if g < o.Gaddr+o.Size && o.Gaddr < g+1000 {
						t.Fatalf("gaddr %#x is in %+v", g, o)
					}
				}
			}
		}
	}
	_, _ = w.NewNamed("obj", 0, 100, 6)
	for i, o := range l {
		if i%2 == 0 {
			_ = w.Free(o.Gaddr)
		}
	}
	for _, g := range gs {
		_ = w.Free(g)
	}
	_, _ = w.TagFree(6, 1)
	readAll()
	_, _ = w.Check()
	bad, _ := r.BadRows()
	if err := w.Rebuild(); (err == nil) != (len(bad) == 0) {
		t.Fatalf("%v, but bad rows are %+v", err, bad)
	}
	var rows []uint32
	for _, b := range bad {
		rows = append(rows, b.Row)
	}
	for { // beyond these there may be more partitions than rows: as a user would, drop one after the other
		_, err := w.RebuildWithout(rows...)
		if err == nil {
			break
		}
		var row uint32
		if n, _ := fmt.Sscanf(err.Error(), ErrDamaged.Error()+": row %d,", &row); n != 1 || slices.Contains(rows, row) {
			t.Fatalf("without %v: %v", rows, err)
		}
		rows = append(rows, row)
	}
	ok(t, w.Verify())
	readAll()
	if w.Reset() == nil {
		ok(t, w.Verify())
		_, err := w.Alloc(1, 1, 1)
		ok(t, err)
	}
	_ = Delete(m)
}

// victim is a small workspace with something of everything.
func victim(t testing.TB) shmem.Mem {
	w := format(t, heap, 24, 1<<17)
	var gs []uint64
	for i := range 8 {
		g, err := w.Alloc(uint64(64)<<i, 900, uint64(1+i%3))
		ok(t, err)
		gs = append(gs, g)
		_, err = w.NewNamed(string(rune('a'+i)), 1, 300, 9)
		if err != nil && i < 3 {
			t.Fatal(err)
		}
	}
	ok(t, w.Free(gs[1]))
	ok(t, w.Free(gs[4]))
	return w.given
}

const metaSz = hdrSz + 24*(partSz+nameSz)

// FuzzJoin mutates header and tables: patches are (offset, value) pairs of 2 and 8 bytes.
func FuzzJoin(f *testing.F) {
	base := victim(f)
	for _, seed := range [][]byte{{}, {0, 0, 1}, make([]byte, 40)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, patch []byte) {
		m := shmem.Heap(base.Len(), 4096)
		copy(m.Bytes(), base.Bytes())
		for len(patch) >= 10 {
			off := int(binary.LittleEndian.Uint16(patch)) % (metaSz - 8)
			copy(m.Bytes()[off:], patch[2:10])
			patch = patch[10:]
		}
		hostile(t, m)
	})
}

// TestHostile is FuzzJoin with blows that hit: fields of rows, links, roots, with values that nearly make sense.
func TestHostile(t *testing.T) {
	r := rand.New(rand.NewPCG(testSeed(t), 2))
	base := victim(t)
	n := 6000
	if raceBuild {
		n = 500
	}
	for range n {
		m := shmem.Heap(base.Len(), 4096)
		copy(m.Bytes(), base.Bytes())
		for range 1 + r.IntN(12) {
			off := 128 + r.IntN(metaSz-128)
			switch b := m.Bytes(); r.IntN(5) {
			case 0:
				b[off] ^= 1 << r.IntN(8)
			case 1, 2: // a row number, good or nearly so
				binary.LittleEndian.PutUint32(b[off&^3:], uint32(r.IntN(27)))
			case 3: // an address
				binary.LittleEndian.PutUint64(b[off&^7:], r.Uint64N(base.Len()/128+2)*128)
			case 4:
				binary.LittleEndian.PutUint64(b[off&^7:], r.Uint64())
			}
		}
		hostile(t, m)
	}
}
