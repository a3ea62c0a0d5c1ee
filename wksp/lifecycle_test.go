package wksp

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

// format makes a workspace in memory of its own and joins it.
func format(t testing.TB, mk mkMem, partMax, dataMax uint64) *Wksp {
	t.Helper()
	size, err := Footprint(partMax, dataMax)
	if err != nil {
		t.Fatal(err)
	}
	m := mk(t, size)
	if err := New(m, "test", partMax, dataMax, 42); err != nil {
		t.Fatal(err)
	}
	return join(t, m)
}

func join(t testing.TB, m shmem.Mem) *Wksp {
	t.Helper()
	w, err := Join(m)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func want(t testing.TB, err, is error) {
	t.Helper()
	if !errors.Is(err, is) {
		t.Fatalf("error is %v, want %v", err, is)
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLife(t *testing.T) {
	both(t, func(t *testing.T, mk mkMem) {
		w := format(t, mk, 64, 1<<20)
		ok(t, w.Verify())
		if w.Name() != "test" || w.ReadOnly() {
			t.Fatalf("name %q, read-only %v", w.Name(), w.ReadOnly())
		}
		g, err := w.Alloc(0, 100, 7)
		ok(t, err)
		if g%DefaultAlign != 0 || g == 0 {
			t.Fatalf("gaddr %#x", g)
		}
		m, err := w.Laddr(g, 100)
		ok(t, err)
		copy(m.Bytes(), "hello")
		if back, err := w.Gaddr(m); err != nil || back != g {
			t.Fatalf("Gaddr = %#x, %v, want %#x", back, err, g)
		}
		o, err := w.NewNamed("ring/0", 128, 1000, 8)
		ok(t, err)
		if o.Size != 1000 || o.Mem.Len() != 1000 || o.Tag != 8 || o.Name != "ring/0" {
			t.Fatalf("object %+v", o)
		}
		_, err = w.NewNamed("ring/0", 128, 1000, 8)
		want(t, err, ErrExists)

		// Another join sees it all, with the lock space of the same memory.
		w2 := join(t, w.given)
		o2, err := w2.Lookup("ring/0")
		ok(t, err)
		if o2.Gaddr != o.Gaddr || o2.Size != 1000 {
			t.Fatalf("looked up %+v, want %+v", o2, o)
		}
		lk, err := o2.Mem.Lock(0)
		ok(t, err)
		if !o.Mem.Locked(0) {
			t.Fatal("lock of one join is not seen by the other")
		}
		ok(t, lk.Unlock())
		if m2, err := w2.Laddr(g, 0); err != nil || string(m2.Bytes()[:5]) != "hello" || m2.Len() != 100 {
			t.Fatalf("other join reads %q, %v", m2.Bytes()[:5], err)
		}
		if tag, err := w2.Tag(g + 99); err != nil || tag != 7 {
			t.Fatalf("tag %d, %v", tag, err)
		}
		_, err = w2.Tag(g + 100)
		want(t, err, ErrNotFound)
		_, err = w2.Laddr(g+50, 51)
		want(t, err, ErrBounds)
		_, err = w2.Laddr(0, 1)
		want(t, err, ErrNotFound)
		_, err = w2.Lookup("ring/1")
		want(t, err, ErrNotFound)

		if l, _ := w.TagQuery(8, 9); len(l) != 1 || l[0].Name != "ring/0" {
			t.Fatalf("TagQuery = %+v", l)
		}
		u, err := w.Usage()
		ok(t, err)
		if u.Used != 2 || u.Named != 1 || u.AskedBytes != 1100 || u.UsedBytes != 128+1024 || len(u.Tags) != 2 {
			t.Fatalf("usage %+v", u)
		}
		ok(t, w2.Free(o.Gaddr))
		_, err = w.Lookup("ring/0")
		want(t, err, ErrNotFound)
		if n, err := w.TagFree(7, 99); n != 1 || err != nil {
			t.Fatalf("TagFree = %d, %v", n, err)
		}
		want(t, w.Free(g), ErrNotFound)
		if u, _ = w.Usage(); u.FreeBytes != 1<<20 || u.LargestFree != 1<<20 || u.Free != 1 || u.Idle != 63 {
			t.Fatalf("usage at the end %+v", u)
		}
		ok(t, w.Verify())
		if got := w2.Leave(); got.Len() != w.given.Len() {
			t.Fatal("Leave gave other memory back")
		}
		_, err = w2.Alloc(0, 1, 1)
		want(t, err, ErrLeft)
		_, err = w2.Lookup("ring/0")
		want(t, err, ErrLeft)

		ok(t, Delete(w.given))
		_, err = w.Usage()
		want(t, err, ErrLeft)
		want(t, w.Free(g), ErrLeft)
		want(t, Delete(w.given), ErrMagic)
		_, err = Join(w.given)
		want(t, err, ErrMagic)
		ok(t, New(w.given, "again", 10, 4096, 1))
		_, err = w.Alloc(0, 1, 1)
		want(t, err, ErrLeft) // the same memory, another life
		ok(t, join(t, w.given).Verify())
	})
}

func TestAllocNegatives(t *testing.T) {
	w := format(t, heap, 4, 1<<16)
	_, err := w.Alloc(3, 1, 1)
	want(t, err, ErrAlign)
	_, err = w.Alloc(2*MaxAlign, 1, 1)
	want(t, err, ErrAlign)
	_, err = w.Alloc(0, 0, 1)
	want(t, err, ErrSize)
	_, err = w.Alloc(0, 1, 0)
	want(t, err, ErrTag)
	_, err = w.Alloc(0, 1<<16+1, 1)
	want(t, err, ErrNoSpace)
	_, err = w.Alloc(0, ^uint64(0), 1)
	want(t, err, ErrNoSpace)
	_, err = w.Alloc(MaxAlign, 1, 1)
	want(t, err, ErrNoSpace)
	for _, name := range []string{"", "/x", "a b", "a\x00", "ä", ".a", strings.Repeat("x", 41)} {
		_, err = w.NewNamed(name, 0, 1, 1)
		want(t, err, ErrBadName)
		_, err = w.Lookup(name)
		want(t, err, ErrBadName)
	}
	_, err = w.NewNamed(strings.Repeat("x", 40), 128, 1, 1)
	ok(t, err)
	if n, err := w.TagFree(); n != 0 || err != nil {
		t.Fatalf("TagFree() = %d, %v", n, err)
	}
	// The table fills: used, used, used + the rest = 4 rows.
	for range 2 {
		_, err = w.Alloc(1, 128, 1)
		ok(t, err)
	}
	_, err = w.Alloc(1, 128, 1)
	want(t, err, ErrNoPart)
	g, got, err := w.AllocAtLeast(1, 128, 1)
	ok(t, err)
	if got != 1<<16-3*128 {
		t.Fatalf("AllocAtLeast got %d", got)
	}
	_, _, err = w.AllocAtLeast(1, 1, 1)
	want(t, err, ErrNoSpace)
	ok(t, w.Verify())
	ok(t, w.Free(g))
	g, got, err = w.AllocAtLeast(1, 128, 1) // no row again
	ok(t, err)
	if got != 1<<16-3*128 {
		t.Fatalf("AllocAtLeast got %d", got)
	}
	_ = g
	_, err = w.Gaddr(shmem.Heap(10, 8))
	want(t, err, ErrBounds)
	m, _ := w.given.Slice(0, 10)
	_, err = w.Gaddr(m)
	want(t, err, ErrBounds)
	ok(t, w.Reset())
	if u, _ := w.Usage(); u.Used != 0 || u.Free != 1 {
		t.Fatalf("after Reset %+v", u)
	}
	ok(t, w.Verify())
}

func TestNewJoinNegatives(t *testing.T) {
	size, _ := Footprint(8, 8192)
	m := shmem.Heap(size+8192, 4096)
	off, _ := m.Slice(128, size)
	short, _ := m.Slice(0, size-1)
	want(t, New(m, "x", 0, 1, 0), ErrParams)
	want(t, New(m, "", 8, 8192, 0), ErrBadName)
	want(t, New(off, "x", 8, 8192, 0), ErrAlign)
	want(t, New(short, "x", 8, 8192, 0), ErrSize)
	want(t, New(m.AsReadOnly(), "x", 8, 8192, 0), ErrReadOnly)
	want(t, New(shmem.Mem{}, "x", 8, 8192, 0), ErrSize)
	lk, err := m.Lock(lockOff)
	ok(t, err)
	want(t, New(m, "x", 8, 8192, 0), ErrBusy)
	ok(t, lk.Unlock())
	for i := range m.Bytes() { // whatever was there before
		m.Bytes()[i] = 0xa5
	}
	_, err = Join(m)
	want(t, err, ErrMagic)
	want(t, Delete(m), ErrMagic)
	ok(t, New(m, "x", 8, 8192, 0))
	ok(t, join(t, m).Verify())
	want(t, New(m, "x", 8, 8192, 0), ErrExists)
	_, err = Join(short)
	want(t, err, ErrSize)
	_, err = Join(off)
	want(t, err, ErrAlign)
	_, err = Join(shmem.Mem{})
	want(t, err, ErrSize)
	want(t, Delete(m.AsReadOnly()), ErrReadOnly)
	lk, err = m.Lock(lockOff)
	ok(t, err)
	want(t, Delete(m), ErrBusy)
	w := join(t, m)
	w.Patience = time.Millisecond
	_, err = w.Alloc(0, 1, 1)
	want(t, err, ErrBusy)
	if o, _ := w.Owner(); !o.Held || o.Op != OpNone {
		t.Fatalf("owner %+v", o)
	}
	ok(t, lk.Unlock())

	b := m.Bytes()
	for _, c := range []struct {
		off  int
		val  uint64
		is   error
		text string
	}{
		{0, 1, ErrMagic, "0x1"},
		{8, 2 | hdrSz<<32, ErrVersion, "version 2, this program has 1"},
		{16, 77, ErrLayout, "0x4d"},
		{24, size + 128, ErrCorrupt, ""},
		{32, 0, ErrCorrupt, ""},
		{32, 1 << 60, ErrCorrupt, ""},
		{32, 9, ErrCorrupt, ""},
		{40, 8191, ErrCorrupt, ""},
		{40, ^uint64(0), ErrCorrupt, ""},
		{48, 0, ErrCorrupt, ""},
		{56, 0, ErrCorrupt, ""},
		{64, 0, ErrCorrupt, ""},
		{88, 0, ErrCorrupt, ""},
		{88, 0xff, ErrCorrupt, ""},
	} {
		was := binary.LittleEndian.Uint64(b[c.off:])
		binary.LittleEndian.PutUint64(b[c.off:], c.val)
		_, err := Join(m)
		want(t, err, c.is)
		if !strings.Contains(err.Error(), c.text) {
			t.Errorf("offset %d: %v does not say %q", c.off, err, c.text)
		}
		binary.LittleEndian.PutUint64(b[c.off:], was)
	}
	ok(t, join(t, m).Verify())
}

func TestReadOnly(t *testing.T) {
	w := format(t, heap, 32, 1<<16)
	o, err := w.NewNamed("a", 0, 10, 1)
	ok(t, err)
	r := join(t, w.given.AsReadOnly())
	if got, err := r.Lookup("a"); err != nil || got.Gaddr != o.Gaddr {
		t.Fatalf("Lookup = %+v, %v", got, err)
	}
	if l := r.Names(); len(l) != 1 || l[0].Name != "a" {
		t.Fatalf("Names = %+v", l)
	}
	ok(t, r.Verify())
	if u, err := r.Usage(); err != nil || u.Used != 1 {
		t.Fatalf("Usage = %+v, %v", u, err)
	}
	_, err = r.Alloc(0, 1, 1)
	want(t, err, ErrReadOnly)
	_, err = r.NewNamed("b", 0, 1, 1)
	want(t, err, ErrReadOnly)
	want(t, r.Free(o.Gaddr), ErrReadOnly)
	_, err = r.TagFree(1)
	want(t, err, ErrReadOnly)
	want(t, r.Reset(), ErrReadOnly)
	want(t, r.Rebuild(), ErrReadOnly)
	_, err = r.Check()
	want(t, err, ErrReadOnly)

	// A dead owner's leavings are told, and readers go on.
	w.hdr.dirty.Store(uint64(OpFree))
	want(t, r.Verify(), ErrDirty)
	if ow, _ := r.Owner(); ow.Held || ow.Op != OpFree {
		t.Fatalf("owner %+v", ow)
	}
	w.hdr.roots[byName].Store(0)
	w.hdr.roots[byGaddr].Store(99)
	if _, err := r.Lookup("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Laddr(o.Gaddr, 10); err != nil {
		t.Fatal(err)
	}
	rep, err := w.Check()
	ok(t, err)
	if rep.Unfinished != OpFree || !rep.Rebuilt {
		t.Fatalf("report %+v", rep)
	}
	ok(t, r.Verify())
	if rep, err = w.Check(); err != nil || rep.Rebuilt || rep.Found != nil {
		t.Fatalf("second report %+v, %v", rep, err)
	}
}

// TestMending: broken indices are noticed by the operation that meets them, rebuilt, and the operation succeeds;
// wrong tagged ranges are refused, and nothing is touched.
func TestMending(t *testing.T) {
	for name, harm := range map[string]func(w *Wksp, i uint32){
		"size root":  func(w *Wksp, i uint32) { w.hdr.roots[bySize].Store(1 << 30) },
		"page root":  func(w *Wksp, i uint32) { w.hdr.roots[byPage].Store(i) },
		"gaddr root": func(w *Wksp, i uint32) { w.hdr.roots[byGaddr].Store(0) },
		"name root":  func(w *Wksp, i uint32) { w.hdr.roots[byName].Store(99) },
		"self link":  func(w *Wksp, i uint32) { w.p(i).left.Store(i); w.p(i).right.Store(i) },
		"idle":       func(w *Wksp, i uint32) { w.hdr.idle.Store(i) },
		"list":       func(w *Wksp, i uint32) { w.p(i).next.Store(i); w.p(i).prev.Store(31) },
	} {
		t.Run(name, func(t *testing.T) {
			w := format(t, heap, 32, 1<<18)
			var gs []uint64
			for range 5 {
				g, err := w.Alloc(0, 5000, 3)
				ok(t, err)
				gs = append(gs, g)
			}
			o, err := w.NewNamed("n", 0, 5000, 4)
			ok(t, err)
			ok(t, w.Free(gs[1]))
			i, _ := w.usedAt(gs[2])
			harm(w, i)
			want(t, w.Verify(), ErrCorrupt)
			_, _ = w.Alloc(0, 4096, 5)
			_, err = w.NewNamed("m", 0, 4096, 5)
			ok(t, err)
			ok(t, w.Free(gs[2]))
			ok(t, w.Free(gs[3]))
			ok(t, w.Free(o.Gaddr))
			rep, err := w.Check()
			ok(t, err)
			_ = rep
			ok(t, w.Verify())
			if l, _ := w.TagQuery(3, 4); len(l) != 2 {
				t.Fatalf("left: %+v", l)
			}
		})
	}
	for name, harm := range map[string]func(p *part){
		"below":   func(p *part) { p.lo.Store(0) },
		"beyond":  func(p *part) { p.hi.Store(1 << 50) },
		"inverse": func(p *part) { p.lo.Store(p.hi.Load()) },
		"odd":     func(p *part) { p.hi.Add(1) },
		"overlap": func(p *part) { p.lo.Add(^uint64(4095)) },
		"slack":   func(p *part) { p.slack.Store(128) },
	} {
		t.Run(name, func(t *testing.T) {
			w := format(t, heap, 32, 1<<18)
			var gs []uint64
			for range 3 {
				g, err := w.Alloc(0, 4096, 3)
				ok(t, err)
				gs = append(gs, g)
			}
			i, _ := w.usedAt(gs[1])
			harm(w.p(i))
			before := string(w.m.Bytes()[160:])
			want(t, w.Verify(), ErrCorrupt)
			want(t, w.Rebuild(), ErrCorrupt)
			_, err := w.Check()
			want(t, err, ErrCorrupt)
			if string(w.m.Bytes()[160:]) != before {
				t.Fatal("a refused rebuild changed something")
			}
			ok(t, w.Reset())
			ok(t, w.Verify())
		})
	}
}
