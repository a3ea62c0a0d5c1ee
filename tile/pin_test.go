package tile

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseCPUs(t *testing.T) {
	for _, c := range []struct {
		list string
		want []int
		text string // "" if as list
	}{
		{"0", []int{0}, ""}, {"0-2,5,f1", []int{0, 1, 2, 5, Float}, ""}, {"f2,3", []int{Float, Float, 3}, ""},
		{" 7 , 1-2 ", []int{7, 1, 2}, "7,1-2"}, {"3-3", []int{3}, "3"}, {"1,2,3", []int{1, 2, 3}, "1-3"}, {"1023", []int{1023}, ""},
	} {
		got, err := ParseCPUs(c.list)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %v %v", c.list, got, err)
		}
		want := c.text
		if want == "" {
			want = c.list
		}
		if FormatCPUs(got) != want {
			t.Errorf("%q is written %q", c.list, FormatCPUs(got))
		}
	}
	for _, bad := range []string{"", ",", "1,", "a", "-1", "2-1", "1024", "1-", "+1", "f", "f0", "f1025", "f1024,1", "1,0-2", "0 - 2", "auto"} {
		if got, err := ParseCPUs(bad); !errors.Is(err, ErrCPU) {
			t.Errorf("%q: %v %v", bad, got, err)
		}
	}
}

func FuzzParseCPUs(f *testing.F) {
	for _, s := range []string{"0-2,5,f1", "f2", "1,,2", "9-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		cpus, err := ParseCPUs(s)
		if err != nil {
			return
		}
		again, err := ParseCPUs(FormatCPUs(cpus))
		if err != nil || !slices.Equal(cpus, again) {
			t.Errorf("%q: %v, then %v %v", s, cpus, again, err)
		}
	})
}

func TestPickCPUs(t *testing.T) {
	F := Float
	four := []int{0, 1, 2, 3}
	for _, c := range []struct {
		affinity string
		n        int
		allowed  []int
		reserved []int
		want     []int // nil: ErrCPU
	}{
		{"auto", 1, []int{0}, nil, []int{F}},
		{"auto", 1, []int{0, 1}, nil, []int{1}},
		{"auto", 3, []int{0, 1}, nil, []int{1, 0, F}},
		{"auto", 1, []int{0, 1}, []int{1}, []int{0}},
		{"auto", 2, four, nil, []int{1, 2}},
		{"auto", 4, four, nil, []int{1, 2, 3, F}},
		{"auto", 2, four, []int{1}, []int{2, 3}},
		{"auto", 1, four, []int{1, 2, 3}, []int{1}},
		{"auto", 1, []int{4, 5, 6}, nil, []int{4}},
		{"auto", 0, four, nil, []int{}},
		{"3,f1", 2, four, nil, []int{3, F}},
		{"0-3", 2, four, nil, []int{0, 1}},
		{"0-3", 5, four, nil, nil},
		{"4", 1, four, nil, nil},
		{"x", 1, four, nil, nil},
	} {
		got, err := PickCPUs(c.affinity, c.n, c.allowed, c.reserved...)
		if c.want == nil {
			if !errors.Is(err, ErrCPU) {
				t.Errorf("%+v: %v %v", c, got, err)
			}
		} else if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v %v", c, got, err)
		}
	}
}

// affinities gives each thread's mask.
func affinities(t *testing.T) map[int]unix.CPUSet {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	m := map[int]unix.CPUSet{}
	for _, e := range tasks {
		tid, _ := strconv.Atoi(e.Name())
		var set unix.CPUSet
		if unix.SchedGetaffinity(tid, &set) == nil {
			m[tid] = set
		}
	}
	return m
}

// idleThreads leaves the runtime threads to take when it needs some. One that it clones while masks are set may have the old one, and
// be there only when nobody looks any more: KeepOff cannot know of it.
func idleThreads() {
	up, over := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			up <- struct{}{}
			<-over
		})
	}
	for range 16 {
		<-up
	}
	close(over)
	wg.Wait()
}

// TestPinThreadOnly: the pinned thread is on its CPU; no thread that Go starts afterwards is.
func TestPinThreadOnly(t *testing.T) {
	allowed := AllowedCPUs()
	if len(allowed) < 2 {
		t.Skip("needs two CPUs")
	}
	cpu := allowed[len(allowed)-1]
	t.Cleanup(func() {
		var all unix.CPUSet
		for _, c := range allowed {
			all.Set(c)
		}
		// A thread that is not yet set back may be starting another one: look again until all are right.
		for again := true; again; {
			again = false
			for tid, set := range affinities(t) {
				if set != all && unix.SchedSetaffinity(tid, &all) == nil {
					again = true
				}
			}
		}
	})
	pinned, goOn, failed := make(chan int), make(chan struct{}), make(chan error, 1)
	go func() { // its thread ends with it
		err := Pin(cpu)
		failed <- err
		pinned <- unix.Gettid()
		<-goOn
		failed <- KeepOff(cpu, allowed)
		pinned <- 0
		<-goOn
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	tid := <-pinned
	// Have Go start threads.
	stop, up := make(chan struct{}), make(chan struct{})
	for range 4 {
		go func() { runtime.LockOSThread(); up <- struct{}{}; <-stop }()
		<-up
	}
	for id, set := range affinities(t) {
		if id == tid && (set.Count() != 1 || !set.IsSet(cpu)) {
			t.Errorf("pinned thread may use %d CPUs", set.Count())
		}
		if id != tid && set.Count() != len(allowed) {
			t.Errorf("thread %d may use %d CPUs of %d", id, set.Count(), len(allowed))
		}
	}
	idleThreads()
	goOn <- struct{}{}
	if err := <-failed; err != nil {
		t.Error(err)
	}
	<-pinned
	for id, set := range affinities(t) {
		if (id == tid) != set.IsSet(cpu) {
			t.Errorf("thread %d (tile: %t) on CPU %d: %t", id, id == tid, cpu, set.IsSet(cpu))
		}
	}
	close(stop)
	goOn <- struct{}{}
}

func TestPinNegative(t *testing.T) {
	for _, cpu := range []int{-2, 1024, 1023} {
		if err := Pin(cpu); !errors.Is(err, ErrCPU) {
			t.Errorf("CPU %d: %v", cpu, err)
		}
	}
	if err := KeepOff(0, []int{0}); err != nil {
		t.Errorf("with nothing left: %v", err)
	}
	if err := Pin(Float); err != nil {
		t.Error(err)
	}
	runtime.UnlockOSThread()
}
