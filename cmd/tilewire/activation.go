package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Socket activation (sd_listen_fds(3)): a service manager passes listening
// sockets as descriptors 3 and up, LISTEN_FDS of them, to the process
// LISTEN_PID, with their names in LISTEN_FDNAMES. --listen fd:NAME serves those
// of that name, --listen fd:N a descriptor by its number, whoever passed it.

const firstPassed = 3

// passed returns the names of the descriptors that were passed to this process,
// from 3 on. Why there is none is the error.
func passed(env func(string) string, pid int) ([]string, error) {
	n, err := strconv.Atoi(env("LISTEN_FDS"))
	switch {
	case env("LISTEN_FDS") == "":
		return nil, fmt.Errorf("no socket was passed (LISTEN_FDS is not set); start it by a .socket unit, or choose --listen ADDR:PORT")
	case err != nil || n < 1 || n > 1<<16:
		return nil, fmt.Errorf("LISTEN_FDS is %q, want a number from 1 on", env("LISTEN_FDS"))
	case env("LISTEN_PID") != strconv.Itoa(pid):
		return nil, fmt.Errorf("the sockets were passed to process %q (LISTEN_PID), and this is %d; a shell in between must exec", env("LISTEN_PID"), pid)
	}
	names := slices.Repeat([]string{"unknown"}, n) // what systemd calls them
	if given := env("LISTEN_FDNAMES"); given != "" {
		copy(names, strings.Split(given, ":"))
	}
	return names, nil
}

// resolve replaces fd:NAME by an fd:N for each descriptor of that name.
func resolve(addrs []string, env func(string) string, pid int) (out []string, err error) {
	taken := map[string]bool{}
	for _, a := range addrs {
		name, ok := strings.CutPrefix(a, "fd:")
		if _, err := strconv.Atoi(name); !ok || err == nil {
			if ok && taken[a] {
				return nil, usageError{fmt.Errorf("--listen %s: this descriptor is served already", a)}
			}
			taken[a] = true
			out = append(out, a)
			continue
		}
		names, err := passed(env, pid)
		if err != nil {
			return nil, fmt.Errorf("--listen %s: %w", a, err)
		}
		found := false
		for i, n := range names {
			if n != name {
				continue
			}
			fd := "fd:" + strconv.Itoa(firstPassed+i)
			if taken[fd] {
				return nil, usageError{fmt.Errorf("--listen %s: descriptor %d is served already", a, firstPassed+i)}
			}
			taken[fd], found = true, true
			out = append(out, fd)
		}
		if !found {
			return nil, usageError{fmt.Errorf("--listen %s: no socket of that name was passed (LISTEN_FDNAMES has %s); set FileDescriptorName=%s in the .socket unit",
				a, strings.Join(names, ", "), name)}
		}
	}
	return out, nil
}

// keepPassed has neither the descriptors that were passed to this process nor
// the word of them go on to those that it starts, except by its own doing.
func keepPassed() {
	if names, err := passed(os.Getenv, os.Getpid()); err == nil {
		for i := range names {
			unix.CloseOnExec(firstPassed + i)
		}
	}
	for _, k := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(k)
	}
}
