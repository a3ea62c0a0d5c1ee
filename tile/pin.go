package tile

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Float stands for a CPU where a tile is not to be pinned.
const Float = -1

// cpuMax is the number of CPUs that a unix.CPUSet can name.
const cpuMax = 1024

// Pin locks the calling goroutine to its thread and that thread to the CPU. Float only locks.
//
// It is the thread that is pinned, not the process: a process on one CPU would have GOMAXPROCS 1, and a spinning tile
// would starve the garbage collector and everything else. Threads that Go starts later do not inherit the CPU: since a
// goroutine is locked, the runtime clones them from a template thread. Child processes do inherit it: start none from
// a pinned goroutine (tile/topo starts its own from a thread of theirs).
//
// A goroutine that returns without runtime.UnlockOSThread takes its pinned thread with it, which is right for a tile.
// Errors: ErrCPU with the CPUs that are allowed.
func Pin(cpu int) error {
	runtime.LockOSThread()
	if cpu == Float {
		return nil
	}
	if cpu < 0 || cpu >= cpuMax {
		runtime.UnlockOSThread()
		return fmt.Errorf("%w: CPU %d is not within 0 to %d", ErrCPU, cpu, cpuMax-1)
	}
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		allowed := AllowedCPUs()
		runtime.UnlockOSThread()
		return fmt.Errorf("%w: CPU %d (this process may use %s): %w", ErrCPU, cpu, FormatCPUs(allowed), err)
	}
	return nil
}

// KeepOff moves all other threads of this process off the CPU, so that the garbage collector and the like do not run
// where the tile does. Threads started later inherit it from those. What they may use is allowed less cpu; if nothing
// is left of it they stay where they are. Call it from the pinned goroutine, with what AllowedCPUs said before Pin.
// Errors: those of /proc and sched_setaffinity; a thread that ends meanwhile is none.
func KeepOff(cpu int, allowed []int) error {
	var set unix.CPUSet
	for _, c := range allowed {
		if c != cpu {
			set.Set(c)
		}
	}
	if set.Count() == 0 {
		return nil
	}
	self := unix.Gettid()
	done := map[int]bool{self: true}
	// A thread that is not yet moved may be starting another one: look again until nothing is new.
	for again := true; again; {
		again = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("tile: keep off CPU %d: %w", cpu, err)
		}
		for _, t := range tasks {
			tid, err := strconv.Atoi(t.Name())
			if err != nil || done[tid] {
				continue
			}
			done[tid], again = true, true
			if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
				return fmt.Errorf("tile: keep thread %d off CPU %d: %w", tid, cpu, err)
			}
		}
	}
	return nil
}

// AllowedCPUs lists the CPUs that the calling thread may use, ascending. Call it before pinning.
func AllowedCPUs() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	var cpus []int
	for c := range cpuMax {
		if set.IsSet(c) {
			cpus = append(cpus, c)
		}
	}
	return cpus
}

// ParseCPUs reads a list like "0-2,5,f1": CPUs, ranges, and fN for N tiles that float. It gives one entry per tile in
// the order of the list, Float for those. Errors: ErrCPU, saying which part: empty, no number, a range that falls, a
// CPU above 1023, a CPU named twice, more than 1024 in all.
func ParseCPUs(list string) ([]int, error) {
	var cpus []int
	bad := func(part, why string) ([]int, error) {
		return nil, fmt.Errorf("%w: %q in %q: %s", ErrCPU, part, list, why)
	}
	for part := range strings.SplitSeq(list, ",") {
		part := strings.TrimSpace(part)
		if n, ok := strings.CutPrefix(part, "f"); ok {
			k, err := cpuNumber(n)
			if err != nil || k < 1 {
				return bad(part, "want f and how many float, as in f2")
			}
			if len(cpus)+k > cpuMax {
				return bad(part, "too many")
			}
			cpus = append(cpus, slices.Repeat([]int{Float}, k)...)
			continue
		}
		lo, hi, ranged := strings.Cut(part, "-")
		a, err := cpuNumber(lo)
		if err != nil {
			return bad(part, "want a CPU (0 to 1023), a range a-b, or fN")
		}
		b := a
		if ranged {
			if b, err = cpuNumber(hi); err != nil || b < a {
				return bad(part, "want a range a-b with a <= b <= 1023")
			}
		}
		for c := a; c <= b; c++ {
			if slices.Contains(cpus, c) {
				return bad(part, fmt.Sprintf("CPU %d is named twice", c))
			}
			if len(cpus) == cpuMax {
				return bad(part, "too many")
			}
			cpus = append(cpus, c)
		}
	}
	return cpus, nil
}

// cpuNumber takes digits only: no sign, no space.
func cpuNumber(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n >= cpuMax {
		return 0, strconv.ErrRange
	}
	return int(n), nil
}

// FormatCPUs writes a list as ParseCPUs reads it.
func FormatCPUs(cpus []int) string {
	var b strings.Builder
	for i := 0; i < len(cpus); {
		if i > 0 {
			b.WriteByte(',')
		}
		j := i + 1
		if cpus[i] == Float {
			for j < len(cpus) && cpus[j] == Float {
				j++
			}
			fmt.Fprintf(&b, "f%d", j-i)
		} else {
			for j < len(cpus) && cpus[j] == cpus[j-1]+1 {
				j++
			}
			b.WriteString(strconv.Itoa(cpus[i]))
			if j-i > 1 {
				fmt.Fprintf(&b, "-%d", cpus[j-1])
			}
		}
		i = j
	}
	return b.String()
}

// AutoCPUs picks a CPU for each of n tiles out of those allowed. CPU 0 is left to the kernel where there are more than
// two, and reserved ones (the producer's) are left alone where any others are there; with two CPUs the higher goes
// first; with one nothing is pinned. Tiles for which no CPU is left float: two tiles never share one.
func AutoCPUs(n int, allowed []int, reserved ...int) []int {
	free := slices.Clone(allowed)
	slices.Sort(free)
	free = slices.Compact(free)
	switch {
	case len(free) > 2:
		free = slices.DeleteFunc(free, func(c int) bool { return c == 0 })
	case len(free) == 2:
		slices.Reverse(free)
	default:
		free = nil
	}
	left := slices.DeleteFunc(slices.Clone(free), func(c int) bool { return slices.Contains(reserved, c) })
	if len(left) > 0 {
		free = left
	}
	cpus := slices.Repeat([]int{Float}, max(n, 0))
	copy(cpus, free)
	return cpus
}

// PickCPUs decides for n tiles by the configuration's affinity: "auto", or a list as of ParseCPUs that names at least
// n. Errors: ErrCPU: as of ParseCPUs, a list too short, or a CPU that is not among those allowed.
func PickCPUs(affinity string, n int, allowed []int, reserved ...int) ([]int, error) {
	if strings.TrimSpace(affinity) == "auto" {
		return AutoCPUs(n, allowed, reserved...), nil
	}
	cpus, err := ParseCPUs(affinity)
	if err != nil {
		return nil, err
	}
	if len(cpus) < n {
		return nil, fmt.Errorf("%w: %q names %d for %d tiles (fN lets N float)", ErrCPU, affinity, len(cpus), n)
	}
	for _, c := range cpus[:n] {
		if c != Float && !slices.Contains(allowed, c) {
			return nil, fmt.Errorf("%w: CPU %d of %q: this process may use %s", ErrCPU, c, affinity, FormatCPUs(allowed))
		}
	}
	return cpus[:n], nil
}
