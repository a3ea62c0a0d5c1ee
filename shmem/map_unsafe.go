package shmem

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// mapping is a region's memory in this process.
type mapping struct {
	m     mmap.MMap      // as mmap-go made it
	addr  unsafe.Pointer // where it lies now
	size  uintptr
	moved bool // away from where mmap-go put it
}

// mapFile maps the first size bytes of f, shared, at an address that is a multiple of align, and keeps it from forked
// children. Nothing is touched.
func mapFile(f *os.File, size uint64, access Access, align uint64) (*mapping, error) {
	prot := mmap.RDWR
	if access == ReadOnly {
		prot = mmap.RDONLY
	}
	m, err := mmap.MapRegion(f, int(size), prot, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	mp := &mapping{m: m, addr: unsafe.Pointer(unsafe.SliceData(m)), size: uintptr(size)}
	if uintptr(mp.addr)&uintptr(align-1) != 0 {
		if err := mp.remap(int(f.Fd()), access, uintptr(align)); err != nil {
			return nil, err
		}
	}
	if err := mp.advise(unix.MADV_DONTFORK); err != nil {
		mp.unmap()
		return nil, fmt.Errorf("madvise(MADV_DONTFORK): %w", err)
	}
	return mp, nil
}

// remap replaces a misaligned mapping by one inside a range that was reserved for it. Transparent huge pages need an
// aligned address, which the kernel gives by itself only where they are switched on, and mmap-go cannot ask for one.
// The file is mapped anew rather than moved: mremap brings page tables of the old place along, and a 2 MiB block
// that has a page table, be it empty, is not mapped as a huge page (seen in a join: 4 of 6 MiB). On an error nothing is
// left mapped.
func (mp *mapping) remap(fd int, access Access, align uintptr) error {
	if err := mp.m.Unmap(); err != nil {
		return fmt.Errorf("munmap: %w", err)
	}
	all := mp.size + align
	base, err := unix.MmapPtr(-1, 0, nil, all, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("reserving %d bytes of address space: %w", all, err)
	}
	head := -uintptr(base) & (align - 1)
	prot := unix.PROT_READ | unix.PROT_WRITE
	if access == ReadOnly {
		prot = unix.PROT_READ
	}
	to, err := unix.MmapPtr(fd, 0, unsafe.Add(base, head), mp.size, prot, unix.MAP_SHARED|unix.MAP_FIXED)
	if err != nil {
		unix.MunmapPtr(base, all)
		return fmt.Errorf("mmap of %d bytes: %w", mp.size, err)
	}
	mp.addr, mp.moved = to, true
	if head > 0 {
		unix.MunmapPtr(base, head)
	}
	if tail := all - head - mp.size; tail > 0 {
		unix.MunmapPtr(unsafe.Add(to, mp.size), tail)
	}
	return nil
}

// bytes returns the mapped bytes.
func (mp *mapping) bytes() []byte { return unsafe.Slice((*byte)(mp.addr), mp.size) }

func (mp *mapping) advise(advice int) error { return mp.adviseN(mp.size, advice) }

// adviseN applies advice to the first n bytes.
func (mp *mapping) adviseN(n uintptr, advice int) error {
	for {
		err := unix.Madvise(unsafe.Slice((*byte)(mp.addr), n), advice)
		if err != unix.EINTR {
			return err
		}
	}
}

// populate makes page table entries for all pages, so that nothing faults later. The file must be fallocated, or
// this allocates. Kernels before 5.14 have no such advice; there one byte of each page is read.
func (mp *mapping) populate(access Access) error {
	advice := unix.MADV_POPULATE_WRITE
	if access == ReadOnly {
		advice = unix.MADV_POPULATE_READ
	}
	err := mp.advise(advice)
	if err != unix.EINVAL {
		return err
	}
	var sum byte
	for b, i := mp.bytes(), uint64(0); i < uint64(len(b)); i += PageNormal {
		sum += b[i]
	}
	touched.Store(uint32(sum))
	return nil
}

// collapse turns the pages of all whole 2 MiB blocks into huge ones (madvise(2), MADV_COLLAPSE; it works whatever
// /sys/kernel/mm/transparent_hugepage says, but for 'deny').
func (mp *mapping) collapse() (err error) {
	n := mp.size &^ uintptr(PageHuge-1)
	for range 8 { // EAGAIN: pages were busy just then
		if err = mp.adviseN(n, unix.MADV_COLLAPSE); err != unix.EAGAIN && err != unix.EBUSY {
			break
		}
	}
	return err
}

// isHuge reports whether all whole 2 MiB blocks are mapped by huge page table entries, as /proc/self/smaps says.
func (mp *mapping) isHuge() bool {
	want := uint64(mp.size) &^ (PageHuge - 1)
	return want > 0 && pmdMapped(readString("/proc/self/smaps"), uint64(uintptr(mp.addr)), uint64(mp.size)) >= want
}

// pmdMapped sums the bytes of shared memory that are mapped huge in [addr, addr+size), from the text of smaps.
func pmdMapped(smaps string, addr, size uint64) (sum uint64) {
	within := false
	for line := range strings.Lines(smaps) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if lo, hi, ok := strings.Cut(f[0], "-"); ok {
			l, err1 := strconv.ParseUint(lo, 16, 64)
			h, err2 := strconv.ParseUint(hi, 16, 64)
			within = err1 == nil && err2 == nil && l >= addr && h <= addr+size
		} else if within && len(f) >= 2 && (f[0] == "ShmemPmdMapped:" || f[0] == "FilePmdMapped:") {
			kib, _ := strconv.ParseUint(f[1], 10, 54)
			sum += kib << 10
		}
	}
	return sum
}

// unmap gives the address range back. mmap-go knows only where it put the mapping.
func (mp *mapping) unmap() error {
	if mp.moved {
		return unix.MunmapPtr(mp.addr, mp.size)
	}
	return mp.m.Unmap()
}
