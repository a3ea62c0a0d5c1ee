package wksp

import (
	"fmt"
	"structs"
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
)

const (
	// Magic is the first word of a workspace: "TWwksp" and two bytes that no text has.
	Magic uint64 = 0x7f01_70736b77_5754
	// Version is the layout's version. A change of any shared struct or of its meaning raises it.
	Version uint32 = 1
	// LayoutHash is the FNV-1a hash of the shared structs' field names, offsets and sizes; layout_test.go computes it.
	LayoutHash uint64 = 0x798def2dc285b4f4

	// DefaultAlign is used where an allocation asks for alignment 0.
	DefaultAlign = 4096
	// Granule is the unit of partitions, in bytes: a line pair, so that two allocations never share one.
	Granule = 128
	// MaxAlign is the greatest alignment, one gigantic page.
	MaxAlign = 1 << 30
	// MaxParts is the greatest partMax.
	MaxParts = 1 << 28
	// MaxData is the greatest dataMax, in bytes.
	MaxData = shmem.MaxSize
	// MaxName is the greatest length of a name, in bytes.
	MaxName = 40

	hdrSz  = 512
	partSz = 64
	nameSz = 64
	// lockOff is the byte on which the owner holds the kernel's lock. It and the magic keep their places in every version.
	lockOff = 128
)

// header is at offset 0: 512 bytes. Line pair 0 is constant once the magic is there; the rest is the owner's.
type header struct {
	_ structs.HostLayout

	// writer: New; the magic also Delete
	magic    atomic.Uint64    // 0   Magic, written last, cleared first
	version  atomic.Uint32    // 8   Version
	hdrLen   atomic.Uint32    // 12  512
	hash     atomic.Uint64    // 16  LayoutHash
	size     atomic.Uint64    // 24  Footprint(partMax, dataMax)
	partMax  atomic.Uint64    // 32  rows in both tables
	dataMax  atomic.Uint64    // 40  bytes of data, a multiple of Granule
	partsOff atomic.Uint64    // 48  512
	namesOff atomic.Uint64    // 56
	dataOff  atomic.Uint64    // 64  first gaddr of the data, a multiple of 4096
	seed     atomic.Uint64    // 72  of the treaps' priorities
	born     atomic.Uint64    // 80  when New ran, Unix ns; tells one life of the memory from the next
	name     [5]atomic.Uint64 // 88  the workspace's name, zero padded

	// writer: the owner
	ownerLock  atomic.Uint64    // 128  its first byte bears the lock; never written
	ownerPid   atomic.Uint64    // 136  for people: who, while held, in bits 0-30, and the Op in bits 32-39
	ownerSince atomic.Uint64    // 144  for people: since when, Unix ns
	dirty      atomic.Uint64    // 152  operation in progress: Op in bits 0-7, row in bits 32-63; 0 none
	seq        atomic.Uint64    // 160  +1 after each setting of dirty
	rebuilt    atomic.Uint64    // 168  how often it was rebuilt
	roots      [4]atomic.Uint32 // 176 bySize, byPage, byGaddr, byName
	first      atomic.Uint32    // 192  partition with the lowest address
	last       atomic.Uint32    // 196  partition with the highest
	idle       atomic.Uint32    // 200  top of the stack of idle rows
	_          [52]byte         // 204
	_          [256]byte        // 256  room: checkpoint and restore
}

// part is one row of the partition table: 64 bytes. Links are row numbers from 1; 0 is none.
//
//	tag != 0           used: lo, hi, slack and the name do not change until the tag is cleared
//	tag == 0, hi != 0  free
//	tag == 0, hi == 0  idle
type part struct {
	_      structs.HostLayout
	lo     atomic.Uint64 // 0   first gaddr, a multiple of Granule
	hi     atomic.Uint64 // 8   first gaddr beyond
	tag    atomic.Uint64 // 16  the truth
	gen    atomic.Uint32 // 24  +1 before each setting of the tag
	slack  atomic.Uint32 // 28  used: hi - lo - size asked for
	prev   atomic.Uint32 // 32  by address
	next   atomic.Uint32 // 36  by address; of an idle row: the one below on the stack
	left   atomic.Uint32 // 40  used: treap byGaddr; free: treap bySize
	right  atomic.Uint32 // 44
	pleft  atomic.Uint32 // 48  free: treap byPage
	pright atomic.Uint32 // 52
	_      [8]byte       // 56  room
}

// nameRow is row i's name, 64 bytes. It means something only while part i's tag is not 0.
type nameRow struct {
	_     structs.HostLayout
	name  [5]atomic.Uint64 // 0   zero padded; all 0: no name
	left  atomic.Uint32    // 40  treap byName
	right atomic.Uint32    // 44
	_     [16]byte         // 48  room
}

// Align returns the alignment in bytes that a workspace's memory must have: 4096.
func Align() uint64 { return DefaultAlign }

func namesOff(partMax uint64) uint64 { return hdrSz + partSz*partMax }

func dataOff(partMax uint64) uint64 {
	return shmem.Align(namesOff(partMax)+nameSz*partMax, DefaultAlign)
}

// Footprint returns the bytes that a workspace with partMax partition rows (1 to MaxParts) and dataMax bytes of
// data (1 to MaxData, rounded up to Granule) takes. Errors: ErrParams.
func Footprint(partMax, dataMax uint64) (uint64, error) {
	if partMax == 0 || partMax > MaxParts || dataMax == 0 || dataMax > MaxData {
		return 0, fmt.Errorf("%w: partMax %d (1 to %d), dataMax %d (1 to %d)", ErrParams, partMax, uint64(MaxParts), dataMax, uint64(MaxData))
	}
	return dataOff(partMax) + shmem.Align(dataMax, Granule), nil
}

// PartMaxEst returns how many partition rows suit a workspace of footprint bytes whose allocations have avg bytes
// on average: enough that the data runs out before the rows do even if beside each allocation lies a hole.
// 0 if footprint has no room for a single allocation.
func PartMaxEst(footprint, avg uint64) uint64 {
	const fixed = hdrSz + DefaultAlign + partSz + nameSz
	if footprint < fixed || avg > MaxData {
		return 0
	}
	n := (footprint - fixed) / (shmem.Align(max(avg, 1), Granule) + 2*(partSz+nameSz))
	if n == 0 {
		return 0
	}
	return min(2*n+1, MaxParts)
}

// DataMaxEst returns the bytes of data that a workspace of footprint bytes with partMax rows has room for: the
// greatest dataMax whose Footprint is not above footprint. 0 if there is none.
func DataMaxEst(footprint, partMax uint64) uint64 {
	if partMax == 0 || partMax > MaxParts || footprint <= dataOff(partMax) {
		return 0
	}
	return min((footprint-dataOff(partMax))&^(Granule-1), MaxData)
}
