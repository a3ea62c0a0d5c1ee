package wksp

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// hugePages reserves n free pages of 2 MiB and mounts a hugetlbfs for regions, or skips; all is put back.
func hugePages(t *testing.T, n int) {
	t.Helper()
	if raceBuild {
		t.Skip("the race detector does not see mapped memory")
	}
	lockPools(t)
	const dir = "/sys/kernel/mm/hugepages/hugepages-2048kB/"
	read := func(file string) int {
		b, err := os.ReadFile(dir + file)
		v, e := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil || e != nil {
			t.Skipf("this kernel has no 2 MiB pages: %v", err)
		}
		return v
	}
	was := read("nr_hugepages")
	free := func() int { return read("free_hugepages") - read("resv_hugepages") }
	if lack := n - free(); lack > 0 {
		err := os.WriteFile(dir+"nr_hugepages", []byte(strconv.Itoa(was+lack)), 0)
		t.Cleanup(func() { os.WriteFile(dir+"nr_hugepages", []byte(strconv.Itoa(was)), 0) })
		if err != nil || free() < n {
			t.Skipf("reserving %d huge pages: %v, %d are free", n, err, free())
		}
	}
	at := t.TempDir()
	if err := unix.Mount("none", at, "hugetlbfs", 0, "pagesize=2M"); err != nil {
		t.Skipf("mounting hugetlbfs needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, 0); err != nil {
			t.Error("something is still mapped:", err)
			unix.Unmount(at, unix.MNT_DETACH)
		}
	})
	t.Setenv(shmem.EnvDirs, at)
}

// lockPools keeps other test processes from the pools until the test ends (those of packages shmem and ctl take the same lock).
func lockPools(t *testing.T) {
	path := filepath.Join(os.TempDir(), "tilewire-test-pools.lock")
	f, err := os.Open(path)
	if err != nil {
		f, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o644)
	}
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Skip("lock of the pools:", err)
	}
	t.Cleanup(func() { f.Close() })
}

// TestHugetlb: a workspace on real huge pages lives its whole life, checkpoints and restores, which write(2) on a
// hugetlbfs file could not.
func TestHugetlb(t *testing.T) {
	hugePages(t, 16)
	mk := func(t testing.TB, size uint64) shmem.Mem {
		name := fmt.Sprintf("wksp-huge.%d.%d", os.Getpid(), regions.Add(1))
		r, err := shmem.Create(name, size, shmem.Options{Backing: shmem.BackingHugetlbfs, Strict: true})
		ok(t, err)
		t.Cleanup(func() {
			ok(t, r.Leave())
			ok(t, shmem.Unlink(name, false))
		})
		if r.PageSize() != shmem.PageHuge {
			t.Fatalf("page size %d", r.PageSize())
		}
		return r.Mem()
	}
	checkptRestore(t, mk)
}
