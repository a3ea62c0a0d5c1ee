package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// start starts cmd on one CPU, or on any of them if cpu is negative. The affinity is set on this thread around the fork, so that the child and all
// it starts have it from their first instruction (a Go child then takes GOMAXPROCS=1 by itself).
func start(cmd *exec.Cmd, cpu int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var old, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &old); err != nil {
		return fmt.Errorf("affinity: %w", err)
	}
	if one = old; cpu >= 0 {
		one.Zero()
		one.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	defer unix.SchedSetaffinity(0, &old)
	// A server that outlives the runner would spoil the next run. The parent-death signal follows the thread, and
	// the main goroutine's never ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.Start()
}

// tree returns pid and all its descendants: a server may be several processes.
func tree(pid int) []int {
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		s := string(b)
		f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parents[child], _ = strconv.Atoi(f[1])
	}
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		for child, parent := range parents {
			if parent == pids[i] {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// usage is what a server's processes have consumed.
type usage struct {
	delay   time.Duration // time that they were ready to run and had no CPU: somebody else's work
	cpu     time.Duration // on-CPU time of all threads (schedstat: ns, where /proc/PID/stat counts in 10 ms)
	rss     int64         // resident bytes, summed over the processes: what two of them map counts twice
	private int64         // bytes that only one process has
	pids    int
}

// measureSum sums the servers up.
func measureSum(pids []int) (u usage) {
	for _, pid := range pids {
		m := measure(pid)
		u.delay, u.cpu, u.rss, u.private, u.pids = u.delay+m.delay, u.cpu+m.cpu, u.rss+m.rss, u.private+m.private, u.pids+m.pids
	}
	return u
}

func measure(pid int) usage {
	var u usage
	for _, p := range tree(pid) {
		dir := fmt.Sprintf("/proc/%d", p)
		tasks, _ := filepath.Glob(dir + "/task/*/schedstat")
		for _, t := range tasks {
			if b, err := os.ReadFile(t); err == nil {
				if f := strings.Fields(string(b)); len(f) > 1 {
					ran, _ := strconv.ParseInt(f[0], 10, 64)
					waited, _ := strconv.ParseInt(f[1], 10, 64)
					u.cpu += time.Duration(ran)
					u.delay += time.Duration(waited)
				}
			}
		}
		f, err := os.Open(dir + "/smaps_rollup")
		if err != nil {
			continue
		}
		for sc := bufio.NewScanner(f); sc.Scan(); {
			w := strings.Fields(sc.Text())
			if len(w) < 2 {
				continue
			}
			kb, _ := strconv.ParseInt(w[1], 10, 64)
			switch w[0] {
			case "Rss:":
				u.rss += kb << 10
			case "Private_Clean:", "Private_Dirty:", "Private_Hugetlb:":
				u.private += kb << 10
			}
		}
		f.Close()
		u.pids++
	}
	return u
}
