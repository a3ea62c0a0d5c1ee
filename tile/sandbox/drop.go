package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// What the thread that starts tiles keeps in its own permitted set, if it had it: setting a tile's user needs these. They
// do not go through exec, since the bounding set is empty then.
const toSetUser = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID

// DropPrivileges takes from the calling thread, and so from all that it starts by fork and exec, every capability (the
// bounding, inheritable and ambient sets; of permitted and effective only what it takes to set a child's user is
// left, and ends at exec) and sets no_new_privs, so that no set-user-id program and no file capability gives anything
// back. It cannot be undone: the caller has locked the goroutine to a thread that does nothing else. Works without any
// privilege; then the bounding set stays, which grants nothing under no_new_privs. Errors: those of prctl and capset.
func DropPrivileges() error {
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if err == unix.EINVAL || err == unix.EPERM { // past the last; or without CAP_SETPCAP
			break
		}
		if err != nil {
			return fmt.Errorf("sandbox: bounding set: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil && err != unix.EINVAL {
		return fmt.Errorf("sandbox: ambient set: %w", err)
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var set [2]unix.CapUserData
	if err := unix.Capget(&hdr, &set[0]); err != nil {
		return fmt.Errorf("sandbox: capget: %w", err)
	}
	keep := set[0].Permitted & toSetUser
	left := [2]unix.CapUserData{{Permitted: keep, Effective: keep}}
	if set != left { // else a manager that has seen to it may have taken capset away as well
		if err := unix.Capset(&hdr, &left[0]); err != nil {
			return fmt.Errorf("sandbox: capset: %w", err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("sandbox: no_new_privs: %w", err)
	}
	return nil
}

// Verify looks, by what the kernel says of every thread, whether this process has capabilities left or could get any.
// Errors: ErrPrivileged with what is left; that of reading /proc.
func Verify() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	for _, t := range tasks {
		status, err := os.ReadFile("/proc/self/task/" + t.Name() + "/status")
		if os.IsNotExist(err) {
			continue // it has ended
		}
		if err != nil {
			return fmt.Errorf("sandbox: %w", err)
		}
		if err := verify(status); err != nil {
			return fmt.Errorf("thread %s: %w", t.Name(), err)
		}
	}
	return nil
}

// verify reads a /proc/*/status.
func verify(status []byte) error {
	for _, key := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
		if v := field(status, key); v == "" || bits(v) != 0 {
			return fmt.Errorf("%w: %s %s", ErrPrivileged, key, v)
		}
	}
	if v := field(status, "NoNewPrivs"); v != "1" {
		return fmt.Errorf("%w: NoNewPrivs %s", ErrPrivileged, v)
	}
	return nil
}

func bits(hex string) uint64 {
	n, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		return ^uint64(0)
	}
	return n
}

func field(status []byte, key string) string {
	for line := range bytes.Lines(status) {
		if k, v, ok := bytes.Cut(line, []byte(":")); ok && string(k) == key {
			return string(bytes.TrimSpace(v))
		}
	}
	return ""
}
