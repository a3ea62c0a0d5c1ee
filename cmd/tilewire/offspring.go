package main

import (
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// offspring is what a source's command starts and leaves: this process is a child subreaper, so that it comes to us however
// it was started. It is buried when it dies, and killed when our supervisor dies: the kernel tells us by SIGTERM
// (topo.Spec.DeathSignal), for the death signal of a command is not inherited by what that starts.
//
// What cannot be held: this process and its supervisor killed by SIGKILL at the same moment (a cgroup's end takes the
// offspring along), and a command of another user (sudo), which may not be killed.
type offspring struct {
	cmd      *exec.Cmd
	children *os.File // of our main thread: orphans are given to it. Opened before the filter; nil: the kernel has no such file
	term     chan os.Signal
	dead     chan os.Signal
}

// newOffspring must be called before the command is started.
func newOffspring() *offspring {
	o := &offspring{term: make(chan os.Signal, 1), dead: make(chan os.Signal, 1)}
	pid := strconv.Itoa(os.Getpid())
	f, err := os.Open("/proc/self/task/" + pid + "/children")
	if err == nil && unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil {
		o.children = f // without it who would bury them?
	}
	signal.Notify(o.term, unix.SIGTERM)
	signal.Notify(o.dead, unix.SIGCHLD)
	return o
}

// watch ends it all when the supervisor dies.
func (o *offspring) watch(cmd *exec.Cmd) {
	o.cmd = cmd
	go func() {
		for {
			select {
			case <-o.term:
				o.end()
				os.Exit(128 + int(unix.SIGTERM))
			case <-o.dead:
				o.each(func(pid int) { _, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) })
			}
		}
	}()
}

// end kills the command, its group, and what either leaves, until nobody is left.
func (o *offspring) end() {
	_ = killGroup(o.cmd, unix.SIGKILL)
	for unix.Waitid(unix.P_PID, o.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR { // its children become ours
	}
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		n := 0
		o.each(func(pid int) {
			n++
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
		})
		if n == 0 {
			return
		}
	}
}

// each calls f for each child but the command.
func (o *offspring) each(f func(pid int)) {
	if o.children == nil {
		return
	}
	b := make([]byte, 64<<10)
	n, err := o.children.ReadAt(b, 0)
	if n == 0 && err != nil {
		return
	}
	for w := range bytes.FieldsSeq(b[:n]) {
		if pid, err := strconv.Atoi(string(w)); err == nil && pid != o.cmd.Process.Pid {
			f(pid)
		}
	}
}
