package wksp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// damagedWksp has five allocations of 4096 bytes, tags 1 to 5, the second and fourth named; harm is done to the third. It
// returns the rows by tag, index 0 unused.
func damagedWksp(t *testing.T, harm func(w *Wksp, rows []uint32)) (*Wksp, []uint32) {
	w := format(t, heap, 32, 1<<18)
	rows := []uint32{0}
	for tag := uint64(1); tag <= 5; tag++ {
		var g uint64
		var err error
		if tag%2 == 0 {
			var o Object
			o, err = w.NewNamed(fmt.Sprintf("n%d", tag), 0, 4096, tag)
			g = o.Gaddr
		} else {
			g, err = w.Alloc(0, 4096, tag)
		}
		ok(t, err)
		i, err := w.usedAt(g)
		ok(t, err)
		rows = append(rows, i)
	}
	harm(w, rows)
	return w, rows
}

func tagsOf(t *testing.T, w *Wksp) (tags []uint64) {
	l, err := w.TagQuery()
	ok(t, err)
	for _, o := range l {
		tags = append(tags, o.Tag)
	}
	return tags
}

// TestDropBad: an impossible row is named by all that look, and can be dropped by its number; nothing else is lost.
func TestDropBad(t *testing.T) {
	w, rows := damagedWksp(t, func(w *Wksp, r []uint32) { w.p(r[3]).lo.Store(0) })
	r := join(t, w.given.AsReadOnly())
	bad, err := r.BadRows()
	ok(t, err)
	if len(bad) != 1 || bad[0].Row != rows[3] || bad[0].Tag != 3 || !bad[0].Impossible || bad[0].Lo != 0 || bad[0].Name != "" {
		t.Fatalf("%+v", bad)
	}
	for _, err := range []error{r.Verify(), w.Verify(), w.Rebuild()} {
		want(t, err, ErrDamaged)
		want(t, err, ErrCorrupt)
		if text := fmt.Sprintf("row %d, tag 0x3: range [0x0,", rows[3]); !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not say %q", err, text)
		}
	}
	u, err := r.Usage()
	ok(t, err)
	if u.Bad != 1 || u.Used != 4 {
		t.Errorf("usage %+v", u)
	}

	// All or nothing.
	before := string(w.m.Bytes()[160:])
	for _, rows := range [][]uint32{{rows[2]}, {rows[3], 32}, {rows[3], 0}, {1 << 31}} {
		dropped, err := w.RebuildWithout(rows...)
		want(t, err, ErrNotFound)
		if dropped != nil {
			t.Fatalf("%v: %+v", rows, dropped)
		}
	}
	_, err = w.RebuildWithout()
	want(t, err, ErrDamaged)
	if string(w.m.Bytes()[160:]) != before {
		t.Fatal("a refused rebuild changed something")
	}
	dropped, err := w.RebuildWithout(rows[3], rows[3])
	ok(t, err)
	if !slices.Equal(dropped, bad) {
		t.Fatalf("dropped %+v, want %+v", dropped, bad)
	}
	ok(t, w.Verify())
	if got := tagsOf(t, w); !slices.Equal(got, []uint64{1, 2, 4, 5}) {
		t.Fatalf("left: %v", got)
	}
	if o, err := r.Lookup("n4"); err != nil || o.Tag != 4 {
		t.Fatal(o, err)
	}
	if bad, err := w.BadRows(); err != nil || len(bad) != 0 {
		t.Fatal(bad, err)
	}
}

// TestDropOverlap: of two rows that overlap, both are shown, and whoever knows says which goes.
func TestDropOverlap(t *testing.T) {
	for _, drop := range []int{2, 3} {
		w, rows := damagedWksp(t, func(w *Wksp, r []uint32) { w.p(r[3]).lo.Add(^uint64(4095)) })
		bad, err := w.BadRows()
		ok(t, err)
		if len(bad) != 2 || bad[0].Row != rows[2] || bad[1].Row != rows[3] || bad[0].Impossible || bad[0].Name != "n2" ||
			!strings.Contains(bad[0].Why, fmt.Sprintf("overlaps row %d", rows[3])) {
			t.Fatalf("%+v", bad)
		}
		if u, _ := w.Usage(); u.Bad != 2 {
			t.Errorf("usage %+v", u)
		}
		dropped, err := w.RebuildWithout(rows[drop])
		ok(t, err)
		if len(dropped) != 1 || dropped[0].Row != rows[drop] {
			t.Fatalf("%+v", dropped)
		}
		ok(t, w.Verify())
		if got := tagsOf(t, w); !slices.Equal(got, slices.DeleteFunc([]uint64{1, 2, 3, 4, 5}, func(t uint64) bool { return t == uint64(drop) })) {
			t.Fatalf("left: %v", got)
		}
	}
}

// TestDropSome: with two rows bad, dropping one is not enough, and is refused. More partitions than rows: any may go.
func TestDropSome(t *testing.T) {
	w, rows := damagedWksp(t, func(w *Wksp, r []uint32) { w.p(r[3]).slack.Store(128); w.p(r[5]).hi.Store(1 << 50) })
	_, err := w.RebuildWithout(rows[3])
	want(t, err, ErrDamaged)
	if bad, _ := w.BadRows(); len(bad) != 2 || len(tagsOf(t, w)) != 3 {
		t.Fatalf("%+v, left %v", bad, tagsOf(t, w))
	}
	dropped, err := w.RebuildWithout(rows[5], rows[3])
	ok(t, err)
	if len(dropped) != 2 {
		t.Fatalf("%+v", dropped)
	}
	ok(t, w.Verify())

	full := format(t, heap, 3, 1<<16)
	for i := range uint64(3) { // each with a hole before it: six partitions
		full.setRange(uint32(i+1), full.dataLo+Granule*(2*i+1), full.dataLo+Granule*(2*i+2))
		full.p(uint32(i + 1)).tag.Store(i + 1)
	}
	want(t, full.Rebuild(), ErrDamaged)
	bad, err := full.BadRows()
	ok(t, err)
	if len(bad) != 3 || bad[2].Impossible {
		t.Fatalf("%+v", bad)
	}
	_, err = full.RebuildWithout(1, 2)
	ok(t, err)
	ok(t, full.Verify())
	if got := tagsOf(t, full); !slices.Equal(got, []uint64{3}) {
		t.Fatal(got)
	}
}

// TestFreeBesideDamage: what lost its tag beside a damaged row is counted, and is said to be damaged, not unfinished.
func TestFreeBesideDamage(t *testing.T) {
	w, rows := damagedWksp(t, func(w *Wksp, r []uint32) { w.p(r[3]).lo.Store(0) })
	n, err := w.TagFree(2)
	want(t, err, ErrDamaged)
	if n != 1 || slices.Contains(tagsOf(t, w), 2) {
		t.Fatalf("%d freed, %v left", n, tagsOf(t, w))
	}
	if o, _ := w.Owner(); o.Op != OpTagFree {
		t.Fatalf("%+v", o)
	}
	r := join(t, w.given.AsReadOnly())
	for _, err := range []error{w.Verify(), r.Verify()} {
		want(t, err, ErrDamaged)
	}
	if bad, err := r.BadRows(); err != nil || len(bad) != 1 {
		t.Fatal(bad, err)
	}
	_, err = w.RebuildWithout(rows[3])
	ok(t, err)
	ok(t, w.Verify())
	if got := tagsOf(t, w); !slices.Equal(got, []uint64{1, 4, 5}) {
		t.Fatal(got)
	}
}

// TestSettled: beside a mutator, looking for damage waits for it, and a mutation meanwhile starts it anew.
func TestSettled(t *testing.T) {
	w := format(t, heap, 32, 1<<18)
	r := join(t, w.given.AsReadOnly())
	r.Patience = time.Millisecond
	ok(t, w.own(OpAlloc, func() error {
		w.begin(OpAlloc, 0)
		_, err := r.BadRows()
		want(t, err, ErrBusy)
		w.end()
		_, err = r.BadRows() // held, but nothing is under way
		return err
	}))
	looks := 0
	ok(t, r.settled("test", func(uint64) {
		if looks++; looks == 1 {
			_, err := w.Alloc(0, 1, 1)
			ok(t, err)
		}
	}))
	if looks != 2 {
		t.Errorf("%d looks", looks)
	}
}
