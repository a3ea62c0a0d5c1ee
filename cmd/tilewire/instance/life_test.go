package instance

import (
	"encoding/binary"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

func newLife(t *testing.T) (*Life, shmem.Mem) {
	t.Helper()
	m := shmem.Heap(lifeSz, lifeAlign)
	if err := lifeNew(m); err != nil {
		t.Fatal(err)
	}
	l, err := lifeJoin(m)
	if err != nil {
		t.Fatal(err)
	}
	return l, m
}

func TestLifeLayoutGolden(t *testing.T) {
	ty := reflect.TypeFor[lifeMem]()
	if ty.Size() != lifeSz {
		t.Errorf("%d bytes, want %d", ty.Size(), lifeSz)
	}
	for name, want := range map[string]uintptr{"magic": 0, "version": 8, "size": 12, "word": 128, "gen": 136, "pid": 144, "bufs": 256} {
		if f, ok := ty.FieldByName(name); !ok || f.Offset != want {
			t.Errorf("%s at %d, want %d", name, f.Offset, want)
		}
	}
}

func TestLifeState(t *testing.T) {
	l, m := newLife(t)
	if s, since := l.State(); s != Starting || since != 0 {
		t.Errorf("at first %v since %d", s, since)
	}
	ro, err := lifeJoin(m.AsReadOnly())
	if err != nil {
		t.Fatal(err)
	}
	for s := Starting; s < stateCnt; s++ {
		before := shmem.Monotonic()
		l.SetState(s)
		got, since := ro.State()
		if got != s || since < before-1000 || since > shmem.Monotonic() {
			t.Errorf("%v since %d, want %v after %d", got, since, s, before)
		}
	}
	if stateCnt.String() != "unknown" || Draining.String() != "draining" {
		t.Error("names")
	}
	defer func() {
		if recover() == nil {
			t.Error("written in read-only memory")
		}
	}()
	ro.SetState(Ready)
}

func TestLifeSettings(t *testing.T) {
	l, m := newLife(t)
	var v Settings
	if gen, err := l.Settings(&v); gen != 0 || err != nil || !reflect.DeepEqual(v, Settings{}) {
		t.Errorf("before the first: %d, %v, %+v", gen, err, v)
	}
	for i := range 5 { // also that a short one leaves nothing of the long one before
		want := Settings{RestartMax: i, Limits: Limits{AllowOrigins: []string{strings.Repeat("x", 100-20*i)}, Header: 7}}
		gen, err := l.SetSettings(want)
		if gen != uint64(i+1) || err != nil || l.Generation() != gen {
			t.Fatal(gen, err)
		}
		next, err := lifeJoin(m) // as a successor does
		if err != nil {
			t.Fatal(err)
		}
		var got Settings
		if g, err := next.Settings(&got); g != gen || err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("generation %d, %v: %+v", g, err, got)
		}
	}
	if _, err := l.SetSettings(strings.Repeat("x", SettingsMax)); err == nil || l.Generation() != 5 {
		t.Errorf("too large: %v, generation %d", err, l.Generation())
	}
	if _, err := l.SetSettings(strings.Repeat("x", SettingsMax-2)); err != nil {
		t.Error(err)
	}
}

// What lies in shared memory is not trusted.
func TestLifeHostile(t *testing.T) {
	l, m := newLife(t)
	if _, err := l.SetSettings(Settings{}); err != nil {
		t.Fatal(err)
	}
	var v Settings
	l.l.bufs[1].len.Store(SettingsMax + 1)
	if _, err := l.Settings(&v); err == nil {
		t.Error("a length beyond the buffer was taken")
	}
	l.l.bufs[1].len.Store(1)
	if _, err := l.Settings(&v); err == nil {
		t.Error("half a document was taken")
	}
	for off, val := range map[int]uint32{0: 1, 8: 2, 12: 3} {
		b := m.Bytes()[off:]
		was := binary.LittleEndian.Uint32(b)
		binary.LittleEndian.PutUint32(b, val)
		if _, err := lifeJoin(m); err == nil {
			t.Errorf("joined with %d at %d", val, off)
		}
		binary.LittleEndian.PutUint32(b, was)
	}
	if small, _ := m.Slice(0, lifeSz-8); true {
		if _, err := lifeJoin(small); err == nil {
			t.Error("joined in less memory than it takes")
		}
	}
}

// Readers beside a writer see whole settings, each generation with its own.
func TestLifeReadersBesideWriter(t *testing.T) {
	l, m := newLife(t)
	type doc struct {
		Gen  uint64
		Pad  string
		Gen2 uint64
	}
	const last = 3000
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			r, err := lifeJoin(m)
			if err != nil {
				t.Error(err)
				return
			}
			for seen := uint64(0); seen < last; {
				var d doc
				gen, err := r.Settings(&d)
				if err != nil || gen < seen || gen > 0 && (d.Gen != gen || d.Gen2 != gen) {
					t.Errorf("generation %d after %d: %v, %d %d", gen, seen, err, d.Gen, d.Gen2)
					return
				}
				seen = gen
			}
		})
	}
	for g := uint64(1); g <= last; g++ {
		if _, err := l.SetSettings(doc{g, strings.Repeat("y", int(g%977)), g}); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

// An instance has one, also for who joins read-only.
func TestInstanceLife(t *testing.T) {
	dirs(t)
	in := create(t, "life")
	in.Life().SetState(Draining)
	if _, err := in.Life().SetSettings(Settings{RestartMax: 9}); err != nil {
		t.Fatal(err)
	}
	ro, err := Join("life", shmem.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	var v Settings
	if gen, err := ro.Life().Settings(&v); gen != 1 || err != nil || v.RestartMax != 9 {
		t.Errorf("%d, %v, %+v", gen, err, v)
	}
	if s, _ := ro.Life().State(); s != Draining {
		t.Error(s)
	}
	if err := ro.Leave(); err != nil {
		t.Error(err)
	}
	if err := in.Remove(); err != nil {
		t.Error(err)
	}
}
