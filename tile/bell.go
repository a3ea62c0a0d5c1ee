package tile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"structs"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

const (
	// BellAlign and BellFootprint are in bytes.
	BellAlign     = pairSize
	BellFootprint = 3 * pairSize

	// BellPathMax is the greatest length in bytes of the path of a bell.
	BellPathMax = 228

	bellMagic   = 0x4c4c45425f656c74 // "tle_BELL"
	bellVersion = 1
)

// bellMem is a doorbell in shared memory.
//
//	  0  header, path of the FIFO   writer: New
//	256  sleeping                   writer: consumer (0, 1), producers (1 to 0)
//
// The flag has a pair of its own: awake, the consumer does not touch it, and producers read it from their own caches.
type bellMem struct {
	_ structs.HostLayout
	header
	pathLen  uint32
	path     [BellPathMax]byte
	sleeping atomic.Uint32
	_        [124]byte
}

var bellLayout = layoutHash[bellMem]()

// Bell wakes a consumer that sleeps in its epoll. A producer pays one load while the consumer is awake, and one write
// per sleep otherwise, whatever the number of producers and messages.
//
//	consumer                                 producer
//	    Sleep()                                  publish (an atomic store)
//	    if there is work { Awake(); go on }      Ring()
//	    wait in epoll, with a timeout
//	    Awake()
//
// Nothing is lost: Go's atomics are sequentially consistent, on mapped memory too. Either the consumer's look after
// Sleep sees what was published, or the producer's look in Ring sees the flag; without that second look one in some
// hundred thousand wakings is lost. What was published must be an atomic store, and the look an atomic load. The
// timeout is insurance against a producer that dies between taking the flag down and writing.
//
// The consumer's methods (Open, Sleep, Awake, Drain) are for one goroutine; Ring is for any.
type Bell struct {
	m    shmem.Mem
	b    *bellMem
	path string

	rx int // consumer's descriptor, -1 if none

	mu   sync.Mutex // tx, and the write to it; taken only when the consumer sleeps
	tx   int        // producer's descriptor, -1 until the first ring
	lent bool       // tx is not ours to close

	rings  atomic.Uint64
	failed atomic.Uint64
}

// A ring is eight bytes, so that a FIFO and an eventfd take the same write.
var ringWord = []byte{1, 0, 0, 0, 0, 0, 0, 0}

// BellNew formats a bell over m whose FIFO is or will be at path (absolute, 1 to BellPathMax bytes). An empty path is
// for bells that are rung by an inherited or shared eventfd only. Errors: ErrAlign, ErrSize, ErrBell.
func BellNew(m shmem.Mem, path string) error {
	if err := fit("bell", m, BellFootprint); err != nil {
		return err
	}
	if err := checkBellPath(path); err != nil {
		return err
	}
	b, err := shmem.At[bellMem](m, 0)
	if err != nil {
		return fmt.Errorf("tile: bell new: %w", err)
	}
	b.begin(m, bellVersion, bellLayout, BellFootprint)
	b.pathLen = uint32(copy(b.path[:], path))
	b.magic.Store(bellMagic)
	return nil
}

func checkBellPath(path string) error {
	if len(path) > BellPathMax || (path != "" && path[0] != '/') {
		return fmt.Errorf("%w: path %q has %d bytes (absolute, up to %d)", ErrBell, path, len(path), BellPathMax)
	}
	for _, b := range []byte(path) {
		if b == 0 {
			return fmt.Errorf("%w: path %q holds a zero byte", ErrBell, path)
		}
	}
	return nil
}

// BellJoin joins the bell in m (writable). It opens nothing yet. Errors: ErrAlign, ErrSize, ErrMagic, ErrLayout,
// ErrBell.
func BellJoin(m shmem.Mem) (*Bell, error) {
	if err := fit("bell", m, BellFootprint); err != nil {
		return nil, err
	}
	b, err := shmem.At[bellMem](m, 0)
	if err != nil {
		return nil, fmt.Errorf("tile: bell join: %w", err)
	}
	size, err := b.check("bell", bellMagic, bellVersion, bellLayout, m)
	if err != nil {
		return nil, err
	}
	n := b.pathLen
	if size != BellFootprint || n > BellPathMax {
		return nil, fmt.Errorf("%w: bell says %d bytes, path of %d", ErrSize, size, n)
	}
	path := string(b.path[:n])
	if err := checkBellPath(path); err != nil {
		return nil, err
	}
	return &Bell{m: m, b: b, path: path, rx: -1, tx: -1}, nil
}

// Leave closes what Open and Ring opened and gives the memory back. The FIFO stays: a successor finds it.
func (b *Bell) Leave() shmem.Mem {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rx >= 0 {
		unix.Close(b.rx)
	}
	if b.tx >= 0 && !b.lent {
		unix.Close(b.tx)
	}
	m := b.m
	b.m, b.b, b.rx, b.tx = shmem.Mem{}, nil, -1, -1
	return m
}

// BellDelete clears the magic and removes the FIFO, if there is one. Errors: those of BellJoin and of unlink.
func BellDelete(m shmem.Mem) error {
	b, err := BellJoin(m)
	if err != nil {
		return err
	}
	b.b.magic.Store(0)
	if b.path == "" {
		return nil
	}
	if fi, err := os.Lstat(b.path); err != nil || fi.Mode()&fs.ModeNamedPipe == 0 {
		return nil
	}
	if err := os.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("tile: bell delete: %w", err)
	}
	return nil
}

// Path is that of the FIFO.
func (b *Bell) Path() string { return b.path }

// Open makes the FIFO (mode 0600) unless it is there, opens it, and gives its descriptor, for reading readiness
// (EPOLLIN; edge-triggered will do, since Drain takes all). It belongs to the Bell; Leave closes it. A predecessor's
// FIFO is used on, so that producers who have it open need not know. To let another user ring, make the FIFO with the
// mode that it needs before. Consumer. Errors: ErrBell (no path, or something else is there), or that of the system.
func (b *Bell) Open() (fd int, err error) {
	if b.rx >= 0 {
		return b.rx, nil
	}
	if b.path == "" {
		return -1, fmt.Errorf("%w: it has no path", ErrBell)
	}
	if err := unix.Mkfifo(b.path, 0o600); err != nil && err != unix.EEXIST {
		return -1, fmt.Errorf("%w: make FIFO %s: %w", ErrBell, b.path, err)
	}
	// O_RDWR: the FIFO then has a writer at all times, so that epoll never reports a hang-up.
	if b.rx, err = openFIFO(b.path, unix.O_RDWR); err != nil {
		return -1, err
	}
	b.Awake() // what a predecessor that died asleep left
	return b.rx, nil
}

// OpenEventfd gives the Bell an eventfd in place of the FIFO, for both sides within one process, or for children that
// inherit it and call UseFd. It belongs to the Bell. Errors: ErrBell if it is open already, or that of the system.
func (b *Bell) OpenEventfd() (fd int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rx >= 0 || b.tx >= 0 {
		return -1, fmt.Errorf("%w: it is open already", ErrBell)
	}
	if fd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return -1, fmt.Errorf("%w: eventfd: %w", ErrBell, err)
	}
	b.rx, b.tx, b.lent = fd, fd, true
	b.Awake()
	return fd, nil
}

// UseFd makes Ring write to a descriptor that the caller keeps (an inherited eventfd, or the write end of a FIFO;
// nonblocking) in place of opening the path. Producer, before the first Ring.
func (b *Bell) UseFd(fd int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tx, b.lent = fd, true
}

// Sleep says that the consumer is about to wait. It must look for work once more, and call Awake after waiting, or
// instead of it. Consumer.
func (b *Bell) Sleep() { b.b.sleeping.Store(1) }

// Awake takes the flag down. Consumer.
func (b *Bell) Awake() { b.b.sleeping.Store(0) }

// Asleep tells whether the next Ring would write.
func (b *Bell) Asleep() bool { return b.b.sleeping.Load() != 0 }

// Drain empties the descriptor, after epoll has reported it. It does not allocate. Consumer.
func (b *Bell) Drain() {
	var p [512]byte
	for b.rx >= 0 {
		n, err := unix.Read(b.rx, p[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n < len(p) {
			return // EAGAIN, or all there was: a later ring is a new edge
		}
	}
}

// Ring wakes the consumer if it sleeps, after something was published. It does not allocate once the path is open, and
// never blocks. That the consumer is gone, the FIFO full or not to be opened is weather: it is counted, and the
// consumer's timeout finds what was published. Any goroutine.
func (b *Bell) Ring() {
	if b.b.sleeping.Load() == 0 {
		return
	}
	b.ring()
}

func (b *Bell) ring() {
	if !b.b.sleeping.CompareAndSwap(1, 0) {
		return // another producer rings
	}
	b.mu.Lock()
	ok := b.write()
	b.mu.Unlock()
	if ok {
		b.rings.Add(1)
	} else {
		b.failed.Add(1)
	}
}

// write opens the FIFO when needed. EPIPE says that all readers of the one that was open are gone: the consumer's
// successor may have made another, which is tried once.
func (b *Bell) write() bool {
	for range 2 {
		if b.tx < 0 {
			if b.path == "" {
				return false
			}
			fd, err := openFIFO(b.path, unix.O_WRONLY)
			if err != nil {
				return false
			}
			b.tx, b.lent = fd, false
		}
		_, err := unix.Write(b.tx, ringWord)
		for err == unix.EINTR {
			_, err = unix.Write(b.tx, ringWord)
		}
		if err == nil {
			return true
		}
		if err != unix.EPIPE || b.lent {
			return false
		}
		unix.Close(b.tx)
		b.tx = -1
	}
	return false
}

// Stats counts this process's rings and those that went nowhere.
func (b *Bell) Stats() (rings, failed uint64) { return b.rings.Load(), b.failed.Load() }

// openFIFO opens nothing but a FIFO, whatever the path says: it comes from shared memory, perhaps that of another user's
// tile, and a device may act when it is merely opened. So it looks first (O_PATH), then opens what it has looked at.
func openFIFO(path string, access int) (int, error) {
	p, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%w: open %s: %w", ErrBell, path, err)
	}
	defer unix.Close(p)
	var st unix.Stat_t
	if err := unix.Fstat(p, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return -1, fmt.Errorf("%w: %s is not a FIFO", ErrBell, path)
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", p), access|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("%w: open %s: %w", ErrBell, path, err)
	}
	return fd, nil
}
