package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A command that writes more than the ring holds in the time that a dead tile's successor takes is held back for so long: nobody
// who reads misses anything, however often the tile is killed.
func TestPaceAwaitsSuccessor(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "go")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	const last, kills = 300_000, 6
	p := runs(t, "pace", "--ring-size-mib", "1", "--restart-max", "1000", "--",
		"sh", "-c", fmt.Sprintf("read go <%s; yes %s | head -n %d | nl -w1; cat %s", fifo, strings.Repeat("x", 400), last, fifo))
	c, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(p.url, "http://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * limit))
	r := upgrade(t, c)
	if err := os.WriteFile(fifo, []byte("go\n"), 0); err != nil {
		t.Fatal(err)
	}
	var b [1024]byte
	for i := 1; i <= last; i++ {
		if i%(last/kills) == last/kills/2 {
			if err := unix.Kill(children(t, p.cmd.Process.Pid)["tw net:0"], unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.ReadFull(r, b[:4]); err != nil || b[0] != 0x81 || b[1] != 126 { // text, more than 125 bytes
			t.Fatalf("%x before message %d: %v", b[:4], i, err)
		}
		text := b[:binary.BigEndian.Uint16(b[2:])]
		if _, err := io.ReadFull(r, text); err != nil || !strings.HasPrefix(string(text), strconv.Itoa(i)+"\tx") {
			t.Fatalf("%.30q, %v; want message %d", text, err, i)
		}
	}
	p.signal(unix.SIGTERM)
	p.exit(0)
}
