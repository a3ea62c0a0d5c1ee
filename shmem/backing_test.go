package shmem

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// mountFS mounts a file system in a directory of its own, or skips.
func mountFS(t testing.TB, fsType, data string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("none", dir, fsType, 0, data); err != nil {
		t.Skipf("mounting %s (%s) needs root: %v", fsType, data, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error("something is still mapped:", err)
			unix.Unmount(dir, unix.MNT_DETACH)
		}
	})
	return dir
}

// TestShortSubdirectory: what must be remounted is the mount, not the directory in it that regions lie in.
func TestShortSubdirectory(t *testing.T) {
	point := mountFS(t, "tmpfs", "size=4m")
	dir := filepath.Join(point, "deep", "down")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{point, dir, link} {
		t.Setenv(EnvDirs, dir)
		_, err := Create(fresh(t), 5<<20, Options{})
		if !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "remount,size=5242880 "+point+" (") {
			t.Errorf("in %s: %v", dir, err)
		}
	}
}

// TestSmallTmpfs is a container with too small a /dev/shm: an error with figures, never a SIGBUS.
func TestSmallTmpfs(t *testing.T) {
	t.Setenv(EnvDirs, mountFS(t, "tmpfs", "size=4m"))
	name := fresh(t)
	for _, max := range []uint64{PageNormal, PageHuge} {
		_, err := Create(name, 5<<20, Options{MaxPageSize: max})
		for _, want := range []string{"needed", "5 MiB (1280 pages of 4 KiB)", "4 MiB (1024 pages of 4 KiB) free", "remount,size=5242880"} {
			if max == PageNormal && (!errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), want)) {
				t.Errorf("%v\nlacks %q", err, want)
			}
		}
		if _, perr := Preflight(5<<20, Options{MaxPageSize: max}); !errors.Is(err, ErrNoMemory) || !errors.Is(perr, ErrNoMemory) {
			t.Error(err, perr)
		}
	}
	// What the figures do not foresee: fallocate itself fails, the candidate gives everything back.
	m, _ := examine(os.Getenv(EnvDirs))
	c := candidate{mount: m, size: 5 << 20, page: PageNormal}
	o, _ := Options{}.checked()
	if _, err := c.create(name, o); !errors.Is(err, ErrNoMemory) {
		t.Error(err)
	}
	r, err := Create(name, 4<<20, Options{})
	if err != nil {
		t.Fatal("all of it:", err)
	}
	for i := range r.Mem().Bytes() {
		r.Mem().Bytes()[i] = 1
	}
	r.Leave()
	Unlink(name, true)
}

// TestTransparent: a region of some huge pages on tmpfs, aligned in each process, page size as measured.
func TestTransparent(t *testing.T) {
	t.Setenv(EnvDirs, mountFS(t, "tmpfs", "size=64m"))
	name := fresh(t)
	r, err := Create(name, 5<<20, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Leave()
	if !r.Mem().Aligned(PageHuge) || r.Size() != 6<<20 {
		t.Errorf("aligned %v, size %d", r.Mem().Aligned(PageHuge), r.Size())
	}
	r.Mem().Bytes()[6<<20-1] = 9
	if r.PageSize() != PageHuge {
		t.Skip("no transparent huge pages here: ", r.Fallback())
	}
	for _, access := range []Access{ReadWrite, ReadOnly} {
		o, err := Open(name, access)
		if err != nil {
			t.Fatal(err)
		}
		if o.PageSize() != PageHuge || !o.Mem().Aligned(PageHuge) || o.Mem().Bytes()[6<<20-1] != 9 {
			t.Errorf("%s: %s", access, o.Backing())
		}
		o.Leave()
	}
	small, err := Create(name+"2", 5<<20, Options{MaxPageSize: PageNormal})
	if err != nil {
		t.Fatal(err)
	}
	if small.PageSize() != PageNormal || small.Size() != 5<<20 || small.Fallback() != "" {
		t.Errorf("asked for 4 KiB: %s, %d, %q", small.Backing(), small.Size(), small.Fallback())
	}
	small.Leave()
	Unlink(name+"2", true)
	if s, err := Create(name+"3", 4<<20, Options{Backing: BackingShm, Strict: true}); err != nil {
		t.Error("strict:", err)
	} else {
		s.Leave()
		Unlink(name+"3", true)
	}
}

// reservePages makes sure that n huge pages of 2 MiB are free, or skips; the pool is put back afterwards.
func reservePages(t testing.TB, n uint64) { reserve(t, PageHuge, n) }

// reserve is reservePages for any page size.
func reserve(t testing.TB, page, n uint64) {
	t.Helper()
	lockPools(t)
	was, ok := ReadPool(page)
	if !ok {
		t.Skipf("this kernel has no %s pages", bytesString(page))
	}
	if was.Available() >= n {
		return
	}
	set := poolSetter(t, was)
	err := set(was.Total + n - was.Available())
	if now, _ := ReadPool(page); err != nil || now.Available() < n {
		t.Skipf("reserving %d pages of %s: %v, %d are free", n, bytesString(page), err, now.Available())
	}
}

// poolSetter sets the size of the pool was, which is put back after the test.
func poolSetter(t testing.TB, was Pool) func(n uint64) error {
	set := func(n uint64) error { return os.WriteFile(was.File(-1), []byte(strconv.FormatUint(n, 10)), 0) }
	t.Cleanup(func() {
		if set(was.Total); readUint(was.File(-1)) != was.Total {
			t.Errorf("the pool of %s pages is not as it was: %d", bytesString(was.PageSize), was.Total)
		}
	})
	return set
}

var poolsLocked bool

// lockPools keeps other test processes from the pools until the test ends: each puts back what it found.
func lockPools(t testing.TB) {
	t.Helper()
	if poolsLocked {
		return
	}
	path := filepath.Join(os.TempDir(), "tilewire-test-pools.lock")
	f, err := os.Open(path)
	if err != nil {
		f, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o644)
	}
	if err != nil {
		t.Skip("lock of the pools:", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Skip("lock of the pools:", err)
	}
	poolsLocked = true
	t.Cleanup(func() { poolsLocked = false; f.Close() })
}

// setPool makes the pool of 2 MiB pages n pages large, or skips; it is put back afterwards.
func setPool(t testing.TB, n uint64) {
	t.Helper()
	lockPools(t)
	was, ok := ReadPool(PageHuge)
	if !ok {
		t.Skip("this kernel has no 2 MiB pages")
	}
	set := poolSetter(t, was)
	err := set(n)
	if now, _ := ReadPool(PageHuge); err != nil || now.Total != n || now.Available() != n {
		t.Skipf("setting the pool to %d pages: %v, %d of %d are free", n, err, now.Available(), now.Total)
	}
}

func TestHugetlbfs(t *testing.T) {
	reservePages(t, 6)
	dir, shm := mountFS(t, "hugetlbfs", "pagesize=2M"), os.Getenv(EnvDirs)
	t.Setenv(EnvDirs, dir+":"+shm)
	name := fresh(t)
	plan, err := Preflight(3<<20, Options{})
	if err != nil || plan.Mount != dir || plan.PageSize != PageHuge || plan.PagesNeeded != 2 || plan.PagesFree < 6 || plan.Fallback != "" {
		t.Errorf("%+v %v", plan, err)
	}
	r, err := Create(name, 3<<20, Options{Mlock: true})
	if err != nil {
		t.Fatal(err)
	}
	if r.PageSize() != PageHuge || r.Size() != 4<<20 || r.Fallback() != "" || r.Backing() != "2 MiB pages (hugetlbfs)" {
		t.Errorf("%s, %d bytes, %q", r.Backing(), r.Size(), r.Fallback())
	}
	r.Mem().Bytes()[4<<20-1] = 3
	l, err := r.Mem().Lock(1 << 20)
	if err != nil || !r.Mem().Locked(1<<20) {
		t.Error(err)
	}
	o, err := Open(name, ReadOnly)
	if err != nil || o.PageSize() != PageHuge || o.Mem().Bytes()[4<<20-1] != 3 {
		t.Fatal(o, err)
	}
	o.Leave()
	c := start(t, "lock", name, nil)
	if r.Mem().Holder(100) != c.pid {
		t.Error("holder", r.Mem().Holder(100))
	}
	c.kill(t)
	if js, err := Joiners(name); err != nil || len(js) != 1 || r.Mem().Locked(100) {
		t.Error(js, err)
	}
	c.cmd.Wait()
	l.Unlock()
	r.Leave()
	if err := Unlink(name, false); err != nil {
		t.Error(err)
	}

	// The pool is short: an error with figures for those who insist, tmpfs for the others.
	p, _ := readPool("/", PageHuge)
	big := (p.Available() + 4) * PageHuge
	_, err = Create(name, big, Options{Backing: BackingHugetlbfs})
	if !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "nr_hugepages") {
		t.Error(err)
	}
	m, _ := examine(dir)
	opt, _ := Options{}.checked()
	if _, err := (candidate{mount: m, size: big, page: PageHuge}).create(name, opt); !errors.Is(err, ErrNoMemory) {
		t.Error("fallocate itself:", err)
	}
	if _, err := Create(name, big, Options{Backing: BackingHugetlbfs, Strict: true}); !errors.Is(err, ErrNoMemory) {
		t.Error("strict:", err)
	}
	if r, err := Create(name, big, Options{}); err != nil {
		t.Error(err)
	} else {
		if !strings.Contains(r.Fallback(), "nr_hugepages") {
			t.Errorf("fallback: %q", r.Fallback())
		}
		r.Leave()
		Unlink(name, true)
	}
	now, _ := readPool("/", PageHuge)
	if now.Free != p.Free {
		t.Errorf("%d pages free, %d before: pages leak", now.Free, p.Free)
	}
}

func TestHugetlbfsCapped(t *testing.T) {
	reservePages(t, 4)
	t.Setenv(EnvDirs, mountFS(t, "hugetlbfs", "pagesize=2M,size=4M"))
	_, err := Create(fresh(t), 6<<20, Options{Backing: BackingHugetlbfs})
	if !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "remount,size=6291456") {
		t.Error(err)
	}
}

func init() {
	children["ordinary"] = func(dir string) error {
		os.Setenv(EnvDirs, dir)
		if uid := os.Geteuid(); uid != 65534 {
			return fmt.Errorf("uid %d", uid)
		}
		r, err := Create("ordinary", 3<<20, Options{})
		if err != nil {
			return err
		}
		if _, err := r.Mem().Lock(5); err != nil {
			return err
		}
		if _, err := Open("ordinary", ReadOnly); err != nil {
			return err
		}
		if _, err := Open("roots", ReadOnly); !errors.Is(err, ErrPermission) {
			return fmt.Errorf("root's region: %v", err)
		}
		if _, err := Open("public", ReadWrite); !errors.Is(err, ErrPermission) {
			return fmt.Errorf("root's public region for writing: %v", err)
		}
		if _, err := Open("public", ReadOnly); err != nil {
			return err
		}
		if err := Unlink("public", false); !errors.Is(err, ErrPermission) {
			return fmt.Errorf("unlinking root's region: %v", err)
		}
		if err := Unlink("public", true); !errors.Is(err, ErrPermission) {
			return fmt.Errorf("unlinking root's region by force: %v", err)
		}
		if _, err := Create("grouped", 4096, Options{Gid: 1}); !errors.Is(err, ErrPermission) {
			return fmt.Errorf("a foreign group: %v", err)
		}
		syscall.Setrlimit(unix.RLIMIT_MEMLOCK, &syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10})
		if _, err := Create("locked", 1<<20, Options{Mlock: true}); !errors.Is(err, ErrMlock) || !strings.Contains(err.Error(), "ulimit -l 1024") {
			return fmt.Errorf("mlock: %v", err)
		}
		if err := os.Chdir("/"); err != nil {
			return err
		}
		os.Setenv(EnvDirs, "/proc/1")
		if _, err := Create("nowhere", 4096, Options{}); !errors.Is(err, ErrPermission) {
			return fmt.Errorf("no right to the mount: %v", err)
		}
		return nil
	}
	// small: file sizes are limited; it must be an error and not SIGXFSZ.
	children["limited"] = func(name string) error {
		syscall.Setrlimit(unix.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20})
		if _, err := Create(name, 3<<20, Options{}); !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "ulimit -f") {
			return fmt.Errorf("beyond the limit: %v", err)
		}
		r, err := Create(name, 1<<20, Options{})
		if err != nil {
			return err
		}
		defer r.Leave()
		return Unlink(name, true)
	}
}

func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("becoming another user needs root")
	}
	dir := mountFS(t, "tmpfs", "size=16m,mode=1777")
	openWay(dir)
	t.Setenv(EnvDirs, dir)
	for name, mode := range map[string]os.FileMode{"roots": 0o600, "public": 0o644} {
		r, err := Create(name, 4096, Options{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		r.Leave()
	}
	attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	c, line := spawn(t, "ordinary", dir, attr)
	if line != "ready" {
		t.Fatal(line)
	}
	if r, err := Open("ordinary", ReadOnly); err != nil || !r.Mem().Locked(5) || r.Mem().Holder(5) != c.pid {
		t.Error("root does not see the ordinary user's region:", err)
	} else {
		r.Leave()
	}
	c.kill(t)
	c.cmd.Wait()
	if got, err := Reap(); err != nil || len(got) != 3 {
		t.Error("reap:", got, err)
	}
}

func init() {
	// member joins the regions by the rights of its group.
	children["member"] = func(dir string) error {
		os.Setenv(EnvDirs, dir)
		if _, err := Open("g640", ReadOnly); err != nil {
			return err
		}
		if _, err := Open("g640", ReadWrite); !errors.Is(err, ErrPermission) {
			return fmt.Errorf("writing by 0640: %v", err)
		}
		r, err := Open("g660", ReadWrite)
		if err != nil {
			return err
		}
		if _, err := r.Mem().Lock(3); err != nil {
			return err
		}
		if _, err := Open("g600", ReadOnly); !errors.Is(err, ErrPermission) {
			return fmt.Errorf("reading by 0600: %v", err)
		}
		mine, err := Create("mine", 3<<20, Options{Mode: 0o660}) // on a mount that is the group's
		if err != nil {
			return err
		}
		mine.Leave()
		return Unlink("mine", false)
	}
}

// TestGroup: modes and group of a region are what joins go by, on tmpfs and hugetlbfs, whatever the umask.
func TestGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving regions to a group needs root")
	}
	defer unix.Umask(unix.Umask(0o077))
	for fs, data := range map[string]string{"tmpfs": "size=16m", "hugetlbfs": "pagesize=2M"} {
		t.Run(fs, func(t *testing.T) {
			if fs == "hugetlbfs" {
				reservePages(t, 5)
			}
			const gid = 54321
			dir := mountFS(t, fs, fmt.Sprintf("%s,gid=%d,mode=1770", data, gid))
			openWay(dir)
			t.Setenv(EnvDirs, dir)
			for name, mode := range map[string]os.FileMode{"g600": 0o600, "g640": 0o640, "g660": 0o660} {
				r, err := Create(name, 4096, Options{Mode: mode, Gid: gid, MaxPageSize: PageHuge, Backing: map[string]Backing{"tmpfs": BackingShm, "hugetlbfs": BackingHugetlbfs}[fs]})
				if err != nil {
					t.Fatal(err)
				}
				st, _ := os.Stat(r.Path())
				if st.Mode() != mode || st.Sys().(*syscall.Stat_t).Gid != gid {
					t.Errorf("%v %+v", st.Mode(), st.Sys())
				}
				r.Leave()
			}
			attr := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{gid}}}
			c, line := spawn(t, "member", dir, attr)
			if line != "ready" {
				t.Fatal(line)
			}
			c.stdin.Close()
			c.cmd.Wait()
			if got, err := Reap(); err != nil || len(got) != 3 {
				t.Error(got, err)
			}
		})
	}
}

func TestFileSizeLimit(t *testing.T) {
	if _, line := spawn(t, "limited", fresh(t), nil); line != "ready" {
		t.Fatal(line)
	}
}
