package shmem

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMountinfo(t *testing.T) {
	info := `24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw,size=1k,mode=755
36 35 0:30 / /dev/huge\040pages rw,relatime shared:12 master:1 - hugetlbfs none rw,pagesize=2M,size=8M
37 35 0:31 / /mnt/ro ro,relatime - hugetlbfs none rw,pagesize=1024M
38 35 0:32 / /mnt/1g rw,nosuid shared:1 - hugetlbfs hugetlbfs rw,seclabel,pagesize=1024M
39 35 0:33 / /mnt/odd\
40 short line
41 35 0:33 / /mnt/x rw - hugetlbfs
`
	if got := hugetlbfsDirs(info); !slices.Equal(got, []string{"/dev/huge pages", "/mnt/1g"}) {
		t.Errorf("%q", got)
	}
	e := parseMountinfo(info)[1]
	if e.options["pagesize"] != "2M" || e.options["size"] != "8M" || e.root != "/" {
		t.Errorf("%+v", e)
	}
	for in, want := range map[string]string{`a\134b`: `a\b`, `\`: `\`, `\04`: `\04`, `\999`: `\999`, `x\011`: "x\t"} {
		if got := unescapeMount(in); got != want {
			t.Errorf("%q gives %q, want %q", in, got, want)
		}
	}
}

// tree writes files under a directory that stands for "/".
func tree(t *testing.T, files map[string]string) string {
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestPool(t *testing.T) {
	const dir = "sys/kernel/mm/hugepages/hugepages-2048kB/"
	const node = "sys/devices/system/node/node1/hugepages/hugepages-2048kB/"
	root := tree(t, map[string]string{dir + "nr_hugepages": "10", dir + "free_hugepages": "6", dir + "resv_hugepages": "2",
		dir + "surplus_hugepages": "1", dir + "nr_overcommit_hugepages": "4", node + "nr_hugepages": "10", node + "free_hugepages": "6"})
	p, ok := readPool(root, PageHuge)
	if !ok || p.Available() != 7 || !slices.Equal(p.Nodes, []NodePages{{1, 10, 6, false}}) {
		t.Errorf("%+v", p)
	}
	if got := p.mend(9); got != "echo 12 | sudo tee /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages" {
		t.Error(got)
	}
	if _, ok := readPool(root, PageGigantic); ok {
		t.Error("1 GiB pages from nowhere")
	}
}

// TestPoolByNode: free pages of a node that the cpuset bars do not count.
func TestPoolByNode(t *testing.T) {
	const dir = "sys/kernel/mm/hugepages/hugepages-2048kB/"
	files := map[string]string{dir + "nr_hugepages": "10", dir + "free_hugepages": "9", "proc/self/status": "Name: x\nMems_allowed_list:\t0,2-3"}
	for node, free := range map[string]string{"0": "2", "1": "6", "3": "1"} {
		d := "sys/devices/system/node/node" + node + "/hugepages/hugepages-2048kB/"
		files[d+"nr_hugepages"], files[d+"free_hugepages"] = "6", free
	}
	p, ok := readPool(tree(t, files), PageHuge)
	if !ok || p.Available() != 3 || !slices.Equal(p.Nodes, []NodePages{{0, 6, 2, false}, {1, 6, 6, true}, {3, 6, 1, false}}) {
		t.Errorf("%+v, %d", p, p.Available())
	}
	if p.File(1) != "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages" {
		t.Error(p.File(1))
	}
	for status, want := range map[string]bool{"Mems_allowed_list: 0": true, "": false, "Mems_allowed_list: x": false, "Mems_allowed_list: 0-99999999": false} {
		if _, ok := allowedNodes(status); ok != want {
			t.Errorf("%q: %v", status, ok)
		}
	}
}

// TestBindMount: one directory under two names holds each region once.
func TestBindMount(t *testing.T) {
	dir, again := mountFS(t, "tmpfs", "size=4m"), t.TempDir()
	if err := unix.Mount(dir, again, "", unix.MS_BIND, ""); err != nil {
		t.Skip("bind mount:", err)
	}
	t.Cleanup(func() { unix.Unmount(again, 0) })
	t.Setenv(EnvDirs, dir+":"+again)
	r, err := Create("twice", 4096, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.Leave()
	if o, err := Open("twice", ReadOnly); err != nil {
		t.Error(err)
	} else {
		o.Leave()
	}
	if in, err := List(); err != nil || len(in) != 1 {
		t.Error(in, err)
	}
	if ms := Mounts(); len(ms) != 1 || ms[0].Dir != dir || ms[0].Size != 4<<20 || ms[0].Err != nil || ms[0].Hugetlbfs {
		t.Errorf("%+v", ms)
	}
	if err := Unlink("twice", false); err != nil {
		t.Error(err)
	}
}

func TestMemAvailable(t *testing.T) {
	for text, want := range map[string]uint64{
		"MemTotal: 9 kB\nMemAvailable:    2048 kB\nSwapFree: 1024 kB": 3 << 20,
		"SwapFree: 5 kB": 0, "": 0, "MemAvailable: x kB": 0,
	} {
		got, ok := memAvailable(tree(t, map[string]string{"proc/meminfo": text}))
		if ok != (want > 0) || ok && got != want {
			t.Errorf("%q: %d %v", text, got, ok)
		}
	}
	if _, ok := memAvailable(t.TempDir()); ok {
		t.Error("no meminfo")
	}
}

func TestCgroupV2(t *testing.T) {
	root := tree(t, map[string]string{
		"proc/self/cgroup":             "0::/a/b",
		"proc/self/mountinfo":          "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
		"sys/fs/cgroup/a/b/memory.max": "max", "sys/fs/cgroup/a/b/memory.current": "5",
		"sys/fs/cgroup/a/memory.max": "1000", "sys/fs/cgroup/a/memory.current": "700",
		"sys/fs/cgroup/a/memory.stat":            "anon 100\ninactive_file 200",
		"sys/fs/cgroup/a/b/hugetlb.2MB.max":      "8388608",
		"sys/fs/cgroup/a/b/hugetlb.2MB.current":  "2097152",
		"sys/fs/cgroup/a/b/hugetlb.2MB.rsvd.max": "4194304",
	})
	if got := cgroupLimits(root, PageNormal); !slices.Equal(got, []Limit{{"/sys/fs/cgroup/a/memory.max", 1000, 500}}) || got[0].Free() != 500 {
		t.Errorf("%+v", got)
	}
	// Where huge pages count as memory too, so does its limit.
	os.WriteFile(root+"/proc/self/mountinfo", []byte("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,memory_hugetlb_accounting\n"), 0o644)
	if got := cgroupLimits(root, PageHuge); len(got) != 3 || got[2].File != "/sys/fs/cgroup/a/memory.max" {
		t.Errorf("%+v", got)
	}
	os.WriteFile(root+"/proc/self/mountinfo", []byte("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"), 0o644)
	want := []Limit{{"/sys/fs/cgroup/a/b/hugetlb.2MB.max", 8 << 20, 2 << 20}, {"/sys/fs/cgroup/a/b/hugetlb.2MB.rsvd.max", 4 << 20, 0}}
	if got := cgroupLimits(root, PageHuge); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

// TestCgroupV1 is a container of old: the group's path lies outside of what is mounted.
func TestCgroupV1(t *testing.T) {
	root := tree(t, map[string]string{
		"proc/self/cgroup":                           "5:hugetlb:/docker/x\n4:cpu,memory:/docker/x\n0::/",
		"proc/self/mountinfo":                        "30 23 0:26 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,cpu,memory",
		"sys/fs/cgroup/memory/memory.limit_in_bytes": "67108864", "sys/fs/cgroup/memory/memory.usage_in_bytes": "1048576",
	})
	if got := cgroupLimits(root, PageNormal); !slices.Equal(got, []Limit{{"/sys/fs/cgroup/memory/memory.limit_in_bytes", 64 << 20, 1 << 20}}) {
		t.Errorf("%+v", got)
	}
	if got := cgroupLimits(t.TempDir(), PageNormal); got != nil {
		t.Errorf("%+v", got)
	}
	for page, want := range map[uint64]string{PageHuge: "2MB", PageGigantic: "1GB", 64 << 10: "64KB"} {
		if got := hugetlbUnit(page); got != want {
			t.Error(got)
		}
	}
}

// TestPreflightFigures runs Preflight on a host made up of files: limits are named with file, figures and mend.
func TestPreflightFigures(t *testing.T) {
	was := sysRoot
	t.Cleanup(func() { sysRoot = was })
	sysRoot = tree(t, map[string]string{
		"proc/meminfo": "MemAvailable: 8192 kB", "proc/self/cgroup": "0::/", "proc/self/mountinfo": "30 23 0:26 / /cg rw - cgroup2 x rw",
		"cg/memory.max": "6291456", "cg/memory.current": "1048576",
	})
	if m, ok := examine(os.Getenv(EnvDirs)); !ok || m.kind != kindTmpfs {
		t.Skip("no tmpfs for tests")
	}
	_, err := Preflight(6<<20, Options{MaxPageSize: PageNormal})
	for _, want := range []string{"6 MiB (1536 pages of 4 KiB) needed of control group /cg/memory.max", "5 MiB (1280 pages of 4 KiB) free", "echo 7340032"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %q", err, want)
		}
	}
	if _, err = Preflight(9<<20, Options{MaxPageSize: PageNormal}); err == nil || !strings.Contains(err.Error(), "8 MiB of memory available") {
		t.Error(err)
	}
	plan, err := Preflight(4<<20, Options{MaxPageSize: PageNormal})
	if err != nil || plan.PagesNeeded != 1024 || plan.PagesFree != 1280 || len(plan.Limits) != 1 || plan.Size != 4<<20 {
		t.Errorf("%+v %v", plan, err)
	}
	if _, err = Preflight(8<<20, Options{Backing: BackingHugetlbfs}); err == nil || !strings.Contains(err.Error(), "kernel has no 2 MiB pages") {
		t.Error(err)
	}
}

// TestDirsNotThere: directories that EnvDirs names and that are not there, or of one kind only, are what the mend is about.
func TestDirsNotThere(t *testing.T) {
	dir := os.Getenv(EnvDirs)
	for _, c := range []struct {
		env  string
		o    Options
		want string
	}{
		{dir + "/a:" + dir + "/b", Options{MaxPageSize: PageNormal}, "names what is not there; mend: mkdir -p " + dir + "/a " + dir + "/b, or unset " + EnvDirs},
		{dir + "/a", Options{Backing: BackingShm}, "mkdir -p " + dir + "/a"},
		{dir, Options{Backing: BackingHugetlbfs}, "; mend: "},
	} {
		t.Setenv(EnvDirs, c.env)
		for _, f := range []func() error{
			func() error { _, err := Preflight(4<<20, c.o); return err },
			func() error { _, err := Create("x", 4<<20, c.o); return err },
		} {
			if err := f(); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "mount -t tmpfs") {
				t.Errorf("%s: %v, want %q", c.env, err, c.want)
			}
		}
	}
	if _, err := Open("x", ReadWrite); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

// TestMountMend: the mend for a mount that is missing is one, and names one place. Nothing lies at the places of a made-up host.
func TestMountMend(t *testing.T) {
	for page, want := range map[uint64]string{PageHuge: "/dev/hugepages", PageGigantic: "/dev/hugepages1G"} {
		if got := HugetlbfsDir(page); got != want && got != want+"2M" {
			t.Errorf("%d: %s", page, got)
		}
	}
	dir := t.TempDir()
	for _, c := range []struct {
		gid     int
		perm    uint32
		options string
	}{{7, 0, "pagesize=2M,gid=7,mode=1770"}, {-1, 0, "pagesize=2M,mode=0755"}, {7, 0o775, "pagesize=2M,gid=7,mode=0775"}, {-1, 0o1777, "pagesize=2M,mode=1777"}} {
		for sub, mkdir := range map[string]string{"": "", "/x": "mkdir -p " + dir + "/x && "} {
			options, command := MountCommand(dir+sub, PageHuge, c.gid, c.perm)
			if options != c.options || command != mkdir+"mount -t hugetlbfs -o nosuid,nodev,"+c.options+" none "+dir+sub {
				t.Errorf("%q, %q", options, command)
			}
		}
	}
	t.Setenv(EnvDirs, dir)
	if what, mend := mountMend(PageHuge); what != "among "+EnvDirs+"="+dir || !strings.HasSuffix(mend, ":"+dir) || !strings.Contains(mend, "export "+EnvDirs+"=") {
		t.Errorf("%q, %q", what, mend)
	}
	t.Setenv(EnvDirs, "")
	if what, mend := mountMend(PageHuge); what != "mounted" || mend != "" && !strings.Contains(mend, "mount -t hugetlbfs") {
		t.Errorf("%q, %q", what, mend)
	}
}

func TestBytesString(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 4096: "4 KiB", 48 << 20: "48 MiB", 3 << 29: "1.5 GiB", math.MaxUint64: "16 EiB"} {
		if got := bytesString(n); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
}

func TestPmdMapped(t *testing.T) {
	smaps := `1000000-1200000 rw-s 00000000 00:1a 7 /dev/shm/x
ShmemPmdMapped:     2048 kB
1200000-1600000 rw-s 00000000 00:1a 8 /dev/shm/y
Rss:                4096 kB
ShmemPmdMapped:     4096 kB
FilePmdMapped:         0 kB
`
	if got := pmdMapped(smaps, 0x1200000, 0x400000); got != 4<<20 {
		t.Error(got)
	}
}
