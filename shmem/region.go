package shmem

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Access is how a process joins a region.
type Access uint8

const (
	// ReadWrite maps the pages for reading and writing; locks can be taken.
	ReadWrite Access = iota
	// ReadOnly maps the pages so that a write faults, needs only read permission, and holds up nobody.
	ReadOnly
)

// String returns "rw" or "ro".
func (a Access) String() string {
	if a == ReadOnly {
		return "ro"
	}
	return "rw"
}

// Region is this process's join of a named region. Its methods may be called by several goroutines; Leave by one,
// when nobody uses the memory any more.
type Region struct {
	name, path string
	access     Access
	mem        Mem
	mp         *mapping
	sp         *ofdSpace
	page       uint64
	kind       mountKind
	fallback   string
	numa       Numa

	mu   sync.Mutex
	left bool
}

// Mem returns all of the region's memory; its offsets are those of the region's file.
func (r *Region) Mem() Mem { return r.mem }

// Name returns the region's name.
func (r *Region) Name() string { return r.name }

// Path returns the region's file.
func (r *Region) Path() string { return r.path }

// Size returns the region's size in bytes: what Create was asked for, rounded up to pages.
func (r *Region) Size() uint64 { return uint64(r.mp.size) }

// PageSize returns the size in bytes of the pages that map the region in this process, as measured when it was
// joined: 2 MiB counts whether from hugetlbfs or from transparent huge pages. Where the size is no multiple of
// 2 MiB the rest is on 4 KiB pages.
func (r *Region) PageSize() uint64 { return r.page }

// Access returns how this process joined.
func (r *Region) Access() Access { return r.access }

// Fallback returns why Create did not get the best backing of what was asked for (hugetlbfs of MaxPageSize, then
// transparent huge pages, then 4 KiB), with the command that mends it; empty if it did. Joins by Open return "".
func (r *Region) Fallback() string { return r.fallback }

// Backing returns for humans what the memory is, such as "2 MiB pages (hugetlbfs)".
func (r *Region) Backing() string { return backingString(r.kind, r.page) }

func backingString(kind mountKind, page uint64) string {
	switch {
	case kind == kindHugetlbfs:
		return bytesString(page) + " pages (hugetlbfs)"
	case kind == kindDisk:
		return bytesString(page) + " pages of a file on disk"
	case page == PageHuge:
		return "2 MiB pages (transparent, on tmpfs)"
	}
	return bytesString(page) + " pages (tmpfs)"
}

// Leave unmaps the region; this process is then no joiner any more. All of the region's memory is dead after it:
// touching it faults. Locks that are still held stay held until their Unlock. The second call gives ErrLeft.
func (r *Region) Leave() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left {
		return fmt.Errorf("%w: %s", ErrLeft, r.name)
	}
	r.left = true
	return r.drop()
}

// drop releases the mapping (and with it the join) and the query descriptor.
func (r *Region) drop() error {
	var err error
	if r.mp != nil {
		err = r.mp.unmap()
	}
	if r.sp != nil {
		if fd := r.sp.fd.Swap(-1); fd >= 0 {
			unix.Close(int(fd))
		}
	}
	if err != nil {
		return fmt.Errorf("shmem: unmapping %s: %w", r.path, err)
	}
	return nil
}

// join makes this process a joiner by the description of f, maps it, closes f, and sets the lock space up. The lock
// is taken before the mapping, so a mapped region always has its joiner. align is that of the mapping.
func (r *Region) join(f *os.File, size, align, lockPage uint64) error {
	defer f.Close()
	flags := unix.O_RDWR
	if r.access == ReadOnly {
		flags = unix.O_RDONLY
	}
	// A description of its own for F_OFD_GETLK: what asks must bear no lock, or a forked child keeps it.
	q, err := reopen(int(f.Fd()), flags)
	if err != nil {
		return pathError("opening it again", r.path, err)
	}
	r.sp = &ofdSpace{page: lockPage, path: r.path}
	r.sp.fd.Store(int64(q))
	if err := takeJoin(int(f.Fd()), r.access == ReadOnly); err != nil {
		r.drop()
		return pathError("joining", r.path, err)
	}
	r.mp, err = mapFile(f, size, r.access, align)
	if err != nil {
		r.drop()
		return mapError(r.path, size, err)
	}
	r.whereabouts()
	r.mem = Mem{b: r.mp.bytes(), sp: &space{file: r.sp}, ro: r.access == ReadOnly}
	return nil
}

// touched keeps the compiler from dropping reads that are there for their page faults.
var touched atomic.Uint32
