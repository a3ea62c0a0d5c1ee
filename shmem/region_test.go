package shmem

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheckName(t *testing.T) {
	for _, good := range []string{"a", "0", "main", "a.b-c_d", strings.Repeat("x", 40)} {
		if err := CheckName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", "-a", "_a", ".a", "A", "a/b", "a b", "a\x00", "ä", "../x", strings.Repeat("x", 41)} {
		if err := CheckName(bad); !errors.Is(err, ErrBadName) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := Create(bad, 4096, Options{}); !errors.Is(err, ErrBadName) {
			t.Errorf("Create(%q): %v", bad, err)
		}
		if _, err := Open(bad, ReadOnly); !errors.Is(err, ErrBadName) {
			t.Errorf("Open(%q): %v", bad, err)
		}
		if err := Unlink(bad, true); !errors.Is(err, ErrBadName) {
			t.Errorf("Unlink(%q): %v", bad, err)
		}
	}
}

func TestLifecycle(t *testing.T) {
	name := fresh(t)
	if _, err := Open(name, ReadWrite); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	seen := false
	r, err := Create(name, 10000, Options{Mode: 0o640, Init: func(m Mem) error {
		_, err := Open(name, ReadOnly)
		seen = !errors.Is(err, ErrNotFound)
		m.Bytes()[9999] = 42
		l, err := m.Lock(0) // a role can be taken before the region has a name
		if err != nil {
			return err
		}
		return l.Unlock()
	}})
	if err != nil {
		t.Fatal(err)
	}
	if seen {
		t.Error("visible before it was complete")
	}
	if r.Size() != 12288 || r.Mem().Len() != 12288 || r.PageSize() != PageNormal || r.Name() != name || r.Mem().ReadOnly() {
		t.Errorf("size %d, page %d", r.Size(), r.PageSize())
	}
	if st, _ := os.Stat(r.Path()); st.Mode() != 0o640 {
		t.Error("mode", st.Mode())
	}
	if _, err := Create(name, 4096, Options{}); !errors.Is(err, ErrExists) {
		t.Error("twice:", err)
	}
	o, err := Open(name, ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if o.Mem().Bytes()[9999] != 42 || o.Size() != r.Size() || o.Mem().SameSpace(r.Mem()) {
		t.Error("the join shows another region")
	}
	l, err := o.Mem().Lock(77)
	if err != nil || !r.Mem().Locked(77) {
		t.Error("locks are not shared:", err)
	}
	want := []Joiner{{os.Getpid(), false}, {os.Getpid(), false}}
	if js, err := Joiners(name); err != nil || !slices.Equal(js, want) {
		t.Error(js, err)
	}
	if err := Unlink(name, false); !errors.Is(err, ErrJoined) {
		t.Error("unlinked while joined:", err)
	}
	if err := o.Leave(); err != nil {
		t.Error(err)
	}
	if err := o.Leave(); !errors.Is(err, ErrLeft) {
		t.Error("left twice:", err)
	}
	if !o.Mem().Locked(1) {
		t.Error("a left region must not call anything free")
	}
	if _, err := o.Mem().Lock(1); !errors.Is(err, ErrLeft) {
		t.Error("lock after Leave:", err)
	}
	if !r.Mem().Locked(77) {
		t.Error("Leave released a lock")
	}
	l.Unlock()
	infos, err := List()
	i := slices.IndexFunc(infos, func(in Info) bool { return in.Name == name })
	if err != nil || i < 0 || infos[i].Size != 12288 || infos[i].Mode != 0o640 || len(infos[i].Joiners) != 1 || infos[i].Err != nil {
		t.Error(infos, err)
	}
	if got, err := Reap(name); !errors.Is(err, ErrJoined) || len(got) != 0 {
		t.Error("reaped what is joined:", got, err)
	}
	r.Leave()
	if js, err := Joiners(name); err != nil || js == nil || len(js) != 0 {
		t.Error(js, err)
	}
	if got, err := Reap("none", "No Name"); !errors.Is(err, ErrNotFound) || !errors.Is(err, ErrBadName) || len(got) != 0 {
		t.Error("reaped what is not there:", got, err)
	}
	if got, err := Reap(name); err != nil || !slices.Equal(got, []string{name}) {
		t.Error("reap:", got, err)
	}
	if err := Unlink(name, false); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func TestUnlinkForce(t *testing.T) {
	r := region(t, 4096)
	if err := Unlink(r.Name(), true); err != nil {
		t.Fatal(err)
	}
	r.Mem().Bytes()[0] = 1 // still there
	if l, err := r.Mem().Lock(0); err != nil {
		t.Error("lock in an unlinked region:", err)
	} else {
		l.Unlock()
	}
}

func TestInitFails(t *testing.T) {
	name, oops := fresh(t), errors.New("oops")
	if _, err := Create(name, 4096, Options{Init: func(Mem) error { return oops }}); !errors.Is(err, oops) {
		t.Error(err)
	}
	if _, err := Joiners(name); !errors.Is(err, ErrNotFound) {
		t.Error("something is left:", err)
	}
}

func TestReadOnly(t *testing.T) {
	r := region(t, 4096)
	r.Mem().Bytes()[5] = 1
	o, err := Open(r.Name(), ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Leave()
	if !o.Mem().ReadOnly() || o.Access() != ReadOnly || o.Mem().Bytes()[5] != 1 {
		t.Error("not read-only")
	}
	if _, err := o.Mem().Lock(0); !errors.Is(err, ErrReadOnly) {
		t.Error(err)
	}
	l, _ := r.Mem().Lock(8)
	if !o.Mem().Locked(8) || o.Mem().Holder(8) != os.Getpid() || o.Mem().Locked(9) {
		t.Error("a read-only join does not see locks")
	}
	l.Unlock()
	want := []Joiner{{os.Getpid(), false}, {os.Getpid(), true}}
	js, err := Joiners(r.Name())
	slices.SortFunc(js, func(a, b Joiner) int { return len(accessOf(a)) - len(accessOf(b)) })
	if err != nil || len(js) != 2 || !slices.Contains(js, want[0]) || !slices.Contains(js, want[1]) {
		t.Error(js, err)
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if recover() == nil {
			t.Error("a write through a read-only join went through")
		}
	}()
	o.Mem().Bytes()[5] = 2
}

func accessOf(j Joiner) string {
	if j.ReadOnly {
		return "read-only"
	}
	return ""
}

func TestManyJoiners(t *testing.T) {
	r := region(t, 4096)
	for i := range 100 {
		o, err := Open(r.Name(), Access(i%2))
		if err != nil {
			t.Fatal(err)
		}
		defer o.Leave()
	}
	js, err := Joiners(r.Name())
	ro := 0
	for _, j := range js {
		if j.ReadOnly {
			ro++
		}
	}
	if err != nil || len(js) != 101 || ro != 50 {
		t.Errorf("%d joiners, %d read-only, %v", len(js), ro, err)
	}
}

// TestJoinAgainstUnlink races Open with Unlink: a join either makes Unlink fail or finds nothing.
func TestJoinAgainstUnlink(t *testing.T) {
	name := fresh(t)
	for range 100 {
		r, err := Create(name, 4096, Options{})
		if err != nil {
			t.Fatal(err)
		}
		r.Leave()
		var wg sync.WaitGroup
		var o *Region
		var openErr, unlinkErr error
		wg.Go(func() { o, openErr = Open(name, ReadWrite) })
		wg.Go(func() { unlinkErr = Unlink(name, false) })
		wg.Wait()
		switch {
		case openErr == nil && errors.Is(unlinkErr, ErrJoined):
			o.Leave()
			if err := Unlink(name, false); err != nil {
				t.Fatal(err)
			}
		case errors.Is(openErr, ErrNotFound) && unlinkErr == nil:
		default:
			t.Fatalf("open: %v, unlink: %v", openErr, unlinkErr)
		}
	}
}

func TestCreateRace(t *testing.T) {
	name := fresh(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Go(func() {
			r, err := Create(name, 4096, Options{})
			if err == nil {
				mu.Lock()
				won++
				mu.Unlock()
				r.Leave()
			} else if !errors.Is(err, ErrExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d creators won", won)
	}
}

// TestNotRegion puts files of every bad kind under a region's name.
func TestNotRegion(t *testing.T) {
	dir := os.Getenv(EnvDirs)
	for what, make := range map[string]func(path string) error{
		"empty":     func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"odd size":  func(p string) error { return os.WriteFile(p, []byte("hello"), 0o600) },
		"holes":     func(p string) error { os.WriteFile(p, nil, 0o600); return os.Truncate(p, 1<<20) },
		"too large": func(p string) error { os.WriteFile(p, nil, 0o600); return os.Truncate(p, 1<<41) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"fifo":      func(p string) error { return unix.Mkfifo(p, 0o600) },
		"symlink": func(p string) error {
			os.WriteFile(p+"~", make4096(), 0o600)
			return os.Symlink(p+"~", p)
		},
		"dangling": func(p string) error { return os.Symlink("/nowhere/at/all", p) },
	} {
		name := "bad." + strings.ReplaceAll(what, " ", "-")
		path := filepath.Join(dir, filePrefix+name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		for _, access := range []Access{ReadWrite, ReadOnly} {
			if r, err := Open(name, access); !errors.Is(err, ErrNotRegion) {
				t.Errorf("%s: %v", what, err)
				if r != nil {
					r.Leave()
				}
			}
		}
		if _, err := Create(name, 4096, Options{}); !errors.Is(err, ErrExists) {
			t.Errorf("Create over %s: %v", what, err)
		}
		os.Remove(path)
		os.Remove(path + "~")
	}
}

func make4096() []byte { return make([]byte, 4096) }

func TestTwoMounts(t *testing.T) {
	a := os.Getenv(EnvDirs)
	b, err := os.MkdirTemp(a, "b")
	if err != nil {
		t.Fatal(err)
	}
	name := fresh(t)
	r, err := Create(name, 4096, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Leave()
	t.Setenv(EnvDirs, b+":"+a)
	if _, err := Create(name, 4096, Options{}); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), a) {
		t.Error("made twice:", err)
	}
	os.WriteFile(regionPath(b, name), make4096(), 0o600)
	if _, err := Open(name, ReadOnly); !errors.Is(err, ErrExists) {
		t.Error("opened one of two:", err)
	}
	if err := Unlink(name, false); err != nil {
		t.Error(err)
	}
	if _, err := Open(name, ReadOnly); !errors.Is(err, ErrNotFound) {
		t.Error("one is left:", err)
	}
}

func TestBadOptions(t *testing.T) {
	for _, c := range []struct {
		size uint64
		o    Options
		want error
	}{
		{0, Options{}, ErrBadSize},
		{MaxSize + 1, Options{}, ErrBadSize},
		{4096, Options{Backing: 9}, ErrBadOption},
		{4096, Options{MaxPageSize: 8192}, ErrBadOption},
		{4096, Options{Backing: BackingHugetlbfs, MaxPageSize: PageNormal}, ErrBadOption},
		{4096, Options{Backing: BackingShm, MaxPageSize: PageGigantic}, ErrBadOption},
		{4096, Options{Mode: 0o777}, ErrBadOption},
		{4096, Options{Mode: 0o400}, ErrBadOption},
		{4096, Options{Strict: true}, ErrNoPages},
		{4 << 20, Options{Backing: BackingHugetlbfs}, nil}, // no hugetlbfs among the test's directories
	} {
		_, err := Create(fresh(t), c.size, c.o)
		if c.want == nil && (errors.Is(err, ErrNoPages) || errors.Is(err, ErrNoMemory)) {
			continue
		}
		if _, perr := Preflight(c.size, c.o); c.want == nil || !errors.Is(err, c.want) || !errors.Is(perr, c.want) {
			t.Errorf("%d %+v: %v, preflight %v", c.size, c.o, err, perr)
		}
	}
	if _, err := Open("x", 7); !errors.Is(err, ErrBadOption) {
		t.Error(err)
	}
}
