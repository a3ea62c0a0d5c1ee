package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
)

// A network tile that is killed has a successor that its clients do not notice; those of a unix socket are
// closed, for the kernel tells nobody where they stand.
func TestTileKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
	}{
		{"own", nil},
		{"bare", []string{"--sandbox=false"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			t.Parallel()
			p := runs(t, "killed"+c.name, append(c.args, "--listen", "unix:"+path+"|0666")...)
			a := p.dial()
			local, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer local.Close()
			r := upgrade(t, local)
			for _, text := range []string{"one", "two", "three"} {
				old := children(t, p.cmd.Process.Pid)["tw net:0"]
				if err := unix.Kill(old, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				verb(t, 0, "publish", "--name", p.name, text)
				a.gets(text)
				verb(t, 0, "ready", "--name", p.name)
				if kids := children(t, p.cmd.Process.Pid); kids["tw net:0"] == old || kids["tw keep net:0"] == 0 {
					t.Errorf("children %v", kids)
				}
			}
			local.SetReadDeadline(time.Now().Add(limit))
			if b, err := r.ReadByte(); err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("the unix socket gives %#x, %v", b, err)
			}
			b := p.dial()
			verb(t, 0, "publish", "--name", p.name, "all")
			a.gets("all")
			b.gets("all")
			p.signal(unix.SIGTERM)
			p.exit(0)
		})
	}
}

// Stopped while its tile is dead, an instance still closes its clients in order: the keeper makes a successor for that.
func TestStopAfterDeath(t *testing.T) {
	t.Parallel()
	for i := range 5 {
		p := runs(t, "late"+string(rune('a'+i)))
		a, b := p.dial(), p.dial()
		if err := unix.Kill(children(t, p.cmd.Process.Pid)["tw net:0"], unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		verb(t, 0, "stop", "--name", p.name)
		a.closes(websocket.StatusGoingAway, "shutting down")
		b.closes(websocket.StatusGoingAway, "shutting down")
		p.exit(0)
	}
}

// The successor of a tile that dies after the end of a pipe's input gives its clients what they have yet to get.
func TestPipeTileKilledAtEnd(t *testing.T) {
	t.Parallel()
	p := serve(t)
	c, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(p.url, "http://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := upgrade(t, c)
	const n, size = 100, 60_000 // more than the kernel takes for a client that does not read
	for range n {
		p.write(strings.Repeat("x", size) + "\n")
	}
	p.in.Close()
	for begin := time.Now(); p.state() != instance.Draining; time.Sleep(time.Millisecond) { // nobody tells of it
		if time.Since(begin) > limit {
			t.Fatal("it does not end")
		}
	}
	if err := unix.Kill(children(t, p.cmd.Process.Pid)["tw net:0"], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(limit))
	all, err := io.ReadAll(r)
	tail := "\x88\x0e\x03\xe9end of input"
	if want := n*(4+size) + len(tail); len(all) != want || !strings.HasSuffix(string(all), tail) {
		t.Errorf("%d bytes of %d, %v: %q", len(all), want, err, all[max(0, len(all)-20):])
	}
	p.exit(0)
}

// upgrade makes a WebSocket of a connection, and returns what comes by it.
func upgrade(t *testing.T, c net.Conn) *bufio.Reader {
	t.Helper()
	if _, err := c.Write([]byte("GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	return r
}
