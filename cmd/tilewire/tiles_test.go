package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// tilesScript makes a start run scripts/tiles.sh instead of the program, with this program to be run by it.
func tilesScript(t testing.TB, program string, args ...string) *proc {
	t.Helper()
	script, err := filepath.Abs("../../scripts/tiles.sh")
	if err != nil {
		t.Fatal(err)
	}
	return startAs(t, func(c *exec.Cmd) {
		c.Path, c.Args = script, append([]string{script}, args...)
		c.Env = append(os.Environ(), "TILEWIRE="+program)
	})
}

func TestTilesScript(t *testing.T) {
	t.Parallel()
	p := tilesScript(t, program, "--name", "script", "--listen", "127.0.0.1:0", "--ring-size-mib", "2", "--net-tiles", "2",
		"--", "sh", "-c", "while read -r l </proc/loadavg; do echo \"$l\"; sleep 0.05; done")
	p.serving()
	p.says(`(?s)net:0 +\d+ .*running.*source:0 +\d+ .*running`)
	c := p.dial()
	if got, err := c.next(); err != nil || len(strings.Fields(got)) != 5 {
		t.Errorf("%q, %v", got, err)
	}
	p.signal(unix.SIGTERM) // the script is the supervisor by now
	for {
		if _, err := c.next(); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusServiceRestart {
				t.Error(err)
			}
			break
		}
	}
	p.exit(0)
	for _, want := range []string{"ok    kernel: Linux", "shared memory: ", "huge pages: ", "descriptors: ", "CPUs: ", "server new --name script"} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("%q is not in:\n%s", want, p.out.String())
		}
	}
}

// What run refuses, after the memory was made, leaves none of it; nor does a signal in between.
func TestTilesScriptRefused(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	between := filepath.Join(t.TempDir(), "tilewire")
	if err := os.WriteFile(between, []byte("#!/bin/sh\n"+program+` "$@" || exit; [ "$2 $3" != "new --name" ] || kill -TERM $PPID`+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		program, args string
		exit          int
		says          string
	}{
		{program, "--affinity x", 2, "bad CPU list"},
		{program, "-- nosuchprogram", 2, "cannot be started"},
		{program, "--listen " + busy.Addr().String(), 1, "is in use"},
		{between, "", 143, ""},
	} {
		p := tilesScript(t, c.program, append([]string{"--name", "refused", "--ring-size-mib", "2"}, strings.Fields(c.args)...)...)
		p.exit(c.exit)
		if !strings.Contains(p.out.String(), "/tilewire.refused: ") || !strings.Contains(p.err.String(), c.says) {
			t.Errorf("%q said %q and %q", c.args, p.out.String(), p.err.String())
		}
		for _, left := range []string{filepath.Join(shmDir, "tilewire.refused"), filepath.Join(runDir, "refused")} {
			if _, err := os.Lstat(left); err == nil {
				t.Errorf("%q left %s", c.args, left)
			}
		}
	}
}

// The script's figures are the program's: what it finds too small is, and a little more is enough. What is to be mounted
// anew is the mount, be the regions' directory in it.
func TestTilesScriptMemory(t *testing.T) {
	point := t.TempDir()
	if err := unix.Mount("none", point, "tmpfs", 0, "size=88m"); err != nil {
		t.Skipf("mounting a tmpfs needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(point, 0); err != nil {
			t.Error(err)
			_ = unix.Unmount(point, unix.MNT_DETACH)
		}
	})
	dir := filepath.Join(point, "regions")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "TILEWIRE="+program, "TILEWIRE_SHM_DIR="+dir)
	run := func(name string, args ...string) (string, int) {
		c := exec.Command(name, args...)
		c.Env = env
		out, err := c.CombinedOutput()
		if c.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), c.ProcessState.ExitCode()
	}
	// A host with huge pages has them as well, so that this is a warning there.
	says := func(text string) {
		t.Helper()
		if out, _ := run("../../scripts/tiles.sh", "--check"); !strings.Contains(out, "shared memory: "+text) {
			t.Errorf("%q is not in:\n%s", text, out)
		}
	}
	says("88 MiB free in " + dir + ", 89 MiB needed; mend: sudo mount -o remount,size=266M " + point + " (")
	if out, code := run(program, "server", "new", "--name", "short", "--backing", "shm"); code != 3 || !strings.Contains(out, " "+point+" (") {
		t.Errorf("exit %d: %s", code, out)
	}
	if err := unix.Mount("none", point, "tmpfs", unix.MS_REMOUNT, "size=89m"); err != nil {
		t.Fatal(err)
	}
	says("89 MiB free in " + dir + ", 89 MiB needed")
	for _, verb := range []string{"new", "delete"} {
		if out, code := run(program, "server", verb, "--name", "short"); code != 0 {
			t.Errorf("server %s: exit %d: %s", verb, code, out)
		}
	}
	huge, code := run(program, "server", "new", "--dry-run")
	if n, err := strconv.Atoi(strings.TrimSpace(huge)); code != 0 || err != nil || (n+2<<20-1)>>21 != 45 {
		t.Errorf("exit %d, %q: 45 huge pages are what it takes", code, huge)
	}
}

func TestTilesScriptUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		exit int
		says string
	}{
		{"--help", 0, ""},
		{"--check", 0, ""},
		{"--check --ring-size-mib 524288", 3, "this host can't run the tiles"},
		{"--check --ring-size-mib 1048576", 2, "--ring-size-mib 1048576: a power of two from 1 to 524288"},
		{"--bogus", 2, "unknown argument --bogus"},
		{"--name", 2, "--name wants a value"},
		{"--ring-size-mib 3", 2, "no power of two"},
	} {
		p := tilesScript(t, program, strings.Fields(c.args)...)
		p.exit(c.exit)
		if !strings.Contains(p.err.String(), c.says) || c.exit != 0 && strings.Count(p.err.String(), "\n") != 1 {
			t.Errorf("%s: %q", c.args, p.err.String())
		}
	}
}
