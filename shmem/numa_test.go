package shmem

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// kernelSays is where the pages of a region lie, from /proc/self/numa_maps: its policy and the nodes that have pages.
func kernelSays(t *testing.T, r *Region) (policy, pages string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/numa_maps")
	if err != nil {
		t.Skip("no NUMA in this kernel: ", err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if !strings.HasPrefix(line, fmt.Sprintf("%x ", uintptr(r.mp.addr))) {
			continue
		}
		for _, w := range f[2:] {
			if n, _, ok := strings.Cut(w, "="); ok && n[0] == 'N' && n[1] >= '0' && n[1] <= '9' {
				pages += n
			}
		}
		return f[1], pages
	}
	t.Fatalf("the mapping at %p is not there", r.mp.addr)
	return "", ""
}

func TestNumaPolicy(t *testing.T) {
	node := NumaNodes()[0]
	backings := map[string]Options{"small pages": {Backing: BackingShm, MaxPageSize: PageNormal}, "transparent": {Backing: BackingShm}}
	t.Run("hugetlbfs", func(t *testing.T) {
		reservePages(t, 4)
		dir, shm := mountFS(t, "hugetlbfs", "pagesize=2M"), os.Getenv(EnvDirs)
		t.Setenv(EnvDirs, dir+":"+shm)
		numaPolicies(t, node, Options{Backing: BackingHugetlbfs})
	})
	for name, o := range backings {
		t.Run(name, func(t *testing.T) { numaPolicies(t, node, o) })
	}
}

func numaPolicies(t *testing.T, node int, o Options) {
	for _, c := range []struct {
		mode         NumaMode
		kernel, text string
	}{
		{NumaAny, "default", ""}, {NumaPrefer, fmt.Sprint("prefer:", node), fmt.Sprintf("NUMA node %d preferred", node)},
		{NumaBind, fmt.Sprint("bind:", node), fmt.Sprintf("bound to NUMA node %d", node)},
		{NumaInterleave, fmt.Sprint("interleave:", node), fmt.Sprintf("interleaved over NUMA node %d", node)},
	} {
		o.Numa = Numa{Mode: c.mode}
		if c.mode != NumaAny {
			o.Numa.Nodes = []int{node}
		}
		name := fresh(t)
		r, err := Create(name, 4<<20, o)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Leave() // if the test ends here
		policy, pages := kernelSays(t, r)
		if o.Backing == BackingHugetlbfs { // keeps no policy: the pages tell
			policy = c.kernel
			c.mode, c.text = NumaAny, fmt.Sprintf("on NUMA node %d", node)
			o.Numa.Nodes = []int{node}
		}
		if policy != c.kernel && r.Numa().Mode == NumaAny && c.mode != NumaAny {
			t.Skipf("this kernel, or a filter, takes no NUMA policy: %s", policy)
		}
		if policy != c.kernel || len(o.Numa.Nodes) > 0 && pages != fmt.Sprint("N", node) {
			t.Errorf("%v: the kernel says %s, pages on %s", o.Numa, policy, pages)
		}
		other, err := Open(name, ReadOnly) // the policy is the file's, not the creator's
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []*Region{r, other} {
			if got := r.Numa(); got.Mode != c.mode || !slices.Equal(got.Nodes, o.Numa.Nodes) || got.String() != c.text {
				t.Errorf("%v: %q, want %q", o.Numa, got, c.text)
			}
			r.Leave()
		}
		if err := Unlink(name, false); err != nil {
			t.Error(err)
		}
	}
}

func TestNumaRefused(t *testing.T) {
	nodes := NumaNodes()
	absent := nodes[len(nodes)-1] + 7
	for _, n := range []Numa{
		{Mode: NumaBind, Nodes: []int{absent}}, {Mode: NumaPrefer, Nodes: []int{-1}}, {Mode: NumaInterleave, Nodes: []int{nodes[0], maxNodes}},
		{Mode: NumaBind}, {Nodes: []int{0}}, {Mode: NumaInterleave + 1, Nodes: []int{0}}, {Mode: NumaPrefer},
	} {
		if _, err := Create(fresh(t), 1<<20, Options{Numa: n}); !errors.Is(err, ErrBadOption) {
			t.Errorf("%+v: %v", n, err)
		}
	}
	_, err := Preflight(1<<20, Options{Numa: Numa{Mode: NumaBind, Nodes: []int{absent}}})
	if want := fmt.Sprintf("NUMA node %d: this process may have memory of %s", absent, nodeList(nodes)); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// What a host with several nodes says, and one without any.
func TestNumaHost(t *testing.T) {
	root := tree(t, map[string]string{
		"sys/devices/system/node/has_memory": "0-1,3\n", "proc/self/status": "Mems_allowed_list:\t1-3\n",
		"sys/devices/system/cpu/cpu5/node3/x": "", "sys/devices/system/cpu/cpu5/cache/x": "",
		"sys/devices/system/node/node3/meminfo": "Node 3 MemFree:  100 kB\nNode 3 MemUsed: 1000 kB\nNode 3 Active(file):  28 kB\n",
	})
	if got := numaNodes(root); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("nodes %v", got)
	}
	if a, b := numaNode(root, 5), numaNode(root, 6); a != 3 || b != 0 {
		t.Errorf("CPU 5 on node %d, 6 on %d", a, b)
	}
	if got := numaNodes(tree(t, nil)); !slices.Equal(got, []int{0}) {
		t.Errorf("without NUMA: %v", got)
	}
	was := sysRoot
	defer func() { sysRoot = was }()
	sysRoot = root
	c := candidate{mount: mount{kind: kindTmpfs}, size: 128 << 10, page: PageNormal}
	bind := Numa{Mode: NumaBind, Nodes: []int{3}}
	if err := c.onNodes(bind); err != nil {
		t.Error(err)
	}
	c.size++
	if err := c.onNodes(bind); !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "NUMA node 3") {
		t.Error(err)
	}
	if err := c.onNodes(Numa{Mode: NumaPrefer, Nodes: []int{3}}); err != nil {
		t.Error(err)
	}
	c = candidate{mount: mount{kind: kindHugetlbfs}, size: 3 * PageHuge, page: PageHuge, nodes: []NodePages{{Node: 1, Free: 9}, {Node: 3, Total: 5, Free: 2}}}
	if err := c.onNodes(bind); !errors.Is(err, ErrNoMemory) || !strings.Contains(err.Error(), "echo 6 | sudo tee /sys/devices/system/node/node3/hugepages/") {
		t.Error(err)
	}
	if err := c.onNodes(Numa{Mode: NumaBind, Nodes: []int{1, 3}}); err != nil {
		t.Error(err)
	}
}

// The policy of a thread, which hugetlbfs goes by, and that it had before.
func TestNumaThread(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	node := NumaNodes()[0]
	first, err := bindThread(NumaInterleave, []int{node})
	if err != nil {
		t.Skip("no policy here: ", err)
	}
	second, err := bindThread(NumaBind, []int{node})
	if err != nil || second.mode != int32(NumaInterleave) || second.mask != maskOf([]int{node}) {
		t.Errorf("%+v, %v", second, err)
	}
	if err := first.set(); err != nil {
		t.Error(err)
	}
	if again, err := bindThread(NumaAny, nil); err != nil || again != first {
		t.Errorf("%+v, %v; it was %+v", again, err, first)
	}
	if err := first.set(); err != nil {
		t.Error(err)
	}
}
