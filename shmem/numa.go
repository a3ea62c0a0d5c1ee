package shmem

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// NumaMode says how the pages of a region lie on NUMA nodes. The values are the kernel's (MPOL_... of mbind(2)).
type NumaMode uint8

const (
	// NumaAny leaves it to the kernel: the node of the CPU that Create runs on, as a rule.
	NumaAny NumaMode = iota
	// NumaPrefer takes one node, and others where it has nothing free.
	NumaPrefer
	// NumaBind takes these nodes alone: ErrNoMemory where they have too little.
	NumaBind
	// NumaInterleave takes page by page from one node after the other.
	NumaInterleave
)

// Numa is on which nodes a region's pages are to lie. The zero value: as the kernel likes.
type Numa struct {
	Mode  NumaMode
	Nodes []int // none with NumaAny, one with NumaPrefer; in what Region.Numa returns with NumaAny as well, if they are known
}

// maxNodes is the greatest number of nodes that a kernel may have.
const maxNodes = 1024

// String says it for humans: "bound to NUMA node 0"; nothing where nothing is known.
func (n Numa) String() string {
	on := "NUMA node"
	if len(n.Nodes) > 1 {
		on += "s"
	}
	on += " " + nodeList(n.Nodes)
	switch n.Mode {
	case NumaPrefer:
		return on + " preferred"
	case NumaBind:
		return "bound to " + on
	case NumaInterleave:
		return "interleaved over " + on
	}
	if n.Nodes == nil {
		return ""
	}
	return "on " + on
}

func nodeList(nodes []int) string {
	var s []string
	for _, n := range nodes {
		s = append(s, strconv.Itoa(n))
	}
	return strings.Join(s, ", ")
}

// check returns ErrBadOption if it is none, or names nodes that this process may not have memory of.
func (n Numa) check() error {
	switch {
	case n.Mode == NumaAny && n.Nodes == nil, n.Mode == NumaPrefer && len(n.Nodes) == 1,
		(n.Mode == NumaBind || n.Mode == NumaInterleave) && len(n.Nodes) > 0:
	default:
		return fmt.Errorf("%w: NUMA mode %d with %d nodes", ErrBadOption, n.Mode, len(n.Nodes))
	}
	there := NumaNodes()
	for _, node := range n.Nodes {
		if !slices.Contains(there, node) || node >= maxNodes {
			return fmt.Errorf("%w: NUMA node %d: this process may have memory of %s", ErrBadOption, node, nodeList(there))
		}
	}
	return nil
}

// NumaNodes returns the nodes that this process may have memory of, in order: 0 alone where the kernel knows of no nodes.
func NumaNodes() []int { return numaNodes(sysRoot) }

func numaNodes(root string) []int {
	allowed, known := allowedNodes(readString(filepath.Join(root, "proc/self/status")))
	text := strings.TrimSpace(readString(filepath.Join(root, "sys/devices/system/node/has_memory")))
	with, ok := allowedNodes("Mems_allowed_list:" + text) // of the same form
	if text == "" || !ok {
		return []int{0}
	}
	nodes := slices.Sorted(maps.Keys(with))
	return slices.DeleteFunc(nodes, func(n int) bool { return known && !allowed[n] })
}

// NumaNode returns the node that a CPU belongs to; 0 where the kernel knows of no nodes.
func NumaNode(cpu int) int { return numaNode(sysRoot, cpu) }

func numaNode(root string, cpu int) int {
	dirs, _ := filepath.Glob(filepath.Join(root, fmt.Sprintf("sys/devices/system/cpu/cpu%d/node[0-9]*", cpu)))
	for _, d := range dirs {
		if n, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(d), "node")); err == nil {
			return n
		}
	}
	return 0
}

// onNodes returns ErrNoMemory if c is to be bound to nodes that have too little. Without it the kernel would kill for memory
// of those nodes rather than refuse.
func (c candidate) onNodes(n Numa) error {
	if n.Mode != NumaBind || c.mount.kind == kindDisk {
		return nil
	}
	free := uint64(0)
	for _, node := range n.Nodes {
		if c.mount.kind == kindTmpfs {
			free += nodeFree(sysRoot, node)
		} else if i := slices.IndexFunc(c.nodes, func(p NodePages) bool { return p.Node == node }); i >= 0 {
			free += c.nodes[i].Free * c.page
		}
	}
	if c.nodes == nil && c.mount.kind == kindHugetlbfs || free >= c.size {
		return nil
	}
	mend := "choose another node, or free memory there"
	if c.mount.kind == kindHugetlbfs {
		need := (c.size - free + c.page - 1) / c.page
		for _, p := range c.nodes {
			if p.Node == n.Nodes[0] {
				need += p.Total
			}
		}
		mend = fmt.Sprintf("echo %d | sudo tee %s", need, Pool{PageSize: c.page}.File(n.Nodes[0]))
	}
	return shortage("NUMA node "+nodeList(n.Nodes), c.size, free, c.page, mend)
}

// nodeFree is how many bytes of a node could be had: free, or the page cache of files.
func nodeFree(root string, node int) (free uint64) {
	for line := range strings.Lines(readString(filepath.Join(root, fmt.Sprintf("sys/devices/system/node/node%d/meminfo", node)))) {
		f := strings.Fields(line) // Node 0 MemFree: 1234 kB
		if len(f) >= 4 && slices.Contains([]string{"MemFree:", "Active(file):", "Inactive(file):", "SReclaimable:"}, f[2]) {
			kib, _ := strconv.ParseUint(f[3], 10, 54)
			free += kib << 10
		}
	}
	return free
}

// fillOn is fill of the whole file with pages that lie where n says. NumaPrefer is a wish: where the kernel takes none (a container
// without CAP_SYS_NICE, a kernel without NUMA, a file on disk) it goes without. Errors: those of fill; ErrPermission, the kernel's.
func (c candidate) fillOn(fd int, n Numa, fill func() error) error {
	if n.Mode == NumaAny {
		return fill()
	}
	var err error
	switch c.mount.kind {
	case kindTmpfs:
		err = bindFile(fd, c.size, n.Mode, n.Nodes)
	case kindHugetlbfs: // keeps no policy with the file: that of the thread holds
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var was threadPolicy
		if was, err = bindThread(n.Mode, n.Nodes); err == nil {
			defer was.set()
		}
	default:
		err = errors.New("a file on disk has no NUMA policy")
	}
	if err = c.unbound(n, err); err != nil {
		return err
	}
	return fill()
}

// unbound is what it means that pages could not be bound.
func (c candidate) unbound(n Numa, err error) error {
	switch {
	case err == nil || n.Mode == NumaPrefer || len(n.Nodes) == 1 && slices.Equal(NumaNodes(), n.Nodes): // where else?
		return nil
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: memory %v: %v; mend: a container needs CAP_SYS_NICE for it", ErrPermission, n, err)
	}
	return fmt.Errorf("shmem: memory %v: %w", n, err)
}

// whereabouts asks the kernel where the pages of a mapping lie.
func (r *Region) whereabouts() {
	r.numa.Mode, r.numa.Nodes = r.mp.policy()
	if r.numa.Mode == NumaAny && r.kind == kindHugetlbfs {
		r.numa.Nodes = r.mp.nodes()
	}
}

// Numa returns on which nodes the region's pages lie, as the kernel said when it was joined. Of hugetlbfs it tells the nodes only.
func (r *Region) Numa() Numa { return r.numa }
