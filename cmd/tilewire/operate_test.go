package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/shmem"
)

// verb runs the program to its end, and returns what it printed.
func verb(t testing.TB, exit int, args ...string) (out, said string) {
	t.Helper()
	p := start(t, args...)
	p.exit(exit)
	return p.out.String(), p.err.String()
}

// state is the instance's, as anybody may read it.
func (p *proc) state() instance.State {
	p.Helper()
	in, err := instance.Join(p.name, shmem.ReadOnly)
	if err != nil {
		p.Fatal(err)
	}
	defer in.Leave()
	s, _ := in.Life().State()
	return s
}

// Thousands of clients are sent away with no bucket of a second above twice the mean; TILEWIRE_STRESS=full takes as many, and as
// long, as story 4 of the design has it.
func TestDrainIsSpread(t *testing.T) {
	clients, over, times := 1000, 5*time.Second, []string{"--drain-grace", "1s", "--drain-time", "5s"}
	if os.Getenv("TILEWIRE_STRESS") == "full" {
		clients, over, times = 5000, 30*time.Second, []string{"--drain-grace", "2s", "--drain-time", "30s"}
	}
	p := start(t, append([]string{"run", "--name", "spread", "--listen", "127.0.0.1:0", "--ring-size-mib", "4", "--max-connections", strconv.Itoa(clients)}, times...)...)
	p.serving()
	ready := make(chan struct{})
	type result struct {
		r   *swarm.Report
		err error
	}
	over2 := make(chan result, 1)
	ctx, cancel := context.WithTimeout(t.Context(), over+2*limit)
	defer cancel()
	go func() {
		r, err := swarm.Run(ctx, swarm.Options{
			Addr: strings.Trim(strings.TrimPrefix(p.url, "http://"), "/"), Clients: clients, OnReady: func(int) { close(ready) },
		})
		over2 <- result{r, err}
	}()
	select {
	case <-ready:
	case r := <-over2:
		t.Fatal(r.err)
	case <-time.After(limit):
		t.Fatal("the clients do not get in")
	}
	p.signal(unix.SIGTERM)
	p.says(`"msg":"draining","clients":` + strconv.Itoa(clients))
	if s := p.state(); s != instance.Draining {
		t.Error(s)
	}
	r := <-over2
	if r.err != nil {
		t.Fatal(r.err)
	}
	p.exit(0)
	buckets := map[int]int{}
	first := r.r.Ends[0].Seconds
	for _, e := range r.r.Ends {
		if e.Kind != swarm.EndClosed || e.Code != 1012 || e.Reason != "restarting" {
			t.Fatalf("%+v", e)
		}
		buckets[int(e.Seconds-first)]++
	}
	mean := clients / int(over/time.Second)
	for b, n := range buckets {
		if n > 2*mean {
			t.Errorf("%d closes in second %d, the mean is %d", n, b, mean)
		}
	}
	if len(r.r.Ends) != clients {
		t.Errorf("%d of %d were closed", len(r.r.Ends), clients)
	}
	t.Logf("closes in each second: %v", buckets)
}

// In the grace this server answers that it is going.
func TestDrainGrace(t *testing.T) {
	t.Parallel()
	p := runs(t, "grace", "--drain-grace", "1h")
	c := p.dial()
	p.signal(unix.SIGTERM)
	p.says(`"msg":"draining","clients":1`)
	if resp, err := http.Get(p.url); err != nil || resp.StatusCode != 200 {
		t.Errorf("in the grace: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	for _, c := range []*http.Client{http.DefaultClient, p.asker().Client} { // the public listener, and the admin tile's
		url := p.url
		if c != http.DefaultClient {
			url = "http://localhost/"
		}
		if code, body, h := asks(t, c, "GET", url+"readyz"); code != 503 || !strings.Contains(body, "the instance is draining") || h.Get("Retry-After") == "" {
			t.Errorf("readyz in the grace: %d %q", code, body)
		}
		if code, _, _ := asks(t, c, "GET", url+"healthz"); code != 200 {
			t.Errorf("healthz in the grace: %d", code)
		}
	}
	if _, resp, err := websocket.Dial(t.Context(), p.url+"ws", nil); err == nil || resp == nil || resp.StatusCode != 503 {
		t.Errorf("an upgrade in the grace: %v, %v", resp, err)
	}
	verb(t, 0, "stop", "--name", p.name)
	c.closes(websocket.StatusGoingAway, "shutting down")
	p.exit(0)
}

// Nobody is waited for where nobody is; a second signal ends at once.
func TestDrainNobodyAndTwice(t *testing.T) {
	t.Parallel()
	times := []string{"--drain-grace", "1h", "--drain-time", "1h"}
	p := runs(t, "nobody", times...)
	p.signal(unix.SIGTERM)
	p.exit(0)
	p = runs(t, "twice", times...)
	c := p.dial()
	p.signal(unix.SIGINT)
	p.says(`"msg":"draining","clients":1`)
	net := gone(t, children(t, p.cmd.Process.Pid)["tw net:0"])
	time.Sleep(2 * together) // else it counts as the first one, sent twice
	p.signal(unix.SIGTERM)
	p.exit(128 + 15)
	if in, err := instance.Join(p.name, shmem.ReadOnly); err == nil {
		in.Leave()
		t.Error("its memory is left")
	}
	net()
	if _, err := c.next(); err == nil {
		t.Error("a message")
	}
}

// A lame duck takes its time, and less when it is told to drain after all. The verb waits for the end.
func TestLameDuckAndDrainVerb(t *testing.T) {
	t.Parallel()
	p := runs(t, "duck", "--lame-duck", "1h")
	cs := []*client{p.dial(), p.dial(), p.dial()}
	p.signal(unix.SIGUSR2)
	p.says(`"msg":"draining","clients":3,"grace":"0s","over":"1h`)
	cs[0].Reader(t.Context()) // the first goes at once; which it is is not said
	_, said := verb(t, 0, "drain", "--name", "duck", "--timeout", "20s")
	if !regexp.MustCompile(`^  \d clients are sent away within 0s\n$`).MatchString(said) {
		t.Errorf("%q", said)
	}
	for _, c := range cs[1:] {
		c.closes(websocket.StatusServiceRestart, "restarting")
	}
	p.exit(0)
	if _, said := verb(t, 5, "drain", "--name", "duck"); !strings.Contains(said, "no instance called") {
		t.Errorf("%q", said)
	}
}

func TestDrainVerbTimesOut(t *testing.T) {
	t.Parallel()
	p := runs(t, "late", "--drain-grace", "1h")
	c := p.dial()
	if _, said := verb(t, 124, "drain", "--name", "late", "--timeout", "100ms"); !strings.Contains(said, "goes on with the drain") {
		t.Errorf("%q", said)
	}
	if _, said := verb(t, 1, "reload", "--name", "late"); !strings.Contains(said, "the instance is draining") {
		t.Errorf("%q", said)
	}
	verb(t, 0, "stop", "--name", "late") // ends a drain too
	c.closes(websocket.StatusGoingAway, "shutting down")
	p.exit(0)
}

// ready and ps need no daemon: before, while and after.
func TestReadyAndPs(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/dev/shm", "tilewire-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	own := func(c *exec.Cmd) {
		c.Env = append(os.Environ(), "TILEWIRE_SHM_DIR="+dir, "TILEWIRE_RUN_DIR="+filepath.Join(dir, "run"))
	}
	verb := func(exit int, args ...string) string {
		t.Helper()
		p := startAs(t, own, args...)
		p.exit(exit)
		return p.out.String() + p.err.String()
	}
	ps := func() (s struct {
		Instances []instance.Status
		Removed   []string
	}) {
		t.Helper()
		if err := json.Unmarshal([]byte(verb(0, "ps", "--json")), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := verb(5, "ready", "--timeout", "50ms"); !strings.Contains(s, "no instance") {
		t.Error(s)
	}
	if s := verb(0, "ps"); s != "no instance is here\n" {
		t.Error(s)
	}
	early := startAs(t, own, "ready", "--timeout", "20s") // before there is one
	p := startAs(t, own, "run", "--listen", "127.0.0.1:0", "--ring-size-mib", "1", "--max-connections", "64", "--", "echo", "done")
	p.serving()
	early.exit(0)
	verb(0, "ready") // finds the one that runs
	s := ps()
	if len(s.Instances) != 1 || s.Instances[0].State != "ready" || s.Instances[0].Name != "main" || s.Instances[0].Pid != p.cmd.Process.Pid ||
		len(s.Instances[0].Tiles) != 3 || s.Instances[0].Tiles[1].State != "running" || s.Instances[0].Tiles[1].Pid == 0 {
		t.Errorf("%+v", s)
	}
	net := s.Instances[0].Tiles[1].Pid // behind admin:0
	if err := unix.Kill(net, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.says(`"msg":"stuck","tile":"net:0"`)
	if s := verb(124, "ready", "--timeout", "50ms"); !regexp.MustCompile(`net:0 \(process \d+\) is stuck`).MatchString(s) {
		t.Error(s)
	}
	if s := verb(0, "ps"); !regexp.MustCompile(`(?m)^instance +state .*\nmain +ready \S+ +supervisor +\d+ .*127.0.0.1:\d+\n(?:main .* admin:0 .*\n)main .* net:0 +\d+ .* stuck +[\d.]+m?s +0`).MatchString(s) {
		t.Error(s)
	}
	if err := unix.Kill(net, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	verb(0, "ready")
	if s := verb(0, "ps", "--clean"); strings.Contains(s, "removed") {
		t.Error(s)
	}
	p.kills() // as long as one tile is there, it is unserved, not crashed
	if s := ps(); len(s.Instances) != 1 || s.Instances[0].State != "crashed" || s.Instances[0].Tiles[1].State != "killed" {
		t.Errorf("%+v", s)
	}
	verb(5, "ready", "--timeout", "50ms", "--name", "main")
	if s := verb(5, "stop", "--name", "main"); !strings.Contains(s, "nobody serves") {
		t.Error(s)
	}
	if s := verb(0, "ps", "--clean"); s != "removed main\nno instance is here\n" {
		t.Error(s)
	}
	if left, _ := filepath.Glob(dir + "/run/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// One tile is started anew, and the verb is back when it serves.
func TestRestartVerb(t *testing.T) {
	t.Parallel()
	p := runs(t, "again", "--history", "1", "--", "sh", "-c", "echo $$; exec sleep 1000")
	c := p.dial()
	first, err := c.next()
	if err != nil {
		t.Fatal(err)
	}
	verb(t, 0, "restart", "net:0", "--name", "again")
	p.dial().gets(first) // at once; and the one who was there before has noticed nothing
	verb(t, 0, "restart", "source:0", "--name", "again")
	if s, err := c.next(); err != nil || s == first {
		t.Errorf("%q, %v", s, err)
	}
	if strings.Contains(p.err.String(), "WARN") {
		t.Error("a restart that was asked for is no death:\n" + p.err.String())
	}
	if _, said := verb(t, 2, "restart", "net:7", "--name", "again"); !strings.Contains(said, `no tile "net:7" runs here; these do: admin:0, net:0, source:0`) {
		t.Error(said)
	}
	p.signal(unix.SIGTERM)
	c.closes(websocket.StatusServiceRestart, "restarting")
	p.exit(0)
}

// SIGQUIT writes the stacks of the supervisor and its tiles, and they go on.
func TestQuitDumpsStacks(t *testing.T) {
	t.Parallel()
	p := runs(t, "stacks", "--", "sleep", "1000")
	kids := children(t, p.cmd.Process.Pid)
	for range 2 {
		p.signal(unix.SIGQUIT)
	}
	for who, pid := range map[string]int{"supervisor": p.cmd.Process.Pid, "net:0": kids["tw net:0"], "source:0": kids["tw source:0"]} {
		p.says(fmt.Sprintf(`stacks of %s, process %d:\ngoroutine \d+ .*\n`, who, pid))
	}
	p.says(`(?s)tile\.\(\*Loop\)\.Run.*main\.runNetTile`)
	p.dial()
	if now := children(t, p.cmd.Process.Pid); now["tw net:0"] != kids["tw net:0"] || now["tw source:0"] != kids["tw source:0"] {
		t.Errorf("%v, then %v", kids, now)
	}
	p.signal(unix.SIGTERM)
	p.exit(0)
}

// A supervisor that is killed takes along all that a command has started, whatever session it is in, and its port is free.
func TestSupervisorKilledLeavesNobody(t *testing.T) {
	t.Parallel()
	setsid, err := exec.LookPath("setsid")
	if err != nil {
		t.Skip("no setsid here (Debian: util-linux)")
	}
	args := []string{"run", "--name", "offspring", "--ring-size-mib", "4", "--max-connections", "64"}
	p := start(t, append(args, "--listen", "127.7.0.2:0", "--history", "9", "--", "sh", "-c", // an address of its own: nobody takes the port meanwhile
		`sleep 1000 & echo $!; `+setsid+` -f sh -c 'sleep 1000 & echo $!; echo $$; exec sleep 1000'; sleep 1000`)...)
	p.serving()
	c := p.dial()
	var waits []func()
	for range 3 {
		s, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		waits = append(waits, gone(t, pid))
	}
	p.kills()
	for _, wait := range waits {
		wait()
	}
	addr := strings.Trim(strings.TrimPrefix(p.url, "http://"), "/")
	next := start(t, append(args, "--listen", addr)...)
	next.serving()
	next.signal(unix.SIGTERM)
	next.exit(0)
}

// Orphans of a command that lives are buried, not collected.
func TestOrphansAreBuried(t *testing.T) {
	t.Parallel()
	p := runs(t, "orphans", "--history", "9", "--", "sh", "-c", `(sh -c 'echo $$; exec sleep 0.05' &); exec sleep 1000`)
	s, err := p.dial().next()
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); ; time.Sleep(time.Millisecond) { // a burial tells nobody
		if _, err := os.Stat("/proc/" + s); err != nil {
			break
		}
		if time.Since(begin) > limit {
			b, _ := os.ReadFile("/proc/" + s + "/status")
			t.Fatalf("%s", b)
		}
	}
	p.signal(unix.SIGTERM)
	p.exit(0)
}

func TestLogFlags(t *testing.T) {
	t.Parallel()
	p := runs(t, "quietlog", "--log-level", "warn", "--log-format", "text")
	if err := unix.Kill(children(t, p.cmd.Process.Pid)["tw net:0"], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.says(`level=WARN msg=died tile=net:0`)
	p.signal(unix.SIGTERM)
	p.exit(0)
	if s := p.err.String(); strings.Contains(s, "level=INFO") || strings.Contains(s, `{"time"`) {
		t.Error(s)
	}
	if _, said := verb(t, 2, "run", "--log-level", "loud"); !strings.Contains(said, "one of debug, info, warn, error") {
		t.Error(said)
	}
}
