package shmem

import (
	"fmt"
	"math"
	"os"
)

// Backing says where a region's pages come from.
type Backing uint8

const (
	// BackingAuto takes the best to be had: hugetlbfs, then tmpfs with transparent huge pages, then tmpfs.
	BackingAuto Backing = iota
	// BackingHugetlbfs takes hugetlbfs only.
	BackingHugetlbfs
	// BackingShm takes tmpfs only, with transparent huge pages where the kernel gives them.
	BackingShm
)

// String returns the name used in configuration: auto, hugetlbfs, shm.
func (b Backing) String() string {
	switch b {
	case BackingAuto:
		return "auto"
	case BackingHugetlbfs:
		return "hugetlbfs"
	case BackingShm:
		return "shm"
	}
	return "unknown"
}

// ParsePages returns the page size that is called normal, huge or gigantic, and whether one is called so.
func ParsePages(s string) (size uint64, ok bool) {
	switch s {
	case "normal":
		return PageNormal, true
	case "huge":
		return PageHuge, true
	case "gigantic":
		return PageGigantic, true
	}
	return 0, false
}

// ParseBacking returns the backing that String calls s. Errors: ErrBadOption, naming the three.
func ParseBacking(s string) (Backing, error) {
	for b := BackingAuto; b <= BackingShm; b++ {
		if b.String() == s {
			return b, nil
		}
	}
	return 0, fmt.Errorf("%w: backing %q is none of auto, hugetlbfs, shm", ErrBadOption, s)
}

// Options of Create and Preflight. The zero value is the best backing up to 2 MiB pages, mode 0600.
type Options struct {
	Backing     Backing
	MaxPageSize uint64      // largest page to use: PageNormal, PageHuge (0 means this) or PageGigantic
	Strict      bool        // pages of exactly MaxPageSize, or an error: no fallback
	Mlock       bool        // keep tmpfs pages from being swapped out (hugetlbfs pages never are)
	Mode        os.FileMode // permission bits of the region's file; 0 means 0600; the umask is not applied
	Gid         int         // group of the region's file; <= 0 leaves the creator's
	Numa        Numa        // nodes that the pages lie on
	// Init formats the region before anybody can see it. An error of it is returned by Create and leaves nothing.
	Init func(Mem) error
}

// checked returns o with its defaults filled in, or ErrBadOption.
func (o Options) checked() (Options, error) {
	if o.MaxPageSize == 0 {
		o.MaxPageSize = PageHuge
	}
	if o.Mode == 0 {
		o.Mode = 0o600
	}
	switch {
	case o.Backing > BackingShm:
		return o, fmt.Errorf("%w: backing %d", ErrBadOption, o.Backing)
	case o.MaxPageSize != PageNormal && o.MaxPageSize != PageHuge && o.MaxPageSize != PageGigantic:
		return o, fmt.Errorf("%w: page size %d is none of 4096, 2097152, 1073741824", ErrBadOption, o.MaxPageSize)
	case o.Backing == BackingHugetlbfs && o.MaxPageSize == PageNormal:
		return o, fmt.Errorf("%w: hugetlbfs has no 4 KiB pages", ErrBadOption)
	case o.Backing == BackingShm && o.MaxPageSize == PageGigantic:
		return o, fmt.Errorf("%w: tmpfs has no 1 GiB pages", ErrBadOption)
	case int64(o.Gid) >= math.MaxUint32: // chown would cut it, or take it for "no change"
		return o, fmt.Errorf("%w: gid %d: at most %d", ErrBadOption, o.Gid, uint32(math.MaxUint32-1))
	case o.Mode&^0o666 != 0 || o.Mode&0o600 != 0o600:
		return o, fmt.Errorf("%w: mode %#o: at least 0600, at most 0666", ErrBadOption, uint32(o.Mode))
	}
	return o, o.Numa.check()
}
