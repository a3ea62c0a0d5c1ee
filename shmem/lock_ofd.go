package shmem

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/edsrzf/mmap-go"
	"golang.org/x/sys/unix"
)

// A region's file is its lock space. The kernel keeps open-file-description locks (fcntl(2), F_OFD_SETLK) on ranges
// of offsets whether the file has such bytes or not, which leaves room for two more things beyond its end:
//
//	0 .. 2^40        byte locks: the role whose lock byte lies there
//	2^60 + j         joins: j = pid<<20 | 20 random bits; write lock = joined read-write, read lock = read-only
//	2^62 + off<<22   + pid: who holds the byte lock at off; by the same description, so it ends with it
//
// A description lives as long as a descriptor or a mapping refers to it. Those with locks are referred to by a
// mapping alone, which is MADV_DONTFORK: so no descendant can keep a dead process's lock alive.
const (
	joinBase  = 1 << 60
	joinBits  = pidBits + 20
	ownerBase = 1 << 62
	pidBits   = 22 // PID_MAX_LIMIT of the kernel is 2^22
)

// ofdSpace is the lock space of one join of a region.
type ofdSpace struct {
	fd   atomic.Int64 // for F_OFD_GETLK only: its description bears no lock; -1 after Leave
	page uint64       // of the file system: the length of a lock's mapping
	path string       // for messages
}

// reopen opens the file behind fd again: the same inode by another description, whether it has a name or not.
func reopen(fd, flags int) (int, error) {
	return ignoringEINTR(func() (int, error) {
		return unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), flags|unix.O_CLOEXEC, 0)
	})
}

func ignoringEINTR(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// setLock takes or releases (F_UNLCK) a lock on n bytes by fd's description; false if somebody else's is in the way.
func setLock(fd int, typ int16, start, n int64) (bool, error) {
	lk := unix.Flock_t{Type: typ, Whence: io.SeekStart, Start: start, Len: n}
	err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lk)
	if err == unix.EAGAIN || err == unix.EACCES {
		return false, nil
	}
	return err == nil, err
}

// conflict returns a lock of another description that stands in the way of a write lock on n bytes.
func conflict(fd int, start, n int64) (lk unix.Flock_t, found bool, e unix.Errno) {
	lk = unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: start, Len: n}
	e = getLock(fd, &lk)
	return lk, e == 0 && lk.Type != unix.F_UNLCK, e
}

func (s *ofdSpace) locked(off uint64) bool {
	_, found, e := conflict(int(s.fd.Load()), int64(off), 1)
	return found || e != 0
}

func (s *ofdSpace) holder(off uint64) int {
	base := int64(ownerBase + off<<pidBits)
	lk, found, _ := conflict(int(s.fd.Load()), base, 1<<pidBits)
	if !found {
		return 0
	}
	return int(lk.Start - base)
}

// lock takes the byte lock on off, waiting up to d. See Mem.Lock for why it is kept by a mapping.
func (s *ofdSpace) lock(off uint64, d time.Duration) (func() error, error) {
	var m mmap.MMap
	ok, err := poll(d, func() (bool, error) {
		if d > 0 && s.locked(off) { // cheap look before the expensive try
			return false, nil
		}
		var err error
		m, err = s.tryLock(off)
		return m != nil, err
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		who := "a process that is taking it now"
		if p := s.holder(off); p == pid {
			who = fmt.Sprintf("this process (pid %d)", p)
		} else if p != 0 {
			who = fmt.Sprintf("pid %d", p)
		}
		return nil, fmt.Errorf("%w: byte %d of %s is held by %s", ErrLocked, off, s.path, who)
	}
	return func() error {
		if err := m.Unmap(); err != nil {
			return fmt.Errorf("shmem: unmapping the lock on byte %d of %s: %w", off, s.path, err)
		}
		return nil
	}, nil
}

// tryLock tries once; nil, nil if the byte is held by another description.
func (s *ofdSpace) tryLock(off uint64) (mmap.MMap, error) {
	q := int(s.fd.Load())
	if q < 0 {
		return nil, fmt.Errorf("%w: byte %d of %s cannot be locked", ErrLeft, off, s.path)
	}
	// No child may be forked while the descriptor is open: it would share the description until it execs.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := reopen(q, unix.O_RDWR)
	if err != nil {
		return nil, pathError("opening it again for a lock", s.path, err)
	}
	f := os.NewFile(uintptr(fd), s.path)
	defer f.Close()
	if ok, err := setLock(fd, unix.F_WRLCK, int64(off), 1); err != nil || !ok {
		return nil, pathError("locking a byte", s.path, err)
	}
	// Names the holder; nobody else takes this offset while the byte is ours.
	if _, err := setLock(fd, unix.F_WRLCK, int64(ownerBase+off<<pidBits)+int64(pid), 1); err != nil {
		return nil, pathError("locking a byte", s.path, err)
	}
	m, err := mmap.MapRegion(f, int(s.page), mmap.RDONLY, 0, 0)
	if err != nil {
		return nil, pathError("mapping a page for a lock", s.path, err)
	}
	if err := unix.Madvise(m, unix.MADV_DONTFORK); err != nil {
		m.Unmap()
		return nil, pathError("mapping a page for a lock", s.path, err)
	}
	return m, nil
}

// takeJoin registers fd's description as a joiner: a lock beyond the end of file at an offset that tells the pid.
func takeJoin(fd int, readOnly bool) error {
	typ := int16(unix.F_WRLCK)
	if readOnly {
		typ = unix.F_RDLCK // all that a descriptor opened for reading may take
	}
	for range 64 {
		off := int64(joinBase | uint64(pid)<<20 | rand.Uint64N(1<<20))
		// A read lock would silently share its offset with another read lock.
		if _, taken, e := conflict(fd, off, 1); e != 0 {
			return e
		} else if taken {
			continue
		}
		if ok, err := setLock(fd, typ, off, 1); ok || err != nil {
			return err
		}
	}
	return errJoinBarred
}

// errJoinBarred: somebody holds all of the join offsets: the region is being unlinked.
var errJoinBarred = errors.New("region is being unlinked")

// barJoins locks all join offsets by fd's description, so that nobody can join; false if somebody is joined.
func barJoins(fd int) (bool, error) { return setLock(fd, unix.F_WRLCK, joinBase, 1<<joinBits) }

// pathError wraps err with what was done to path, and with the sentinel that fits; nil for nil.
func pathError(doing, path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.EROFS):
		return fmt.Errorf("%w: %s: %s: %v", ErrPermission, path, doing, err)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: %s: %s: %v", ErrNotFound, path, doing, err)
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: %s", ErrExists, path)
	}
	return fmt.Errorf("shmem: %s: %s: %w", path, doing, err)
}
