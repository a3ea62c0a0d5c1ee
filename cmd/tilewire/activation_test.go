package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestResolve(t *testing.T) {
	vars := func(pairs ...string) func(string) string {
		return func(k string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == k {
					return pairs[i+1]
				}
			}
			return ""
		}
	}
	three := vars("LISTEN_PID", "7", "LISTEN_FDS", "3", "LISTEN_FDNAMES", "web:admin:web")
	for _, c := range []struct {
		env      func(string) string
		in, want string // addresses with spaces between; want: these, or a part of the error
		usage    bool
	}{
		{three, "127.0.0.1:80 [::]:80 unix:/x", "127.0.0.1:80 [::]:80 unix:/x", false},
		{three, "fd:web", "fd:3 fd:5", false},
		{three, "fd:admin 127.0.0.1:80 fd:web", "fd:4 127.0.0.1:80 fd:3 fd:5", false},
		{three, "fd:9", "fd:9", false}, // whatever passed it
		{vars(), "fd:9", "fd:9", false},
		{vars("LISTEN_PID", "7", "LISTEN_FDS", "1"), "fd:unknown", "fd:3", false},
		{vars("LISTEN_PID", "7", "LISTEN_FDS", "2", "LISTEN_FDNAMES", "web"), "fd:unknown fd:web", "fd:4 fd:3", false},
		{three, "fd:other", `no socket of that name was passed (LISTEN_FDNAMES has web, admin, web); set FileDescriptorName=other`, true},
		{three, "fd:web fd:3", "served already", true},
		{three, "fd:3 fd:web", "served already", true},
		{three, "fd:9 fd:9", "served already", true},
		{vars(), "fd:web", "LISTEN_FDS is not set", false},
		{vars("LISTEN_PID", "7", "LISTEN_FDS", "x"), "fd:web", `LISTEN_FDS is "x"`, false},
		{vars("LISTEN_PID", "8", "LISTEN_FDS", "1"), "fd:web", `passed to process "8" (LISTEN_PID), and this is 7`, false},
		{vars("LISTEN_FDS", "1"), "fd:web", `passed to process "" (LISTEN_PID)`, false},
	} {
		out, err := resolve(strings.Fields(c.in), c.env, 7)
		var usage usageError
		switch {
		case err == nil && !slices.Equal(out, strings.Fields(c.want)):
			t.Errorf("%s: %q, want %q", c.in, out, c.want)
		case err != nil && (!strings.Contains(err.Error(), c.want) || errors.As(err, &usage) != c.usage):
			t.Errorf("%s: %v, want %q", c.in, err, c.want)
		}
	}
}

// activate starts the program as a service manager does.
func activate(t *testing.T, names string, files []*os.File, args ...string) *proc {
	t.Helper()
	return startAs(t, func(c *exec.Cmd) {
		// The pid is known in the process only: a shell that execs.
		c.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, c.Args...)
		c.Path = "/bin/sh"
		c.ExtraFiles = files
		c.Env = append(os.Environ(), fmt.Sprint("LISTEN_FDS=", len(files)), "LISTEN_FDNAMES="+names)
	}, args...)
}

// Sockets that a service manager made are served by their names, survive a
// restart of the network tile and the program, and go to nobody else.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	web, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer web.Close()
	path := t.TempDir() + "/s"
	local, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	idle, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	var files []*os.File
	for _, l := range []interface{ File() (*os.File, error) }{idle, web, local} {
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	for range 2 {
		p := activate(t, "idle:web:web", files, "pipe", "--name", "tactivate", "--listen", "fd:web")
		p.serving()
		if want := "http://" + web.Addr().String() + "/"; p.url != want {
			t.Errorf("served at %s, want %s", p.url, want)
		}
		c := &http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true}}
		served(t, c, p.url)
		served(t, over(path), "http://x/")

		net := children(t, p.cmd.Process.Pid)["tw net:0"]
		if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", net)); err != nil || strings.Contains(string(env), "LISTEN_") {
			t.Error("the tile was told of descriptors that are not its:", err)
		}
		if n := listenerCnt(t, net); n != 2 {
			t.Errorf("the tile has %d listening sockets, want 2", n)
		}
		ended := gone(t, net)
		if err := unix.Kill(net, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		ended()
		served(t, c, p.url) // the kernel keeps who comes for the tile's successor
		served(t, over(path), "http://x/")
		p.in.Close()
		p.exit(0)
		if _, err := os.Stat(path); err != nil {
			t.Error("the service manager's socket file is gone:", err)
		}
	}
	for _, c := range []struct {
		addr, want string
		code       int
	}{{"fd:none", "FileDescriptorName=none", 2}, {"fd:0", "no listening stream socket", 2}} {
		p := activate(t, "idle:web:web", files, "pipe", "--name", "tactivate", "--listen", c.addr)
		p.exit(c.code)
		if s := p.err.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, c.want) {
			t.Errorf("%s: %q", c.addr, s)
		}
	}
}

// listenerCnt counts the listening sockets among a process's descriptors.
func listenerCnt(t *testing.T, pid int) (n int) {
	t.Helper()
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	ents, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range ents {
		var no int
		if _, err := fmt.Sscan(e.Name(), &no); err != nil {
			continue
		}
		fd, err := unix.PidfdGetfd(pidfd, no, 0)
		if err != nil {
			continue
		}
		if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && v == 1 {
			n++
		}
		unix.Close(fd)
	}
	return n
}
