package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// asks sends a request and returns status, body and header; the body without its last newline.
func asks(t testing.TB, c *http.Client, method, url string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSuffix(string(b), "\n"), resp.Header
}

// The public listener tells load balancers how the instance is.
func TestProbes(t *testing.T) {
	t.Parallel()
	p := runs(t, "probes", "--", "sleep", "1000")
	c := &http.Client{Timeout: limit}
	for _, want := range []struct {
		method, path string
		status       int
		body, allow  string
	}{
		{"GET", "healthz", 200, "live", ""},
		{"GET", "readyz", 200, "ready", ""},
		{"HEAD", "readyz", 200, "", ""},
		{"OPTIONS", "readyz", 204, "", "GET, HEAD, OPTIONS"},
		{"POST", "healthz", 405, "", "GET, HEAD, OPTIONS"},
	} {
		status, body, h := asks(t, c, want.method, p.url+want.path)
		if status != want.status || body != want.body || h.Get("Allow") != want.allow {
			t.Errorf("%s %s: %d %q, Allow %q; want %+v", want.method, want.path, status, body, h.Get("Allow"), want)
		}
		if want.method == "HEAD" && h.Get("Content-Length") != "6" {
			t.Errorf("%v", h)
		}
	}

	// A tile that stands still: its heartbeat grows old, and the others say so.
	source := children(t, p.cmd.Process.Pid)["tw source:0"]
	if err := unix.Kill(source, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	answers := func(status int, body string) {
		t.Helper()
		var got string
		var code int
		for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if code, got, _ = asks(t, c, "GET", p.url+"readyz"); code == status && strings.HasPrefix(got, body) {
				return
			}
		}
		t.Fatalf("readyz: %d %q, want %d %q", code, got, status, body)
	}
	answers(503, "not ready: a tile is stuck, or is being started again")
	if code, _, _ := asks(t, c, "GET", p.url+"healthz"); code != 200 {
		t.Errorf("healthz: %d", code)
	}
	if err := unix.Kill(source, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	answers(200, "ready")
	p.signal(unix.SIGTERM)
	p.exit(0)
}
