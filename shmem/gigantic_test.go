package shmem

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestGigantic makes and joins a region on a page of 1 GiB, which is reserved for the test and given back.
func TestGigantic(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("clears a page of 1 GiB")
	}
	reserve(t, PageGigantic, 1)
	dir, shm := mountFS(t, "hugetlbfs", "pagesize=1G"), os.Getenv(EnvDirs)
	t.Setenv(EnvDirs, shm+":"+dir)
	if m, ok := examine(dir); !ok || m.page != PageGigantic {
		t.Fatalf("%+v", m)
	}
	name := fresh(t)
	p, err := Preflight(PageGigantic, Options{MaxPageSize: PageGigantic})
	if err != nil || p.Mount != dir || p.PageSize != PageGigantic || p.PagesNeeded != 1 || p.PagesFree < 1 || len(p.Ways) < 2 {
		t.Errorf("%+v %v", p, err)
	}
	// More than there is: an error for those who insist, smaller pages for the others.
	free, _ := ReadPool(PageGigantic)
	_, err = Create(name, (free.Available()+1)<<30, Options{MaxPageSize: PageGigantic, Strict: true})
	if !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "hugepages-1048576kB/nr_hugepages") {
		t.Error(err)
	}
	if small, err := Create(name, 4<<20, Options{MaxPageSize: PageGigantic}); err != nil {
		t.Error(err)
	} else {
		if small.Size() != 4<<20 || !strings.Contains(small.Fallback(), "waste a page of 1 GiB") {
			t.Errorf("%d, %q", small.Size(), small.Fallback())
		}
		small.Leave()
		Unlink(name, true)
	}

	r, err := Create(name, 700<<20, Options{Backing: BackingHugetlbfs, MaxPageSize: PageGigantic, Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.Size() != 1<<30 || r.PageSize() != PageGigantic || r.Backing() != "1 GiB pages (hugetlbfs)" || r.Fallback() != "" {
		t.Errorf("%d, %s, %q", r.Size(), r.Backing(), r.Fallback())
	}
	r.Mem().Bytes()[1<<30-1] = 7
	l, err := r.Mem().Lock(1<<30 - 1) // its mapping is a gigantic page as well
	if err != nil || !r.Mem().Locked(1<<30-1) {
		t.Error(err)
	}
	for _, access := range []Access{ReadOnly, ReadWrite} {
		o, err := Open(name, access)
		if err != nil {
			t.Fatal(err)
		}
		if o.Size() != 1<<30 || o.PageSize() != PageGigantic || o.Mem().Bytes()[1<<30-1] != 7 {
			t.Errorf("%s: %s", access, o.Backing())
		}
		o.Leave()
	}
	l.Unlock()
	r.Leave()
	if err := Unlink(name, false); err != nil {
		t.Error(err)
	}
	if now, _ := ReadPool(PageGigantic); now.Free != free.Free {
		t.Errorf("%d pages free, %d before", now.Free, free.Free)
	}
}

// TestReadOnlyForGood: a read-only join cannot be made writable, on no backing.
func TestReadOnlyForGood(t *testing.T) {
	dirs := map[string]string{"test's": os.Getenv(EnvDirs)}
	if p, ok := ReadPool(PageHuge); ok && os.Geteuid() == 0 && p.Total < 1<<20 {
		reservePages(t, 2)
		dirs["hugetlbfs"] = mountFS(t, "hugetlbfs", "pagesize=2M")
	}
	for what, dir := range dirs {
		t.Setenv(EnvDirs, dir)
		name := fresh(t)
		r, err := Create(name, 4<<20, Options{})
		if err != nil {
			t.Fatal(what, err)
		}
		o, err := Open(name, ReadOnly)
		if err != nil {
			t.Fatal(what, err)
		}
		if err := unix.Mprotect(o.mp.bytes(), unix.PROT_READ|unix.PROT_WRITE); err != unix.EACCES {
			t.Errorf("%s: mprotect: %v", what, err)
		}
		q := int(o.sp.fd.Load())
		if _, err := unix.Pwrite(q, []byte{1}, 0); err != unix.EBADF {
			t.Errorf("%s: pwrite: %v", what, err)
		}
		if err := unix.Ftruncate(q, 0); err != unix.EINVAL && err != unix.EBADF {
			t.Errorf("%s: ftruncate: %v", what, err)
		}
		if !bytes.Equal(r.Mem().Bytes()[:8], make([]byte, 8)) {
			t.Errorf("%s: it was written", what)
		}
		o.Leave()
		r.Leave()
		Unlink(name, true)
	}
}
