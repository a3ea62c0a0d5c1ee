package shmem

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLock(t *testing.T) {
	onMem(t, 8192, func(t *testing.T, m Mem) {
		s, _ := m.Slice(4096, 128)
		l, err := s.Lock(3)
		if err != nil {
			t.Fatal(err)
		}
		if !s.Locked(3) || !m.Locked(4099) || m.Locked(4098) || m.Locked(4100) || m.Locked(3) {
			t.Error("Locked is not exact")
		}
		if m.Holder(4099) != os.Getpid() || m.Holder(4098) != 0 || l.Offset() != 4099 || !l.Held() {
			t.Errorf("holder %d", m.Holder(4099))
		}
		if _, err := m.Lock(4099); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "byte 4099") ||
			!strings.Contains(err.Error(), "this process") {
			t.Errorf("second lock: %v", err)
		}
		if l2, err := m.Lock(4100); err != nil {
			t.Error("neighbour:", err)
		} else {
			defer l2.Unlock()
		}
		for range 2 {
			if err := l.Unlock(); err != nil {
				t.Fatal(err)
			}
		}
		if s.Locked(3) || s.Holder(3) != 0 || l.Held() {
			t.Error("still locked")
		}
		if err := (*Lock)(nil).Unlock(); err != nil {
			t.Error(err)
		}
		if _, err := s.Lock(128); !errors.Is(err, ErrBounds) {
			t.Error("past the end:", err)
		}
		if _, err := s.AsReadOnly().Lock(0); !errors.Is(err, ErrReadOnly) {
			t.Error("read-only:", err)
		}
		if _, err := (Mem{}).Lock(0); !errors.Is(err, ErrBounds) {
			t.Error("zero Mem:", err)
		}
		if n := testing.AllocsPerRun(100, func() { s.Locked(3); s.Holder(4) }); n != 0 {
			t.Errorf("Locked allocates %v", n)
		}
	})
}

func TestLockWait(t *testing.T) {
	onMem(t, 4096, func(t *testing.T, m Mem) {
		l, err := m.LockWait(5, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := m.LockWait(5, 20*time.Millisecond); !errors.Is(err, ErrLocked) || time.Since(began) < 20*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		got := make(chan error)
		go func() {
			l, err := m.LockWait(5, 10*time.Second)
			l.Unlock()
			got <- err
		}()
		l.Unlock()
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

// TestLockExclusive lets goroutines fight for one byte: each has a description of its own, as processes have.
func TestLockExclusive(t *testing.T) {
	onMem(t, 4096, func(t *testing.T, m Mem) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		inside, sum := 0, 0
		for range 4 {
			wg.Go(func() {
				for range 50 {
					l, err := m.LockWait(0, 10*time.Second)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if inside++; inside != 1 {
						t.Error("two holders")
					}
					sum++
					mu.Unlock()
					mu.Lock()
					inside--
					mu.Unlock()
					l.Unlock()
				}
			})
		}
		wg.Wait()
		if sum != 200 {
			t.Error(sum)
		}
	})
}

func BenchmarkLocked(b *testing.B) {
	m := region(b, 4096).Mem()
	b.ReportAllocs()
	for b.Loop() {
		m.Locked(0)
	}
}

func BenchmarkLockUnlock(b *testing.B) {
	m := region(b, 4096).Mem()
	b.ReportAllocs()
	for b.Loop() {
		l, err := m.Lock(0)
		if err != nil {
			b.Fatal(err)
		}
		l.Unlock()
	}
}
