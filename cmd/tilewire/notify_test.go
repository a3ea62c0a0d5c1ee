package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/topo"
)

// manager is the service manager's end of NOTIFY_SOCKET.
type manager struct {
	testing.TB
	*net.UnixConn
}

func newManager(t testing.TB, name string) *manager {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &manager{t, c}
}

// next returns what is told next.
func (m *manager) next() string {
	m.Helper()
	var b [4096]byte
	_ = m.SetReadDeadline(time.Now().Add(limit))
	n, err := m.Read(b[:])
	if err != nil {
		m.Fatal(err)
	}
	return string(b[:n])
}

// hears waits for a word that has all of these in it.
func (m *manager) hears(want ...string) string {
	m.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); {
		s, all := m.next(), true
		for _, w := range want {
			all = all && strings.Contains(s, w)
		}
		if all {
			return s
		}
	}
	m.Fatalf("not heard: %q", want)
	return ""
}

// A service manager hears that all is up, that it stays so, that a tile is stuck (and then no good news), and of the end. The tiles and
// the command know nothing of it.
func TestNotify(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notify")
	m := newManager(t, path)
	p := startAs(t, func(c *exec.Cmd) {
		c.Env = append(os.Environ(), "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=400000", "LISTEN_PID=1", "LISTEN_FDS=1")
	}, "run", "--name", "notify", "--listen", "127.0.0.1:0", "--ring-size-mib", "4", "--max-connections", "64", "--history", "1", "--",
		"sh", "-c", `echo "${NOTIFY_SOCKET-none} ${WATCHDOG_USEC-none} ${LISTEN_FDS-none}"; exec sleep 1000`)
	if s := m.next(); !strings.HasPrefix(s, "READY=1\nSTATUS=admin:0 ") || !strings.Contains(s, ", net:0 running, source:0 running; 0 clients\n") { // nobody waits for admin:0
		t.Errorf("first %q", s)
	}
	p.serving()
	p.dial().gets("none none none")
	m.hears("STATUS=admin:0 running, net:0 running, source:0 running; 1 clients", "WATCHDOG=1")
	for range 3 {
		if s := m.next(); s != "WATCHDOG=1\n" { // the status is told when it changes
			t.Errorf("%q", s)
		}
	}
	net := children(t, p.cmd.Process.Pid)["tw net:0"]
	if err := unix.Kill(net, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if s := m.hears("net:0 stuck"); strings.Contains(s, "WATCHDOG") {
		t.Errorf("good news of a stuck tile: %q", s)
	}
	_ = m.SetReadDeadline(time.Now().Add(time.Second))
	if n, err := m.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("told while stuck: %d bytes, %v", n, err)
	}
	if err := unix.Kill(net, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	m.hears("net:0 running", "WATCHDOG=1")
	p.signal(unix.SIGTERM)
	m.hears("STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000\n")
	p.exit(0)
}

// Abstract sockets are named with an @ in front.
func TestNotifyAbstract(t *testing.T) {
	t.Parallel()
	name := "@tilewire-test-" + filepath.Base(t.TempDir()) + filepath.Base(shmDir)
	m := newManager(t, name)
	p := startAs(t, func(c *exec.Cmd) { c.Env = append(os.Environ(), "NOTIFY_SOCKET="+name) },
		"run", "--name", "notifya", "--listen", "127.0.0.1:0", "--ring-size-mib", "4", "--max-connections", "64")
	if s := m.next(); !strings.HasPrefix(s, "READY=1\n") || strings.Contains(s, "WATCHDOG") { // nobody asked for it
		t.Errorf("first %q", s)
	}
	p.serving()
	p.signal(unix.SIGTERM)
	m.hears("STOPPING=1")
	p.exit(0)
}

// What WATCHDOG depends on, state by state.
func TestNotifierLook(t *testing.T) {
	t.Parallel()
	good := topo.Status{Kind: "net", CPU: tile.Float, State: topo.StateRunning, Age: time.Second}
	for _, c := range []struct {
		change func(*topo.Status)
		dog    bool
	}{
		{func(*topo.Status) {}, true},
		{func(s *topo.Status) { s.Age = 3 * time.Second }, false}, // before the supervisor has seen it
		{func(s *topo.Status) { s.State = topo.StateStuck }, false},
		{func(s *topo.Status) { s.State = topo.StateWaiting }, false},
		{func(s *topo.Status) { s.State = topo.StateBooting }, false},
		{func(s *topo.Status) { s.State = topo.StateEnded }, true}, // a command that had no more to say
		{func(s *topo.Status) { s.Kind, s.State, s.Exit.Code = "source", topo.StateEnded, 1 }, false},
		{func(s *topo.Status) { s.State, s.Exit.Code = topo.StateEnded, 1 }, true}, // given up: another one serves, else the instance would end
	} {
		rows := []topo.Status{good, good}
		c.change(&rows[1])
		n := &notifier{dog: true, status: func() ([]topo.Status, uint64) { return rows, 7 }}
		n.retune(2 * time.Second)
		first, again := n.look(), n.look()
		if strings.Contains(again, "WATCHDOG=1\n") != c.dog || !strings.Contains(first, "; 7 clients\n") || strings.Contains(again, "STATUS") {
			t.Errorf("%+v: %q, %q", rows[1], first, again)
		}
	}
}

// While stopping, time is asked for again and again; what cannot be told is logged once.
func TestNotifierStopping(t *testing.T) {
	t.Parallel()
	said := make(chan string)
	var log bytes.Buffer
	n := &notifier{every: time.Millisecond, status: func() ([]topo.Status, uint64) { return nil, 0 },
		send: func(s string) error { said <- s; return errors.New("no such socket") }}
	ctx, cancel := context.WithCancel(context.Background())
	done, over := make(chan struct{}), make(chan struct{})
	go func() {
		n.follow(ctx, nil, done, slog.New(slog.NewTextHandler(&log, nil)))
		close(over)
	}()
	cancel()
	for i := range 4 {
		if s := <-said; !strings.Contains(s, "EXTEND_TIMEOUT_USEC=") || strings.HasPrefix(s, "STOPPING=1\n") != (i == 0) {
			t.Errorf("word %d: %q", i, s)
		}
	}
	go func() {
		for range said { // what it may still have to say
		}
	}()
	close(done)
	<-over
	close(said)
	if strings.Count(log.String(), "no such socket") != 1 {
		t.Error(log.String())
	}
}
