package shmem

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nodeMask holds a bit a node, for the kernel's greatest number of them (CONFIG_NODES_SHIFT is 10 at most).
type nodeMask [maxNodes / 64]uint64

func maskOf(nodes []int) (mask nodeMask) {
	for _, n := range nodes {
		mask[n/64] |= 1 << (n % 64)
	}
	return mask
}

// bindFile has the pages that fd, of size bytes on tmpfs, will get lie on nodes. The kernel keeps the policy of a shared mapping
// with such a file (mbind(2)), so the mapping may go at once.
func bindFile(fd int, size uint64, mode NumaMode, nodes []int) error {
	addr, err := unix.MmapPtr(fd, 0, nil, uintptr(size), unix.PROT_READ, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("mmap of %d bytes: %w", size, err)
	}
	defer unix.MunmapPtr(addr, uintptr(size))
	mask := maskOf(nodes)
	// The kernel takes one bit less than it is told of.
	if _, _, e := unix.Syscall6(unix.SYS_MBIND, uintptr(addr), uintptr(size), uintptr(mode), uintptr(unsafe.Pointer(&mask)), maxNodes+1, 0); e != 0 {
		return e
	}
	return nil
}

// threadPolicy is a thread's, as get_mempolicy(2) tells it: the mode with its flags, and the nodes.
type threadPolicy struct {
	mode int32
	mask nodeMask
}

// bindThread has the pages that the calling thread, which is locked, allocates lie on nodes, and returns the policy that it had.
func bindThread(mode NumaMode, nodes []int) (was threadPolicy, err error) {
	if _, _, e := unix.Syscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&was.mode)), uintptr(unsafe.Pointer(&was.mask)), maxNodes+1, 0, 0, 0); e != 0 {
		return was, e
	}
	return was, (&threadPolicy{int32(mode), maskOf(nodes)}).set()
}

// set gives the policy to the calling thread (set_mempolicy(2)).
func (p *threadPolicy) set() error {
	if _, _, e := unix.Syscall(unix.SYS_SET_MEMPOLICY, uintptr(p.mode), uintptr(unsafe.Pointer(&p.mask)), maxNodes+1); e != 0 {
		return e
	}
	return nil
}

// nodes returns which nodes the pages lie on, as some 64 of them tell.
func (mp *mapping) nodes() (nodes []int) {
	const nodeOfAddress = 1 | 2 // MPOL_F_NODE | MPOL_F_ADDR
	step := max(mp.size/64, uintptr(PageNormal))
	for off := uintptr(0); off < mp.size; off += step {
		var node int32
		_, _, e := unix.Syscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&node)), 0, 0, uintptr(mp.addr)+off, nodeOfAddress, 0)
		if e == 0 && !slices.Contains(nodes, int(node)) {
			nodes = append(nodes, int(node))
		}
	}
	slices.Sort(nodes)
	return nodes
}

// policy returns where the kernel puts the pages of the mapping (get_mempolicy(2)); NumaAny where it has no policy, or does not say.
func (mp *mapping) policy() (mode NumaMode, nodes []int) {
	const ofAddress = 2 // MPOL_F_ADDR
	var mask nodeMask
	var m int32
	_, _, e := unix.Syscall6(unix.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&m)), uintptr(unsafe.Pointer(&mask)), maxNodes+1, uintptr(mp.addr), ofAddress, 0)
	if e != 0 {
		return NumaAny, nil
	}
	for n := range maxNodes {
		if mask[n/64]>>(n%64)&1 != 0 {
			nodes = append(nodes, n)
		}
	}
	if m < int32(NumaPrefer) || m > int32(NumaInterleave) || nodes == nil {
		return NumaAny, nil
	}
	return NumaMode(m), nodes
}
