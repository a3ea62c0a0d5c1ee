package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// limit bounds every wait of these tests. Nothing sleeps: what is awaited is an event.
const limit = 20 * time.Second

// program is the real one, built once.
var program string

// shmDir holds the regions of these tests, runDir the run directories.
var shmDir, runDir string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "tilewire-test-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	_ = os.Chmod(dir, 0o755) // for the test as another user
	program, runDir = filepath.Join(dir, "tilewire"), filepath.Join(dir, "run")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		return fail(fmt.Errorf("go build: %w\n%s", err, out))
	}
	// A directory of one's own on the same tmpfs: what else runs on this host is not seen.
	if shmDir, err = os.MkdirTemp("/dev/shm", "tilewire-test-"); err != nil {
		return fail(err)
	}
	defer os.RemoveAll(shmDir)
	os.Setenv("TILEWIRE_SHM_DIR", shmDir)
	os.Setenv("TILEWIRE_RUN_DIR", runDir)
	// Instances end at once, but those of the tests of that.
	os.Setenv("TILEWIRE_SHUTDOWN_GRACE_MILLIS", "0")
	os.Setenv("TILEWIRE_SHUTDOWN_DRAIN_MILLIS", "0")
	code := m.Run()
	if left, _ := filepath.Glob(shmDir + "/*"); len(left) > 0 && code == 0 {
		return fail(fmt.Errorf("regions are left: %v", left))
	}
	if left, _ := filepath.Glob(runDir + "/*"); len(left) > 0 && code == 0 {
		return fail(fmt.Errorf("run directories are left: %v", left))
	}
	return code
}

// proc is one run of the program.
type proc struct {
	testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	began time.Time
	name  string
	url   string // http://ADDR/, once serving returned
	out   *output
	err   *output
	done  chan struct{}
}

// start starts the program with a pipe as its standard input.
func start(t testing.TB, args ...string) *proc {
	t.Helper()
	return startAs(t, nil, args...)
}

func startAs(t testing.TB, change func(*exec.Cmd), args ...string) *proc {
	t.Helper()
	p := &proc{TB: t, cmd: exec.Command(program, args...), out: newOutput(), err: newOutput(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.err
	// A command that these tests left would keep the pipes open for ever.
	p.cmd.WaitDelay = limit
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(p.cmd)
	}
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		p.out.close()
		p.err.close()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s said:\n%s", strings.Join(args, " "), p.err.String())
		}
	})
	return p
}

// serve starts a pipe, on a port of the kernel's choice, under a name of its own.
func serve(t testing.TB, args ...string) *proc {
	t.Helper()
	name := "t" + strconv.FormatInt(time.Now().UnixNano()%1e12, 36)
	p := start(t, append([]string{"pipe", "--listen", "127.0.0.1:0", "--name", name}, args...)...)
	p.serving()
	return p
}

var listening = regexp.MustCompile(`listening (\S+)\n`)

var pageLine = regexp.MustCompile(`live page +(http://\S+)`)

// serving waits until the addresses are told.
func (p *proc) serving() {
	p.Helper()
	p.url = pageLine.FindStringSubmatch(p.says(pageLine.String()))[1]
	p.name = regexp.MustCompile(`instance +(\S+)`).FindStringSubmatch(p.says(`instance +\S+\n`))[1]
}

// says waits for a match in standard error.
func (p *proc) says(re string) string {
	p.Helper()
	s, err := p.err.await(regexp.MustCompile(re))
	if err != nil {
		p.Fatalf("%v: %v, but:\n%s", p.cmd.Args, err, p.err.String())
	}
	return s
}

func (p *proc) write(s string) {
	p.Helper()
	if _, err := io.WriteString(p.in, s); err != nil {
		p.Fatalf("write to %v: %v", p.cmd.Args, err)
	}
}

func (p *proc) signal(s syscall.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.Fatal(err)
	}
}

// kills ends the program by SIGKILL, and waits until whatever it had started is gone as well: the kernel tells each of them, and
// who comes next, under the same name or address, is in the way of the last of them.
func (p *proc) kills() {
	p.Helper()
	var ends []func()
	for _, pid := range children(p, p.cmd.Process.Pid) {
		ends = append(ends, gone(p, pid))
	}
	p.signal(unix.SIGKILL)
	p.exit(128 + 9)
	for _, end := range ends {
		end()
	}
}

// exit waits for the end, and checks the exit code (128+n for a signal).
func (p *proc) exit(want int) {
	p.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		p.Fatalf("%v has not ended within %v:\n%s", p.cmd.Args, limit, p.err.String())
	}
	ws := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	got := ws.ExitStatus()
	if ws.Signaled() {
		got = 128 + int(ws.Signal())
	}
	if got != want {
		p.Errorf("%v: exit %d, want %d:\n%s", p.cmd.Args, got, want, p.err.String())
	}
}

// output collects what a process writes.
type output struct {
	mu   sync.Mutex
	b    bytes.Buffer
	more chan struct{} // closed when something was added
	over bool
}

func newOutput() *output { return &output{more: make(chan struct{})} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.Write(p)
	close(o.more)
	o.more = make(chan struct{})
	return len(p), nil
}

func (o *output) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	close(o.more)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) await(re *regexp.Regexp) (string, error) {
	end := time.After(limit)
	for {
		o.mu.Lock()
		s, more, over := re.FindString(o.b.String()), o.more, o.over
		o.mu.Unlock()
		switch {
		case s != "":
			return s, nil
		case over:
			return "", fmt.Errorf("ended without saying %q", re)
		}
		select {
		case <-more:
		case <-end:
			return "", fmt.Errorf("%q not within %v", re, limit)
		}
	}
}

// client is a WebSocket client.
type client struct {
	testing.TB
	*websocket.Conn
}

func (p *proc) dial() *client {
	p.Helper()
	return p.dialAt("/ws")
}

// dialAt opens a WebSocket at path.
func (p *proc) dialAt(path string) *client {
	p.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, _, err := websocket.Dial(ctx, strings.TrimSuffix(p.url, "/")+path, nil)
	if err != nil {
		p.Fatal(err)
	}
	c.SetReadLimit(-1)
	p.Cleanup(func() { _ = c.CloseNow() })
	return &client{p.TB, c}
}

// next returns the next message: its text, or b: and its bytes.
func (c *client) next() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	typ, b, err := c.Read(ctx)
	if typ == websocket.MessageBinary {
		return "b:" + string(b), err
	}
	return string(b), err
}

// gets checks the next messages.
func (c *client) gets(want ...string) {
	c.Helper()
	for i, w := range want {
		if got, err := c.next(); err != nil || got != w {
			c.Fatalf("message %d: %.80q, %v; want %.80q", i, got, err, w)
		}
	}
}

// closes checks that the stream ends with this close frame, and no message before.
func (c *client) closes(code websocket.StatusCode, reason string) {
	c.Helper()
	if err := c.closed(code, reason); err != nil {
		c.Error(err)
	}
}

func (c *client) closed(code websocket.StatusCode, reason string) error {
	got, err := c.next()
	var ce websocket.CloseError
	if !errors.As(err, &ce) || ce.Code != code || ce.Reason != reason {
		return fmt.Errorf("%.80q, %v; want close %d %q", got, err, code, reason)
	}
	return nil
}

// children returns the processes that pid has started, by their names.
func children(t testing.TB, pid int) map[string]int {
	t.Helper()
	found := map[string]int{}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		for _, s := range strings.Fields(string(b)) {
			comm, err := os.ReadFile("/proc/" + s + "/comm")
			if err != nil {
				continue
			}
			found[strings.TrimSpace(string(comm))], _ = strconv.Atoi(s)
		}
	}
	return found
}

// gone returns a function that waits for the end of process pid.
func gone(t testing.TB, pid int) (wait func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("pid %d: %v", pid, err)
	}
	return func() {
		t.Helper()
		defer unix.Close(fd)
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		end := time.Now().Add(limit)
		for time.Now().Before(end) {
			if n, err := unix.Poll(fds, int(limit.Milliseconds())); err != unix.EINTR {
				if n != 1 {
					t.Errorf("pid %d lives", pid)
				}
				return
			}
		}
	}
}

// lines returns n numbered lines from i on.
func lines(from, n int) string {
	var b strings.Builder
	w := bufio.NewWriter(&b)
	for i := range n {
		fmt.Fprintf(w, "line %d\n", from+i)
	}
	w.Flush()
	return b.String()
}
