package shmem

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

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
	Ways        []Way       // every way that was considered, best first; the plan is the first without an error
}

// Way is one way to back the region that Preflight was asked about. Figures that are not known are 0.
type Way struct {
	Mount       string // directory; empty if no mount has pages of this size
	Backing     string // for humans
	PageSize    uint64 // bytes
	Size        uint64 // of the region in bytes
	PagesNeeded uint64 // of PageSize
	PagesFree   uint64 // of PageSize
	Nodes       []NodePages
	Limits      []Limit
	Err         error // why it cannot be had, with figures and mend; nil if it can
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
	err   error // why it cannot work
}

// way is c for the outside.
func (c candidate) way() Way {
	return Way{Mount: c.mount.dir, Backing: backingString(c.mount.kind, c.page), PageSize: c.page, Size: c.size,
		PagesNeeded: (c.size + c.page - 1) / c.page, PagesFree: c.free / c.page, Nodes: c.nodes, Limits: c.lims, Err: c.err}
}

// Preflight says how a region of size bytes would be backed, without touching anything. Its errors are those of
// Create: ErrNoMemory with pages needed, pages free and the command that mends it, ErrNoPages, ErrPermission,
// ErrBadSize, ErrBadOption, ErrMlock. With one of these the Plan holds Ways alone, if it came as far as that.
func Preflight(size uint64, o Options) (Plan, error) {
	o, err := checkRequest(size, o)
	if err != nil {
		return Plan{}, err
	}
	all := ways(size, o)
	var p Plan
	for _, c := range all {
		p.Ways = append(p.Ways, c.way())
	}
	i := slices.IndexFunc(all, func(c candidate) bool { return c.err == nil })
	if i < 0 {
		return p, refusal(reasonsOf(all))
	}
	c := all[i]
	if err := checkMlock(c, o); err != nil {
		return p, err
	}
	w := c.way()
	p.Mount, p.Backing, p.PageSize, p.Size, p.PagesNeeded, p.PagesFree = w.Mount, w.Backing, w.PageSize, w.Size, w.PagesNeeded, w.PagesFree
	p.Nodes, p.Limits, p.Fallback = w.Nodes, w.Limits, c.fallback(o, reasonsOf(all[:i]))
	return p, nil
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

func reasonsOf(failed []candidate) (why []error) {
	for _, c := range failed {
		why = append(why, c.err)
	}
	return why
}

// fallback is why c is not the best that o allows, were it that better ways failed for these reasons. A second hugetlbfs of
// the pages asked for is as good as the first.
func (c candidate) fallback(o Options, why []error) string {
	if c.mount.kind == kindHugetlbfs && c.page == o.MaxPageSize {
		return ""
	}
	return fallbackText(why)
}

// ways returns what Create could try for these options, best first, each with the reason why not if it cannot work.
func ways(size uint64, o Options) (out []candidate) {
	mounts := findMounts()
	for _, page := range []uint64{PageGigantic, PageHuge} {
		if page > o.MaxPageSize || o.Backing == BackingShm || o.Strict && page != o.MaxPageSize {
			continue
		}
		if o.Backing == BackingAuto && size < page {
			out = append(out, candidate{mount: mount{kind: kindHugetlbfs}, size: Align(size, page), page: page,
				err: fmt.Errorf("%w: a region of %s would waste a page of %s", ErrNoPages, bytesString(size), bytesString(page))})
			continue
		}
		out = append(out, hugetlbWays(mounts, size, page)...)
	}
	if o.Backing != BackingHugetlbfs && !(o.Strict && o.MaxPageSize == PageGigantic) {
		out = append(out, shmWays(mounts, size, o)...)
	}
	for i := range out {
		if out[i].err == nil {
			out[i].err = out[i].onNodes(o.Numa)
		}
	}
	return out
}

// shmWays returns the mounts other than hugetlbfs.
func shmWays(mounts []mount, size uint64, o Options) (out []candidate) {
	for _, m := range mounts {
		thp := o.MaxPageSize >= PageHuge && m.kind == kindTmpfs && size >= PageHuge
		switch {
		case m.kind == kindHugetlbfs:
		case o.Strict && o.MaxPageSize > PageNormal && !thp:
			c := candidate{mount: m, size: Align(size, PageNormal), page: PageNormal}
			if c.err = fmt.Errorf("%w: a region of %s has no 2 MiB page", ErrNoPages, bytesString(size)); m.kind == kindDisk {
				c.err = fmt.Errorf("%w: %s has no huge pages", ErrNoPages, m)
			}
			out = append(out, c)
		default:
			out = append(out, shmWay(m, size, thp))
		}
	}
	if len(out) == 0 {
		out = []candidate{{size: size, page: PageNormal, err: noShm()}}
	}
	return out
}

// noShm says why there is nothing but hugetlbfs, if that.
func noShm() error {
	env := os.Getenv(EnvDirs)
	if env == "" {
		return fmt.Errorf("%w: no tmpfs at %s; mend: sudo mount -t tmpfs -o mode=1777 tmpfs %s", ErrNoPages, defaultShm, defaultShm)
	}
	if missing := missingDirs(env); len(missing) > 0 {
		return fmt.Errorf("%w: %s=%s names what is not there; mend: mkdir -p %s, or unset %s for %s", ErrNoPages, EnvDirs, env,
			strings.Join(missing, " "), EnvDirs, defaultShm)
	}
	return fmt.Errorf("%w: %s=%s names hugetlbfs only; mend: export %s=%s:%s", ErrNoPages, EnvDirs, env, EnvDirs, env, defaultShm)
}

// hugetlbWays returns the hugetlbfs mounts of pages of size page, or one way without a mount that says why there is none.
func hugetlbWays(mounts []mount, size, page uint64) (out []candidate) {
	c := candidate{mount: mount{kind: kindHugetlbfs}, size: Align(size, page), page: page}
	p, ok := readPool(sysRoot, page)
	if !ok {
		c.err = fmt.Errorf("%w: this kernel has no %s pages", ErrNoPages, bytesString(page))
		return []candidate{c}
	}
	need := c.size / page
	c.free, c.nodes, c.lims = p.Available()*page, p.Nodes, cgroupLimits(sysRoot, page)
	for _, m := range mounts {
		if m.kind != kindHugetlbfs || m.page != page {
			continue
		}
		c := c // each mount its own
		c.mount = m
		c.err = m.writable()
		switch {
		case c.err != nil:
		case c.free < c.size:
			c.err = shortage(m.String(), c.size, c.free, page, p.mend(need))
		case m.capped && m.free < c.size:
			c.err = shortage(m.String()+" (size= of the mount)", c.size, m.free, page,
				fmt.Sprintf("sudo mount -o remount,size=%d %s", m.total+c.size-m.free, mountPoint(m.dir)))
		default:
			c.err = c.underLimits()
		}
		if m.capped {
			c.free = min(c.free, m.free)
		}
		out = append(out, c)
	}
	if len(out) > 0 {
		return out
	}
	what, mend := mountMend(page)
	if p.Available() < need {
		c.err = shortage("the pool", c.size, c.free, page, p.mend(need)+"; "+mend)
	} else {
		c.err = fmt.Errorf("%w: no hugetlbfs with %s pages is %s; mend: %s", ErrNoPages, bytesString(page), what, mend)
	}
	return []candidate{c}
}

// shmWay returns m, no hugetlbfs, as a backing.
func shmWay(m mount, size uint64, thp bool) candidate {
	c := candidate{mount: m, size: Align(size, PageNormal), page: PageNormal, thp: thp, free: math.MaxInt64}
	if huge := Align(size, PageHuge); thp && (!m.capped || m.free >= huge) && huge <= fileLimit() {
		c.size = huge // whole huge pages; where that does not fit the rest stays on small ones
	}
	if thp {
		c.page = PageHuge
	}
	c.lims = cgroupLimits(sysRoot, PageNormal)
	if m.capped {
		c.free = m.free
	}
	avail, known := memAvailable(sysRoot)
	switch c.err = m.writable(); {
	case c.err != nil:
	case c.free < c.size:
		c.err = tmpfsShortage(m, c.size, c.free)
	case known && m.kind == kindTmpfs && avail < c.size:
		c.err = fmt.Errorf("%w: %s (%s) asked for, %s of memory available on this host; mend: ask for less, or free memory",
			ErrNoMemory, bytesString(c.size), pagesString(c.size, PageNormal), bytesString(avail))
	default:
		if known && m.kind == kindTmpfs {
			c.free = min(c.free, avail)
		}
		c.err = c.underLimits()
	}
	return c
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
		fmt.Sprintf("sudo mount -o remount,size=%d %s (container: --shm-size)", Align(m.total+need-min(need, free), 1<<20), mountPoint(m.dir)))
}

// checkMlock returns ErrMlock if locking the candidate's pages is asked for and RLIMIT_MEMLOCK forbids it.
func checkMlock(c candidate, o Options) error {
	if !o.Mlock || c.mount.kind == kindHugetlbfs {
		return nil
	}
	return CheckMlock(c.size)
}

// CheckMlock returns ErrMlock if RLIMIT_MEMLOCK forbids this process to lock n bytes in memory, whatever is locked already.
func CheckMlock(n uint64) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim); hasIPCLock() || err != nil || lim.Cur >= n {
		return nil
	}
	return mlockError(n, lim.Cur)
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
