package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/shmem"
)

// counts is a counter of each network tile.
func (p *proc) counts(name string) (n []uint64) {
	p.Helper()
	in, err := instance.Join(p.name, shmem.ReadOnly)
	if err != nil {
		p.Fatal(err)
	}
	defer in.Leave()
	for i := range int(in.Server.Params().TileCnt) {
		c, err := in.Server.Counters(i)
		if err != nil {
			p.Fatal(err)
		}
		n = append(n, c.Lookup(name).Load())
	}
	return n
}

// countsAre waits until a counter of each network tile is as wanted: nobody tells of it.
func (p *proc) countsAre(name string, want ...uint64) {
	p.Helper()
	for begin := time.Now(); !slices.Equal(p.counts(name), want); time.Sleep(time.Millisecond) {
		if time.Since(begin) > limit {
			out, _ := verb(p, 0, "clients", "--name", p.name)
			closed, _ := verb(p, 0, "clients", "--name", p.name, "--state", "closed", "--limit", "12")
			p.Fatalf("%s of the tiles: %v, want %v; accepted %v\n%s%s", name, p.counts(name), want, p.counts("accepted"), out, closed)
		}
	}
}

// countFile is a configuration whose number of network tiles count sets.
func countFile(t *testing.T, most int, rest string) (file string, count func(n int)) {
	file = filepath.Join(t.TempDir(), "c.toml")
	return file, func(n int) {
		t.Helper()
		if err := os.WriteFile(file, fmt.Appendf(nil, "[layout]\nnet_tile_count = %d\nnet_tile_max = %d\n%s", n, most, rest), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// canSteer skips where the program cannot be loaded.
func (p *proc) canSteer() {
	p.Helper()
	if s := p.err.String(); strings.Contains(s, "by the kernel's hash") {
		p.Skip("no right to load the steering program: ", s)
	}
}

// The set of tiles grows and shrinks at a reload, and no client notices: who comes goes to the tile with the fewest of those that
// serve, who is at a tile that goes stays there until that comes again, or the client leaves, or its time is over.
func TestNetsGrowAndShrink(t *testing.T) {
	t.Parallel()
	file, count := countFile(t, 3, "")
	reload := func(p *proc) {
		t.Helper()
		verb(t, 0, "reload", "--name", p.name)
	}
	count(2)
	p := runs(t, "grow", "--config", file)
	p.canSteer()
	var all []*client
	dial := func(n int) {
		t.Helper()
		for range n {
			all = append(all, p.dial())
		}
	}
	published := 0
	everybody := func() {
		t.Helper()
		published++
		m := fmt.Sprint("message ", published)
		verb(t, 0, "publish", "--name", p.name, m)
		for _, c := range all {
			c.gets(m)
		}
	}
	dial(20)
	p.countsAre("ws_now", 10, 10, 0)
	count(3)
	if out, _ := verb(t, 0, "reload", "--name", p.name); out != "layout.net_tile_count: 2 -> 3\n" {
		t.Errorf("%q", out)
	}
	dial(10)
	p.countsAre("ws_now", 10, 10, 10)
	everybody()
	count(1)
	reload(p)
	dial(4)
	p.countsAre("ws_now", 14, 10, 10)
	everybody()
	if out, _ := verb(t, 0, "ps"); len(regexp.MustCompile(`(?m)^grow .*net:[12] .* leaving `).FindAllString(out, -1)) != 2 {
		t.Errorf("ps:\n%s", out)
	}
	if _, out, _ := asks(t, p.asker().Client, "GET", "http://localhost/tilez?format=text"); len(regexp.MustCompile(`(?m)^net:[12] .* leaving `).FindAllString(out, -1)) != 2 {
		t.Errorf("tilez:\n%s", out)
	}
	net2 := children(t, p.cmd.Process.Pid)["tw net:2"]
	if err := unix.Kill(net2, unix.SIGKILL); err != nil { // its successor leaves too
		t.Fatal(err)
	}
	p.says(`"msg":"ready","tile":"net:2"[^\n]*(\n.*)*"msg":"ready","tile":"net:2"`)
	everybody()
	dial(2)
	p.countsAre("ws_now", 16, 10, 10)
	count(2) // net:1 comes again, with the clients that it has
	reload(p)
	dial(8)
	p.countsAre("ws_now", 17, 17, 10)
	everybody()
	count(4)
	if _, said := verb(t, 2, "reload", "--name", p.name); !strings.Contains(said, "layout.net_tile_max is 3, less than layout.net_tile_count (4)") {
		t.Errorf("%q", said)
	}
	if err := os.WriteFile(file, []byte("[layout]\nnet_tile_count = 1\nnet_tile_max = 3\n[shutdown]\nlinger_millis = 1\ndrain_millis = 100\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload(p)
	p.countsAre("ws_now", 17, 0, 0)
	verb(t, 0, "publish", "--name", p.name, "rest")
	stay := 0
	for _, c := range all {
		switch s, err := c.next(); {
		case err == nil && s == "rest":
			stay++
		case websocket.CloseStatus(err) != websocket.StatusServiceRestart:
			t.Error(s, err)
		}
	}
	if stay != 17 {
		t.Errorf("%d of 17 stayed", stay)
	}
	p.says(`"msg":"ended","tile":"net:1"`)
	p.says(`"msg":"ended","tile":"net:2"`)
	if out, _ := verb(t, 0, "ps"); regexp.MustCompile(`(?m)^grow .*net:[12]`).MatchString(out) {
		t.Errorf("ps:\n%s", out)
	}
	count(3)
	reload(p)
	all = nil
	dial(10)
	p.countsAre("ws_now", 17, 5, 5)
	count(1)
	reload(p)
	everybody()
	for _, c := range all { // the tiles end when the last one has gone
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	}
	p.says(`"msg":"ended","tile":"net:1"[^\n]*(\n.*)*"msg":"ended","tile":"net:1"`)
	p.says(`"msg":"ended","tile":"net:2"[^\n]*(\n.*)*"msg":"ended","tile":"net:2"`)
	p.signal(unix.SIGTERM)
	p.exit(0)
}

// A tile that comes again is the one that was leaving: clients that could not outlive it notice nothing either.
func TestNetsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	file, count := countFile(t, 2, "")
	count(2)
	sock := filepath.Join(t.TempDir(), "sock")
	p := runs(t, "comeback", "--config", file, "--listen", "unix:"+sock)
	p.canSteer()
	var all []*client
	dial := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		c, _, err := websocket.Dial(ctx, "ws://x/ws", &websocket.DialOptions{HTTPClient: askerAt(t, sock).Client})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.CloseNow() })
		all = append(all, &client{t, c})
	}
	for n := p.counts("ws_now"); n[1] < 3; n = p.counts("ws_now") {
		dial()
	}
	pid := children(t, p.cmd.Process.Pid)["tw net:1"]
	for i := range 3 {
		count(1)
		verb(t, 0, "reload", "--name", p.name)
		before := p.counts("accepted")
		for range 5 {
			dial()
		}
		if n := p.counts("accepted"); n[1] != before[1] || n[0] != before[0]+5 {
			t.Errorf("accepted %v, then %v: a tile that leaves takes somebody in", before, n)
		}
		count(2)
		verb(t, 0, "reload", "--name", p.name)
		verb(t, 0, "publish", "--name", p.name, fmt.Sprint(i))
		for _, c := range all {
			c.gets(fmt.Sprint(i))
		}
		p.dial()
	}
	if now := children(t, p.cmd.Process.Pid)["tw net:1"]; now != pid {
		t.Errorf("process %d, then %d", pid, now)
	}
	if n := p.counts("accepted"); n[1] < 3 {
		t.Errorf("accepted %v", n)
	}
	p.signal(unix.SIGTERM)
	p.exit(0)
}

// All network tiles are started anew, one after the other, and no client misses a message.
func TestNetsRollingRestart(t *testing.T) {
	t.Parallel()
	p := runs(t, "rolling", "--net-tiles", "2", "--", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.002; done")
	over := make(chan struct{})
	var wait sync.WaitGroup
	for range 8 {
		c := p.dial()
		wait.Add(1)
		go func() {
			defer wait.Done()
			last := 0
			for {
				s, err := c.next()
				if err != nil {
					t.Error(err)
					return
				}
				k := number(s)
				if last != 0 && k != last+1 {
					t.Errorf("after %d comes %d", last, k)
				}
				if last = k; k%10 == 0 {
					select {
					case <-over:
						return
					default:
					}
				}
			}
		}()
	}
	for range 3 {
		verb(t, 0, "restart", "--name", p.name, "net")
	}
	close(over)
	wait.Wait()
	if s := p.err.String(); strings.Count(s, `"msg":"restarted"`) != 6 {
		t.Errorf("%s", s)
	}
	p.signal(unix.SIGTERM)
	p.exit(0)
}

// 20,000 short connections while both tiles are killed again and again: each is answered.
func TestNetsShortConnections(t *testing.T) {
	for _, c := range []struct{ name, listen string }{{"v4", "127.0.0.1:0"}, {"v6", "[::1]:0"}} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "v6" {
				if l, err := net.Listen("tcp6", c.listen); err != nil {
					t.Skip(err)
				} else {
					l.Close()
				}
			}
			p := start(t, "run", "--name", "short"+c.name, "--listen", c.listen, "--ring-size-mib", "4", "--max-connections", "64",
				"--net-tiles", "2", "--restart-max", "1000")
			p.serving()
			addr := strings.Trim(strings.TrimPrefix(p.url, "http://"), "/")
			const all = 10_000
			var next atomic.Int64
			var wait sync.WaitGroup
			var failed atomic.Int64
			begin := time.Now()
			for range 16 {
				wait.Add(1)
				go func() {
					defer wait.Done()
					for next.Add(1) <= all {
						if err := short(addr); err != nil && failed.Add(1) < 5 {
							t.Error(err)
						}
					}
				}()
			}
			kills := 0
			for next.Load() <= all {
				for _, tile := range []string{"tw net:0", "tw net:1"} {
					if pid := children(t, p.cmd.Process.Pid)[tile]; pid != 0 && unix.Kill(pid, unix.SIGKILL) == nil {
						kills++
					}
					verb(t, 0, "ready", "--name", p.name)
				}
			}
			wait.Wait()
			t.Logf("%d connections in %v, %d kills, %d failed; accepted %v", all, time.Since(begin).Round(time.Millisecond), kills, failed.Load(), p.counts("accepted"))
			if kills < 4 {
				t.Error("too few kills")
			}
			p.signal(unix.SIGTERM)
			p.exit(0)
		})
	}
}

// short is one request on a connection of its own.
func short(addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.(*net.TCPConn).SetLinger(0) // thousands in TIME_WAIT would be in the way of other tests
	c.SetDeadline(time.Now().Add(limit))
	if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		return err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	if r.StatusCode != 200 {
		return errors.New(r.Status)
	}
	return nil
}

// A network tile whose restart budget is spent is left down while another one serves: it comes again when asked to. Without
// any the instance ends.
func TestNetsGivenUp(t *testing.T) {
	t.Parallel()
	p := runs(t, "givenup", "--net-tiles", "2", "--restart-max", "1")
	p.canSteer()
	kill := func(tile string) {
		t.Helper()
		if err := unix.Kill(children(t, p.cmd.Process.Pid)["tw "+tile], unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	var cs []*client
	for range 10 {
		cs = append(cs, p.dial())
	}
	kill("net:1")
	p.says(`"msg":"restarted","tile":"net:1"`)
	verb(t, 0, "ready", "--name", p.name)
	kill("net:1")
	p.says(`"msg":"left down","tile":"net:1"`)
	lost := 0
	verb(t, 0, "publish", "--name", p.name, "rest")
	for _, c := range cs {
		if s, err := c.next(); err != nil {
			lost++
		} else if s != "rest" {
			t.Errorf("%q", s)
		}
	}
	if lost != 5 {
		t.Errorf("%d of 5 were lost", lost)
	}
	for range 10 {
		c := p.dial()
		verb(t, 0, "publish", "--name", p.name, "new")
		c.gets("new")
	}
	if r, err := http.Get(p.url + "readyz"); err != nil || r.StatusCode != 200 {
		t.Error(r, err)
	} else {
		r.Body.Close()
	}
	verb(t, 0, "restart", "--name", p.name, "net:1")
	for range 10 {
		p.dial()
	}
	if n := p.counts("ws_now"); n[1] < 10 {
		t.Errorf("%v", n)
	}
	kill("net:1")
	p.says(`(?s)"msg":"left down".*"msg":"restarted","tile":"net:1".*"msg":"restarted","tile":"net:1"`)
	verb(t, 0, "ready", "--name", p.name)
	kill("net:1")
	p.says(`(?s)"msg":"left down".*"msg":"left down"`)
	kill("net:0")
	p.says(`"msg":"restarted","tile":"net:0"`)
	verb(t, 0, "ready", "--name", p.name)
	kill("net:0")
	p.exit(4)
}

// Without the right to load the program auto does with the kernel's hash and says so, cpu with classic BPF, and a mode that
// needs it is refused.
func TestSteeringWithoutRight(t *testing.T) {
	t.Parallel()
	unprivileged := func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	if os.Getuid() != 0 {
		unprivileged = func(*exec.Cmd) {}
	}
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	flags := func(mode string) []string {
		return []string{"run", "--name", "bare" + mode, "--listen", "127.0.0.1:0", "--ring-size-mib", "4", "--max-connections", "64",
			"--net-tiles", "2", "--admin-listen", "off", "--steering", mode}
	}
	bare := func(c *exec.Cmd) {
		unprivileged(c)
		c.Env = append(os.Environ(), "TILEWIRE_SHM_DIR="+dir, "TILEWIRE_RUN_DIR="+dir+"/run")
	}
	for mode, says := range map[string]string{
		"auto": "spread over the network tiles by the kernel's hash", "cpu": "steered by CPU with classic BPF", "off": "live page",
	} {
		p := startAs(t, bare, flags(mode)...)
		p.serving()
		p.says(says)
		addr := strings.Trim(strings.TrimPrefix(p.url, "http://"), "/")
		for range 50 {
			if err := short(addr); err != nil {
				t.Error(mode, err)
			}
		}
		p.signal(unix.SIGTERM)
		p.exit(0)
	}
	p := startAs(t, bare, flags("least")...)
	p.exit(3)
	if s := p.err.String(); !strings.Contains(s, "--steering least: steer: loading a BPF program needs CAP_BPF") {
		t.Errorf("%q", s)
	}
}

// A network tile that was left down is no trap when the set shrinks and grows over it, nor are the others sent away while it alone
// would be left.
func TestNetsGrowOverLeftDown(t *testing.T) {
	t.Parallel()
	file, count := countFile(t, 2, "[supervisor]\nrestart_max_per_minute = 0\n[shutdown]\nlinger_millis = 1\n")
	count(2)
	p := runs(t, "growover", "--config", file)
	p.canSteer()
	addr := strings.Trim(strings.TrimPrefix(p.url, "http://"), "/")
	kill := func(tile string, times int) {
		t.Helper()
		if err := unix.Kill(children(t, p.cmd.Process.Pid)["tw "+tile], unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		p.says(fmt.Sprintf(`(?s)("msg":"left down","tile":"%s".*){%d}`, tile, times))
	}
	for range 4 {
		p.dial()
	}
	kill("net:1", 1)
	p.countsAre("ws_now", 2, 0)
	for _, n := range []int{1, 2} {
		count(n)
		begin := time.Now()
		if _, said := verb(t, 0, "reload", "--name", p.name); said != "" || time.Since(begin) > 4*time.Second {
			t.Errorf("%q after %v", said, time.Since(begin))
		}
	}
	for range 20 {
		if err := short(addr); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.counts("accepted"); n[1] < 5 {
		t.Errorf("accepted %v", n)
	}
	kill("net:0", 1)
	count(1)
	if _, said := verb(t, 1, "reload", "--name", p.name); !strings.Contains(said, "none runs; `tilewire restart net:0` first") {
		t.Errorf("%q", said)
	}
	verb(t, 0, "restart", "--name", p.name, "net:0")
	both := []*client{p.dial(), p.dial()}
	p.countsAre("ws_now", 1, 1)
	verb(t, 0, "reload", "--name", p.name)
	p.countsAre("ws_now", 1, 0)
	verb(t, 0, "publish", "--name", p.name, "stays")
	stays := 0
	for _, c := range both {
		if s, err := c.next(); err == nil && s == "stays" {
			stays++
		}
	}
	if stays != 1 {
		t.Errorf("%d stay", stays)
	}
	if err := unix.Kill(children(t, p.cmd.Process.Pid)["tw net:0"], unix.SIGKILL); err != nil { // the last one
		t.Fatal(err)
	}
	p.exit(4)
}

// Requests under way at a tile that goes are answered.
func TestNetsLeaving(t *testing.T) {
	t.Parallel()
	file, count := countFile(t, 2, "")
	count(2)
	p := runs(t, "leaving", "--config", file)
	p.canSteer()
	var half []net.Conn
	for range 8 {
		c, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(p.url, "http://"), "/"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(limit))
		if _, err := c.Write([]byte("GET /healthz HTTP/1.1\r\n")); err != nil {
			t.Fatal(err)
		}
		half = append(half, c)
	}
	p.countsAre("conns_now", 4, 4)
	count(1)
	verb(t, 0, "reload", "--name", p.name)
	for _, c := range half {
		if _, err := c.Write([]byte("Host: x\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 200 {
			t.Error(r, err)
		}
	}
	p.says(`"msg":"ended","tile":"net:1"`)
	p.signal(unix.SIGTERM)
	p.exit(0)
}
