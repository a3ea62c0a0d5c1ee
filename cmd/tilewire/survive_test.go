package main

import (
	"bufio"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
			if _, err := local.Write([]byte("GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")); err != nil {
				t.Fatal(err)
			}
			r := bufio.NewReader(local)
			if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != 101 {
				t.Fatal(resp, err)
			}
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
