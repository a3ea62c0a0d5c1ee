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
	"time"

	"golang.org/x/sys/unix"
)

// Every way of being short that a host can offer (each row was seen to end in SIGBUS for a program that trusts mmap) must
// be an error of Create with figures and mend: when the figures foretell it, and when the kernel alone knows.

// short runs in a process of its own, which a SIGBUS would end: the arguments are the mount, the bytes to ask for, and
// what the error's text must have. Pages that fit beside it must still be had, and be writable to the last byte.
func init() {
	children["short"] = func(arg string) error {
		f := strings.SplitN(arg, "|", 4)
		size, _ := strconv.ParseUint(f[1], 10, 64)
		fits, _ := strconv.ParseUint(f[2], 10, 64)
		os.Setenv(EnvDirs, f[0])
		if err := refuses(size, strings.Split(f[3], "&")); err != nil || fits == 0 {
			return err
		}
		r, err := Create("fits", fits, Options{})
		if err != nil {
			return fmt.Errorf("what fits: %w", err)
		}
		defer Unlink("fits", true)
		defer r.Leave()
		for i := uint64(0); i < r.Size(); i += PageNormal {
			r.Mem().Bytes()[i] = 1
		}
		return nil
	}
}

// refuses tells what is wrong with the refusal of size bytes on the mount of EnvDirs.
func refuses(size uint64, texts []string) error {
	m, ok := examine(os.Getenv(EnvDirs))
	if !ok {
		return errors.New("no mount")
	}
	o := Options{}
	if m.kind == kindHugetlbfs {
		o = Options{Backing: BackingHugetlbfs, MaxPageSize: m.page, Strict: true}
	}
	was, _ := ReadPool(PageHuge)
	_, perr := Preflight(size, o)
	_, cerr := Create("short", size, o)
	// The figures look good, the kernel says no: fallocate fails after it got part of the pages.
	o, _ = o.checked()
	_, kerr := candidate{mount: m, size: Align(size, m.page), page: m.page}.create("short", o)
	for what, err := range map[string]error{"Preflight": perr, "Create": cerr, "the kernel's refusal": kerr} {
		if !errors.Is(err, ErrNoMemory) {
			return fmt.Errorf("%s: %w", what, err)
		}
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				return fmt.Errorf("%s lacks %q: %w", what, text, err)
			}
		}
	}
	if !strings.Contains(kerr.Error(), "no space left") && !strings.Contains(kerr.Error(), "cannot allocate") {
		return fmt.Errorf("not by fallocate: %w", kerr)
	}
	if now, _ := ReadPool(PageHuge); now.Free != was.Free || now.Surplus != was.Surplus {
		return fmt.Errorf("%d pages free, %d before: the failure keeps pages", now.Free, was.Free)
	}
	if left, _ := os.ReadDir(m.dir); len(left) > 0 {
		return fmt.Errorf("left behind: %v", left)
	}
	return nil
}

// shortChild runs the child above; what must be in the error, and size, depend on the row.
func shortChild(t *testing.T, attr *syscall.SysProcAttr, dir string, size, fits uint64, texts ...string) {
	t.Helper()
	c, line := spawn(t, "short", fmt.Sprintf("%s|%d|%d|%s", dir, size, fits, strings.Join(texts, "&")), attr)
	if line != "ready" {
		t.Error(line)
	}
	c.stdin.Close()
	c.cmd.Wait()
}

func TestFailPoolShort(t *testing.T) {
	setPool(t, 3)
	dir := mountFS(t, "hugetlbfs", "pagesize=2M")
	shortChild(t, nil, dir, 10<<20, 6<<20, "10 MiB (5 pages of 2 MiB) needed", "6 MiB (3 pages of 2 MiB) free", "echo 5 | sudo tee", "nr_hugepages")
}

func TestFailPoolEmpty(t *testing.T) {
	setPool(t, 0)
	dir := mountFS(t, "hugetlbfs", "pagesize=2M")
	shortChild(t, nil, dir, 2<<20, 0, "1 pages of 2 MiB) needed", "0 B (0 pages of 2 MiB) free", "echo 1 | sudo tee")
	// What MAP_NORESERVE would run into: a file with a size and no pages.
	t.Setenv(EnvDirs, dir)
	path := regionPath(dir, "holes")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	err = f.Truncate(4 << 20)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	for _, access := range []Access{ReadWrite, ReadOnly} {
		if _, err := Open("holes", access); !errors.Is(err, ErrNotRegion) || !strings.Contains(err.Error(), "holes") {
			t.Error(err)
		}
	}
}

func TestFailHugetlbfsCap(t *testing.T) {
	reservePages(t, 8)
	dir := mountFS(t, "hugetlbfs", "pagesize=2M,size=4M")
	shortChild(t, nil, dir, 6<<20, 4<<20, "size= of the mount", "4 MiB (2 pages of 2 MiB) free", "remount,size=6291456")
}

// TestFailTmpfsFull is docker's /dev/shm, and somebody else has filled most of it.
func TestFailTmpfsFull(t *testing.T) {
	dir := mountFS(t, "tmpfs", "size=64m")
	shortChild(t, nil, dir, 65<<20, 64<<20, "64 MiB (16384 pages of 4 KiB) free", "--shm-size", "remount,size=")
	sub := filepath.Join(dir, "others")
	if err := os.WriteFile(sub, make([]byte, 60<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(EnvDirs, dir)
	if _, err := Create("short", 5<<20, Options{}); !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "4 MiB (1024 pages of 4 KiB) free") {
		t.Error(err)
	}
	r, err := Create("odd", 3<<20, Options{}) // 3 MiB fit, 4 MiB as well
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Mem().Bytes() {
		r.Mem().Bytes()[i] = 1
	}
	r.Leave()
	Unlink("odd", true)
}

// groupV2 makes a control group with the hugetlb controller in a cgroup2 mount and returns its directory, or skips.
func groupV2(t *testing.T) string {
	t.Helper()
	root := ""
	for _, e := range parseMountinfo(readString("/proc/self/mountinfo")) {
		if e.fsType == "cgroup2" {
			root = e.dir
		}
	}
	if root == "" {
		t.Skip("no cgroup2 is mounted")
	}
	// A v1 hierarchy that has just been unmounted gives its controller back a moment later.
	for end := time.Now().Add(3 * time.Second); !strings.Contains(readString(root+"/cgroup.controllers"), "hugetlb"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Skip("the hugetlb controller is not in the cgroup2 hierarchy")
		}
	}
	control := filepath.Join(root, "cgroup.subtree_control")
	if !strings.Contains(readString(control), "hugetlb") {
		if err := os.WriteFile(control, []byte("+hugetlb"), 0); err != nil {
			t.Skip("the hugetlb controller cannot be given on:", err)
		}
		t.Cleanup(func() { os.WriteFile(control, []byte("-hugetlb"), 0) })
	}
	return makeGroup(t, root)
}

func makeGroup(t *testing.T, root string) string {
	t.Helper()
	dir := filepath.Join(root, fmt.Sprintf("tilewire-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Skip("making a control group:", err)
	}
	t.Cleanup(func() {
		for range 300 { // EBUSY until the children are reaped
			if err := os.Remove(dir); err == nil || os.IsNotExist(err) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("the control group stays:", dir)
	})
	return dir
}

// limit writes a control group's file, or skips.
func limit(t *testing.T, dir, file, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0); err != nil {
		t.Skip("limiting the control group:", err)
	}
}

// inGroup starts a child within the cgroup2 directory (clone3(2), CLONE_INTO_CGROUP).
func inGroup(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(f.Fd())}
}

func TestFailCgroupV2(t *testing.T) {
	for _, file := range []string{"hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"} {
		t.Run(file, func(t *testing.T) {
			group := groupV2(t)
			reservePages(t, 8)
			dir := mountFS(t, "hugetlbfs", "pagesize=2M")
			limit(t, group, file, "4194304")
			shortChild(t, inGroup(t, group), dir, 6<<20, 4<<20, "control group "+group+"/"+file, "4 MiB (2 pages of 2 MiB) free",
				"echo 6291456 | sudo tee "+group+"/"+file)
		})
	}
}

// hierarchy is that of the hugetlb controller; 0 is that of cgroup v2.
func hierarchy() string {
	for line := range strings.Lines(readString("/proc/cgroups")) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "hugetlb" {
			return f[1]
		}
	}
	return "none"
}

// mountV1 mounts the hugetlb controller as a v1 hierarchy. It is busy for a moment after a v2 group had it.
func mountV1(t *testing.T) string {
	t.Helper()
	dir, was := t.TempDir(), hierarchy()
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Mount("none", dir, "cgroup", 0, "hugetlb")
		if err == nil {
			break
		}
		if err != unix.EBUSY || time.Now().After(end) {
			t.Skip("mounting the hugetlb controller as v1: ", err)
		}
	}
	t.Cleanup(func() {
		// A hierarchy whose groups are not quite dead stays when it is unmounted; mounting it again finds it, or
		// makes a new one if it did die: so it is given its time.
		for range 10 {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Error(err)
			}
			for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				if hierarchy() == was {
					return
				}
			}
			if err := unix.Mount("none", dir, "cgroup", 0, "hugetlb"); err != nil {
				t.Error(err)
			}
		}
		unix.Unmount(dir, 0)
		t.Errorf("the hugetlb controller stays in hierarchy %s, was in %s", hierarchy(), was)
	})
	return dir
}

// There is no CLONE_INTO_CGROUP for v1 groups: the child moves itself before it does anything.
func init() {
	children["shortV1"] = func(arg string) error {
		group, rest, _ := strings.Cut(arg, "|")
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return err
		}
		return children["short"](rest)
	}
}

func TestFailCgroupV1(t *testing.T) {
	root := mountV1(t)
	for _, file := range []string{"hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes"} {
		t.Run(file, func(t *testing.T) {
			group := makeGroup(t, root)
			reservePages(t, 8)
			dir := mountFS(t, "hugetlbfs", "pagesize=2M")
			limit(t, group, file, "4194304")
			c, line := spawn(t, "shortV1", fmt.Sprintf("%s|%s|%d|%d|%s", group, dir, 6<<20, 4<<20, "4 MiB (2 pages of 2 MiB) free&echo 6291456&"+file), nil)
			if line != "ready" {
				t.Error(line)
			}
			c.stdin.Close()
			c.cmd.Wait()
		})
	}
}

// TestFailMemoryCgroup: beyond a group's memory limit the kernel does not fail, it kills; so the figures must tell.
func TestFailMemoryCgroup(t *testing.T) {
	root, file := "", "memory.limit_in_bytes"
	for _, e := range parseMountinfo(readString("/proc/self/mountinfo")) {
		if _, ok := e.options["memory"]; ok && e.fsType == "cgroup" {
			root = e.dir
		}
		if e.fsType == "cgroup2" && root == "" && strings.Contains(readString(e.dir+"/cgroup.subtree_control"), "memory") {
			root, file = e.dir, "memory.max"
		}
	}
	if root == "" {
		t.Skip("no memory controller is mounted")
	}
	group := makeGroup(t, root)
	limit(t, group, file, "67108864")
	dir := mountFS(t, "tmpfs", "size=1g")
	c, line := spawn(t, "memoryGroup", group+"|"+dir, nil)
	if line != "ready" {
		t.Error(line)
	}
	c.stdin.Close()
	c.cmd.Wait()
}

func init() {
	children["memoryGroup"] = func(arg string) error {
		group, dir, _ := strings.Cut(arg, "|")
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return err
		}
		os.Setenv(EnvDirs, dir)
		_, err := Create("short", 128<<20, Options{})
		if !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "control group "+group+"/memory.") || !strings.Contains(err.Error(), "128 MiB") {
			return fmt.Errorf("%v", err)
		}
		r, err := Create("fits", 32<<20, Options{})
		if err != nil {
			return err
		}
		r.Leave()
		return Unlink("fits", true)
	}
}

// TestFailMlock: RLIMIT_MEMLOCK forbids it, as the figures say, and as only the kernel knows (what is locked already counts).
func TestFailMlock(t *testing.T) {
	dir, attr := os.Getenv(EnvDirs), (*syscall.SysProcAttr)(nil)
	if os.Geteuid() == 0 {
		dir = mountFS(t, "tmpfs", "size=16m,mode=1777")
		openWay(dir)
		attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	} else if m, ok := examine(dir); !ok || m.kind != kindTmpfs || m.capped && m.free < 16<<20 {
		t.Skip("no tmpfs with room for tests")
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil || lim.Max < 4<<20 {
		t.Skip("RLIMIT_MEMLOCK does not even allow 4 MiB:", lim.Max, err)
	}
	if _, line := spawn(t, "mlock", dir, attr); line != "ready" {
		t.Error(line)
	}
}

func init() {
	children["mlock"] = func(dir string) error {
		os.Setenv(EnvDirs, dir)
		lim := syscall.Rlimit{Cur: 4 << 20, Max: 4 << 20}
		if err := syscall.Setrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil {
			return err
		}
		if _, err := Preflight(6<<20, Options{Mlock: true}); !errors.Is(err, ErrMlock) || !strings.Contains(err.Error(), "RLIMIT_MEMLOCK is 4 MiB") ||
			!strings.Contains(err.Error(), "ulimit -l 6144") {
			return fmt.Errorf("by the figures: %v", err)
		}
		r, err := Create("first", 2<<20, Options{Mlock: true})
		if err != nil {
			return err
		}
		defer r.Leave()
		defer Unlink("first", true)
		if !strings.Contains(readString("/proc/self/status"), "VmLck:\t    2048 kB") {
			return errors.New("not locked")
		}
		if _, err := Create("second", 4<<20, Options{Mlock: true}); !errors.Is(err, ErrMlock) || !strings.Contains(err.Error(), "mlock: ") {
			return fmt.Errorf("by the kernel: %v", err)
		}
		if _, err := Joiners("second"); !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("left behind: %v", err)
		}
		return nil
	}
}

// openWay lets other users reach dir, which lies below the temporary directory.
func openWay(dir string) {
	for d := filepath.Dir(dir); strings.HasPrefix(d, os.TempDir()) && d != os.TempDir(); d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
}
