package wksp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// eachTemp runs f on a file system with and without nameless files.
func eachTemp(t *testing.T, f func(t *testing.T)) {
	was := openNameless
	defer func() { openNameless = was }()
	if file, err := openNameless(t.TempDir()); err != nil {
		t.Log("no nameless files here:", err)
	} else {
		file.Close()
		t.Run("nameless", f)
	}
	openNameless = func(string) (*os.File, error) { return nil, unix.EOPNOTSUPP }
	t.Run("named", f)
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	ok(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestCkptTemp: a checkpoint appears whole or not at all, alone or in the place of the old one, and nothing lies beside it.
func TestCkptTemp(t *testing.T) {
	eachTemp(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "c")
		for _, text := range []string{"one", "two"} {
			f, err := newCkptTemp(path)
			ok(t, err)
			_, err = f.WriteString("to be begun anew")
			ok(t, err)
			ok(t, f.rewind())
			_, err = f.WriteString(text)
			ok(t, err)
			if b, _ := os.ReadFile(path); string(b) == text {
				t.Fatal("it is there before it is published")
			}
			ok(t, f.publish())
			f.drop()
			if b, err := os.ReadFile(path); string(b) != text || err != nil {
				t.Fatalf("%q, %v, want %q", b, err, text)
			}
		}
		f, err := newCkptTemp(path)
		ok(t, err)
		f.drop()
		if got := names(t, dir); !slices.Equal(got, []string{"c"}) {
			t.Fatalf("left: %v", got)
		}
		if _, err := newCkptTemp(filepath.Join(dir, "none", "c")); !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	})
}

// TestCkptSweep: what a killed checkpoint left is removed by the next one to the same path; what somebody still writes,
// and what is another's, stays.
func TestCkptSweep(t *testing.T) {
	eachTemp(t, func(t *testing.T) {
		dir := t.TempDir()
		for _, n := range []string{".c.1.tmp", ".c.22.tmp", ".c.x.tmp", ".c.tmp", ".c.1.2.tmp", ".d.1.tmp", "c.1.tmp"} {
			ok(t, os.WriteFile(filepath.Join(dir, n), []byte("left"), 0o600))
		}
		ok(t, os.Mkdir(filepath.Join(dir, ".c.3.tmp"), 0o700))
		busy, err := os.Open(filepath.Join(dir, ".c.22.tmp"))
		ok(t, err)
		defer busy.Close()
		ok(t, unix.Flock(int(busy.Fd()), unix.LOCK_EX))
		f, err := newCkptTemp(filepath.Join(dir, "c"))
		ok(t, err)
		mine := f.temp
		other, err := newCkptTemp(filepath.Join(dir, "c")) // beside it
		ok(t, err)
		if mine != "" && !isFile(mine, f.File) {
			t.Fatal("a file that is being written was swept")
		}
		other.drop()
		ok(t, f.publish())
		f.drop()
		want := []string{".c.1.2.tmp", ".c.22.tmp", ".c.3.tmp", ".c.tmp", ".c.x.tmp", ".d.1.tmp", "c", "c.1.tmp"}
		if got := names(t, dir); !slices.Equal(got, want) {
			t.Fatalf("left: %v, want %v", got, want)
		}
	})
}

// TestCkptBeside: checkpoints to one path at the same time do not sweep each other's files; the last one stays.
func TestCkptBeside(t *testing.T) {
	eachTemp(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "c")
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				for range 30 {
					f, err := newCkptTemp(path)
					if err != nil {
						t.Error(err)
						return
					}
					fmt.Fprintf(f, "text %d", i)
					if err := f.publish(); err != nil {
						t.Error(err)
					}
					f.drop()
					if b, err := os.ReadFile(path); err != nil || len(b) != 6 {
						t.Errorf("%q, %v", b, err)
					}
				}
			})
		}
		wg.Wait()
		if got := names(t, dir); !slices.Equal(got, []string{"c"}) {
			t.Errorf("left: %v", got)
		}
	})
}
