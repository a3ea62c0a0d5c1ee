package wksp

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

// state is all that is allocated, bytes included.
type state struct {
	gaddr, size, tag uint64
	name, bytes      string
}

func stateOf(t testing.TB, w *Wksp) []state {
	t.Helper()
	l, err := w.TagQuery()
	ok(t, err)
	var s []state
	for _, o := range l {
		s = append(s, state{o.Gaddr, o.Size, o.Tag, o.Name, string(o.Mem.Bytes())})
	}
	return s
}

// stocked is a workspace with allocations of all kinds and sizes, some freed again, each with bytes of its own.
func stocked(t testing.TB, mk mkMem, seed uint64) *Wksp {
	w := format(t, mk, 60, 3<<20)
	stock(t, w, seed)
	return w
}

func stock(t testing.TB, w *Wksp, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 5))
	fill := func(m shmem.Mem) {
		for i := range m.Bytes() {
			m.Bytes()[i] = byte(r.Uint32())
		}
	}
	big, err := w.NewNamed("big", 0, ckptBlock+12345, 9) // more than a block of the file
	ok(t, err)
	fill(big.Mem)
	var gs []uint64
	for i := range 20 {
		size := 1 + r.Uint64N(20000)
		if i%3 == 0 {
			o, err := w.NewNamed(fmt.Sprintf("o/%d", i), 1<<r.IntN(13), size, uint64(1+i%4))
			ok(t, err)
			fill(o.Mem)
			continue
		}
		g, err := w.Alloc(1<<r.IntN(13), size, uint64(1+i%4))
		ok(t, err)
		m, err := w.Laddr(g, 0)
		ok(t, err)
		fill(m)
		gs = append(gs, g)
	}
	for i := 0; i < len(gs); i += 3 {
		ok(t, w.Free(gs[i]))
	}
	ok(t, w.Verify())
}

func TestCheckptRestore(t *testing.T) {
	both(t, func(t *testing.T, mk mkMem) { checkptRestore(t, mk) })
}

// checkptRestore takes a checkpoint, restores it over itself, into another workspace, larger ones, and refuses smaller.
func checkptRestore(t *testing.T, mk mkMem) {
	w := stocked(t, mk, testSeed(t))
	was := stateOf(t, w)
	path := filepath.Join(t.TempDir(), "a.ckpt")
	info, err := w.Checkpt(path)
	ok(t, err)
	fi, err := os.Stat(path)
	ok(t, err)
	if info.Name != "test" || info.PartMax != 60 || info.DataMax != 3<<20 || int(info.Allocs) != len(was) ||
		info.FileLen != uint64(fi.Size()) || fi.Mode() != 0o600 || time.Since(info.Taken) > time.Minute {
		t.Fatalf("%+v, file of %d bytes, mode %v", info, fi.Size(), fi.Mode())
	}
	if l, _ := os.ReadDir(filepath.Dir(path)); len(l) != 1 {
		t.Fatalf("other files are left: %v", l)
	}
	read, err := ReadCheckpt(path)
	ok(t, err)
	if !read.Taken.Equal(info.Taken) {
		t.Fatalf("taken %v, the file says %v", info.Taken, read.Taken)
	}
	read.Taken = info.Taken
	if read != info {
		t.Fatalf("the file says %+v, want %+v", read, info)
	}

	// Over what has gone on since.
	ok(t, w.Free(was[3].gaddr))
	_, err = w.NewNamed("later", 0, 100, 77)
	ok(t, err)
	m, _ := w.Laddr(was[0].gaddr, 0)
	clear(m.Bytes())
	_, err = w.Restore(path)
	ok(t, err)
	same := func(w *Wksp) {
		t.Helper()
		ok(t, w.Verify())
		if got := stateOf(t, w); !slices.Equal(got, was) {
			t.Fatalf("restored %d allocations, not as the %d that were", len(got), len(was))
		}
		for _, s := range was {
			if s.name == "" {
				continue
			}
			if o, err := w.Lookup(s.name); err != nil || o.Gaddr != s.gaddr {
				t.Fatalf("%s: %+v, %v", s.name, o, err)
			}
		}
		g, err := w.Alloc(1, 100, 78)
		ok(t, err)
		ok(t, w.Free(g))
	}
	same(w)
	_, err = w.Lookup("later")
	want(t, err, ErrNotFound)

	for _, g := range [][2]uint64{{60, 3 << 20}, {60, 5 << 20}, {58, 3 << 20}} { // 58 rows and 60 end on the same page
		v := format(t, mk, g[0], g[1])
		_, err = v.Alloc(0, 5000, 3)
		ok(t, err)
		_, err = v.Restore(path)
		ok(t, err)
		same(v)
		if v.partMax != g[0] || v.dataHi-v.dataLo != g[1] {
			t.Fatal("its geometry changed")
		}
	}
	for _, g := range [][2]uint64{{60, 1 << 20}, {3000, 3 << 20}, {18, 3 << 20}} {
		v := format(t, mk, g[0], g[1])
		gone, err := v.Alloc(0, 5000, 3)
		ok(t, err)
		_, err = v.Restore(path)
		want(t, err, ErrGeometry)
		if !strings.Contains(err.Error(), "60") {
			t.Errorf("%v does not name the partMax that would do", err)
		}
		if tag, err := v.Tag(gone); tag != 3 || err != nil {
			t.Fatal("a refused restore harmed something")
		}
		ok(t, v.Verify())
	}

	// Empty.
	e := format(t, mk, 60, 3<<20)
	_, err = e.Checkpt(path)
	ok(t, err)
	_, err = w.Restore(path)
	ok(t, err)
	if got := stateOf(t, w); len(got) != 0 {
		t.Fatalf("%d allocations out of an empty checkpoint", len(got))
	}
	ok(t, w.Verify())
}

func TestCheckptNegatives(t *testing.T) {
	w := stocked(t, heap, 1)
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	_, err := w.Checkpt(filepath.Join(dir, "none", "a"))
	want(t, err, os.ErrNotExist)
	_, err = w.Checkpt(dir)
	want(t, err, ErrNotCheckpt)
	_, err = w.Checkpt("/dev/null")
	want(t, err, ErrNotCheckpt)
	_, err = w.Restore(path)
	want(t, err, os.ErrNotExist)
	_, err = w.Restore("/dev/zero")
	want(t, err, ErrNotCheckpt)
	_, err = w.Restore(dir)
	want(t, err, ErrNotCheckpt)
	_, err = ReadCheckpt(dir)
	want(t, err, ErrNotCheckpt)
	r := join(t, w.given.AsReadOnly())
	_, err = r.Checkpt(path)
	want(t, err, ErrReadOnly)
	_, err = w.Checkpt(path)
	ok(t, err)
	_, err = r.Restore(path)
	want(t, err, ErrReadOnly)
	lk, err := w.given.Lock(lockOff)
	ok(t, err)
	w.Patience = time.Millisecond
	_, err = w.Checkpt(path)
	want(t, err, ErrBusy)
	_, err = w.Restore(path)
	want(t, err, ErrBusy)
	ok(t, lk.Unlock())
	w.Leave()
	_, err = w.Checkpt(path)
	want(t, err, ErrLeft)
	_, err = w.Restore(path)
	want(t, err, ErrLeft)
	_, err = ReadCheckpt(path)
	ok(t, err)
}

// changing is a file whose contents are others at the second reading.
type changing struct {
	first, second []byte
	reads         int
}

func (c *changing) ReadAt(p []byte, off int64) (int, error) {
	if off == 0 {
		c.reads++
	}
	b := c.first
	if c.reads > 1 {
		b = c.second
	}
	return bytes.NewReader(b).ReadAt(p, off)
}

// TestRestoreChanging: a file that is altered between the verification and the copying leaves an empty, sound workspace.
func TestRestoreChanging(t *testing.T) {
	_, good := image(t)
	for _, at := range []int{0, 100, ckptHdrSz + 3, ckptHdrSz + 5*ckptRowSz + 8, len(good) - 3} {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		v := stocked(t, heap, 2)
		u := format(t, heap, 24, 1<<16)
		_, err := u.NewNamed("was", 0, 1000, 5)
		ok(t, err)
		_, err = u.restoreFrom(&changing{first: good, second: bad}, uint64(len(good)))
		if !errors.Is(err, ErrCheckpt) && !errors.Is(err, ErrNotCheckpt) {
			t.Fatalf("byte %d: %v", at, err)
		}
		ok(t, u.Verify())
		if got := stateOf(t, u); len(got) != 0 {
			t.Fatalf("byte %d: %d allocations are left", at, len(got))
		}
		v.Leave()
	}
}

// TestRestoreMends: broken indices and impossible ranges do not matter, all is replaced.
func TestRestoreMends(t *testing.T) {
	w, good := image(t)
	was := stateOf(t, w)
	w.p(1).hi.Store(1 << 50)
	w.hdr.roots[byName].Store(99)
	w.hdr.idle.Store(77)
	want(t, w.Rebuild(), ErrCorrupt)
	_, err := w.restoreFrom(bytes.NewReader(good), uint64(len(good)))
	ok(t, err)
	ok(t, w.Verify())
	if !slices.Equal(stateOf(t, w), was) {
		t.Fatal("not as it was")
	}
}

// TestRestoreUnfinished: what a restore that died leaves is told, counts as empty, and is made so by whoever comes next.
func TestRestoreUnfinished(t *testing.T) {
	for name, mend := range map[string]func(w *Wksp) error{
		"check": func(w *Wksp) error {
			r, err := w.Check()
			if err == nil && (r.Unfinished != OpRestore || !r.Rebuilt || !errors.Is(r.Found, ErrDirty)) {
				return fmt.Errorf("report %+v", r)
			}
			return err
		},
		"rebuild": (*Wksp).Rebuild,
		"reset":   (*Wksp).Reset,
		"tagfree": func(w *Wksp) error { _, err := w.TagFree(99); return err },
		"alloc": func(w *Wksp) error {
			g, err := w.Alloc(0, 60000, 1)
			if err == nil {
				err = w.Free(g)
			}
			return err
		},
		"checkpt": func(w *Wksp) error { _, err := w.Checkpt(filepath.Join(t.TempDir(), "c")); return err },
	} {
		w, _ := image(t)
		w.hdr.dirty.Store(uint64(OpRestore))
		r := join(t, w.given.AsReadOnly())
		err := r.Verify()
		want(t, err, ErrDirty)
		if !strings.Contains(err.Error(), "restore") {
			t.Errorf("%v does not say restore", err)
		}
		want(t, w.Verify(), ErrDirty)
		if l, _ := r.TagQuery(); len(l) != 0 {
			t.Fatalf("%s: readers see %d allocations", name, len(l))
		}
		if _, err := r.Lookup("n1"); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		if u, _ := r.Usage(); u.Used != 0 || u.Bad != 0 {
			t.Fatalf("%s: %+v", name, u)
		}
		if err := mend(w); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ok(t, r.Verify())
		if l, _ := r.TagQuery(); len(l) != 0 {
			t.Fatalf("%s: %d allocations", name, len(l))
		}
	}
}

// bytesWith is a file in memory that runs probe before each write.
type bytesWith struct {
	bytes.Buffer
	probe func()
	tries int
}

func (b *bytesWith) Write(p []byte) (int, error) {
	if b.probe != nil {
		b.probe()
	}
	return b.Buffer.Write(p)
}

func (b *bytesWith) again() error {
	b.Reset()
	b.tries++
	return nil
}

// holds checks that a file has exactly these allocations.
func holds(t *testing.T, file []byte, want []state) {
	t.Helper()
	v := format(t, heap, 60, 3<<20)
	_, err := v.restoreFrom(bytes.NewReader(file), uint64(len(file)))
	ok(t, err)
	if got := stateOf(t, v); !slices.Equal(got, want) {
		t.Fatalf("the checkpoint has %d allocations, not the %d that were", len(got), len(want))
	}
}

// TestCheckptLetsGo: others allocate and free while a checkpoint is written, however impatient they are. It has what was
// there when it began.
func TestCheckptLetsGo(t *testing.T) {
	w := stocked(t, heap, 3)
	was := stateOf(t, w)
	v := join(t, w.given)
	v.Patience = time.Millisecond
	n := 0
	f := &bytesWith{probe: func() {
		g, err := v.Alloc(0, 1, 1)
		ok(t, err)
		ok(t, v.Free(g))
		n++
	}}
	_, err := w.checkptTo(f, f.again)
	ok(t, err)
	if f.tries != 0 || n < 3 {
		t.Errorf("begun %d times anew, %d probes", f.tries, n)
	}
	holds(t, f.Bytes(), was)
}

// TestCheckptFreed: an allocation that is freed, and even made again, before its bytes are in the file makes the checkpoint
// begin anew; one that is freed after that does not.
func TestCheckptFreed(t *testing.T) {
	w := stocked(t, heap, 3)
	v := join(t, w.given)
	last := stateOf(t, w)[len(stateOf(t, w))-1]
	first := stateOf(t, w)[0]
	n := 0
	f := &bytesWith{}
	f.probe = func() {
		switch n++; n {
		case 2: // the first block, the table in it
			ok(t, v.Free(last.gaddr))
			g, err := v.Alloc(1, last.size, last.tag)
			ok(t, err)
			m, _ := v.Laddr(g, 0)
			clear(m.Bytes())
		}
	}
	_, err := w.checkptTo(f, f.again)
	ok(t, err)
	if f.tries != 1 {
		t.Errorf("begun %d times anew", f.tries)
	}
	holds(t, f.Bytes(), stateOf(t, w))

	was, tries := stateOf(t, w), f.tries
	n, f.probe = 0, func() {
		if n++; n == 3 { // two blocks are out: the first allocation is in them
			ok(t, v.Free(first.gaddr))
		}
	}
	f.Reset()
	_, err = w.checkptTo(f, f.again)
	ok(t, err)
	if f.tries != tries {
		t.Errorf("begun %d times anew", f.tries-tries)
	}
	holds(t, f.Bytes(), was)
}

// TestCheckptChurn: where allocations of the table are freed in each try, the last one holds the lock and says so.
func TestCheckptChurn(t *testing.T) {
	w := stocked(t, heap, 3)
	v := join(t, w.given)
	v.Patience = time.Millisecond
	f, n, refused := &bytesWith{}, 0, 0
	f.probe = func() {
		if _, err := v.Lookup("big"); err != nil { // readers go on in any case
			t.Error(err)
		}
		if n++; n%2 == 1 { // the header; then the first block
			return
		}
		list := stateOf(t, v)
		err := v.Free(list[len(list)-1].gaddr)
		if err == nil {
			return
		}
		refused++
		want(t, err, ErrBusy)
		if !strings.HasSuffix(err.Error(), "in checkpt") {
			t.Errorf("%v does not say what holds it up", err)
		}
		if o, _ := v.Owner(); !o.Held || o.Op != OpCheckpt {
			t.Errorf("owner %+v", o)
		}
	}
	again := func() error { n = 0; return f.again() }
	_, err := w.checkptTo(f, again)
	ok(t, err)
	if f.tries != ckptTries-1 || refused == 0 {
		t.Errorf("begun %d times anew, %d refused", f.tries, refused)
	}
	holds(t, f.Bytes(), stateOf(t, w))
	if o, _ := v.Owner(); o.Held || o.Op != OpNone {
		t.Errorf("owner afterwards %+v", o)
	}
}

// TestCheckptDeleted: a workspace that is deleted, and made anew with the same rows, under a checkpoint.
func TestCheckptDeleted(t *testing.T) {
	w := stocked(t, heap, 3)
	n := 0
	f := &bytesWith{probe: func() {
		if n++; n == 2 {
			ok(t, Delete(w.given))
			ok(t, New(w.given, "test", 60, 3<<20, 42))
			stock(t, join(t, w.given), 3)
		}
	}}
	_, err := w.checkptTo(f, f.again)
	want(t, err, ErrLeft)
}

// TestCheckptFull: a write that fails is told, and harms nothing.
func TestCheckptFull(t *testing.T) {
	w := stocked(t, heap, 4)
	n := 0
	full := writerFunc(func(p []byte) (int, error) {
		if n += len(p); n > 1<<20 {
			return 0, errors.New("no space left")
		}
		return len(p), nil
	})
	if _, err := w.checkptTo(full, nil); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Fatal(err)
	}
	ok(t, w.Verify())
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
