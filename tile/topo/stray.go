package topo

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// becomeSubreaper makes this process the parent of what its tiles leave behind, until undo.
func becomeSubreaper() (undo func(), err error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("%w: child subreaper: %w", ErrKernel, err)
	}
	return func() { unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }, nil
}

// strays lists this process's children that no supervisor has started: orphans of tiles. A child in this process's
// own group is left out: it was started by some other code of the program (os/exec), since every tile, and with it
// what it leaves, is in another group.
func strays() []int {
	children := ownChildren()
	if len(children) == 0 {
		return nil
	}
	group := unix.Getpgrp()
	started.mu.Lock()
	defer started.mu.Unlock()
	var found []int
	for _, pid := range children {
		if _, ok := started.pids[pid]; ok {
			continue
		}
		if g, err := unix.Getpgid(pid); err == nil && g != group {
			found = append(found, pid)
		}
	}
	return found
}

// ownChildren reads /proc/self/task/*/children: an orphan is given to any thread of its subreaper. Kernels without
// CONFIG_PROC_CHILDREN have no such file; then all processes' parents are looked at.
func ownChildren() []int {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil
	}
	var pids []int
	for _, t := range tasks {
		b, err := os.ReadFile("/proc/self/task/" + t.Name() + "/children")
		if err != nil {
			if t.Name() == strconv.Itoa(os.Getpid()) {
				return childrenByParent()
			}
			continue // the thread has ended
		}
		for f := range bytes.FieldsSeq(b) {
			if pid, err := strconv.Atoi(string(f)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func childrenByParent() []int {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	self := strconv.Itoa(os.Getpid())
	var pids []int
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + p.Name() + "/stat")
		if err != nil {
			continue
		}
		// pid (name) state ppid; the name may hold anything.
		f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if len(f) > 1 && string(f[1]) == self {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stray is an orphan that was sent SIGKILL and is waited for.
type stray struct{ pid, pidfd int }

// endStray kills a child of ours. Until it is waited for, its pid cannot become that of another process.
func endStray(pid int) (stray, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return stray{}, fmt.Errorf("topo: stray pid %d: %w", pid, err)
	}
	unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	return stray{pid: pid, pidfd: fd}, nil
}

// reap takes its exit status and closes the descriptor.
func (st stray) reap() {
	unix.Wait4(st.pid, nil, unix.WNOHANG, nil)
	unix.Close(st.pidfd)
}
