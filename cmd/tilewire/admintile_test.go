package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/admin"
)

// asker asks the admin tile of an instance over its unix socket.
type asker struct {
	testing.TB
	*http.Client
}

func (p *proc) asker() *asker {
	return askerAt(p.TB, filepath.Join(runDir, p.name, "admin.sock"))
}

func askerAt(t testing.TB, path string) *asker {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}, DisableKeepAlives: true}
	return &asker{t, &http.Client{Transport: tr, Timeout: limit}}
}

// get decodes the JSON at path into v and returns the status.
func (o *asker) get(path string, v any) int {
	o.Helper()
	status, body, h := asks(o.TB, o.Client, "GET", "http://localhost"+path)
	if h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" {
		o.Errorf("%s: %v", path, h)
	}
	if v != nil {
		d := json.NewDecoder(strings.NewReader(body))
		if err := d.Decode(v); err != nil {
			o.Fatalf("%s: %v in %q", path, err, body)
		}
	}
	return status
}

// until asks /readyz until ok says so.
func (o *asker) until(what string, ok func(status int, h admin.Health) bool) {
	o.Helper()
	var h admin.Health
	status := 0
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if status = o.get("/readyz", &h); ok(status, h) {
			return
		}
	}
	o.Fatalf("%s: %d %+v", what, status, h)
}

// post publishes a body and returns the status and what was answered.
func (o *asker) post(path, kind, body string) (int, map[string]any) {
	o.Helper()
	resp, err := o.Post("http://localhost"+path, kind, strings.NewReader(body))
	if err != nil {
		o.Fatal(err)
	}
	defer resp.Body.Close()
	var v map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		o.Fatal(err)
	}
	return resp.StatusCode, v
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	p := runs(t, "admin")
	o := p.asker()
	c := p.dial()
	p.says(`admin      curl --unix-socket ` + regexp.QuoteMeta(filepath.Join(runDir, "admin", "admin.sock")) + ` http://localhost/statusz\n`)
	o.until("ready", func(status int, h admin.Health) bool {
		return status == 200 && h.Verdict == "ok" && h.Ready && h.Live && h.Why == ""
	})
	if fi, err := os.Stat(filepath.Join(runDir, "admin", "admin.sock")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi, err)
	}

	var st admin.Status
	if code := o.get("/statusz", &st); code != 200 || st.Verdict != "ok" || st.Name != "admin" || st.Clients != 1 || st.Connections != 1 ||
		!strings.HasPrefix(st.Version, "tilewire ") || st.SupervisorPid != p.cmd.Process.Pid || st.Memory.Bytes < 4<<20 || st.Memory.UsedBytes < 4<<20 ||
		"http://"+st.Listen[0]+"/" != p.url || st.UptimeSeconds <= 0 {
		t.Errorf("%d %+v", code, st)
	}
	var tiles struct{ Tiles []admin.Tile }
	o.get("/tilez", &tiles)
	kids := children(t, p.cmd.Process.Pid)
	var said []string
	for _, row := range tiles.Tiles {
		said = append(said, row.Tile+" "+row.Condition)
		if row.Held && (row.Pid != kids["tw "+row.Tile] || row.HeartbeatSeconds == nil || row.UptimeSeconds <= 0 || row.Signal != "run") {
			t.Errorf("%+v", row)
		}
		if row.Kind == "net" && (row.Counters["ws_now"] != 1 || row.Counters["accepted"] == 0) {
			t.Errorf("%v", row.Counters)
		}
	}
	if got := strings.Join(said, ", "); got != "admin:0 well, net:0 well, source:0 unused" {
		t.Errorf("tiles: %s", got)
	}
	privilegesOf(t, kids["tw admin:0"], "1", "2")

	// Publish, as the producer for so long.
	for _, m := range []struct{ kind, body, gets string }{
		{"text/plain; charset=utf-8", "héllo", "héllo"}, {"application/json", `{"a":1}`, `{"a":1}`}, {"", "plain", "plain"},
		{"application/x-www-form-urlencoded", "as curl -d says", "as curl -d says"}, {"application/octet-stream", "\xff\x00", "b:\xff\x00"}, {"text/plain", "", ""},
	} {
		code, v := o.post("/publish/default", m.kind, m.body)
		if code != 200 || v["topic"] != "default" || v["epoch"] == "" {
			t.Errorf("publish %q: %d %v", m.body, code, v)
		}
		c.gets(m.gets)
	}
	var rings struct{ Rings []admin.Ring }
	o.get("/ringz", &rings)
	if g := rings.Rings[0]; len(rings.Rings) != 1 || g.Topic != "default" || g.Published != 6 || g.HeldMessages != 6 || g.Head-g.Tail != 5 || g.ProducerHeld || g.CapacityBytes != 4<<20 {
		t.Errorf("%+v", rings)
	}
	for _, bad := range []struct {
		path, kind, body string
		status           int
	}{
		{"/publish/other", "", "x", 404}, {"/publish/default", "text/plain", "\xff", 400}, {"/publish/default", "a/b/c;;", "x", 400},
		{"/publish/default", "", strings.Repeat("x", 1<<20+1), 413},
	} {
		if code, v := o.post(bad.path, bad.kind, bad.body); code != bad.status || v["error"] == "" {
			t.Errorf("%+.40v: %d %v", bad, code, v)
		}
	}
	if code, v := o.post("/publish/default", "", strings.Repeat("x", 1<<20)); code != 200 {
		t.Errorf("the largest: %d %v", code, v)
	}
	if got, err := c.next(); err != nil || len(got) != 1<<20 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	join := start(t, "pipe", "--join", "admin")
	join.write("from a pipe\n")
	c.gets("from a pipe")
	if code, v := o.post("/publish/default", "", "x"); code != 409 || v["holder_pid"] != float64(join.cmd.Process.Pid) {
		t.Errorf("while there is a producer: %d %v", code, v)
	}
	join.in.Close()
	join.exit(0)
	if code, _ := o.post("/publish/default", "", "again"); code != 200 {
		t.Errorf("afterwards: %d", code)
	}
	c.gets("again")

	// Clients, in the server's and the verb's words.
	var l admin.List
	if code := o.get("/clientz?sort=age&limit=5", &l); code != 200 || l.Total != 1 || len(l.Clients) != 1 {
		t.Fatalf("%d %+v", code, l)
	}
	if row := l.Clients[0]; row.Tile != "net:0" || !row.TileHeld || row.Transport != "ws" || row.State != "stream" || row.Topic != "default" ||
		!strings.HasPrefix(row.Peer, "127.0.0.1:") || row.LagMessages != 0 || row.Sent < 1<<20 || row.Reason != "" || row.App != nil {
		t.Errorf("%+v", row)
	}
	var e map[string]string
	for path, status := range map[string]int{"/clientz?sort=x": 400, "/clientz?limit=0": 400, "/clientz?limit=x": 400, "/clientz?state=x": 400, "/clientz?state=closed&sort=x": 400} {
		if code := o.get(path, &e); code != status || e["error"] == "" {
			t.Errorf("%s: %d %v", path, code, e)
		}
	}
	verb := start(t, "clients", "--name", "admin", "--json")
	verb.exit(0)
	var lv admin.List
	if err := json.Unmarshal([]byte(verb.out.String()), &lv); err != nil || len(lv.Clients) != 1 || lv.Clients[0].ID != l.Clients[0].ID || lv.Sort != "lag" {
		t.Errorf("%v: %+v", err, lv)
	}

	if err := short(strings.Trim(strings.TrimPrefix(p.url, "http://"), "/")); err != nil {
		t.Fatal(err)
	}
	var closed admin.ClosedList
	for begin := time.Now(); closed.Total == 0 && time.Since(begin) < limit; { // nobody is told of it
		o.get("/clientz?state=closed", &closed)
	}
	verb = start(t, "clients", "--name", "admin", "--json", "--state", "closed")
	verb.exit(0)
	if err := json.Unmarshal([]byte(verb.out.String()), &closed); err != nil || closed.Sort != "time" || closed.Total == 0 {
		t.Errorf("%v: %+v", err, closed)
	}
	if code := o.get("/clientz?state=closed&limit=1", &closed); code != 200 || len(closed.Clients) != 1 || closed.Clients[0].Transport != "http" ||
		closed.Clients[0].Reason == "" || closed.Clients[0].Text == "" || !strings.HasPrefix(closed.Clients[0].Peer, "127.0.0.1:") {
		t.Errorf("%d %+v", code, closed)
	}
	if status, body, _ := asks(t, o.Client, "GET", "http://localhost/clientz?state=closed&format=text"); status != 200 || !strings.Contains(body, "by the client") {
		t.Errorf("%d %q", status, body)
	}

	var conf admin.Config
	if code := o.get("/configz", &conf); code != 200 || conf.Name != "admin" || conf.Shape.OutgoingBufferSz != 4<<20 || conf.Generation != 1 || conf.Settings["limits"] == nil {
		t.Errorf("%d %+v", code, conf)
	}

	// Text for people, on all pages; and what is no page.
	for _, path := range []string{"/healthz", "/readyz", "/statusz", "/tilez", "/ringz", "/clientz", "/configz", "/"} {
		status, body, h := asks(t, o.Client, "GET", "http://localhost"+path+"?format=text")
		if status != 200 || !strings.HasPrefix(h.Get("Content-Type"), "text/plain") || body == "" || strings.HasPrefix(body, "{") {
			t.Errorf("%s: %d %v %q", path, status, h, body)
		}
		if status, body, _ := asks(t, o.Client, "HEAD", "http://localhost"+path); status != 200 || body != "" {
			t.Errorf("HEAD %s: %d %q", path, status, body)
		}
	}
	for _, x := range []struct {
		method, path string
		status       int
	}{{"POST", "/readyz", 405}, {"GET", "/publish/default", 405}, {"GET", "/nothing", 404}} {
		status, body, h := asks(t, o.Client, x.method, "http://localhost"+x.path)
		if status != x.status || !strings.HasPrefix(body, `{"error":"`+x.method+" "+x.path) || status == 405 && h.Get("Allow") == "" {
			t.Errorf("%s %s: %d %v %q", x.method, x.path, status, h, body)
		}
	}
	// A page of another origin sends nothing.
	req, _ := http.NewRequest("POST", "http://localhost/publish/default", strings.NewReader("x"))
	req.Header.Set("Origin", "https://evil.example")
	if resp, err := o.Do(req); err != nil || resp.StatusCode != 403 {
		t.Errorf("%v, %v", resp, err)
	}

	p.signal(unix.SIGTERM)
	c.closes(websocket.StatusServiceRestart, "restarting")
	p.exit(0)
	p.says(`"msg":"ended","tile":"net:0"(?s:.*)"msg":"ended","tile":"admin:0"`) // the last to go
	if strings.Contains(p.err.String(), "forced") {
		t.Errorf("a tile had to be forced:\n%s", p.err.String())
	}
}

// A network tile that stands still cannot say so itself; the admin tile does.
func TestAdminStoppedTile(t *testing.T) {
	t.Parallel()
	p := runs(t, "stopped")
	o := p.asker()
	o.until("ready", func(status int, h admin.Health) bool { return status == 200 })
	net := children(t, p.cmd.Process.Pid)["tw net:0"]
	if err := unix.Kill(net, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	why := fmt.Sprintf("net:0 (process %d) is stuck: its heartbeat is ", net)
	o.until("unready", func(status int, h admin.Health) bool {
		return status == 503 && !h.Ready && strings.HasPrefix(h.Why, why)
	})
	if code := o.get("/healthz", nil); code != 503 { // it is the only one
		t.Errorf("healthz: %d", code)
	}
	if err := unix.Kill(net, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	o.until("ready again", func(status int, h admin.Health) bool { return status == 200 && h.Verdict == "ok" })
	p.signal(unix.SIGTERM)
	p.exit(0)
}

// A killed admin tile comes back, on the same socket; its clients' connections are the network tile's, and stay.
func TestAdminKilled(t *testing.T) {
	t.Parallel()
	p := runs(t, "adminkilled", "--restart-max", "2")
	o := p.asker()
	c := p.dial()
	for range 4 { // more than the budget of a tile that clients need
		o.until("ready", func(status int, h admin.Health) bool { return h.Verdict == "ok" })
		pid := children(t, p.cmd.Process.Pid)["tw admin:0"]
		wait := gone(t, pid)
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		wait()
		if code, _, _ := asks(t, http.DefaultClient, "GET", p.url+"readyz"); code != 200 {
			t.Errorf("readyz of the public listener: %d", code)
		}
	}
	o.until("ready", func(status int, h admin.Health) bool { return h.Verdict == "ok" })
	if code, _ := o.post("/publish/default", "", "still there"); code != 200 {
		t.Errorf("publish: %d", code)
	}
	c.gets("still there")
	p.signal(unix.SIGTERM)
	p.exit(0)
}

// Where it listens: nowhere, at a TCP port (by address only), at a path; a live socket there is not taken.
func TestAdminListen(t *testing.T) {
	t.Parallel()
	p := runs(t, "adminoff", "--admin-listen", "off")
	if strings.Contains(p.err.String(), "admin ") || children(t, p.cmd.Process.Pid)["tw admin:0"] != 0 {
		t.Errorf("it is there:\n%s", p.err.String())
	}
	p.signal(unix.SIGTERM)
	p.exit(0)

	p = runs(t, "admintcp", "--admin-listen", "127.0.0.1:0")
	url := regexp.MustCompile(`http://\S+/statusz`).FindString(p.says(`admin +http://\S+/statusz\n`))
	c := &http.Client{Timeout: limit}
	if code, body, _ := asks(t, c, "GET", url); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	req, _ := http.NewRequest("GET", url, nil)
	req.Host = "rebound.example"
	if resp, err := c.Do(req); err != nil || resp.StatusCode != 421 {
		t.Errorf("by a name: %v, %v", resp, err)
	}
	p.signal(unix.SIGTERM)
	p.exit(0)

	dir := t.TempDir()
	path := filepath.Join(dir, "adminpath.sock")
	p = runs(t, "adminpath", "--admin-listen", "unix:"+dir+"/{name}.sock|0660")
	o := askerAt(t, path)
	o.until("ready", func(status int, h admin.Health) bool { return status == 200 })
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", fi, err)
	}
	second := start(t, "run", "--name", "adminsecond", "--listen", "127.0.0.1:0", "--ring-size-mib", "1", "--admin-listen", "unix:"+path)
	second.exit(1)
	second.says(`^tilewire: admin: .*/adminpath.sock is in use`)
	p.kills()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("a crash leaves its socket: %v", err)
	}
	p = runs(t, "adminpath", "--admin-listen", "unix:"+path)
	o.until("ready", func(status int, h admin.Health) bool { return status == 200 })
	p.signal(unix.SIGTERM)
	p.exit(0)
	if _, err := os.Stat(path); err == nil {
		t.Error("its socket is left")
	}
	start(t, "run", "--name", "x", "--admin-listen", "nonsense").exit(2)
}
