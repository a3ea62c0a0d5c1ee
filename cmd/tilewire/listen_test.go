package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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

// The supervisor is not woken by those who connect: its files of the listeners are not in the runtime's epoll.
func TestListenersUnpolled(t *testing.T) {
	l, err := listen([]string{"127.0.0.1:0", "unix:" + t.TempDir() + "/s"}, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if len(l[0].files) != 2 || len(l[1].files) != 1 {
		t.Errorf("%v", l)
	}
	for _, p := range l {
		for _, f := range p.files {
			if err := f.SetDeadline(time.Now()); !errors.Is(err, os.ErrNoDeadline) {
				t.Errorf("%s is polled: %v", p.addr, err)
			}
			if err := onFd(f, func(fd int) error {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
					return errors.New("it blocks")
				}
				return nil
			}); err != nil {
				t.Errorf("%s: %v", p.addr, err)
			}
		}
	}
}

// over returns a client that dials path whatever the URL says.
func over(path string) *http.Client {
	return &http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

func served(t *testing.T, c *http.Client, url string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("%s: %s", url, resp.Status)
	}
}

// A unix socket has the mode asked for, is not taken from who serves it, is
// taken over from who was killed, and its file is gone at the end.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/s"
	args := []string{"pipe", "--name", "tunix", "--listen", "unix:" + path + "|0600"}
	p := start(t, args...)
	p.says("unix socket " + path)
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Error(fi, err)
	}
	served(t, over(path), "http://x/")

	other := start(t, "pipe", "--name", "tunix2", "--listen", "unix:"+path)
	other.exit(1)
	if s := other.err.String(); !strings.Contains(s, path+" is in use") {
		t.Error(s)
	}
	served(t, over(path), "http://x/")

	p.kills() // tile and keeper, which listen, die with it
	if _, err := os.Stat(path); err != nil {
		t.Error("nobody could remove it:", err)
	}
	p = start(t, args...)
	p.says("unix socket " + path)
	served(t, over(path), "http://x/")
	p.in.Close()
	p.exit(0)
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Error("the socket's file is left:", err)
	}

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	other = start(t, "pipe", "--name", "tunix2", "--listen", "unix:"+path)
	other.exit(1)
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Error("a file that is no socket:", err)
	}
}
