package shmem

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Limit is a limit of a control group that a region's pages count against, in bytes.
type Limit struct {
	File      string // that holds the limit
	Max, Used uint64
}

// Free returns what is left under the limit.
func (l Limit) Free() uint64 { return l.Max - min(l.Used, l.Max) }

// cgroupLimits returns the limits that hold for pages of size page in this process's control groups and their
// ancestors (cgroup v2 and v1; Documentation/admin-guide/cgroup-v2.rst, memory and hugetlb). root is "/" but in tests.
func cgroupLimits(root string, page uint64) (out []Limit) {
	v2 := [][2]string{{"memory.max", "memory.current"}}
	v1 := map[string][][2]string{"memory": {{"memory.limit_in_bytes", "memory.usage_in_bytes"}}}
	if page != PageNormal {
		h := "hugetlb." + hugetlbUnit(page)
		v2 = [][2]string{{h + ".max", h + ".current"}, {h + ".rsvd.max", h + ".rsvd.current"}}
		v1 = map[string][][2]string{"hugetlb": {{h + ".limit_in_bytes", h + ".usage_in_bytes"},
			{h + ".rsvd.limit_in_bytes", h + ".rsvd.usage_in_bytes"}}}
	}
	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil
	}
	info, _ := os.ReadFile(filepath.Join(root, "proc/self/mountinfo"))
	mounts := parseMountinfo(string(info))
	for line := range strings.Lines(string(groups)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, e := range mounts {
			if f[1] == "" && e.fsType == "cgroup2" {
				files := v2
				if _, both := e.options["memory_hugetlb_accounting"]; both && page != PageNormal {
					files = append(files, [2]string{"memory.max", "memory.current"})
				}
				out = append(out, walkGroup(root, e, f[2], files)...)
				break
			}
			for _, c := range strings.Split(f[1], ",") {
				if _, has := e.options[c]; has && e.fsType == "cgroup" && v1[c] != nil {
					out = append(out, walkGroup(root, e, f[2], v1[c])...)
				}
			}
		}
	}
	return out
}

// walkGroup reads the limits of group and its ancestors within the mount e. In a container the group may lie outside
// of what is mounted; then the mount's own root is what counts.
func walkGroup(root string, e mountEntry, group string, files [][2]string) (out []Limit) {
	rel, ok := strings.CutPrefix(group, strings.TrimSuffix(e.root, "/"))
	if !ok {
		rel = "/"
	}
	for rel = filepath.Clean("/" + rel); ; rel = filepath.Dir(rel) {
		dir := filepath.Join(root, e.dir, rel)
		for _, f := range files {
			lim, err := strconv.ParseUint(strings.TrimSpace(readString(filepath.Join(dir, f[0]))), 10, 64)
			if err != nil || lim >= math.MaxInt64&^0xfff { // "max", absent, or v1's 'no limit'
				continue
			}
			used := readUint(filepath.Join(dir, f[1]))
			if strings.HasPrefix(f[0], "memory.") {
				// Page cache that nobody uses is given up before anything fails.
				used -= min(used, statField(filepath.Join(dir, "memory.stat"), "inactive_file"))
			}
			out = append(out, Limit{File: filepath.Join("/", e.dir, rel, f[0]), Max: lim, Used: used})
		}
		if rel == "/" {
			return out
		}
	}
}

// hugetlbUnit is the page size as the controller's files spell it (mm/hugetlb_cgroup.c, mem_fmt).
func hugetlbUnit(page uint64) string {
	switch {
	case page >= 1<<30:
		return fmt.Sprintf("%dGB", page>>30)
	case page >= 1<<20:
		return fmt.Sprintf("%dMB", page>>20)
	}
	return fmt.Sprintf("%dKB", page>>10)
}

func readString(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// statField returns the value of a 'name value' line, 0 if there is none.
func statField(path, name string) uint64 {
	for line := range strings.Lines(readString(path)) {
		if k, v, _ := strings.Cut(strings.TrimSpace(line), " "); k == name {
			n, _ := strconv.ParseUint(v, 10, 64)
			return n
		}
	}
	return 0
}
