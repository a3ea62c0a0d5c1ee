package main

import (
	"net"
	"os"
	"strings"
	"testing"
)

func TestBusyPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, verb := range []string{"pipe", "run"} {
		p := start(t, verb, "--listen", l.Addr().String())
		p.exit(1)
		if s := p.err.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, l.Addr().String()+" is in use by another process; choose another --listen") {
			t.Errorf("%s: %q", verb, s)
		}
	}
}

func TestStaleSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	live, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/s", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if staleSocket(dir + "/s") {
		t.Error("a socket that is served is stale")
	}
	live.SetUnlinkOnClose(false)
	live.Close()
	if !staleSocket(dir + "/s") {
		t.Error("a socket that nobody serves is not stale")
	}
	if err := os.WriteFile(dir+"/f", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if staleSocket(dir+"/f") || staleSocket(dir+"/none") {
		t.Error("what is no socket is a stale one")
	}
}
