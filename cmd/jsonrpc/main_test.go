package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

const limit = 20 * time.Second

// programs holds tilewire and jsonrpc, built once.
var programs string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "jsonrpc-test-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command("go", "build", "-o", dir, ".", "../tilewire").CombinedOutput(); err != nil {
		return fail(fmt.Errorf("go build: %w\n%s", err, out))
	}
	shm, err := os.MkdirTemp("/dev/shm", "jsonrpc-test-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(shm)
	os.Setenv("TILEWIRE_SHM_DIR", shm)
	os.Setenv("TILEWIRE_RUN_DIR", filepath.Join(dir, "run"))
	programs = dir
	code := m.Run()
	if left, _ := filepath.Glob(dir + "/run/*"); len(left) > 0 && code == 0 {
		return fail(fmt.Errorf("run directories are left: %v", left))
	}
	return code
}

// proc is a running program whose standard error is read by line.
type proc struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	said chan string
}

func start(t *testing.T, name string, args ...string) *proc {
	t.Helper()
	p := &proc{t: t, cmd: exec.Command(filepath.Join(programs, name), args...), said: make(chan string, 100)}
	p.in, _ = p.cmd.StdinPipe()
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for sc := bufio.NewScanner(stderr); sc.Scan(); {
			p.said <- sc.Text()
		}
		close(p.said)
	}()
	t.Cleanup(func() { p.end(syscall.SIGKILL) })
	return p
}

// says awaits a line that matches and returns its first group.
func (p *proc) says(re string) string {
	p.t.Helper()
	timeout := time.After(limit)
	var all []string
	for {
		select {
		case line, ok := <-p.said:
			if m := regexp.MustCompile(re).FindStringSubmatch(line); m != nil {
				return m[len(m)-1]
			}
			if all = append(all, line); ok {
				continue
			}
		case <-timeout:
		}
		p.t.Fatalf("no %q in %q", re, all)
	}
}

// end ends the program and returns its exit code.
func (p *proc) end(sig syscall.Signal) int {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Signal(sig)
		_ = p.cmd.Wait()
	}
	return p.cmd.ProcessState.ExitCode()
}

func post(t *testing.T, url, body string) (int, string) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// client is a WebSocket that exchanges JSON.
type client struct {
	t   *testing.T
	ctx context.Context
	c   *websocket.Conn
	id  int
}

// call sends a call and awaits its reply; notifications before it are left out.
func (c *client) call(method, params string) string {
	c.t.Helper()
	c.id++
	text := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, c.id, method, params)
	if err := c.c.Write(c.ctx, websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
	for {
		m := c.read()
		if string(m["id"]) != strconv.Itoa(c.id) {
			continue
		}
		if m["error"] != nil {
			return "error " + string(m["error"])
		}
		return string(m["result"])
	}
}

func (c *client) read() map[string]json.RawMessage {
	c.t.Helper()
	_, b, err := c.c.Read(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		c.t.Fatalf("%v in %q", err, b)
	}
	return m
}

// notified awaits the next notification.
func (c *client) notified(method string) string {
	c.t.Helper()
	m := c.read()
	if m["id"] != nil || string(m["method"]) != strconv.Quote(method) {
		c.t.Fatalf("got %v, want a notification %s", m, method)
	}
	return string(m["params"])
}

func TestService(t *testing.T) {
	name := "rpc" + strconv.Itoa(os.Getpid())
	pipe := start(t, "tilewire", "pipe", "--listen", "127.0.0.1:0", "--name", name)
	base := pipe.says(`live page +(http://\S+)`)
	url := base + "rpc"
	pipe.says(`instance +` + name)
	if code, _ := post(t, url, "{}"); code != 404 {
		t.Errorf("before it joined: %d", code)
	}
	rpc := start(t, "jsonrpc", "--join", name)
	rpc.says("serves /rpc")
	second := start(t, "jsonrpc", "--join", name)
	second.says("application 0, held by process " + strconv.Itoa(rpc.cmd.Process.Pid))

	status := `{"jsonrpc":"2.0","method":"status","id":"s"}`
	for _, c := range []struct {
		in   string
		code int
		want string // the reply, or how it begins
	}{
		{status, 200, `{"jsonrpc":"2.0","result":{`},
		{`{"jsonrpc":"2.0","method":"status"}`, 204, ``},
		{`{"jsonrpc":"2.0","method":"nosuch"}`, 204, ``},
		{`[{"jsonrpc":"2.0","method":"status"}]`, 204, ``},
		{`{"jsonrpc":"2.0","method":"nosuch","id":null}`, 200, `{"jsonrpc":"2.0","error":{"code":-32601,"message":"no method nosuch"},"id":null}`},
		{`{"jsonrpc":"2.0","method":"subscribe","params":{"topic":"ticks"},"id":7}`, 200, `{"jsonrpc":"2.0","error":{"code":-32000,`},
		{`{"jsonrpc":"2.0","method":"subscribe","params":{"topic":"x"},"id":7}`, 200, `{"jsonrpc":"2.0","error":{"code":-32602,`},
		{`{"jsonrpc":"2.0","method":"subscribe","id":7}`, 200, `{"jsonrpc":"2.0","error":{"code":-32602,`},
		{`{"jsonrpc":"2.0","method":"status","id":{}}`, 200, `{"jsonrpc":"2.0","error":{"code":-32600,`},
		{`{"method":"status","id":1}`, 200, `{"jsonrpc":"2.0","error":{"code":-32600,`},
		{`7`, 200, `{"jsonrpc":"2.0","error":{"code":-32600,`},
		{`{"jsonrpc`, 200, `{"jsonrpc":"2.0","error":{"code":-32700,"message":"parse error"},"id":null}`},
		{`[`, 200, `{"jsonrpc":"2.0","error":{"code":-32700,`},
		{`[]`, 200, `{"jsonrpc":"2.0","error":{"code":-32600,`},
		{`[1,{"jsonrpc":"2.0","method":"status"},{"jsonrpc":"2.0","method":"unsubscribe","params":{"subscription":1},"id":2}]`, 200,
			`[{"jsonrpc":"2.0","error":{"code":-32600,"message":"not a JSON-RPC 2.0 request"},"id":null},{"jsonrpc":"2.0","result":false,"id":2}]`},
	} {
		if code, got := post(t, url, c.in); code != c.code || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s answered %d %s, want %d %s", c.in, code, got, c.code, c.want)
		}
	}
	// It sleeps up to half a second where nobody wakes it: a tile does, under its sandbox too.
	begin := time.Now()
	for range 40 {
		if code, _ := post(t, url, status); code != 200 {
			t.Fatalf("answered %d", code)
		}
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("40 calls one after the other took %v: nobody wakes the application", took)
	}
	if resp, err := http.Get(url); err != nil || resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %v, %v", resp, err)
	}
	if resp, err := http.Get(base + "other"); err != nil || resp.StatusCode != 404 {
		t.Errorf("another path: %v, %v", resp, err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 2*limit)
	defer cancel()
	if _, resp, err := websocket.Dial(ctx, "ws"+url[4:], &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {"http://evil.example"}}}); err == nil || resp == nil || resp.StatusCode != 403 {
		t.Errorf("another origin: %v, %v", resp, err)
	}
	ws, _, err := websocket.Dial(ctx, "ws"+url[4:], nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	c := &client{t: t, ctx: ctx, c: ws}
	if got := c.call("subscribe", `{"topic":"messages"}`); got != "1" {
		t.Fatalf("subscribed as %s", got)
	}
	for i, line := range []string{"first line", "second \"line\""} {
		if _, err := io.WriteString(pipe.in, line+"\n"); err != nil {
			t.Fatal(err)
		}
		data, _ := json.Marshal(line)
		if got, want := c.notified("subscription"), fmt.Sprintf(`{"result":{"data":%s,"seq":%d},"subscription":1}`, data, i+1); got != want {
			t.Errorf("notified of %s, want %s", got, want)
		}
	}
	if got := c.call("unsubscribe", `{"subscription":1}`) + c.call("unsubscribe", `{"subscription":1}`); got != "truefalse" {
		t.Errorf("unsubscribed: %s", got)
	}
	if _, err := io.WriteString(pipe.in, "unheard\n"); err != nil {
		t.Fatal(err)
	}
	if got := c.call("subscribe", `{"topic":"ticks"}`); got != "2" {
		t.Fatalf("subscribed as %s", got)
	}
	if got := c.notified("subscription"); !strings.Contains(got, `"tick":`) {
		t.Errorf("notified of %s", got)
	}

	// It dies; the WebSocket lives on, and is told when there is a successor.
	rpc.end(syscall.SIGKILL)
	if code, _ := post(t, url, status); code != 404 {
		t.Errorf("after its death: %d", code)
	}
	rpc = start(t, "jsonrpc", "--join", name)
	rpc.says("serves /rpc")
	for {
		m := c.read()
		if string(m["method"]) == `"restarted"` {
			break
		}
		if !strings.Contains(string(m["params"]), `"tick":`) { // one that was on its way
			t.Fatalf("%v before it was told of the restart", m)
		}
	}
	if got := c.call("status", "[]"); !strings.Contains(got, `"websockets":1`) || !strings.Contains(got, `"published":3`) {
		t.Errorf("status %s", got)
	}
	// The end of the instance is that of its application.
	pipe.in.Close()
	if code := pipe.end(0); code != 0 {
		t.Errorf("the instance ended with %d", code)
	}
	if code := rpc.end(0); code != 0 {
		t.Errorf("the application ended with %d", code)
	}
	if _, _, err := ws.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the WebSocket ended with %v", err)
	}
}
