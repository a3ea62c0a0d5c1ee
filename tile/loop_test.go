package tile

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

func newCnc(t testing.TB, m shmem.Mem) *Cnc {
	t.Helper()
	if err := CncNew(m, "net", 0); err != nil {
		t.Fatal(err)
	}
	return must[*Cnc](t)(CncJoin(m))
}

func TestLoopHalt(t *testing.T) {
	for _, idle := range []Idle{IdleSleep, IdleSpin} {
		overBoth(t, CncFootprint, func(t *testing.T, m shmem.Mem) {
			c := newCnc(t, m)
			running, wake := make(chan bool, 1), make(chan bool, 1)
			var houses, waits int
			var signals []Signal
			l := Loop{Cnc: c, CPU: Float, Idle: idle, Interval: time.Millisecond, Seed: 1,
				Poll: func(now int64, timeoutMs int) int {
					select {
					case running <- true:
					default:
					}
					if timeoutMs > 0 {
						waits++
						if timeoutMs > 2 {
							t.Errorf("a wait of %d ms outlasts the housekeeping", timeoutMs)
						}
						select {
						case <-wake:
						case <-time.After(time.Duration(timeoutMs) * time.Millisecond):
						}
					}
					return 0
				},
				Housekeep: func(now int64) {
					if houses++; c.Heartbeat() != now {
						t.Errorf("heartbeat %d at %d", c.Heartbeat(), now)
					}
					if houses == 3 {
						c.Raise(SignalUser + 2)
					}
					if houses == 6 {
						c.Halt()
					}
				},
				OnSignal: func(s Signal) { signals = append(signals, s) },
			}
			done := make(chan error, 1)
			go func() { done <- l.Run() }()
			<-running
			if err := <-done; err != nil {
				t.Error(err)
			}
			if c.Signal() != SignalBoot || len(signals) != 1 || signals[0] != SignalUser+2 || houses != 6 {
				t.Errorf("%v, signals %v, %d housekeepings", c.Signal(), signals, houses)
			}
			if (waits > 0) != (idle == IdleSleep) {
				t.Errorf("idle %d waited %d times", idle, waits)
			}
		})
	}
}

func TestLoopSpinsBeforeItSleeps(t *testing.T) {
	c := newCnc(t, shmem.Heap(CncFootprint, 128))
	var worked int64
	polls := 0
	l := Loop{Cnc: c, CPU: Float, Spin: 3 * time.Millisecond, Interval: time.Second}
	l.Poll = func(now int64, timeoutMs int) int {
		polls++
		if polls == 1 {
			worked = now
			return 1
		}
		if timeoutMs > 0 {
			if now-worked < int64(3*time.Millisecond) {
				t.Errorf("gave up after %v", time.Duration(now-worked))
			}
			l.Stop(nil)
		}
		return 0
	}
	if err := l.Run(); err != nil || polls < 10 {
		t.Errorf("%v after %d polls", err, polls)
	}
}

func TestLoopEnds(t *testing.T) {
	sorry := errors.New("out of luck")
	for _, c := range []struct {
		name   string
		poll   func(l *Loop) int
		want   error
		signal Signal
		cause  string
	}{
		{"stop", func(l *Loop) int { l.Stop(nil); return 0 }, nil, SignalBoot, ""},
		{"error", func(l *Loop) int { l.Stop(sorry); return 0 }, sorry, SignalFail, "out of luck"},
		{"panic", func(l *Loop) int { panic("oh no") }, ErrPanic, SignalFail, "panic: oh no"},
		{"runtime error", func(l *Loop) int { var p *Loop; return int(p.CPU) }, ErrPanic, SignalFail, "nil pointer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			overBoth(t, CncFootprint, func(t *testing.T, m shmem.Mem) {
				cnc := newCnc(t, m)
				l := Loop{Cnc: cnc, CPU: Float}
				l.Poll = func(int64, int) int {
					if cnc.Signal() != SignalRun {
						t.Error("polled before run")
					}
					return c.poll(&l)
				}
				err := l.Run()
				if !errors.Is(err, c.want) || cnc.Signal() != c.signal || !strings.Contains(cnc.Cause(), c.cause) {
					t.Errorf("%v, %v %q", err, cnc.Signal(), cnc.Cause())
				}
				if c.want == ErrPanic {
					wantText(t, err, "loop_test.go")
				}
			})
		})
	}
	t.Run("goexit", func(t *testing.T) {
		cnc := newCnc(t, shmem.Heap(CncFootprint, 128))
		done := make(chan bool)
		go func() {
			defer close(done)
			l := Loop{Cnc: cnc, CPU: Float, Poll: func(int64, int) int { runtime.Goexit(); return 0 }}
			l.Run()
		}()
		if <-done; cnc.Signal() != SignalFail {
			t.Error(cnc.Signal())
		}
	})
	t.Run("halted before it ran", func(t *testing.T) {
		cnc := newCnc(t, shmem.Heap(CncFootprint, 128))
		cnc.Halt()
		l := Loop{Cnc: cnc, CPU: Float, Poll: func(int64, int) int { t.Error("polled"); cnc.Halt(); return 0 }}
		if err := l.Run(); err != nil || cnc.Signal() != SignalBoot {
			t.Error(err, cnc.Signal())
		}
	})
	t.Run("incomplete", func(t *testing.T) {
		if err := (&Loop{}).Run(); !errors.Is(err, ErrLoop) {
			t.Error(err)
		}
	})
	t.Run("not confined", func(t *testing.T) {
		cnc := newCnc(t, shmem.Heap(CncFootprint, 128))
		l := Loop{Cnc: cnc, CPU: Float, Confine: func() error { return sorry }, Poll: func(int64, int) int { t.Error("polled"); cnc.Halt(); return 0 }}
		if err := l.Run(); !errors.Is(err, sorry) || cnc.Signal() != SignalFail || cnc.Cause() != "out of luck" {
			t.Error(err, cnc.Signal(), cnc.Cause())
		}
	})
	t.Run("no such CPU", func(t *testing.T) {
		cnc := newCnc(t, shmem.Heap(CncFootprint, 128))
		l := Loop{Cnc: cnc, CPU: 1000, Poll: func(int64, int) int { return 0 }}
		if err := l.Run(); !errors.Is(err, ErrCPU) || cnc.Signal() != SignalFail {
			t.Error(err, cnc.Signal())
		}
	})
}

// TestLoopPinned: Poll runs on the CPU and only there; afterwards the thread is as before; GOMAXPROCS is at least 2.
func TestLoopPinned(t *testing.T) {
	allowed := AllowedCPUs()
	cpu := allowed[len(allowed)-1]
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	cnc := newCnc(t, shmem.Heap(CncFootprint, 128))
	l := Loop{Cnc: cnc, CPU: cpu}
	confined := 0
	l.Confine = func() error {
		confined++
		if on := AllowedCPUs(); len(on) != 1 || cnc.Signal() != SignalBoot {
			t.Errorf("confined on %v with the signal %v", on, cnc.Signal())
		}
		return nil
	}
	l.Poll = func(int64, int) int {
		if on := AllowedCPUs(); len(on) != 1 || on[0] != cpu || cnc.CPU() != cpu {
			t.Errorf("on %v, cnc says %d", on, cnc.CPU())
		}
		l.Stop(nil)
		return 0
	}
	after := make(chan []int)
	go func() {
		runtime.LockOSThread()
		if err := l.Run(); err != nil {
			t.Error(err)
		}
		after <- AllowedCPUs()
	}()
	if got := <-after; len(got) != len(allowed) {
		t.Errorf("afterwards on %v", got)
	}
	if confined != 1 {
		t.Errorf("confined %d times", confined)
	}
	if runtime.GOMAXPROCS(0) < 2 {
		t.Error("GOMAXPROCS 1")
	}
}

// TestLoopAllocates nothing per turn.
func TestLoopAllocates(t *testing.T) {
	overBoth(t, CncFootprint, func(t *testing.T, m shmem.Mem) {
		c := newCnc(t, m)
		var before, after runtime.MemStats
		const turns = 20_000
		n := 0
		l := Loop{Cnc: c, CPU: Float, Idle: IdleSpin, Interval: 10 * time.Microsecond,
			Housekeep: func(int64) {}}
		l.Poll = func(int64, int) int {
			switch n++; n {
			case 100:
				runtime.ReadMemStats(&before)
			case 100 + turns:
				runtime.ReadMemStats(&after)
				l.Stop(nil)
			}
			return n & 1
		}
		if err := l.Run(); err != nil {
			t.Fatal(err)
		}
		if d := after.Mallocs - before.Mallocs; d > 20 { // the runtime's own, in other goroutines
			t.Errorf("%d allocations in %d turns", d, turns)
		}
	})
}

func TestNotifyReady(t *testing.T) {
	if err := NotifyReady(); err != nil {
		t.Errorf("without a supervisor: %v", err)
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	t.Setenv(ReadyEnv, strconv.Itoa(p[1]))
	if err := NotifyReady(); err != nil {
		t.Error(err)
	}
	var b [4]byte
	if n, err := unix.Read(p[0], b[:]); n != 1 || err != nil {
		t.Errorf("read %d %v", n, err)
	}
	if n, _ := unix.Read(p[0], b[:]); n != 0 {
		t.Error("pipe is still open")
	}
	if _, ok := os.LookupEnv(ReadyEnv); ok {
		t.Error("children would see the variable")
	}
	null := must[*os.File](t)(os.Open(os.DevNull))
	defer null.Close()
	for _, bad := range []string{"", "x", "1", "999999", strconv.Itoa(int(null.Fd()))} {
		t.Setenv(ReadyEnv, bad)
		if err := NotifyReady(); err == nil {
			t.Errorf("%q is no descriptor of a pipe", bad)
		}
	}
}
