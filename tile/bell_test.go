package tile

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// bellYard is a bell with a stream of numbers to ring for.
type bellYard struct {
	bell *Bell
	tail *atomic.Uint64 // producer: published up to
	seen *atomic.Uint64 // consumer: seen up to
	last *atomic.Uint64 // producer: the end, once known
	naps *atomic.Uint64 // consumer: how often it slept
}

const bellYardSize = BellFootprint + 4*pairSize

func joinYard(m shmem.Mem) (y bellYard, err error) {
	bm, err := m.Slice(0, BellFootprint)
	if err != nil {
		return y, err
	}
	if y.bell, err = BellJoin(bm); err != nil {
		return y, err
	}
	for i, p := range []**atomic.Uint64{&y.tail, &y.seen, &y.last, &y.naps} {
		if *p, err = shmem.At[atomic.Uint64](m, BellFootprint+uint64(i)*pairSize); err != nil {
			return y, err
		}
	}
	return y, nil
}

// bellTime bounds a test on a machine that has much else to do.
const bellTime = time.Minute

// consume is a tile's side: an error if a ring was lost.
func (y bellYard) consume(fd int) error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(ep)
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET&(1<<32-1), Fd: int32(fd)}
	if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return err
	}
	var evs [4]unix.EpollEvent
	deadline := shmem.Monotonic() + int64(bellTime+10*time.Second)
	for seen := uint64(0); ; {
		if end := y.last.Load(); end != 0 && seen == end {
			return nil
		}
		if tail := y.tail.Load(); tail != seen {
			seen = tail
			y.seen.Store(seen)
			continue
		}
		y.bell.Sleep()
		if y.tail.Load() != seen || y.last.Load() == seen && seen != 0 {
			y.bell.Awake()
			continue
		}
		y.naps.Add(1)
		n, errno := shmem.EpollWait(ep, evs[:], 1000)
		if n == 0 && errno == 0 && y.tail.Load() != seen {
			// It sleeps still, so the ring is to come, however long the producer is kept from the CPU after it has published.
			if n, errno = shmem.EpollWait(ep, evs[:], 10_000); n == 0 && errno == 0 {
				return fmt.Errorf("a ring was lost: slept at %d while %d was published", seen, y.tail.Load())
			}
		}
		y.bell.Awake()
		if n > 0 {
			y.bell.Drain()
		}
		if shmem.Monotonic() > deadline {
			return fmt.Errorf("no end, at %d", seen)
		}
	}
}

// produce publishes for a while, and until the consumer has slept so often, at a pace that keeps hitting the moments around its going to
// sleep.
func (y bellYard) produce(d time.Duration, naps, seed uint64) uint64 {
	rng := rand.New(rand.NewPCG(seed, 1))
	begin := time.Now()
	end, late := begin.Add(d), begin.Add(bellTime)
	n := uint64(0)
	for now := begin; now.Before(end) || y.naps.Load() < naps && now.Before(late); now = time.Now() {
		for range 16 {
			n++
			y.tail.Store(n)
			y.bell.Ring()
			switch rng.IntN(3) {
			case 0: // until it is about to sleep
				for range 20_000 {
					if y.bell.Asleep() {
						break
					}
				}
			case 1: // a little after it has seen it, which it only does if no ring is lost
				for i := 1; y.seen.Load() != n; i++ {
					if i%1000 == 0 {
						runtime.Gosched()
						if time.Now().After(late) {
							return n
						}
					}
				}
				for range rng.IntN(200) {
					y.seen.Load()
				}
			}
		}
	}
	y.last.Store(n)
	y.bell.Ring()
	return n
}

func bellChild() error {
	r, err := shmem.Open(os.Getenv("TILE_TEST_REGION"), shmem.ReadWrite)
	if err != nil {
		return err
	}
	y, err := joinYard(r.Mem())
	if err != nil {
		return err
	}
	fd, err := y.bell.Open()
	if err != nil {
		return err
	}
	fmt.Println("open")
	runtime.LockOSThread()
	return y.consume(fd)
}

// TestBellProcesses rings from one process for another: none may be lost.
func TestBellProcesses(t *testing.T) {
	if raceBuild {
		t.Skip("the race detector is blind on mapped memory; TestBellThreads runs")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	name, m := mapped(t, bellYardSize)
	if err := BellNew(m, filepath.Join(t.TempDir(), "bell")); err != nil {
		t.Fatal(err)
	}
	y := must[bellYard](t)(joinYard(m))
	defer y.bell.Leave()

	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=bell", "TILE_TEST_REGION="+name)
	cmd.Stderr = os.Stderr
	out := must[interface{ Read([]byte) (int, error) }](t)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "open" {
		cmd.Process.Kill()
		t.Fatalf("child says %q", lines.Text())
	}
	n := y.produce(1500*time.Millisecond, 100, seed)
	lines.Scan() // its end
	sleeps := y.naps.Load()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("after %d publishes: %v", n, err)
	}
	rings, failed := y.bell.Stats()
	t.Logf("%d publishes, %d sleeps, %d rings, %d failed", n, sleeps, rings, failed)
	if failed != 0 || rings > sleeps+n/2 || sleeps < 100 {
		t.Errorf("%d publishes, %d sleeps, %d rings, %d failed", n, sleeps, rings, failed)
	}
}

// TestBellThreads is the same within the process, by eventfd and by FIFO, on heap memory too.
func TestBellThreads(t *testing.T) {
	for _, by := range []string{"eventfd", "fifo"} {
		t.Run(by, func(t *testing.T) {
			overBoth(t, bellYardSize, func(t *testing.T, m shmem.Mem) {
				if err := BellNew(m, filepath.Join(t.TempDir(), "bell")); err != nil {
					t.Fatal(err)
				}
				y := must[bellYard](t)(joinYard(m))
				defer y.bell.Leave()
				var fd int
				if by == "fifo" {
					fd = must[int](t)(y.bell.Open())
				} else {
					fd = must[int](t)(y.bell.OpenEventfd())
					if _, err := y.bell.OpenEventfd(); !errors.Is(err, ErrBell) {
						t.Errorf("opened twice: %v", err)
					}
				}
				done := make(chan error, 1)
				go func() { done <- y.consume(fd) }()
				y.produce(150*time.Millisecond, 0, 1)
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestBellWeather(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bell")
	m := shmem.Heap(BellFootprint, 128)
	if err := BellNew(m, path); err != nil {
		t.Fatal(err)
	}
	prod := must[*Bell](t)(BellJoin(m))
	defer prod.Leave()
	cons := must[*Bell](t)(BellJoin(m))
	stats := func(rings, failed uint64) {
		t.Helper()
		if r, f := prod.Stats(); r != rings || f != failed {
			t.Errorf("%d rings %d failed, want %d %d", r, f, rings, failed)
		}
	}
	prod.Ring() // awake: nothing to do
	stats(0, 0)
	cons.Sleep()
	prod.Ring() // no FIFO
	prod.Ring() // one try per sleep
	stats(0, 1)
	fd := must[int](t)(cons.Open())
	if again := must[int](t)(cons.Open()); again != fd {
		t.Errorf("open again: %d, not %d", again, fd)
	}
	readable := func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return err == nil && n == 1
	}
	cons.Sleep()
	prod.Ring()
	if stats(1, 1); !readable() {
		t.Error("a ring, and nothing to read")
	}
	cons.Drain()
	if readable() {
		t.Error("not drained")
	}
	for range 3 { // never full: the consumer did not look for long
		cons.Sleep()
		prod.Ring()
	}
	cons.Drain()

	// The consumer's successor uses the same FIFO; then one that was made anew.
	cons.Sleep()
	cons.Leave()
	cons = must[*Bell](t)(BellJoin(m))
	fd = must[int](t)(cons.Open())
	if cons.Asleep() {
		t.Error("the predecessor's sleep is left")
	}
	cons.Sleep()
	prod.Ring()
	if stats(5, 1); !readable() {
		t.Error("successor is not rung")
	}
	cons.Leave()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	cons = must[*Bell](t)(BellJoin(m))
	fd = must[int](t)(cons.Open())
	cons.Sleep()
	prod.Ring()
	if stats(6, 1); !readable() {
		t.Error("new FIFO is not rung")
	}
	for range 20_000 { // full
		cons.Sleep()
		prod.Ring()
	}
	if _, failed := prod.Stats(); failed < 2 {
		t.Error("a full FIFO is not counted")
	}
	if cons.Drain(); readable() {
		t.Error("not drained")
	}
	if n := testing.AllocsPerRun(100, func() { cons.Sleep(); prod.Ring(); cons.Drain() }); n != 0 && !raceBuild {
		t.Errorf("%v allocations", n)
	}
	cons.Leave()
	if err := BellDelete(m); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("FIFO is left: %v", err)
	}
}

func TestBellNegative(t *testing.T) {
	m := shmem.Heap(BellFootprint, 128)
	for _, bad := range []string{"relative", "/a\x00b", "/" + strings.Repeat("x", BellPathMax)} {
		if err := BellNew(m, bad); !errors.Is(err, ErrBell) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", file, link, filepath.Join(dir, "no/such/dir"), strings.Repeat("/x", BellPathMax/2)} {
		if err := BellNew(m, path); err != nil {
			t.Fatal(err)
		}
		b := must[*Bell](t)(BellJoin(m))
		if _, err := b.Open(); !errors.Is(err, ErrBell) {
			t.Errorf("%.40q: %v", path, err)
		}
		b.Sleep()
		b.Ring()
		if r, f := b.Stats(); r != 0 || f != 1 {
			t.Errorf("%.40q: rung %d, failed %d", path, r, f)
		}
		b.Leave()
	}
	if fi, err := os.Stat(file); err != nil || fi.Size() != 0 {
		t.Error("an ordinary file was written to")
	}
	if err := BellNew(m, file); err != nil {
		t.Fatal(err)
	}
	if err := BellDelete(m); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("delete removed what is no FIFO: %v", err)
	}
}

func BenchmarkRingAwake(b *testing.B) {
	m := shmem.Heap(BellFootprint, 128)
	if err := BellNew(m, ""); err != nil {
		b.Fatal(err)
	}
	bell, err := BellJoin(m)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		bell.Ring()
	}
}
