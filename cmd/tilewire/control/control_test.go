package control

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

func ask(t *testing.T, dir string, q Request) (Reply, error) {
	t.Helper()
	c, err := Dial(t.Context(), dir)
	if err != nil {
		return Reply{}, err
	}
	defer c.Close()
	return c.Ask(t.Context(), q)
}

func TestAsk(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), strings.Repeat("long", 40))} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := ask(t, dir, Request{}); !errors.Is(err, ErrNobody) {
			t.Errorf("nobody is there: %v", err)
		}
		want := Reply{Note: "done", Clients: 7, Changes: []Change{{"a.b", "1", "2"}}}
		s, err := Serve(dir, func(q Request) (Reply, bool) {
			switch q.Verb {
			case "restart":
				if q.Tile != "net:0" {
					t.Errorf("%+v", q)
				}
				return want, false
			case "hold":
				return Reply{}, true
			}
			return Reply{Exit: 2, Error: "no verb " + q.Verb}, false
		})
		if err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(filepath.Join(dir, SocketName)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", fi.Mode(), err)
		}
		if r, err := ask(t, dir, Request{Verb: "restart", Tile: "net:0"}); err != nil || !reflect.DeepEqual(r, want) {
			t.Errorf("%+v, %v", r, err)
		}
		var no *Refused
		if _, err := ask(t, dir, Request{Verb: "sing"}); !errors.As(err, &no) || no.Exit != 2 || no.Text != "no verb sing" {
			t.Errorf("%v", err)
		}
		c, err := Dial(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Ask(t.Context(), Request{Verb: "hold"}); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := c.Ended(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended while this process lives: %v", err)
		}
		cancel()
		c.Close()
		s.Close()
		if _, err := ask(t, dir, Request{}); !errors.Is(err, ErrNobody) {
			t.Errorf("closed: %v", err)
		}
		if _, err := os.Lstat(filepath.Join(dir, SocketName)); !errors.Is(err, os.ErrNotExist) {
			t.Error("the socket is left")
		}
	}
}

// What a crash left is replaced.
func TestServeAgain(t *testing.T) {
	dir := t.TempDir()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, SocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := ask(t, dir, Request{}); !errors.Is(err, ErrNobody) {
		t.Errorf("a socket without a process: %v", err)
	}
	s, err := Serve(dir, func(Request) (Reply, bool) { return Reply{}, false })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := ask(t, dir, Request{}); err != nil {
		t.Error(err)
	}
}

// Requests that are none get an answer, and the next one is served.
func TestBadRequests(t *testing.T) {
	dir := t.TempDir()
	s, err := Serve(dir, func(Request) (Reply, bool) { return Reply{}, false })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, text := range []string{"\n", "{\n", "[]\n", strings.Repeat("x", requestMax+1)} {
		c, err := Dial(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1000)
		_ = c.c.SetReadDeadline(time.Now().Add(20 * time.Second))
		if n, err := c.c.Read(b); err != nil || !strings.Contains(string(b[:n]), `"exit":2`) {
			t.Errorf("%.10q: %q, %v", text, b[:n], err)
		}
		c.Close()
	}
	if _, err := ask(t, dir, Request{}); err != nil {
		t.Error(err)
	}
}

// Another user is refused, even one who gets at the socket.
func TestOtherUser(t *testing.T) {
	if dir := os.Getenv("CONTROL_TEST_DIR"); dir != "" { // the other user's process
		_, err := ask(t, dir, Request{})
		var no *Refused
		if !errors.As(err, &no) || no.Exit != 1 || !strings.Contains(no.Text, "user 65534 may not steer an instance of user 0") {
			t.Errorf("%v", err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("root is needed to become another user")
	}
	dir, err := os.MkdirTemp("", "control-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := Serve(dir, func(Request) (Reply, bool) { t.Error("served"); return Reply{}, false })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	program := filepath.Join(dir, "test")
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{os.WriteFile(program, b, 0o755), os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, SocketName), 0o666)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "-test.run=TestOtherUser")
	cmd.Dir = "/"
	cmd.Env = []string{"CONTROL_TEST_DIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
