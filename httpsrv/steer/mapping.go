package steer

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// mapping is the shared value in this process's memory. It needs no right but the descriptor, and no bpf(2).
type mapping struct{ b []byte }

// mapShared maps the BPF array fd. ErrNotShared if it is anything else, so that nothing that can be cut short (SIGBUS) is
// ever mapped.
func mapShared(fd int) (mapping, error) {
	if what, err := os.Readlink(fmt.Sprint("/proc/self/fd/", fd)); err != nil || what != "anon_inode:bpf-map" {
		return mapping{}, fmt.Errorf("%w: descriptor %d is %q", ErrNotShared, fd, what)
	}
	cells, err := entries(fd)
	if err != nil {
		return mapping{}, err
	}
	page := os.Getpagesize()
	b, err := unix.Mmap(fd, 0, (cells*cellSize+page-1)&^(page-1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil { // another kind of map, or a read-only descriptor
		return mapping{}, fmt.Errorf("%w: mmap of descriptor %d: %w", ErrNotShared, fd, err)
	}
	_ = unix.Madvise(b, unix.MADV_DONTFORK) // a keeper has no use for it
	return mapping{b}, nil
}

// entries asks the kernel how many cells the map has, without bpf(2).
func entries(fd int) (int, error) {
	info, err := os.ReadFile(fmt.Sprint("/proc/self/fdinfo/", fd))
	if err != nil {
		return 0, fmt.Errorf("%w: descriptor %d: %w", ErrNotShared, fd, err)
	}
	var size, n int
	for line := range strings.Lines(string(info)) {
		f := strings.Fields(line)
		if len(f) != 2 {
			continue
		}
		v, _ := strconv.Atoi(f[1])
		switch f[0] {
		case "value_size:":
			size = v
		case "max_entries:":
			n = v
		}
	}
	if size != cellSize || n < cellCnt(1) || n > cellCnt(MaxTiles) {
		return 0, fmt.Errorf("%w: descriptor %d has %d values of %d bytes", ErrNotShared, fd, n, size)
	}
	return n, nil
}

func (m mapping) mem() shmem.Mem { return shmem.Over(m.b) }

func (m mapping) unmap() error { return unix.Munmap(m.b) }
