package main

import (
	"encoding/json"
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

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// runs starts an instance under a name of the test's.
func runs(t testing.TB, name string, args ...string) *proc {
	t.Helper()
	p := start(t, append([]string{"run", "--name", name, "--listen", "127.0.0.1:0", "--ring-size-mib", "4", "--max-connections", "64"}, args...)...)
	p.serving()
	return p
}

func TestRunCommand(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "in")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	p := runs(t, "cmd", "--", "cat", fifo)
	p.says(`(?s)tile +pid +cpu +state.*net:0 +\d+ +\S+ +running.*source:0 +\d+ +float +running`)
	c := p.dial()
	fmt.Fprintln(in, "a")
	c.gets("a")

	kids := children(t, p.cmd.Process.Pid)
	if kids["tw net:0"] == 0 || kids["tw source:0"] == 0 {
		t.Fatalf("children: %v", kids)
	}
	cat := children(t, kids["tw source:0"])["cat"]
	sourceGone, catGone := gone(t, kids["tw source:0"]), gone(t, cat)
	if err := unix.Kill(kids["tw source:0"], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	sourceGone()
	catGone() // the command goes with its tile
	p.says(`"msg":"ready","tile":"source:0".*\n(?s:.*)"msg":"restarted","tile":"source:0"`)
	fmt.Fprintln(in, "b")
	c.gets("b") // the clients have not noticed

	p.signal(unix.SIGTERM)
	c.closes(websocket.StatusServiceRestart, "restarting")
	p.exit(0)
	p.says(`"msg":"draining"(?s:.*)"msg":"ended","tile":"net:0"(?s:.*)"msg":"ended","tile":"source:0"`) // clients first, fed to their end
	if strings.Contains(p.err.String(), "forced") {
		t.Errorf("a tile had to be forced:\n%s", p.err.String())
	}
}

// A command that ignores SIGTERM, and a child of it, are ended all the same.
func TestRunStubbornCommand(t *testing.T) {
	t.Parallel()
	p := runs(t, "stubborn", "--history", "1", "--", "sh", "-c", `trap "" TERM; sleep 1000 & echo $!; while :; do wait; done`)
	c := p.dial()
	said, err := c.next() // the trap is set, and the child is there
	if err != nil {
		t.Fatal(err)
	}
	sleep, err := strconv.Atoi(said)
	if err != nil {
		t.Fatal(err)
	}
	source := children(t, p.cmd.Process.Pid)["tw source:0"]
	sh := children(t, source)["sh"]
	shGone := gone(t, sh)
	sleepGone := gone(t, sleep) // by its pid: its name is the shell's until it has executed
	p.signal(unix.SIGTERM)
	c.closes(websocket.StatusServiceRestart, "restarting")
	p.exit(0)
	shGone()
	sleepGone()
	if strings.Contains(p.err.String(), "forced") {
		t.Errorf("a tile had to be forced:\n%s", p.err.String())
	}
}

func TestRunBudgetSpent(t *testing.T) {
	t.Parallel()
	p := start(t, "run", "--name", "budget", "--listen", "127.0.0.1:0", "--ring-size-mib", "4", "--", "sh", "-c", "exit 7")
	p.exit(4)
	p.says(`tilewire: topo: restart budget is spent: source:0 .*exit status 7`)
}

// A file that may be executed but is no program is found only when it is: that is no death to start it again after.
func TestRunNoProgram(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "noprogram")
	if err := os.WriteFile(file, []byte("\x7fELF, but nothing more"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := start(t, "run", "--name", "noprogram", "--listen", "127.0.0.1:0", "--ring-size-mib", "4", "--", file)
	p.exit(2)
	p.says(`\ntilewire: topo: tile refuses to run: source:0 .*command cannot be started: .*exec format error.*\n$`)
	if strings.Contains(p.err.String(), `"restarted"`) {
		t.Errorf("it was started again:\n%s", p.err.String())
	}
}

// A command that ends in order leaves the instance up.
func TestRunCommandEnds(t *testing.T) {
	t.Parallel()
	p := runs(t, "ends", "--history", "10", "--", "printf", "a\nb\nlast")
	p.says(`"msg":"ended","tile":"source:0"`)
	c := p.dial()
	c.gets("a", "b", "last")
	p.signal(unix.SIGINT)
	c.closes(websocket.StatusServiceRestart, "restarting")
	p.exit(0)
}

func TestPipeJoin(t *testing.T) {
	t.Parallel()
	inst := runs(t, "joined")
	c := inst.dial()

	one := start(t, "pipe", "--join", "joined")
	one.write("a\n")
	c.gets("a")
	two := start(t, "pipe", "--join", "joined")
	two.exit(1)
	two.says(fmt.Sprintf(`^tilewire: joined: its ring has a producer, process %d \(tilewire\).*\n$`, one.cmd.Process.Pid))

	// Killed in the middle of staging: a line of which no end is in sight. The pipe takes 64 KiB at most,
	// so most of it was staged when the write returns.
	one.write(strings.Repeat("half ", 200_000))
	one.signal(unix.SIGKILL)
	one.exit(128 + 9)
	three := start(t, "pipe", "--join", "joined")
	three.write("b\nc")
	three.in.Close()
	three.exit(0)
	c.gets("b", "c") // nothing of the half line

	// An instance that ends takes its producers along.
	four := start(t, "pipe", "--join", "joined", "--frame", "nul")
	four.write("d\x00")
	c.gets("d")
	inst.signal(unix.SIGTERM)
	c.closes(websocket.StatusServiceRestart, "restarting")
	inst.exit(0)
	four.exit(1)
	four.says(`^tilewire: instance "joined" has ended\n$`)
}

// A supervisor that is killed leaves memory; a producer that is joined to it goes on under the next one.
func TestRunTakesOver(t *testing.T) {
	t.Parallel()
	p := runs(t, "over")
	prod := start(t, "pipe", "--join", "over")
	c := p.dial()
	prod.write("a\n")
	c.gets("a")
	second := start(t, "run", "--name", "over", "--listen", "127.0.0.1:0")
	second.exit(1)
	second.says(fmt.Sprintf(`^tilewire: name is taken: an instance called "over" is live \(process .*%d.*\n$`, p.cmd.Process.Pid))
	p.kills()
	p = runs(t, "over")
	c = p.dial()
	prod.write("b\n")
	c.gets("b")
	prod.in.Close()
	prod.exit(0)
	p.signal(unix.SIGTERM)
	p.exit(0)
}

// A producer is told when nobody serves what it publishes into, and when somebody does.
func TestPipeJoinUnserved(t *testing.T) {
	t.Parallel()
	start(t, "server", "new", "--name", "unserved", "--listen", "127.0.0.1:0", "--ring-size-mib", "4", "--max-connections", "64", "--history", "9").exit(0)
	prod := start(t, "pipe", "--join", "unserved")
	prod.says(`nobody serves instance "unserved".*` + "`tilewire run --name unserved`\n")
	prod.write("a\n")
	p := start(t, "run", "--name", "unserved")
	p.serving()
	prod.says(`instance "unserved" is served now\n`)
	c := p.dial()
	prod.write("b\n")
	c.gets("a", "b")
	prod.in.Close()
	prod.exit(0)
	if n := strings.Count(prod.err.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want 2:\n%s", n, prod.err.String())
	}
	prod = start(t, "pipe", "--join", "unserved")
	prod.in.Close()
	prod.exit(0)
	if s := prod.err.String(); s != "" {
		t.Errorf("of an instance that is served: %s", s)
	}
	p.signal(unix.SIGTERM)
	p.exit(0)
}

// What a killed demo leaves is removed by the next, though that has another name.
func TestDemoKilled(t *testing.T) {
	args := []string{"demo", "--clients", "5", "--stall", "0", "--duration", "100ms"}
	p := start(t, append(args, "--duration", "1m")...)
	p.says("will stop reading")
	name := strings.Fields(p.says(`instance +demo-\d+`))[1]
	p.kills()
	left := func() (found []string) {
		for _, pattern := range []string{shmDir + "/*" + name, filepath.Join(runDir, name)} {
			f, _ := filepath.Glob(pattern)
			found = append(found, f...)
		}
		return found
	}
	if len(left()) != 2 {
		t.Fatalf("a killed demo left %v", left())
	}
	start(t, args...).exit(0)
	if l := left(); len(l) > 0 {
		t.Errorf("left: %v", l)
	}
}

// Memory that was made beforehand: what it was made for holds, unless a flag says otherwise; what can't be had is refused.
func TestRunOnMadeMemory(t *testing.T) {
	t.Parallel()
	start(t, "server", "new", "--name", "made", "--listen", "127.0.0.1:0", "--ring-size-mib", "4", "--max-connections", "64", "--history", "1").exit(0)
	p := start(t, "run", "--name", "made", "--ring-size-mib", "8")
	p.exit(2)
	p.says(`^tilewire: --ring-size-mib 8: the memory of "made" was made for 4; .*server delete --name made.*\n$`)
	p = start(t, "run", "--name", "made")
	p.serving()
	prod := start(t, "pipe", "--join", "made")
	prod.write("a\nb\n")
	prod.in.Close()
	prod.exit(0)
	p.dial().gets("b")
	p.signal(unix.SIGINT)
	p.exit(0)
}

func TestDemo(t *testing.T) {
	// At this rate the ring holds 4 s: as long may a busy machine keep clients or the tile from their work.
	p := start(t, "demo", "--clients", "200", "--stall", "3", "--duration", "2s", "--rate", "500", "--json")
	p.exit(0)
	var s demoSummary
	if err := json.NewDecoder(strings.NewReader(p.out.String())).Decode(&s); err != nil {
		t.Fatalf("%v in %q", err, p.out.String())
	}
	if s.Clients != 200 || s.Stalled != 3 || s.Evicted != 3 || s.Others != 0 || s.Published < 400 || s.Deliveries < 1 {
		t.Errorf("%+v", s)
	}
	if s.Closed["ws_client_too_slow"] != 3 {
		t.Errorf("closed: %v", s.Closed)
	}
}

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	p := startAs(t, func(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }, "demo", "--clients", "20", "--stall", "1", "--duration", "1m")
	p.says("will stop reading")
	if err := unix.Kill(-p.cmd.Process.Pid, unix.SIGINT); err != nil { // as a terminal does
		t.Fatal(err)
	}
	p.exit(0)
	if ok, _ := regexp.MatchString(`(?s)^stopped      after \d.*\ndeliveries .*\nthe others   0 disturbed\nproducer `, p.out.String()); !ok {
		t.Errorf("no summary:\n%s", p.out.String())
	}
}

// Input that comes faster than the ring is large is held back, whether a pipe
// joins or a command is the source: nobody who reads is left behind.
func TestPaced(t *testing.T) {
	const n = 60_000
	long := strings.Repeat("x", 300)
	text := func() string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "%d %s\n", i, long)
		}
		return b.String()
	}()
	verify := func(t *testing.T, cs ...*client) {
		var wg sync.WaitGroup
		for _, c := range cs {
			wg.Go(func() {
				for i := range n {
					if got, err := c.next(); err != nil || got != fmt.Sprintf("%d %s", i, long) {
						t.Errorf("message %d: %.40q, %v", i, got, err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	t.Run("join", func(t *testing.T) {
		p := runs(t, "pacedjoin", "--ring-size-mib", "1")
		a, b := p.dial(), p.dial()
		j := start(t, "pipe", "--join", "pacedjoin")
		go func() {
			_, _ = io.WriteString(j.in, text)
			j.in.Close()
		}()
		verify(t, a, b)
		j.exit(0)
		p.signal(unix.SIGTERM)
		p.exit(0)
	})
	t.Run("command", func(t *testing.T) {
		dir := t.TempDir()
		file, gate := filepath.Join(dir, "text"), filepath.Join(dir, "gate")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(gate, 0o600); err != nil {
			t.Fatal(err)
		}
		p := runs(t, "pacedrun", "--ring-size-mib", "1", "--", "sh", "-c", "read x <"+gate+"; exec cat "+file)
		a, b := p.dial(), p.dial()
		if err := os.WriteFile(gate, []byte("go\n"), 0); err != nil { // waits until it is read
			t.Fatal(err)
		}
		verify(t, a, b)
		p.signal(unix.SIGTERM)
		p.exit(0)
	})
}

// A message whose end never came is not published when a pipe is told to stop.
func TestPipeStoppedInsideALine(t *testing.T) {
	t.Parallel()
	p := serve(t)
	c := p.dial()
	p.write("whole\nhalf a li")
	c.gets("whole")
	p.signal(unix.SIGINT)
	c.closes(websocket.StatusGoingAway, "shutting down")
	p.exit(0)
}
