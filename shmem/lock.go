package shmem

import (
	"fmt"
	"sync"
	"time"
)

// space is a lock space: something in which single bytes can be locked, by one holder at a time. Two kinds:
// the file behind a region (the kernel keeps the locks, death releases them) and an in-process table.
type space struct {
	heap *heapTable // nil for a file
	file *ofdSpace  // nil for the heap
}

// Lock is a held write lock on one byte of a lock space. It stands for a role: whoever holds it plays it. It ends
// with Unlock or with the process, however that dies; forgetting the value releases nothing.
type Lock struct {
	mu      sync.Mutex
	release func() error // nil once released
	off     uint64
}

// lockWaitMin and lockWaitMax bound the pause between two tries of LockWait.
const (
	lockWaitMin = 20 * time.Microsecond
	lockWaitMax = 2 * time.Millisecond
)

// Lock takes the write lock on the byte at off, for this process alone: a second Lock fails also in the process that
// holds the first. The byte itself is not touched. A killed process's locks are free at once. In a region each
// lock has an open description of its own, kept alive by a mapping of one page that forked children do not
// inherit; no descriptor stays open.
//
// ErrLocked with the holder's pid when it is held, ErrReadOnly for a read-only join, ErrBounds, ErrLeft.
func (m Mem) Lock(off uint64) (*Lock, error) { return m.LockWait(off, 0) }

// LockWait is Lock that tries again for up to d before it gives ErrLocked; d <= 0 tries once.
func (m Mem) LockWait(off uint64, d time.Duration) (*Lock, error) {
	if off >= uint64(len(m.b)) {
		return nil, boundsError(off, 1, uint64(len(m.b)))
	}
	if m.sp == nil {
		return nil, fmt.Errorf("%w: this memory has no lock space", ErrBounds)
	}
	if m.ro {
		return nil, fmt.Errorf("%w: byte %d cannot be locked", ErrReadOnly, m.off+off)
	}
	l := &Lock{off: m.off + off}
	var err error
	if m.sp.heap != nil {
		l.release, err = m.sp.heap.lock(l.off, d)
	} else {
		l.release, err = m.sp.file.lock(l.off, d)
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Locked reports whether anybody, this process included, holds the lock on the byte at off, exactly and at this
// moment. It allocates nothing. Where the kernel cannot say (the region was left) it reports true, so that nothing
// alive is ever taken for dead. It panics if off is not within m.
func (m Mem) Locked(off uint64) bool {
	if off >= uint64(len(m.b)) {
		panicAt(off, 1, 1, uint64(len(m.b)))
	}
	if m.sp.heap != nil {
		return m.sp.heap.holder(m.off+off) != 0
	}
	return m.sp.file.locked(m.off + off)
}

// Holder returns the pid of the process that holds the lock on the byte at off, as seen in that process's own PID
// namespace; 0 if nobody does. A lock taken this very instant may show as -1: held, pid not yet known.
func (m Mem) Holder(off uint64) int {
	if !m.Locked(off) {
		return 0
	}
	if m.sp.heap != nil {
		return m.sp.heap.holder(m.off + off)
	}
	if pid := m.sp.file.holder(m.off + off); pid != 0 {
		return pid
	}
	return -1
}

// Offset returns the locked byte's offset in its lock space.
func (l *Lock) Offset() uint64 { return l.off }

// Held reports whether the lock has not been released by Unlock.
func (l *Lock) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.release != nil
}

// Unlock releases the lock. It may be called again, by anybody, and on nil, and then does nothing.
func (l *Lock) Unlock() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	release := l.release
	if release == nil {
		return nil
	}
	l.release = nil
	return release()
}

// poll calls try until it reports done or fails, or d has passed, with growing pauses. A held lock gives no event
// that could be awaited with a bound (F_OFD_SETLKW has none), hence the pauses.
func poll(d time.Duration, try func() (done bool, err error)) (bool, error) {
	deadline := time.Now().Add(d)
	for pause := lockWaitMin; ; pause = min(2*pause, lockWaitMax) {
		done, err := try()
		if done || err != nil {
			return done, err
		}
		left := time.Until(deadline)
		if d <= 0 || left <= 0 {
			return false, nil
		}
		time.Sleep(min(pause, left))
	}
}
