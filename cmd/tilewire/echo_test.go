package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// echoes starts the server under test.
func echoes(t *testing.T, args ...string) *proc {
	t.Helper()
	p := start(t, append([]string{"echo", "--listen", "127.0.0.1:0"}, args...)...)
	line, err := p.out.await(listening)
	if err != nil {
		t.Fatalf("%v: %s", err, p.err.String())
	}
	p.url = "http://" + listening.FindStringSubmatch(line)[1] + "/"
	return p
}

// The verb over HTTP: every method that it serves, on any path.
func TestEchoHTTP(t *testing.T) {
	t.Parallel()
	p := echoes(t)
	for _, c := range []struct {
		method, body, want string
	}{
		{"GET", "", "OK"}, {"HEAD", "", ""}, {"OPTIONS", "", "OK"}, {"POST", "posted", "posted"}, {"PUT", strings.Repeat("put ", 100000), ""}, {"POST", "", ""},
	} {
		if c.want == "" && c.method == "PUT" {
			c.want = c.body
		}
		q, err := http.NewRequest(c.method, p.url+"any/path?at=all", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", "text/x-test")
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || string(b) != c.want {
			t.Errorf("%s: %d, %d bytes of %d: %v", c.method, resp.StatusCode, len(b), len(c.want), err)
		}
		if typ := resp.Header.Get("Content-Type"); c.body != "" && typ != "text/x-test" {
			t.Errorf("%s: type %q", c.method, typ)
		}
	}
	p.signal(syscall.SIGTERM)
	p.exit(0)
}

// The verb over WebSockets, with a client that others wrote: messages of 16 MiB, types, pings, many clients at a time; at a signal
// clients are closed with 1001, and it exits 0.
func TestEchoWebSocket(t *testing.T) {
	t.Parallel()
	p := echoes(t, "--max-message", "16777216")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	talk := func(n, size int) error {
		c, _, err := websocket.Dial(ctx, p.url+"any/path", nil)
		if err != nil {
			return err
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		for i := range n {
			typ := websocket.MessageBinary
			msg := bytes.Repeat([]byte{byte(i), 0xff}, size/2)
			if i%2 == 0 {
				typ, msg = websocket.MessageText, bytes.Repeat([]byte("ß"), size/2)
			}
			if err := c.Write(ctx, typ, msg); err != nil {
				return err
			}
			back, got, err := c.Read(ctx)
			if err != nil {
				return err
			}
			if back != typ || !bytes.Equal(got, msg) {
				return fmt.Errorf("message %d of %d bytes came back as %v of %d", i, size, back, len(got))
			}
		}
		return c.Close(3000, "done")
	}
	const most = 16 << 20
	errs := make(chan error)
	sizes := []int{0, 2, 126, 4096, 65536, 1 << 20, most, most}
	for _, size := range sizes {
		go func() { errs <- talk(max(2, min(500, most/(size+1))), size) }()
	}
	for range sizes {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if err := talk(1, most+2); websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
		t.Error("an oversize message:", err)
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		if s == syscall.SIGINT {
			p = echoes(t)
		}
		c, _, err := websocket.Dial(ctx, p.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		p.signal(s)
		if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Errorf("%v: %v", s, err)
		}
		p.exit(0)
	}
}

// Debian's python3-websockets, where it is there.
func TestEchoPython(t *testing.T) {
	t.Parallel()
	python := ""
	for _, p := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(p, "-c", "import websockets").Run() == nil {
			python = p
			break
		}
	}
	if python == "" {
		t.Skip("no python3-websockets here (Debian: apt-get install python3-websockets)")
	}
	p := echoes(t, "--max-message", "16777216")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, python, "testdata/interop.py", "ws"+strings.TrimPrefix(p.url, "http")).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "ok ") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("websockets %s", bytes.TrimSpace(out[3:]))
	p.signal(syscall.SIGTERM)
	p.exit(0)
}
