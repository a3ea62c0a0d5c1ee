package shmem

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzName: whatever the name, the file lies right in its directory and leads back to the name.
func FuzzName(f *testing.F) {
	for _, s := range []string{"main", "", "a/b", "..", "a\x00b", strings.Repeat("a", 41), "A", "0._-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		err := CheckName(name)
		if err != nil {
			if !errors.Is(err, ErrBadName) {
				t.Fatal(err)
			}
			if _, ok := regionName(filePrefix + name); ok {
				t.Fatal("refused, but listed")
			}
			return
		}
		path := regionPath("/d", name)
		if filepath.Dir(path) != "/d" || len(name) > maxName {
			t.Fatal(path)
		}
		if back, ok := regionName(filepath.Base(path)); !ok || back != name {
			t.Fatal(back, ok)
		}
	})
}

// FuzzOpen opens files of any size and contents under a region's name: a typed error or memory that can be read to its end.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{}, int64(0))
	f.Add([]byte("x"), int64(1))
	f.Add(make([]byte, 4096), int64(4096))
	f.Add(make([]byte, 5000), int64(8192))
	f.Add([]byte("hole"), int64(1<<20))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		path := regionPath(os.Getenv(EnvDirs), "fuzzed")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Skip(err)
		}
		defer os.Remove(path)
		if size >= 0 && size <= 1<<44 {
			os.Truncate(path, size)
		}
		r, err := Open("fuzzed", Access(len(data)%2))
		if err != nil {
			if !errors.Is(err, ErrNotRegion) {
				t.Fatal(err)
			}
			return
		}
		sum := byte(0)
		for _, b := range r.Mem().Bytes() {
			sum += b
		}
		if err := r.Leave(); err != nil {
			t.Fatal(err, sum)
		}
	})
}

// FuzzMountinfo: the mount table is the kernel's, but its paths are anybody's.
func FuzzMountinfo(f *testing.F) {
	f.Add("36 35 0:30 / /dev/huge\\040pages rw - hugetlbfs none rw,pagesize=2M\n")
	f.Fuzz(func(t *testing.T, s string) {
		for _, e := range parseMountinfo(s) {
			_ = e.options["x"]
		}
		hugetlbfsDirs(s)
		pmdMapped(s, 0, 1<<40)
	})
}
