//go:build explore

package wksp

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// These tests die before every single store of every mutating operation: go test -tags explore ./wksp

var errDeath = errors.New("death")

// dieAt runs op and kills it before its k-th store (1 is the first). It tells whether op got that far, and what
// store it would have been. As in a real death, only the lock is let go, by the deferred Unlock.
func dieAt(k int, op func()) (died bool, at point) {
	n := 0
	stepHook = func(p point) {
		if n++; n == k {
			at = p
			panic(errDeath)
		}
	}
	defer func() {
		stepHook = nil
		if e := recover(); e != nil {
			if e != errDeath {
				panic(e)
			}
			died = true
		}
	}()
	op()
	return false, 0
}

func clone(m shmem.Mem) shmem.Mem {
	c := shmem.Heap(m.Len(), Align())
	copy(c.Bytes(), m.Bytes())
	return c
}

// fact is an allocation and its bytes.
type fact struct {
	gaddr, size, tag uint64
	name, bytes      string
}

func facts(t testing.TB, m shmem.Mem) []fact {
	t.Helper()
	l, err := join(t, m.AsReadOnly()).TagQuery()
	ok(t, err)
	var fs []fact
	for _, o := range l {
		fs = append(fs, fact{o.Gaddr, o.Size, o.Tag, o.Name, string(o.Mem.Bytes())})
	}
	return fs
}

// subset tells whether every fact of a is one of b.
func subset(a, b []fact) bool {
	for _, f := range a {
		if !slices.Contains(b, f) {
			return false
		}
	}
	return true
}

// crowded is a small workspace with used, named and free partitions in all neighbourhoods, each filled with bytes of
// its own.
func crowded(t testing.TB) shmem.Mem {
	w := format(t, heap, 24, 1<<15)
	var gs []uint64
	for i := range 12 {
		var o Object
		var err error
		size := uint64(100 + 70*i)
		if i%3 == 0 {
			o, err = w.NewNamed(fmt.Sprintf("obj/%d", i), 1, size, uint64(1+i%4))
		} else {
			o, err = w.alloc(request{align: 1, size: size, tag: uint64(1 + i%4)})
		}
		ok(t, err)
		for j := range o.Mem.Bytes() {
			o.Mem.Bytes()[j] = byte(i + 1)
		}
		gs = append(gs, o.Gaddr)
	}
	for _, i := range []int{1, 4, 5, 9} {
		ok(t, w.Free(gs[i]))
	}
	ok(t, w.Verify())
	return w.given
}

func TestDeathAtEveryStore(t *testing.T) {
	base := crowded(t)
	l, _ := join(t, base).TagQuery()
	at := func(i int) uint64 { return l[i].Gaddr }
	broken := clone(base) // indices gone, as a death left them
	bw := join(t, broken)
	bw.hdr.dirty.Store(uint64(OpFree))
	for i := range bw.hdr.roots {
		bw.hdr.roots[i].Store(uint32(7 * i))
	}
	bw.hdr.first.Store(5)
	for i := range bw.parts {
		if p := &bw.parts[i]; p.tag.Load() == 0 {
			p.lo.Store(uint64(i) * 77)
			p.hi.Store(uint64(i) * 99)
		}
		bw.parts[i].next.Store(uint32(i))
		bw.names[i].left.Store(uint32(i + 1))
	}
	free := func(i int) func(*Wksp) error { return func(w *Wksp) error { return w.Free(at(i)) } }
	for _, c := range []struct {
		name  string
		base  shmem.Mem
		op    func(w *Wksp) error
		atom  bool // the truth changes by one store
		least int  // stores
	}{
		{"alloc/exact", base, func(w *Wksp) error { _, err := w.Alloc(1, 256, 50); return err }, true, 8},
		{"alloc/tail", base, func(w *Wksp) error { _, err := w.Alloc(1, 300, 50); return err }, true, 15},
		{"alloc/aligned", base, func(w *Wksp) error { _, err := w.Alloc(2048, 2000, 50); return err }, true, 20},
		{"alloc/page", base, func(w *Wksp) error { _, err := w.Alloc(0, 5000, 50); return err }, true, 20},
		{"alloc/least", base, func(w *Wksp) error { _, _, err := w.AllocAtLeast(256, 5000, 50); return err }, true, 15},
		{"named", base, func(w *Wksp) error { _, err := w.NewNamed("a/new/object", 1, 5000, 50); return err }, true, 20},
		{"named/aligned", base, func(w *Wksp) error { _, err := w.NewNamed("x", 4096, 1, 50); return err }, true, 20},
		{"free/first", base, free(0), true, 15},
		{"free/between", base, free(2), true, 15},
		{"free/last", base, free(len(l) - 1), true, 15},
		{"free/all", base, func(w *Wksp) error {
			for i := range l {
				if err := w.Free(at(i)); err != nil {
					return err
				}
			}
			return nil
		}, false, 150},
		{"tagfree", base, func(w *Wksp) error { _, err := w.TagFree(1, 3); return err }, false, 30},
		{"reset", base, (*Wksp).Reset, false, 60},
		{"rebuild", base, (*Wksp).Rebuild, false, 60},
		{"rebuild/broken", broken, (*Wksp).Rebuild, false, 100},
		{"check/broken", broken, func(w *Wksp) error { _, err := w.Check(); return err }, false, 100},
		{"alloc/broken", broken, func(w *Wksp) error { _, err := w.Alloc(1, 300, 50); return err }, true, 100},
		{"free/broken", broken, free(1), true, 100},
	} {
		t.Run(c.name, func(t *testing.T) { explore(t, c.base, c.op, c.atom, c.least) })
	}
}

func explore(t *testing.T, base shmem.Mem, op func(*Wksp) error, atom bool, least int) {
	pre := facts(t, base)
	m := clone(base)
	ok(t, op(join(t, m)))
	ok(t, join(t, m).Verify())
	post := facts(t, m)
	changed, k, second := point(255), 1, 0
	for ; ; k++ {
		m := clone(base)
		died, at := dieAt(k, func() { ok(t, op(join(t, m))) })
		if !died {
			break
		}
		now := facts(t, m)
		isPre, isPost := slices.Equal(now, pre), slices.Equal(now, post)
		switch {
		case atom && !isPre && !isPost:
			t.Fatalf("death before store %d (%s): neither before nor after: %+v", k, at, now)
		case atom && isPre && !isPost && changed != 255:
			t.Fatalf("death before store %d (%s): undone after it was done", k, at)
		case !atom && !(subset(now, pre) && subset(post, now)):
			t.Fatalf("death before store %d (%s): %+v", k, at, now)
		case atom && isPost && !isPre && changed == 255:
			changed = at
		}
		err := join(t, m).Verify()
		if err != nil && !errors.Is(err, ErrDirty) && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("death before store %d (%s): %v", k, at, err)
		}
		if errors.Is(err, ErrCorrupt) {
			t.Fatalf("death before store %d (%s) left it wrong without a mark: %v", k, at, err)
		}
		recoverAll(t, m, now, fmt.Sprintf("death before store %d (%s)", k, at), &second)
	}
	if k <= least {
		t.Errorf("only %d stores, at least %d expected: is the seam gone?", k-1, least)
	}
	t.Logf("%d kill points, %d more in recoveries", k-1, second)
}

// recoverAll recovers what m is in, in each way there is: by Check, by the next allocation, and by a rebuild that
// itself dies before each of its stores. What is allocated must come through unharmed.
func recoverAll(t *testing.T, m shmem.Mem, now []fact, when string, second *int) {
	t.Helper()
	sound := func(m shmem.Mem, how string, want []fact) {
		t.Helper()
		if err := join(t, m).Verify(); err != nil {
			t.Fatalf("%s, %s: %v", when, how, err)
		}
		if got := facts(t, m); !slices.Equal(got, want) {
			t.Fatalf("%s, %s: %+v, want %+v", when, how, got, want)
		}
	}
	c := clone(m)
	_, err := join(t, c).Check()
	ok(t, err)
	sound(c, "Check", now)

	c = clone(m)
	w := join(t, c)
	o, err := w.NewNamed("after", 1, 128, 60)
	if err != nil {
		t.Fatalf("%s, next alloc: %v", when, err)
	}
	fresh := fact{o.Gaddr, 128, 60, "after", string(o.Mem.Bytes())}
	for _, f := range now {
		if f.gaddr < fresh.gaddr+fresh.size && fresh.gaddr < f.gaddr+f.size {
			t.Fatalf("%s: %#x was given out twice", when, fresh.gaddr)
		}
	}
	got := facts(t, c)
	if !subset(now, got) || len(got) != len(now)+1 {
		t.Fatalf("%s, next alloc: %+v, want %+v and the new one", when, got, now)
	}
	ok(t, w.Free(o.Gaddr))
	sound(c, "next alloc", now)

	for j := 1; ; j++ {
		c := clone(m)
		died, at := dieAt(j, func() { ok(t, join(t, c).Rebuild()) })
		if !died {
			break
		}
		*second++
		if got := facts(t, c); !slices.Equal(got, now) {
			t.Fatalf("%s, rebuild dies before store %d (%s): %+v, want %+v", when, j, at, got, now)
		}
		if j%9 != 1 { // the recovery of the recovery: a ninth of them will do
			continue
		}
		_, err := join(t, c).Check()
		ok(t, err)
		sound(c, fmt.Sprintf("rebuild dies before store %d (%s)", j, at), now)
	}
}

// TestTagIsTheTruth: an allocation comes into being with the store of its tag, and ends with it.
func TestTagIsTheTruth(t *testing.T) {
	base := crowded(t)
	l, _ := join(t, base).TagQuery()
	for name, op := range map[string]func(*Wksp) error{
		"alloc": func(w *Wksp) error { _, err := w.NewNamed("new", 2048, 2000, 50); return err },
		"free":  func(w *Wksp) error { return w.Free(l[3].Gaddr) },
	} {
		pre, flips := facts(t, base), 0
		before := pre
		var lastAt point
		for k := 1; ; k++ {
			m := clone(base)
			died, at := dieAt(k, func() { ok(t, op(join(t, m))) })
			if !died {
				break
			}
			now := facts(t, m)
			if !slices.Equal(now, before) {
				flips++
				if lastAt != pointTag {
					t.Errorf("%s: the truth changed by a store of kind %s", name, lastAt)
				}
			}
			before, lastAt = now, at
		}
		if flips != 1 {
			t.Errorf("%s: the truth changed %d times", name, flips)
		}
	}
}

func TestDeathInNew(t *testing.T) {
	size, _ := Footprint(6, 4096)
	for name, fill := range map[string]byte{"zero": 0, "garbage": 0x5a} {
		joinable, k := 0, 1
		for ; ; k++ {
			m := shmem.Heap(size, Align())
			copy(m.Bytes(), bytes.Repeat([]byte{fill}, int(size)))
			died, at := dieAt(k, func() { ok(t, New(m, "n", 6, 4096, 3)) })
			if !died {
				break
			}
			if w, err := Join(m); err == nil {
				joinable++
				if at != pointUnlock {
					t.Fatalf("%s: death before store %d (%s): can be joined", name, k, at)
				}
				ok(t, w.Verify())
				continue
			} else {
				want(t, err, ErrMagic)
			}
			ok(t, New(m, "n", 6, 4096, 3))
			ok(t, join(t, m).Verify())
		}
		if joinable != 1 || k < 20 {
			t.Errorf("%s: %d kill points, joinable after %d", name, k-1, joinable)
		}
		t.Logf("%s: %d kill points", name, k-1)
	}
}

func TestDeathInDelete(t *testing.T) {
	base := crowded(t)
	pre := facts(t, base)
	k := 1
	for ; ; k++ {
		m := clone(base)
		died, at := dieAt(k, func() { ok(t, Delete(m)) })
		if !died {
			break
		}
		if at == pointMagic {
			ok(t, join(t, m).Verify())
			if !slices.Equal(facts(t, m), pre) {
				t.Fatal("a Delete that did not happen changed something")
			}
			continue
		}
		_, err := Join(m)
		want(t, err, ErrMagic)
		ok(t, New(m, "n", 24, 1<<15, 3))
		ok(t, join(t, m).Verify())
	}
	if k != 3 {
		t.Errorf("%d kill points, want 2", k-1)
	}
}
