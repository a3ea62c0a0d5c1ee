package shmem

import (
	"errors"
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// sysRoot is where /proc and /sys are; tests put a tree of their own here.
var sysRoot = "/"

// Plan is what Create would do now, and the figures it rests on. Other processes may take the pages meanwhile.
type Plan struct {
	Mount       string      // directory of the region's file
	Backing     string      // for humans
	PageSize    uint64      // bytes; for transparent huge pages what will be tried
	Size        uint64      // of the region in bytes: rounded up to pages
	PagesNeeded uint64      // of PageSize
	PagesFree   uint64      // of PageSize, as far as mount, pool or memory, and control groups all allow
	Nodes       []NodePages // hugetlbfs: the pool by NUMA node
	Limits      []Limit     // of control groups that count these pages
	Fallback    string      // why not the best backing asked for, with the mend; empty if it is
}

// candidate is one way to back a region.
type candidate struct {
	mount mount
	thp   bool // tmpfs: collapse to 2 MiB pages
	size  uint64
	page  uint64 // aimed at
	free  uint64 // bytes
	nodes []NodePages
	lims  []Limit
}

// Preflight says how a region of size bytes would be backed, without touching anything. Its errors are those of
// Create: ErrNoMemory with pages needed, pages free and the command that mends it, ErrNoPages, ErrPermission,
// ErrBadSize, ErrBadOption, ErrMlock.
func Preflight(size uint64, o Options) (Plan, error) {
	o, err := checkRequest(size, o)
	if err != nil {
		return Plan{}, err
	}
	cands, why := candidates(size, o)
	if len(cands) == 0 {
		return Plan{}, refusal(why)
	}
	c := cands[0]
	if err := checkMlock(c, o); err != nil {
		return Plan{}, err
	}
	return Plan{
		Mount: c.mount.dir, Backing: backingString(c.mount.kind, c.page), PageSize: c.page, Size: c.size,
		PagesNeeded: (c.size + c.page - 1) / c.page, PagesFree: c.free / c.page,
		Nodes: c.nodes, Limits: c.lims, Fallback: fallbackText(why),
	}, nil
}

// checkRequest validates what is asked for, whatever the host can give.
func checkRequest(size uint64, o Options) (Options, error) {
	o, err := o.checked()
	if err != nil {
		return o, err
	}
	if size == 0 || size > MaxSize {
		return o, fmt.Errorf("%w: %d bytes, 1 to %d are possible", ErrBadSize, size, MaxSize)
	}
	return o, nil
}

// candidates returns the ways that can work, best first, and why each better or failing one cannot.
func candidates(size uint64, o Options) (out []candidate, why []error) {
	mounts := findMounts()
	pages := []uint64{PageGigantic, PageHuge}
	for _, page := range pages {
		if page > o.MaxPageSize || o.Backing == BackingShm || o.Strict && page != o.MaxPageSize {
			continue
		}
		if o.Backing == BackingAuto && size < page {
			why = append(why, fmt.Errorf("%w: a region of %s would waste a page of %s", ErrNoPages, bytesString(size), bytesString(page)))
			continue
		}
		c, err := hugetlbCandidates(mounts, size, page)
		out, why = append(out, c...), append(why, err...)
	}
	if o.Backing == BackingHugetlbfs || o.Strict && o.MaxPageSize == PageGigantic {
		return out, why
	}
	found := false
	for _, m := range mounts {
		if m.kind == kindHugetlbfs {
			continue
		}
		found = true
		thp := o.MaxPageSize >= PageHuge && m.kind == kindTmpfs
		if thp && size < PageHuge {
			if thp = false; o.Strict {
				why = append(why, fmt.Errorf("%w: a region of %s has no 2 MiB page", ErrNoPages, bytesString(size)))
				continue
			}
		}
		if m.kind == kindDisk && o.Strict && o.MaxPageSize > PageNormal {
			why = append(why, fmt.Errorf("%w: %s has no huge pages", ErrNoPages, m))
			continue
		}
		c, err := shmCandidate(m, size, thp)
		if err != nil {
			why = append(why, err)
			continue
		}
		out = append(out, c)
	}
	if !found {
		why = append(why, fmt.Errorf("%w: no tmpfs at %s; mend: sudo mount -t tmpfs -o mode=1777 tmpfs %s", ErrNoPages, defaultShm, defaultShm))
	}
	return out, why
}

// hugetlbCandidates returns the hugetlbfs mounts of pages of size page that can take the region.
func hugetlbCandidates(mounts []mount, size, page uint64) (out []candidate, why []error) {
	p, ok := readPool(sysRoot, page)
	if !ok {
		return nil, []error{fmt.Errorf("%w: this kernel has no %s pages", ErrNoPages, bytesString(page))}
	}
	rounded := Align(size, page)
	need := rounded / page
	for _, m := range mounts {
		if m.kind != kindHugetlbfs || m.page != page {
			continue
		}
		c := candidate{mount: m, size: rounded, page: page, free: p.available() * page, nodes: p.nodes,
			lims: cgroupLimits(sysRoot, page)}
		err := m.writable()
		switch {
		case err != nil:
		case c.free < rounded:
			err = shortage(m.String(), rounded, c.free, page, p.mend(need))
		case m.capped && m.free < rounded:
			err = shortage(m.String()+" (size= of the mount)", rounded, m.free, page,
				fmt.Sprintf("sudo mount -o remount,size=%d %s", m.total+rounded-m.free, m.dir))
		default:
			err = c.underLimits()
		}
		if m.capped {
			c.free = min(c.free, m.free)
		}
		if err != nil {
			why = append(why, err)
			continue
		}
		out = append(out, c)
	}
	if len(out)+len(why) == 0 {
		unit := map[uint64]string{PageHuge: "2M", PageGigantic: "1G"}[page]
		dir := "/dev/hugepages" + unit
		if p.available() < need {
			why = append(why, shortage("the pool", rounded, p.available()*page, page, p.mend(need)+
				fmt.Sprintf("; sudo mkdir -p %s; sudo mount -t hugetlbfs -o pagesize=%s,uid=%d none %s", dir, unit, os.Geteuid(), dir)))
		} else {
			why = append(why, fmt.Errorf("%w: no hugetlbfs with %s pages is mounted; mend: sudo mkdir -p %s; sudo mount -t hugetlbfs -o pagesize=%s,uid=%d none %s",
				ErrNoPages, bytesString(page), dir, unit, os.Geteuid(), dir))
		}
	}
	return out, why
}

// shmCandidate returns m as a backing if the region fits.
func shmCandidate(m mount, size uint64, thp bool) (candidate, error) {
	c := candidate{mount: m, size: Align(size, PageNormal), page: PageNormal, thp: thp, free: math.MaxInt64}
	if huge := Align(size, PageHuge); thp && (!m.capped || m.free >= huge) && huge <= fileLimit() {
		c.size = huge // whole huge pages; where that does not fit the rest stays on small ones
	}
	if thp {
		c.page = PageHuge
	}
	if err := m.writable(); err != nil {
		return c, err
	}
	if m.capped {
		if c.free = m.free; c.free < c.size {
			return c, tmpfsShortage(m, c.size, c.free)
		}
	}
	if avail, ok := memAvailable(sysRoot); ok && m.kind == kindTmpfs {
		if avail < c.size {
			return c, fmt.Errorf("%w: %s (%s) asked for, %s of memory available on this host; mend: ask for less, or free memory",
				ErrNoMemory, bytesString(c.size), pagesString(c.size, PageNormal), bytesString(avail))
		}
		c.free = min(c.free, avail)
	}
	c.lims = cgroupLimits(sysRoot, PageNormal)
	return c, c.underLimits()
}

// fileLimit is RLIMIT_FSIZE. Beyond it ftruncate does not only fail, it raises SIGXFSZ, which kills.
func fileLimit() uint64 {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &lim); err != nil {
		return math.MaxUint64
	}
	return lim.Cur
}

// underLimits returns ErrNoMemory if the limit of files or of a control group is too low, and lowers free to the lowest.
func (c *candidate) underLimits() error {
	if lim := fileLimit(); c.size > lim {
		return fmt.Errorf("%w: %s asked for, files are limited to %s; mend: ulimit -f unlimited", ErrNoMemory,
			bytesString(c.size), bytesString(lim))
	}
	for _, l := range c.lims {
		if l.Free() < c.size {
			return shortage("control group "+l.File, c.size, l.Free(), c.page,
				fmt.Sprintf("echo %d | sudo tee %s (in a container: its memory limit)", l.Max+c.size-l.Free(), l.File))
		}
		c.free = min(c.free, l.Free())
	}
	return nil
}

func shortage(where string, need, free, page uint64, mend string) error {
	return fmt.Errorf("%w: %s (%s) needed of %s, %s (%s) free; mend: %s", ErrNoMemory,
		bytesString(need), pagesString(need, page), where, bytesString(free), pagesString(free&^(page-1), page), mend)
}

func tmpfsShortage(m mount, need, free uint64) error {
	return shortage(fmt.Sprintf("%s of %s", m, bytesString(m.total)), need, free, PageNormal,
		fmt.Sprintf("sudo mount -o remount,size=%d %s (container: --shm-size)", Align(m.total+need-min(need, free), 1<<20), m.dir))
}

// checkMlock returns ErrMlock if locking the candidate's pages is asked for and RLIMIT_MEMLOCK forbids it.
func checkMlock(c candidate, o Options) error {
	if !o.Mlock || c.mount.kind == kindHugetlbfs || hasIPCLock() {
		return nil
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim); err != nil || lim.Cur >= c.size {
		return nil
	}
	return mlockError(c.size, lim.Cur)
}

func mlockError(need, limit uint64) error {
	return fmt.Errorf("%w: %s to lock, RLIMIT_MEMLOCK is %s; mend: ulimit -l %d, LimitMEMLOCK=infinity in the unit, "+
		"--ulimit memlock=-1 for a container, or sudo setcap cap_ipc_lock+ep on the program",
		ErrMlock, bytesString(need), bytesString(limit), (need+1023)>>10)
}

// hasIPCLock reports whether RLIMIT_MEMLOCK does not hold for this thread.
func hasIPCLock() bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&hdr, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}

// refusal joins why no candidate works into one error, on one line.
func refusal(why []error) error {
	if len(why) == 1 {
		return why[0]
	}
	return &refused{why}
}

// refused is several reasons at once; the most useful sentinel of any of them is found by errors.Is.
type refused struct{ why []error }

func (r *refused) Error() string {
	if len(r.why) == 0 {
		return ErrNoMemory.Error() + ": no mount to put a region on"
	}
	return fallbackText(r.why)
}

func (r *refused) Unwrap() []error {
	if len(r.why) == 0 {
		return []error{ErrNoMemory}
	}
	return r.why
}

// fallbackText is why written one behind the other.
func fallbackText(why []error) string {
	text := ""
	for i, err := range why {
		if i > 0 {
			text += " | "
		}
		text += err.Error()
	}
	return text
}

// isShortage reports whether err is of the kind that another backing may not have.
func isShortage(err error) bool { return errors.Is(err, ErrNoMemory) || errors.Is(err, ErrNoPages) }
