package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
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

// The address is to be printed within 500 ms of a machine that has nothing else to do: what others had the CPUs for is not counted.
// The best of three counts, since they have the caches and disks as well.
func TestPipePrintsAddressesAtOnce(t *testing.T) {
	best := time.Hour
	for range 3 {
		p := serve(t)
		took := time.Since(p.began)
		for _, pid := range children(t, p.cmd.Process.Pid) {
			took -= queued(t, pid)
		}
		best = min(best, took-queued(t, p.cmd.Process.Pid))
		p.in.Close()
		p.exit(0)
	}
	t.Logf("addresses after %v", best)
	if best > 500*time.Millisecond {
		t.Errorf("addresses after %v, want 500 ms at most", best)
	}
}

// queued is how long the threads of a process have been runnable and not running (proc(5), schedstat).
func queued(t *testing.T, pid int) (d time.Duration) {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, f := range tasks {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		var ran, waited time.Duration
		if _, err := fmt.Sscan(string(b), &ran, &waited); err != nil {
			t.Fatalf("%s: %q: %v", f, b, err)
		}
		d += waited
	}
	return d
}

func TestPipeEveryLineToEveryClient(t *testing.T) {
	p := serve(t, "--tee")
	resp, err := http.Get(p.url)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || !strings.Contains(string(body), "<html") {
		t.Errorf("page: %s, %s, %d bytes", resp.Status, resp.Header.Get("Content-Type"), len(body))
	}
	for path, want := range map[string]int{"/nothing": 404, "/ws": 426} {
		if resp, err := http.Get(strings.TrimSuffix(p.url, "/") + path); err != nil || resp.StatusCode != want {
			t.Errorf("%s: %v, %v; want %d", path, resp, err, want)
		}
	}

	const clients, n = 100, 2000
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	for range clients {
		c := p.dial()
		wg.Go(func() {
			for i := range n {
				if got, err := c.next(); err != nil || got != fmt.Sprintf("line %d", i) {
					errs <- fmt.Errorf("message %d: %q, %v", i, got, err)
					return
				}
			}
			if err := c.closed(websocket.StatusGoingAway, "end of input"); err != nil {
				errs <- err
			}
		})
	}
	in := lines(0, n)
	for rest := in; len(rest) > 0; { // in pieces that end anywhere
		k := min(len(rest), 1371)
		p.write(rest[:k])
		rest = rest[k:]
	}
	p.in.Close()
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	p.exit(0)
	if p.out.String() != in {
		t.Errorf("--tee: %d bytes, want %d", len(p.out.String()), len(in))
	}
}

func TestPipeHistory(t *testing.T) {
	t.Parallel()
	p := serve(t, "--history", "10")
	first := p.dial()
	p.write(lines(0, 500))
	for i := range 500 {
		first.gets(fmt.Sprintf("line %d", i))
	}
	late := p.dial()
	for i := 490; i < 500; i++ {
		late.gets(fmt.Sprintf("line %d", i))
	}
	p.write("next\n")
	late.gets("next")
	first.gets("next")
	p.in.Close()
	late.closes(websocket.StatusGoingAway, "end of input")
	first.closes(websocket.StatusGoingAway, "end of input") // who does not answer has 5 s
	p.exit(0)
}

// The longest history that is accepted is there when the ring has just reclaimed as much ahead as it does.
func TestPipeLongestHistory(t *testing.T) {
	t.Parallel()
	const n, longest = 65536 + 1, 64512
	p := serve(t, "--history", strconv.Itoa(longest))
	first := p.dial()
	p.write(lines(0, n))
	for i := range n {
		first.gets("line " + strconv.Itoa(i))
	}
	late := p.dial()
	late.gets("line " + strconv.Itoa(n-longest))
	p.in.Close()
	first.closes(websocket.StatusGoingAway, "end of input")
	_ = late.CloseNow()
	p.exit(0)
}

func TestPipeFraming(t *testing.T) {
	t.Parallel()
	head := func(n int) string { return string(binary.BigEndian.AppendUint32(nil, uint32(n))) }
	big := strings.Repeat("z", 300_000)
	for _, c := range []struct {
		frame, in string
		want      []string
		exit      int
		says      string
	}{
		{"nul", "a\nb\x00\x00c\xff\x00d", []string{"a\nb", "", "b:c\xff", "d"}, 0, "1 of 4 messages were not UTF-8"},
		{"len32", head(3) + "a\nb" + head(0) + head(len(big)) + big, []string{"a\nb", "", big}, 0, ""},
		{"len32", head(1) + "a" + head(9) + "short", []string{"a"}, 1, "input ended inside a message: 4 of its bytes are missing"},
		{"line", "grün\r\n" + strings.Repeat("x", 33<<20) + "\nlast", []string{"grün", "last"}, 0, "1 messages left out: larger than the topic"},
	} {
		p := serve(t, "--frame", c.frame)
		cl := p.dial()
		p.write(c.in)
		p.in.Close()
		cl.gets(c.want...)
		cl.closes(websocket.StatusGoingAway, "end of input")
		p.exit(c.exit)
		if !strings.Contains(p.err.String(), c.says) {
			t.Errorf("%s: %q is not in:\n%s", c.frame, c.says, p.err.String())
		}
	}
}

// Everything that was read before the end of the input is delivered before the close, also to a client that starts
// to read late; and a client that reads nothing holds nobody up for long.
func TestPipeEndOfBigInput(t *testing.T) {
	p := serve(t)
	quick, late, stalled := p.dial(), p.dial(), p.dial()
	_ = stalled
	// Far more than the sockets hold, but within the ring: whoever is slower than others by a ring is evicted, and how
	// slow the late client is depends on what else the machine does.
	const n, head = 60_000, 30_000
	pad := strings.Repeat(".", 200)
	go func() {
		_, _ = io.WriteString(p.in, strings.ReplaceAll(lines(0, n), "\n", pad+"\n"))
		p.in.Close()
	}()
	read := func(c *client, name string, from, to int) {
		for i := from; i < to; i++ {
			if got, err := c.next(); err != nil || got != fmt.Sprintf("line %d%s", i, pad) {
				t.Errorf("message %d of %s: %q, %v", i, name, got, err)
				return
			}
		}
	}
	read(quick, "the quick client", 0, head)
	var wg sync.WaitGroup
	for name, c := range map[string]*client{"the quick client": quick, "the late client": late} {
		from := 0
		if c == quick {
			from = head
		}
		wg.Go(func() {
			read(c, name, from, n)
			if err := c.closed(websocket.StatusGoingAway, "end of input"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	p.exit(0)
}

func TestPipeSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{unix.SIGINT, unix.SIGTERM} {
		p := serve(t)
		c := p.dial()
		p.write("a\nb") // b is no line yet
		c.gets("a")
		p.signal(sig)
		if got, err := c.next(); got == "b" { // it came before the signal
			c.closes(websocket.StatusGoingAway, "shutting down")
		} else if websocket.CloseStatus(err) != websocket.StatusGoingAway || !strings.Contains(err.Error(), "shutting down") {
			t.Errorf("%v: %q, %v", sig, got, err)
		}
		p.exit(0)
		if strings.Contains(p.err.String(), "level") {
			t.Errorf("noise at a normal end:\n%s", p.err.String())
		}
	}
}

func TestPipeSecondSignal(t *testing.T) {
	t.Parallel()
	p := serve(t)
	p.dial() // never reads, so never answers the close: the drain takes its time
	p.write("a\n")
	p.signal(unix.SIGINT)
	for end := time.Now().Add(limit); time.Now().Before(end); {
		_ = p.cmd.Process.Signal(unix.SIGINT) // the kernel merges those that are pending
		select {
		case <-p.done:
			p.exit(130) // 0 at the first one
			cleanName(t, p.name)
			return
		case <-time.After(time.Millisecond):
		}
	}
	t.Fatal("it is still there")
}

// cleanName removes what a killed instance leaves; the next one of its name would do it.
func cleanName(t testing.TB, name string) {
	t.Helper()
	start(t, "server", "delete", "--name", name).exit(0)
	if left, _ := filepath.Glob(filepath.Join(runDir, name)); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestPipeNetTileKilled(t *testing.T) {
	t.Parallel()
	p := serve(t)
	c := p.dial()
	p.write("a\n")
	c.gets("a")
	pid := children(t, p.cmd.Process.Pid)["tw net:0"]
	if pid == 0 {
		t.Fatalf("no network tile among %v", children(t, p.cmd.Process.Pid))
	}
	dead := gone(t, pid)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	dead()
	late := p.dial() // the listener lives on as well
	p.write("b\n")
	c.gets("b")
	late.gets("b")
	p.says(`"msg":"died","tile":"net:0".*"exit":"signal killed"`)
	p.in.Close()
	c.closes(websocket.StatusGoingAway, "end of input")
	p.exit(0)
}

// The tile dies while its clients get what is left: nobody is there to be told any more, so that is the end.
func TestPipeNetTileKilledInTheEnd(t *testing.T) {
	t.Parallel()
	p := serve(t)
	c := p.dial()
	p.write("a\n")
	c.gets("a")
	pid := children(t, p.cmd.Process.Pid)["tw net:0"]
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.in.Close()
	// It has closed its listeners' copies and has the signal, or not: either way the pipe must end.
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.exit(0)
}

func TestPipeKilledLeavesNothing(t *testing.T) {
	t.Parallel()
	p := start(t, "pipe", "--listen", "127.7.0.1:0", "--name", "leavesnothing") // an address of its own: nobody takes the port meanwhile
	p.serving()
	addr := strings.TrimSuffix(strings.TrimPrefix(p.url, "http://"), "/")
	kids := children(t, p.cmd.Process.Pid)
	if len(kids) != 2 { // the tile and its keeper
		t.Fatalf("children: %v", kids)
	}
	p.kills()
	// Until the next start under the name takes it away, what it left is shown with the mend, and can be reaped.
	list := start(t, "shmem", "list")
	list.exit(0)
	if ok, _ := regexp.MatchString(`(?m)^`+p.name+` .* idle$(?s:.*)^idle: .*shmem reap NAME`, list.out.String()); !ok {
		t.Errorf("shmem list says:\n%s", list.out.String())
	}
	reap := start(t, "shmem", "reap", "--dry-run", p.name)
	reap.exit(0)
	if reap.out.String() != p.name+"\n" {
		t.Errorf("shmem reap says %q", reap.out.String())
	}
	again := start(t, "pipe", "--listen", addr, "--name", p.name)
	again.serving()
	c := again.dial()
	again.write("a\n")
	c.gets("a")
	again.in.Close()
	c.closes(websocket.StatusGoingAway, "end of input")
	again.exit(0)
}

func TestPipeStdinKinds(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "in")
	if err := os.WriteFile(file, []byte("a\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, redirect := range []string{"< " + file, "< /dev/null", "<&-"} {
		cmd := exec.Command("sh", "-c", program+" pipe --tee --listen 127.0.0.1:0 "+redirect)
		if out, err := cmd.Output(); err != nil || redirect[2:] == file && string(out) != "a\nb\n" {
			t.Errorf("%s: %q, %v", redirect, out, err)
		}
	}
}

// Nobody reads what --tee writes: a signal ends the program all the same; a reader that is gone is an error.
func TestPipeTeeBlocked(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p := startAs(t, func(c *exec.Cmd) { c.Stdout = w }, "pipe", "--tee", "--listen", "127.0.0.1:0")
	w.Close()
	p.serving()
	c := p.dial()
	go func() { _, _ = io.WriteString(p.in, lines(0, 100_000)) }()
	c.gets("line 0") // by now some of it is on its way to a full pipe
	fds := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, int(limit.Milliseconds())); n != 1 {
		t.Fatal(n, err)
	}
	p.signal(unix.SIGTERM)
	p.exit(0)

	r, w, err = os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p = startAs(t, func(c *exec.Cmd) { c.Stdout = w }, "pipe", "--tee", "--listen", "127.0.0.1:0")
	w.Close()
	r.Close()
	p.serving()
	c = p.dial()
	p.write("a\n")
	c.gets("a")
	c.closes(websocket.StatusGoingAway, "end of input")
	p.exit(1)
}

func TestPipeUnixSocketAndIPv6(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "tw") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	sock := filepath.Join(dir, "s")
	for try := range 2 { // the second time over what the first left
		p := start(t, "pipe", "--name", "unix", "--listen", "unix:"+sock, "--listen", "[::1]:0")
		p.serving()
		if !strings.Contains(p.url, "[::1]") || !strings.Contains(p.err.String(), "unix socket "+sock) {
			t.Errorf("%s", p.err.String())
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		ws, _, err := websocket.Dial(ctx, "ws://x/ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", sock) },
		}}})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		c, c6 := &client{t, ws}, p.dial()
		p.write("a\n")
		c.gets("a")
		c6.gets("a")
		busy := start(t, "pipe", "--listen", "unix:"+sock)
		busy.exit(1)
		busy.says(`^tilewire: \S+ is in use.*\n$`)
		if try == 0 {
			p.kills()
		} else {
			p.in.Close()
			c.closes(websocket.StatusGoingAway, "end of input")
			c6.closes(websocket.StatusGoingAway, "end of input")
			p.exit(0)
		}
		_ = ws.CloseNow()
	}
	if _, err := os.Lstat(sock); err == nil {
		t.Error("the socket is left")
	}
}

func TestPipeAsOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the other tests are it: only root can become somebody else")
	}
	const uid = 65534
	shm, err := os.MkdirTemp("/dev/shm", "tilewire-test-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(shm)
	tmp, err := os.MkdirTemp("", "tilewire-user-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	for _, d := range []string{shm, tmp} {
		if err := os.Chown(d, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	user := func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		c.Env = []string{"TILEWIRE_SHM_DIR=" + shm, "TMPDIR=" + tmp, "PATH=" + os.Getenv("PATH")}
		c.Dir = "/"
	}
	// Root's memory is told from one's own.
	root := func(c *exec.Cmd) { c.Env = append(os.Environ(), "TILEWIRE_SHM_DIR="+shm) }
	startAs(t, root, "server", "new", "--name", "roots", "--ring-size-mib", "1", "--max-connections", "4").exit(0)
	p := startAs(t, user, "pipe", "--join", "roots")
	p.exit(3)
	p.says(`^tilewire: .*permission denied.* is another user's: join it as that user.*\n$`)
	p = startAs(t, user, "pipe", "--listen", "127.0.0.1:0", "--name", "roots")
	p.exit(1)
	p.says(`^tilewire: name is taken: the instance called "roots" is another user's.*\n$`)
	startAs(t, root, "server", "delete", "--name", "roots").exit(0)

	p = startAs(t, user, "pipe", "--listen", "127.0.0.1:0")
	p.serving()
	c := p.dial()
	p.write("a\n")
	c.gets("a")
	if _, err := os.Stat(filepath.Join(tmp, "tilewire-"+strconv.Itoa(uid), p.name)); err != nil {
		t.Errorf("run directory: %v", err)
	}
	p.in.Close()
	c.closes(websocket.StatusGoingAway, "end of input")
	p.exit(0)
}
