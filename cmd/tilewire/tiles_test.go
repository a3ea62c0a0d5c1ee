package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
	p := tilesScript(t, program, "--name", "script", "--listen", "127.0.0.1:0", "--ring-size-mib", "2",
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
			if websocket.CloseStatus(err) != websocket.StatusGoingAway {
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
	if err := os.WriteFile(between, []byte("#!/bin/sh\n"+program+` "$@" || exit; [ "$2" != new ] || kill -TERM $PPID`+"\n"), 0o700); err != nil {
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

func TestTilesScriptUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		exit int
		says string
	}{
		{"--help", 0, ""},
		{"--check", 0, ""},
		{"--check --ring-size-mib 4194304", 3, "this host can't run the tiles"},
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
