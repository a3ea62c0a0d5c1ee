package shmem

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Create makes the region name of at least size bytes, zeroed, on the best backing that o allows, and joins it
// read-write. Others see the region when it is complete (its pages are there, Init has returned) or never: a creator
// that dies before leaves nothing behind. All pages are allocated and mapped: memory that is short is an error here and
// not a SIGBUS later.
//
// Order (each step can fail cleanly): O_TMPFILE, ftruncate, NUMA policy, fallocate, join lock, mmap, huge pages (and fallocate of the
// rest), populate, mlock, Init, linkat.
//
// ErrBadName, ErrBadSize, ErrBadOption; ErrExists if the name is taken on any mount; ErrNoMemory and ErrNoPages with
// figures and the command that mends it; ErrMlock, ErrPermission; what Init returned.
func Create(name string, size uint64, o Options) (*Region, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	o, err := checkRequest(size, o)
	if err != nil {
		return nil, err
	}
	if err := absent(name, ""); err != nil {
		return nil, err
	}
	var why []error // the ways before this one were not taken
	for _, c := range ways(size, o) {
		r, err := (*Region)(nil), c.err
		if err == nil {
			r, err = c.create(name, o)
		}
		if err == nil {
			r.fallback = c.fallback(o, append(why, reasons(r.fallback)...))
			return r, nil
		}
		if c.err == nil && !isShortage(err) {
			return nil, err
		}
		why = append(why, err)
	}
	return nil, refusal(why)
}

func reasons(text string) []error {
	if text == "" {
		return nil
	}
	return []error{errors.New(text)}
}

// absent returns ErrExists if a mount other than the directory but holds the name.
func absent(name, but string) error {
	for _, m := range findMounts() {
		if m.dir == but {
			continue
		}
		if path := regionPath(m.dir, name); exists(path) {
			return fmt.Errorf("%w: %s", ErrExists, path)
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// create makes the region on this candidate, or leaves nothing.
func (c candidate) create(name string, o Options) (*Region, error) {
	r := &Region{name: name, path: regionPath(c.mount.dir, name), kind: c.mount.kind, page: c.mount.page}
	if err := checkMlock(c, o); err != nil {
		return nil, err
	}
	f, err := c.allocate(o)
	if err != nil {
		return nil, err
	}
	align := max(c.mount.page, PageNormal)
	if c.thp {
		align = PageHuge
	}
	if err := r.join(f, c.size, align, c.mount.page); err != nil {
		return nil, err
	}
	if err := c.finish(r, o); err != nil {
		r.drop()
		return nil, c.fillFailure(err)
	}
	return r, nil
}

// allocate makes the nameless file with all of its pages, but for transparent huge pages with one small page in each
// of them only: collapsing then takes a cleared huge page where it would have to copy 512 small ones, which is a third of
// the time or less. Closing the file gives everything back.
func (c candidate) allocate(o Options) (*os.File, error) {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(c.mount.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return nil, pathError("opening a nameless file (O_TMPFILE)", c.mount.dir, err)
	}
	f := os.NewFile(uintptr(fd), c.mount.dir)
	err = f.Chmod(o.Mode)
	if err == nil && o.Gid > 0 {
		if err = f.Chown(-1, o.Gid); err != nil {
			err = fmt.Errorf("%w: giving the region to group %d: %v", ErrPermission, o.Gid, errors.Unwrap(err))
		}
	}
	if err == nil {
		err = f.Truncate(int64(c.size))
	}
	if err == nil {
		err = c.fillOn(fd, o.Numa, func() error {
			if !c.thp {
				return fill(fd, 0, c.size)
			}
			for off := uint64(0); off < c.size; off += PageHuge {
				if err := fill(fd, off, PageNormal); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err == nil {
		return f, nil
	}
	f.Close() // gives back what it got, so that the figures of the error are true
	if errors.As(err, &fillError{}) || errors.Is(err, ErrPermission) {
		return nil, c.fillFailure(err)
	}
	return nil, pathError("making a file", c.mount.dir, err)
}

// fill allocates the pages of n bytes from off (fallocate(2)). Errors: fillError.
func fill(fd int, off, n uint64) error {
	_, err := ignoringEINTR(func() (int, error) { return 0, unix.Fallocate(fd, 0, int64(off), int64(n)) })
	if err != nil {
		return fillError{err}
	}
	return nil
}

// fillError is what the kernel said when it refused pages.
type fillError struct{ error }

// fillFailure makes of a fillError what Create returns, after the file is gone; other errors it returns as they are.
func (c candidate) fillFailure(err error) error {
	var refused fillError
	if !errors.As(err, &refused) {
		return err
	}
	for _, e := range []unix.Errno{unix.ENOSPC, unix.ENOMEM, unix.EDQUOT, unix.EFBIG} {
		if errors.Is(refused.error, e) {
			return c.shortNow(e)
		}
	}
	return pathError("allocating", c.mount.dir, refused.error)
}

// shortNow is ErrNoMemory after the kernel has refused what the figures had promised, with the figures of now.
func (c candidate) shortNow(err error) error {
	m, ok := examine(c.mount.dir)
	if !ok {
		m = c.mount
	}
	var now candidate
	if m.kind == kindHugetlbfs {
		now = hugetlbWays([]mount{m}, c.size, c.page)[0]
	} else {
		now = shmWay(m, c.size, c.thp)
	}
	if errors.Is(now.err, ErrNoMemory) {
		return fmt.Errorf("%w (%v)", now.err, err)
	}
	return fmt.Errorf("%w: %s (%s) of %s refused by the kernel (%v), though %s look free; mend: another process was "+
		"quicker, try again; or a control group above this container holds less, ask its host", ErrNoMemory,
		bytesString(c.size), pagesString(c.size, c.page), m, err, bytesString(now.free))
}

// finish makes the joined mapping ready and gives the file its name.
func (c candidate) finish(r *Region, o Options) error {
	if c.thp {
		if err := r.mp.collapse(); err != nil {
			r.fallback = fmt.Sprintf("the kernel gave no transparent huge pages on %s (MADV_COLLAPSE: %v); "+
				"see /sys/kernel/mm/transparent_hugepage/shmem_enabled, or reserve huge pages", c.mount.dir, err)
		}
		// What is not there yet: nothing was touched, so there was no SIGBUS to fear.
		if err := fill(int(r.sp.fd.Load()), 0, c.size); err != nil {
			return err
		}
	}
	if err := r.mp.populate(ReadWrite); err != nil {
		return mapError(r.path, c.size, err)
	}
	if c.thp {
		if r.mp.isHuge() {
			r.page = PageHuge
		} else if r.fallback == "" {
			r.fallback = fmt.Sprintf("the kernel does not map %s by huge pages", c.mount.dir)
		}
		if o.Strict && r.page != o.MaxPageSize {
			return fmt.Errorf("%w: %s", ErrNoPages, r.fallback)
		}
	}
	if o.Mlock && c.mount.kind != kindHugetlbfs {
		if err := unix.Mlock(r.mp.bytes()); err != nil {
			var lim unix.Rlimit
			unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim)
			return fmt.Errorf("%w (mlock: %v)", mlockError(c.size, lim.Cur), err)
		}
	}
	if o.Init != nil {
		if err := o.Init(r.mem); err != nil {
			return err
		}
	}
	return r.publish()
}

// publish links the nameless file under its name. /proc/self/fd is what an ordinary user may link from: linkat(2)
// with AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH.
func (r *Region) publish() error {
	from := fmt.Sprintf("/proc/self/fd/%d", r.sp.fd.Load())
	if err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, r.path, unix.AT_SYMLINK_FOLLOW); err != nil {
		return pathError("linking", r.path, err)
	}
	// Two creators may have looked at the same moment and linked on two mounts: both see it here, and one at least gives way.
	dir := r.path[:len(r.path)-len(filePrefix)-len(r.name)-1]
	if err := absent(r.name, dir); err != nil {
		unix.Unlink(r.path)
		return err
	}
	return nil
}

// mapError wraps what mmap and its advice return.
func mapError(path string, size uint64, err error) error {
	if errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EFAULT) || errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("%w: %s (%s) could not be mapped: %v; mend: see ulimit -v, vm.max_map_count and the "+
			"control group's limits", ErrNoMemory, path, bytesString(size), err)
	}
	return pathError("mapping", path, err)
}
