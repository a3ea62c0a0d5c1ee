package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reloadable starts an instance with a configuration file, of which write replaces the text.
func reloadable(t *testing.T, name, text string, change func(*exec.Cmd)) (p *proc, write func(text string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tilewire.toml")
	write = func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	p = startAs(t, change, "run", "--config", file, "--name", name, "--listen", "127.0.0.1:0", "--ring-size-mib", "4", "--max-connections", "64",
		"--pong-timeout", "9s")
	p.serving()
	return p, write
}

// status is that of the page. Not by http.Get: who is over a limit gets the answer before the request, which it takes for an error.
func (p *proc) status() int {
	p.Helper()
	c, err := net.Dial("tcp", strings.Trim(strings.TrimPrefix(p.url, "http://"), "/"))
	if err != nil {
		p.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(limit))
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		p.Fatal(err)
	}
	return resp.StatusCode
}

// A good file is in force at once, in tiles that run and in those that are started later, and nobody is dropped. A bad one
// changes nothing, and says where.
func TestReload(t *testing.T) {
	t.Parallel()
	p, write := reloadable(t, "reload", "[server]\nkeep_alive = false\n", nil)
	c := p.dial()
	prod := start(t, "pipe", "--join", "reload")
	prod.write("a\n")
	c.gets("a")
	if n := p.status(); n != 200 {
		t.Error(n)
	}
	if out, _ := verb(t, 0, "reload", "--name", "reload"); out != "nothing has changed\n" {
		t.Error(out)
	}

	write("[server]\nmax_connections_per_ip = 1\n[websocket]\nallowed_origins = [\"https://a.example\"]\npong_timeout_seconds = 3\n[log]\nlevel = \"warn\"\n" +
		"[supervisor]\nrestart_max_per_minute = 7\nheartbeat_timeout_millis = 3000\n")
	out, _ := verb(t, 0, "reload", "--name", "reload")
	want := "log.level: info -> warn\nserver.max_connections_per_ip: 0 -> 1\nwebsocket.allowed_origins:  -> https://a.example\n" +
		"supervisor.restart_max_per_minute: 5 -> 7\nsupervisor.heartbeat_timeout_millis: 2s -> 3s\n" // the flag wins over pong_timeout
	if out != want {
		t.Errorf("%s\nwant %s", out, want)
	}
	if n := p.status(); n != 429 {
		t.Errorf("a second connection of one address: %d", n)
	}

	// A bad file, by signal and by verb.
	write("[server]\nmax_connections_per_ip = 2\nmax_conections = 5\n")
	caret := `:3:1: unknown key server.max_conections \(did you mean server.max_connections\?\)` + "\n" + `  max_conections = 5` + "\n" + `  \^+` + "\n"
	if _, said := verb(t, 2, "reload", "--name", "reload"); !regexp.MustCompile(caret).MatchString(said) {
		t.Errorf("%q", said)
	}
	p.signal(unix.SIGHUP)
	p.says(`(?s)"msg":"reload refused.*unknown key server.max_conections.*reload refused.*max_conections = 5\\n +\^+`)
	if n := p.status(); n != 429 {
		t.Errorf("a bad file was obeyed: %d", n)
	}

	// Keys that cannot be changed now are named, and nothing else is changed either.
	write("[server]\nmax_connections_per_ip = 2\n[layout]\naffinity = \"f1\"\n[memory]\nnuma = \"interleave\"\n[[topic]]\nhistory = 5\n")
	_, said := verb(t, 2, "reload", "--name", "reload")
	for _, want := range []string{"layout.affinity: needs a restart (auto -> f1)\n", "topic.history: needs a restart (0 -> 5)\n", "memory.numa: needs a restart (local -> interleave)\n", "nothing was changed"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in %q", want, said)
		}
	}
	if n := p.status(); n != 429 {
		t.Errorf("half of it was obeyed: %d", n)
	}
	prod.write("b\n")
	c.gets("b") // has not noticed anything

	// A tile that is started anew has what is in force.
	if err := unix.Kill(children(t, p.cmd.Process.Pid)["tw net:0"], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	verb(t, 0, "ready", "--name", "reload")
	p.says(`"msg":"died","tile":"net:0"`)
	prod.write("c\n")
	c.gets("c") // nor of that
	if n := p.status(); n != 429 {
		t.Errorf("after a restart: %d", n)
	}
	write("[log]\nlevel = \"info\"\n")
	p.signal(unix.SIGHUP)
	p.says(`"msg":"reloaded","changes":5`)
	if n := p.status(); n != 200 {
		t.Error(n)
	}
	out, _ = verb(t, 0, "reload", "--name", "reload", "--json")
	if out != `{"changes":[]}`+"\n" {
		t.Error(out)
	}
	prod.write("c\n")
	c.gets("c")
	prod.in.Close()
	prod.exit(0)
	p.signal(unix.SIGTERM)
	p.exit(0)
}

// A service manager is told of it as Type=notify-reload wants.
func TestNotifyReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notify")
	m := newManager(t, path)
	p, write := reloadable(t, "notifyreload", "", func(c *exec.Cmd) { c.Env = append(os.Environ(), "NOTIFY_SOCKET="+path) })
	m.hears("READY=1")
	for _, text := range []string{"[server]\naccept_rate_per_second = 100\n", "nonsense"} {
		write(text)
		p.signal(unix.SIGHUP)
		if s := m.hears("RELOADING=1"); !regexp.MustCompile(`\nMONOTONIC_USEC=\d+\n`).MatchString(s) {
			t.Errorf("%q", s)
		}
		m.hears("READY=1")
	}
	verb(t, 0, "drain", "--name", "notifyreload")
	m.hears("STOPPING=1")
	p.exit(0)
}

// What can be reloaded is what docs/operate.md says.
func TestReloadTable(t *testing.T) {
	b, err := os.ReadFile("../../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	var live, told []string
	for _, m := range configFlags {
		if m.live {
			live = append(live, strings.ReplaceAll(m.key, "[0]", ""))
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\|").FindAllStringSubmatch(string(b), -1) {
		told = append(told, m[1])
	}
	slices.Sort(live)
	slices.Sort(told)
	if !slices.Equal(live, told) {
		t.Errorf("docs/operate.md has %v,\nconfigFlags %v", told, live)
	}
}
