package shmem

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// NodePages are the huge pages of one size on one NUMA node.
type NodePages struct {
	Node        int
	Total, Free uint64
	Barred      bool // this process's cpuset does not let it have memory of this node
}

// Pool is the kernel's pool of huge pages of one size, in pages (Documentation/admin-guide/mm/hugetlbpage.rst).
type Pool struct {
	PageSize              uint64 // bytes
	Total, Free, Reserved uint64 // reserved are free pages promised to mappings
	Surplus, Overcommit   uint64 // beyond what was asked for: there, and how many there may be
	Nodes                 []NodePages
}

// ReadPool returns the pool of huge pages of pageSize bytes; ok is false if the kernel has none of this size.
func ReadPool(pageSize uint64) (p Pool, ok bool) { return readPool(sysRoot, pageSize) }

// Available returns how many pages a new region can get: free, on nodes this process may use, not promised to others,
// and what overcommit may add.
func (p Pool) Available() uint64 {
	n := p.Free - min(p.Reserved, p.Free)
	allowed, barred := uint64(0), false
	for _, node := range p.Nodes {
		if barred = barred || node.Barred; !node.Barred {
			allowed += node.Free
		}
	}
	if barred { // as hugetlb_acct_memory of mm/hugetlb.c has it
		n = min(n, allowed)
	}
	return n + p.Overcommit - min(p.Surplus, p.Overcommit)
}

// File returns the file that sets the pool's size, or that of its part on one NUMA node if node >= 0.
func (p Pool) File(node int) string {
	if node >= 0 {
		return fmt.Sprintf("/sys/devices/system/node/node%d/hugepages/%s/nr_hugepages", node, poolDir(p.PageSize))
	}
	return "/sys/kernel/mm/hugepages/" + poolDir(p.PageSize) + "/nr_hugepages"
}

// poolDir is the pool's directory under /sys/kernel/mm/hugepages or a node's hugepages.
func poolDir(page uint64) string { return fmt.Sprintf("hugepages-%dkB", page>>10) }

// mend is the command after which need pages would be available.
func (p Pool) mend(need uint64) string {
	total := p.Total + need - min(need, p.Available())
	return fmt.Sprintf("echo %d | sudo tee %s", total, p.File(-1))
}

// readPool reads the pool of huge pages of size page under the file tree root ("/" but in tests); ok is false if the
// kernel has no pages of this size.
func readPool(root string, page uint64) (p Pool, ok bool) {
	dir := filepath.Join(root, "sys/kernel/mm/hugepages", poolDir(page))
	if _, err := os.Stat(dir); err != nil {
		return Pool{}, false
	}
	p = Pool{
		PageSize:   page,
		Total:      readUint(filepath.Join(dir, "nr_hugepages")),
		Free:       readUint(filepath.Join(dir, "free_hugepages")),
		Reserved:   readUint(filepath.Join(dir, "resv_hugepages")),
		Surplus:    readUint(filepath.Join(dir, "surplus_hugepages")),
		Overcommit: readUint(filepath.Join(dir, "nr_overcommit_hugepages")),
	}
	mems, known := allowedNodes(readString(filepath.Join(root, "proc/self/status")))
	nodes, _ := filepath.Glob(filepath.Join(root, "sys/devices/system/node/node[0-9]*/hugepages", poolDir(page)))
	for _, n := range nodes {
		id, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(filepath.Dir(n))), "node"))
		if err != nil {
			continue
		}
		p.Nodes = append(p.Nodes, NodePages{Node: id, Total: readUint(filepath.Join(n, "nr_hugepages")),
			Free: readUint(filepath.Join(n, "free_hugepages")), Barred: known && !mems[id]})
	}
	return p, true
}

// allowedNodes returns the NUMA nodes this process may have memory of, from the text of /proc/self/status (cpuset(7),
// Mems_allowed_list); ok is false if it does not say.
func allowedNodes(status string) (nodes map[int]bool, ok bool) {
	for line := range strings.Lines(status) {
		list, found := strings.CutPrefix(line, "Mems_allowed_list:")
		if !found {
			continue
		}
		nodes = map[int]bool{}
		for _, r := range strings.Split(strings.TrimSpace(list), ",") {
			lo, hi, isRange := strings.Cut(r, "-")
			if !isRange {
				hi = lo
			}
			a, err1 := strconv.Atoi(lo)
			b, err2 := strconv.Atoi(hi)
			if err1 != nil || err2 != nil || a < 0 || b > 1<<16 {
				return nil, false
			}
			for ; a <= b; a++ {
				nodes[a] = true
			}
		}
		return nodes, true
	}
	return nil, false
}

// readUint reads a file that holds one number; 0 if it cannot.
func readUint(path string) uint64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	v, _ := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return v
}

// memAvailable returns the bytes that the kernel thinks it can give without trouble, swap included
// (proc_meminfo(5)); ok is false if it does not say.
func memAvailable(root string) (bytes uint64, ok bool) {
	b, err := os.ReadFile(filepath.Join(root, "proc/meminfo"))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "MemAvailable:" && f[0] != "SwapFree:" {
			continue
		}
		kib, err := strconv.ParseUint(f[1], 10, 54)
		if err != nil {
			return 0, false
		}
		bytes += kib << 10
		ok = ok || f[0] == "MemAvailable:"
	}
	return bytes, ok
}

// bytesString writes n as people do: 48 MiB, 1.5 GiB, 512 B.
func bytesString(n uint64) string {
	const units = "KMGTPE"
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	u, f := -1, float64(n)
	for f >= 1024 && u < len(units)-1 {
		f /= 1024
		u++
	}
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0") + " " + string(units[u]) + "iB"
}

// pagesString writes n bytes as a number of pages.
func pagesString(n, page uint64) string {
	return fmt.Sprintf("%d pages of %s", (n+page-1)/page, bytesString(page))
}
