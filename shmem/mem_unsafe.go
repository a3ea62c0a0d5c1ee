package shmem

import (
	"fmt"
	"math"
	"math/bits"
	"reflect"
	"sync"
	"unsafe"
)

// Mem is a piece of shared memory: its bytes, and the lock space that its bytes belong to. It is a value, to
// be passed by value; the zero Mem is empty and has no lock space.
//
//	lock space (the region's file, or a table of the heap)
//	0          off                    off+Len
//	+-----------+-----------------------+---------------- - -
//	|           | Bytes()               |
//	+-----------+-----------------------+---------------- - -
//	             ^ Lock(0) locks byte 'off' of the space
//
// Lifetime: a Mem of a region is dead after Region.Leave: touching it then faults. A Mem of Heap lives as
// long as it is referred to. Whoever may write the bytes of a region is settled by the objects in it.
type Mem struct {
	b   []byte
	sp  *space
	off uint64 // of b[0] in sp
	ro  bool
}

// Heap returns size zeroed bytes of the Go heap, aligned to align (a power of two; at least 8 is given), with an
// in-process lock table of its own. It is what tests use, above all under the race detector, which is blind
// on mapped memory. It panics if align is no power of two or size is beyond MaxSize.
func Heap(size, align uint64) Mem {
	if !IsPow2(align) || size > MaxSize || align > MaxSize {
		panic(fmt.Sprintf("shmem: Heap(%d, %d): bad size or alignment", size, align))
	}
	align = max(align, 8)
	raw := make([]byte, size+align-1)
	pad := -uint64(uintptr(unsafe.Pointer(unsafe.SliceData(raw)))) & (align - 1)
	return Mem{b: raw[pad : pad+size : pad+size], sp: newHeapSpace()}
}

// Over returns b as a Mem without a lock space: memory that is no region's, such as a BPF map's. Lock gives ErrBounds, Locked
// must not be asked. It lives as long as b is mapped.
func Over(b []byte) Mem { return Mem{b: b} }

// Len returns the number of bytes.
func (m Mem) Len() uint64 { return uint64(len(m.b)) }

// Bytes returns the bytes themselves, not a copy; in a region other processes see what is written, and change
// what is read. Those of a read-only join fault when written.
func (m Mem) Bytes() []byte { return m.b }

// ReadOnly reports whether the memory is joined read-only: it cannot be written and Lock gives ErrReadOnly.
func (m Mem) ReadOnly() bool { return m.ro }

// AsReadOnly returns the same memory marked read-only, so that Lock gives ErrReadOnly. The pages of a region
// stay as they are mapped: only Open(name, ReadOnly) makes the hardware refuse writes.
func (m Mem) AsReadOnly() Mem { m.ro = true; return m }

// IsZero reports whether m is the zero Mem.
func (m Mem) IsZero() bool { return m.b == nil && m.sp == nil }

// Aligned reports whether the first byte's address is a multiple of align, a power of two.
func (m Mem) Aligned(align uint64) bool {
	return IsPow2(align) && uint64(uintptr(unsafe.Pointer(unsafe.SliceData(m.b))))&(align-1) == 0
}

// Offset returns where the memory begins in its lock space, which for a region is the offset in the region's
// file; it is the same in every process.
func (m Mem) Offset() uint64 { return m.off }

// SameSpace reports whether both lie in the same lock space: the same join of a region, or the same Heap.
func (m Mem) SameSpace(o Mem) bool { return m.sp == o.sp && m.sp != nil }

// Slice returns the n bytes at off, in the same lock space. ErrBounds if they are not within m.
func (m Mem) Slice(off, n uint64) (Mem, error) {
	if size := uint64(len(m.b)); off > size || n > size-off {
		return Mem{}, boundsError(off, n, size)
	}
	return Mem{b: m.b[off : off+n : off+n], sp: m.sp, off: m.off + off, ro: m.ro}, nil
}

// At returns the T that lies at off. T must have a fixed layout (begin a struct with structs.HostLayout).
// ErrBounds if it is not within m, ErrAlign if the address does not fit T, ErrPointers if T holds Go pointers.
// The pointer is as good as the Mem: join once, keep it, drop it before Leave.
func At[T any](m Mem, off uint64) (*T, error) {
	var z T
	if size, n := uint64(len(m.b)), uint64(unsafe.Sizeof(z)); off > size || n > size-off {
		return nil, boundsError(off, n, size)
	}
	if err := plain[T](); err != nil {
		return nil, err
	}
	p := unsafe.Add(unsafe.Pointer(unsafe.SliceData(m.b)), off)
	if uintptr(p)&(unsafe.Alignof(z)-1) != 0 {
		return nil, fmt.Errorf("%w: %T at offset %d needs alignment %d", ErrAlign, z, off, unsafe.Alignof(z))
	}
	return (*T)(p), nil
}

// MustAt is At for an offset that the caller has validated: it panics where At returns an error. T's freedom of
// pointers is not checked: use At once, where the object is joined.
func MustAt[T any](m Mem, off uint64) *T {
	n, a := uint64(unsafe.Sizeof(*(*T)(nil))), unsafe.Alignof(*(*T)(nil))
	if size := uint64(len(m.b)); off > size || n > size-off {
		panicAt(off, n, uint64(a), size)
	}
	p := unsafe.Add(unsafe.Pointer(unsafe.SliceData(m.b)), off)
	if uintptr(p)&(a-1) != 0 {
		panicAt(off, n, uint64(a), uint64(len(m.b)))
	}
	return (*T)(p)
}

// SliceAt returns the n consecutive values of type T that begin at off. Errors as for At; n = 0 gives an empty
// slice if off is within m or at its end.
func SliceAt[T any](m Mem, off, n uint64) ([]T, error) {
	var z T
	size := uint64(len(m.b))
	hi, bytes := bits.Mul64(n, uint64(unsafe.Sizeof(z)))
	if hi != 0 || n > math.MaxInt || off > size || bytes > size-off {
		return nil, fmt.Errorf("%w: %d × %d bytes at offset %d of %d", ErrBounds, n, unsafe.Sizeof(z), off, size)
	}
	if err := plain[T](); err != nil {
		return nil, err
	}
	p := unsafe.Add(unsafe.Pointer(unsafe.SliceData(m.b)), off)
	if uintptr(p)&(unsafe.Alignof(z)-1) != 0 {
		return nil, fmt.Errorf("%w: []%T at offset %d needs alignment %d", ErrAlign, z, off, unsafe.Alignof(z))
	}
	return unsafe.Slice((*T)(p), n), nil
}

//go:noinline
func boundsError(off, n, size uint64) error {
	return fmt.Errorf("%w: %d bytes at offset %d of %d", ErrBounds, n, off, size)
}

//go:noinline
func panicAt(off, n, align, size uint64) {
	panic(fmt.Sprintf("shmem: MustAt: %d bytes with alignment %d at offset %d of %d", n, align, off, size))
}

var plainTypes sync.Map // reflect.Type -> error or nil

// plain returns ErrPointers if T holds Go pointers. The answer is cached per type.
func plain[T any]() error {
	t := reflect.TypeFor[T]()
	v, ok := plainTypes.Load(t)
	if !ok {
		v = error(nil)
		if at := pointerIn(t, t.String()); at != "" {
			v = fmt.Errorf("%w: %s", ErrPointers, at)
		}
		plainTypes.Store(t, v)
	}
	err, _ := v.(error)
	return err
}

// pointerIn returns the path of the first field that is or holds a pointer, or "".
func pointerIn(t reflect.Type, path string) string {
	switch t.Kind() {
	case reflect.Bool, reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128,
		reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int,
		reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint, reflect.Uintptr:
		return ""
	case reflect.Array:
		if t.Len() == 0 {
			return ""
		}
		return pointerIn(t.Elem(), path+"[]")
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if at := pointerIn(f.Type, path+"."+f.Name); at != "" {
				return at
			}
		}
		return ""
	default:
		return path + " " + t.Kind().String()
	}
}
