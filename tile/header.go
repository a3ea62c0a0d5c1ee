package tile

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"reflect"
	"structs"
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
)

// pairSize is the unit that one writer owns: two cache lines, because the adjacent-line prefetcher of x86 moves lines
// in pairs.
const pairSize = 128

// header begins every object of this package.
//
//	offset  0  magic    written last by New, cleared first by Delete
//	        8  version  of the layout, counted by hand
//	       12  layout   hash of the fields' names, offsets and sizes, so that a forgotten version is caught too
//	       16  size     footprint in bytes
type header struct {
	_       structs.HostLayout
	magic   atomic.Uint64
	version uint32
	layout  uint32
	size    uint64
}

// begin clears the object and fills all of the header but its magic.
func (h *header) begin(m shmem.Mem, version, layout uint32, size uint64) {
	h.magic.Store(0)
	clear(m.Bytes()[:size])
	h.version, h.layout, h.size = version, layout, size
}

// check trusts nothing but the header's own bytes, which the caller has bounds-checked. It gives the size, read once.
func (h *header) check(what string, magic uint64, version, layout uint32, m shmem.Mem) (uint64, error) {
	if got := h.magic.Load(); got != magic {
		return 0, fmt.Errorf("%w: %s wants magic %#x, found %#x", ErrMagic, what, magic, got)
	}
	if v, l := h.version, h.layout; v != version || l != layout {
		return 0, fmt.Errorf("%w: %s is version %d layout %08x, this build has %d %08x", ErrLayout, what, v, l, version, layout)
	}
	size := h.size
	if size > m.Len() {
		return 0, fmt.Errorf("%w: %s of %d bytes in %d", ErrSize, what, size, m.Len())
	}
	return size, nil
}

// fit checks alignment and length before anything is dereferenced.
func fit(what string, m shmem.Mem, need uint64) error {
	if m.Len() < need {
		return fmt.Errorf("%w: %s needs %d bytes, has %d", ErrSize, what, need, m.Len())
	}
	if !m.Aligned(pairSize) {
		return fmt.Errorf("%w: %s must start on a multiple of %d", ErrAlign, what, pairSize)
	}
	return nil
}

// layoutHash describes a shared struct by its fields, so that two builds that disagree find out at Join.
func layoutHash[T any]() uint32 {
	h := fnv.New32a()
	var walk func(t reflect.Type, base uintptr)
	walk = func(t reflect.Type, base uintptr) {
		for f := range t.Fields() {
			var at [16]byte
			binary.LittleEndian.PutUint64(at[:8], uint64(base+f.Offset))
			binary.LittleEndian.PutUint64(at[8:], uint64(f.Type.Size()))
			h.Write(at[:])
			h.Write([]byte(f.Name))
			if f.Anonymous {
				walk(f.Type, base+f.Offset)
			}
		}
	}
	walk(reflect.TypeFor[T](), 0)
	return h.Sum32()
}
