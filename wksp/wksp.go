package wksp

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

// Wksp is a process's join to a workspace. Any number of goroutines may use it; mutations wait for each other.
type Wksp struct {
	// Patience is how long a mutation waits for the owner lock before it gives ErrBusy. Join sets 5 s; change it
	// before the join is shared between goroutines.
	Patience time.Duration

	mu    sync.Mutex  // one mutation of this join at a time
	left  atomic.Bool // after Leave
	given shmem.Mem   // what Join was given
	m     shmem.Mem   // the workspace's part of it
	hdr   *header
	parts []part    // row i is parts[i-1]
	names []nameRow // row i is names[i-1]

	// Copies of the header's constants, validated; the shared ones are never read again.
	name                 string
	size, partMax        uint64
	dataLo, dataHi, seed uint64
	born                 uint64
}

// New formats a workspace at the start of m, which must be writable, aligned to Align() and have at least
// Footprint(partMax, dataMax) bytes; what is in them does not matter, unless it is a workspace. seed shapes the
// treaps; any value will do. The magic is written last: a New that dies leaves nothing that can be joined.
//
// Errors: ErrParams, ErrBadName, ErrReadOnly, ErrAlign, ErrSize, ErrBusy (somebody holds the owner lock), ErrExists.
func New(m shmem.Mem, name string, partMax, dataMax, seed uint64) error {
	size, err := Footprint(partMax, dataMax)
	if err != nil {
		return err
	}
	k, err := packName(name)
	if err != nil {
		return err
	}
	if m.ReadOnly() {
		return ErrReadOnly
	}
	if err := checkMem(m, size); err != nil {
		return err
	}
	lk, err := lockNow(m)
	if err != nil {
		return err
	}
	defer lk.Unlock()
	w := &Wksp{size: size, partMax: partMax, dataLo: dataOff(partMax), dataHi: size, seed: seed}
	if err := w.overlay(m); err != nil {
		return err
	}
	if w.hdr.magic.Load() == Magic {
		return fmt.Errorf("%w: this memory holds a workspace; delete it first", ErrExists)
	}
	w.format(k)
	put64(&w.hdr.magic, Magic, pointMagic)
	step(pointUnlock)
	return nil
}

// format writes all of header and tables but the magic.
func (w *Wksp) format(name words) {
	h := w.hdr
	put64(&h.magic, 0, pointMagic)
	put32(&h.version, Version, pointHeader)
	put32(&h.hdrLen, hdrSz, pointHeader)
	put64(&h.hash, LayoutHash, pointHeader)
	put64(&h.size, w.size, pointHeader)
	put64(&h.partMax, w.partMax, pointHeader)
	put64(&h.dataMax, w.dataHi-w.dataLo, pointHeader)
	put64(&h.partsOff, hdrSz, pointHeader)
	put64(&h.namesOff, namesOff(w.partMax), pointHeader)
	put64(&h.dataOff, w.dataLo, pointHeader)
	put64(&h.seed, w.seed, pointHeader)
	put64(&h.born, max(uint64(time.Now().UnixNano()), h.born.Load()+1), pointHeader)
	putName(&h.name, name, pointHeader)
	put64(&h.ownerPid, 0, pointOwner)
	put64(&h.ownerSince, 0, pointOwner)
	put64(&h.dirty, 0, pointDirty)
	put64(&h.seq, 0, pointDirty)
	put64(&h.rebuilt, 0, pointHeader)
	for i := range w.parts {
		put64(&w.parts[i].tag, 0, pointTag)
		put32(&w.parts[i].gen, 0, pointRange)
	}
	// Without tags there is nothing that reindex could refuse.
	if err := w.reindex(nil); err != nil {
		panic("wksp: formatting an empty table: " + err.Error())
	}
}

// Join joins the workspace at the start of m. Nothing is trusted before it is checked: alignment, magic, layout
// version and hash, size, offsets, name. A read-only m gives a join that can read and Verify. Join takes no lock
// and does not repair; the first mutation does, or Check.
//
// Errors: ErrSize, ErrAlign, ErrMagic, ErrVersion, ErrLayout, ErrCorrupt.
func Join(m shmem.Mem) (*Wksp, error) {
	if err := checkMem(m, hdrSz); err != nil {
		return nil, err
	}
	h, err := shmem.At[header](m, 0)
	if err != nil {
		return nil, err
	}
	if v := h.magic.Load(); v != Magic {
		return nil, fmt.Errorf("%w: magic %#x, want %#x", ErrMagic, v, Magic)
	}
	if v := h.version.Load(); v != Version {
		return nil, fmt.Errorf("%w: the workspace has version %d, this program has %d", ErrVersion, v, Version)
	}
	if v := h.hash.Load(); v != LayoutHash {
		return nil, fmt.Errorf("%w: the workspace has %#x, this program has %#x (both version %d)", ErrLayout, v, LayoutHash, Version)
	}
	w := &Wksp{
		Patience: 5 * time.Second, given: m,
		size: h.size.Load(), partMax: h.partMax.Load(), dataLo: h.dataOff.Load(), seed: h.seed.Load(), born: h.born.Load(),
	}
	dataMax := h.dataMax.Load()
	want, err := Footprint(w.partMax, dataMax)
	if err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	if w.size != want || dataMax%Granule != 0 || w.dataLo != dataOff(w.partMax) ||
		h.partsOff.Load() != hdrSz || h.namesOff.Load() != namesOff(w.partMax) || h.hdrLen.Load() != hdrSz {
		return nil, fmt.Errorf("%w: header: partMax %d and dataMax %d make %d bytes with data at %d, it says %d and %d",
			ErrCorrupt, w.partMax, dataMax, want, dataOff(w.partMax), w.size, w.dataLo)
	}
	if w.size > m.Len() {
		return nil, fmt.Errorf("%w: the workspace has %d bytes, the memory %d", ErrSize, w.size, m.Len())
	}
	w.dataHi = w.size
	name, ok := loadName(&h.name).unpack()
	if !ok {
		return nil, fmt.Errorf("%w: header: the workspace's name is none", ErrCorrupt)
	}
	w.name = name
	if err := w.overlay(m); err != nil {
		return nil, err
	}
	return w, nil
}

// overlay lays header and tables over m; sizes must have been validated.
func (w *Wksp) overlay(m shmem.Mem) (err error) {
	if w.m, err = m.Slice(0, w.size); err != nil {
		return err
	}
	if w.hdr, err = shmem.At[header](w.m, 0); err != nil {
		return err
	}
	if w.parts, err = shmem.SliceAt[part](w.m, hdrSz, w.partMax); err != nil {
		return err
	}
	w.names, err = shmem.SliceAt[nameRow](w.m, namesOff(w.partMax), w.partMax)
	return err
}

// Leave ends the join and returns the memory that Join was given. Every later call gives ErrLeft; nobody may be
// inside one. Allocations stay. Objects and Mems that the join gave out stay valid as long as the memory does.
func (w *Wksp) Leave() shmem.Mem {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left.Store(true)
	return w.given
}

// Delete unformats the workspace at the start of m by clearing its magic, whatever its layout version. Joins that
// exist get ErrLeft from their next call. Errors: ErrReadOnly, ErrSize, ErrAlign, ErrMagic, ErrBusy when somebody
// holds the owner lock (who, where the header tells). Who is joined is known of regions: see shmem.Joiners.
func Delete(m shmem.Mem) error {
	if m.ReadOnly() {
		return ErrReadOnly
	}
	if err := checkMem(m, hdrSz); err != nil {
		return err
	}
	lk, err := lockNow(m)
	if err != nil {
		return err
	}
	defer lk.Unlock()
	h, err := shmem.At[header](m, 0)
	if err != nil {
		return err
	}
	if v := h.magic.Load(); v != Magic {
		return fmt.Errorf("%w: magic %#x, want %#x", ErrMagic, v, Magic)
	}
	put64(&h.magic, 0, pointMagic)
	step(pointUnlock)
	return nil
}

// Name returns the workspace's name.
func (w *Wksp) Name() string { return w.name }

// Size returns the workspace's bytes from header to end of data.
func (w *Wksp) Size() uint64 { return w.size }

// ReadOnly tells whether the join is read-only.
func (w *Wksp) ReadOnly() bool { return w.m.ReadOnly() }

// live gives ErrLeft once the join was left or its workspace is not there any more.
func (w *Wksp) live() error {
	if w.left.Load() {
		return ErrLeft
	}
	if w.hdr.magic.Load() != Magic || w.hdr.born.Load() != w.born {
		return fmt.Errorf("%w: workspace %s was deleted", ErrLeft, w.name)
	}
	return nil
}

func checkMem(m shmem.Mem, size uint64) error {
	if m.IsZero() || m.Len() < size {
		return fmt.Errorf("%w: the memory has %d bytes, at least %d are needed", ErrSize, m.Len(), size)
	}
	if !m.Aligned(DefaultAlign) {
		return fmt.Errorf("%w: the memory does not start at a multiple of %d", ErrAlign, DefaultAlign)
	}
	return nil
}

// lockNow takes the owner lock without waiting.
func lockNow(m shmem.Mem) (*shmem.Lock, error) {
	lk, err := m.Lock(lockOff)
	if errors.Is(err, shmem.ErrLocked) {
		return nil, busy(m)
	}
	return lk, err
}
