package steer

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Nobody needs a right for it.
func TestClassicCPU(t *testing.T) {
	runtime.LockOSThread()
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	defer unix.SchedSetaffinity(0, &may)
	s := newSite(t, "tcp4", 2)
	if err := ClassicCPU(s.fds[0], 2); err != nil {
		t.Fatal(err)
	}
	for cpu := range 64 {
		if !may.IsSet(cpu) {
			continue
		}
		var one unix.CPUSet
		one.Set(cpu)
		if err := unix.SchedSetaffinity(0, &one); err != nil {
			t.Fatal(err)
		}
		s.connect(50, nil)
		if got := s.acceptAll(50); got[cpu%2] != 50 {
			t.Errorf("CPU %d: %v", cpu, got)
		}
	}
	for range 2 { // the second finds nothing
		if err := Detach(s.fds[1]); err != nil {
			t.Fatal(err)
		}
	}
	s.connect(200, nil)
	spread(t, s.acceptAll(200), 40, 160)
}
