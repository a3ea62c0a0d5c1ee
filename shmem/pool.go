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
}

// pool is the kernel's pool of huge pages of one size, in pages (Documentation/admin-guide/mm/hugetlbpage.rst).
type pool struct {
	page                                       uint64 // bytes
	total, free, reserved, surplus, overcommit uint64
	nodes                                      []NodePages
}

// available returns how many pages a new file can get: free, not promised to others, and what overcommit may add.
func (p pool) available() uint64 {
	n := p.free - min(p.reserved, p.free)
	return n + p.overcommit - min(p.surplus, p.overcommit)
}

// dir is the pool's directory under /sys/kernel/mm/hugepages or a node's hugepages.
func poolDir(page uint64) string { return fmt.Sprintf("hugepages-%dkB", page>>10) }

// mend is the command after which need pages would be available.
func (p pool) mend(need uint64) string {
	total := p.total + need - min(need, p.available())
	return fmt.Sprintf("echo %d | sudo tee /sys/kernel/mm/hugepages/%s/nr_hugepages", total, poolDir(p.page))
}

// readPool reads the pool of huge pages of size page under the file tree root ("/" but in tests); ok is false if the
// kernel has no pages of this size.
func readPool(root string, page uint64) (p pool, ok bool) {
	dir := filepath.Join(root, "sys/kernel/mm/hugepages", poolDir(page))
	if _, err := os.Stat(dir); err != nil {
		return pool{}, false
	}
	p = pool{
		page:       page,
		total:      readUint(filepath.Join(dir, "nr_hugepages")),
		free:       readUint(filepath.Join(dir, "free_hugepages")),
		reserved:   readUint(filepath.Join(dir, "resv_hugepages")),
		surplus:    readUint(filepath.Join(dir, "surplus_hugepages")),
		overcommit: readUint(filepath.Join(dir, "nr_overcommit_hugepages")),
	}
	nodes, _ := filepath.Glob(filepath.Join(root, "sys/devices/system/node/node[0-9]*/hugepages", poolDir(page)))
	for _, n := range nodes {
		id, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(filepath.Dir(n))), "node"))
		if err != nil {
			continue
		}
		p.nodes = append(p.nodes, NodePages{Node: id, Total: readUint(filepath.Join(n, "nr_hugepages")),
			Free: readUint(filepath.Join(n, "free_hugepages"))})
	}
	return p, true
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
