package topo

import (
	"bufio"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

func TestStartReadyStop(t *testing.T) {
	y := newYard(t, Options{}, "tile", "quiet", "tile")
	woken := []int{}
	for i := range y.specs {
		y.specs[i].Wake = func() { woken = append(woken, i) }
	}
	y.o(Options{Event: y.s.o.Event})
	ctx, cancel := context.WithCancel(t.Context())
	y.run(ctx)
	for i := range 3 { // each when those before it are ready
		if e := y.next(Started, -1); e.ID != i || e.Pid == 0 {
			t.Fatalf("%v, want tile %d", e, i)
		}
		if e := y.next(Ready, -1); e.ID != i || e.Took <= 0 || (i != 1 && e.Took > 3*time.Second) {
			t.Fatalf("%v, want tile %d", e, i)
		}
	}
	<-y.s.AllReady()
	rows := y.s.Status()
	for i, r := range rows {
		if r.ID != i || r.State != StateRunning || r.Pid == 0 || r.Age < 0 || r.Age > time.Second || r.Signal != tile.SignalRun || r.CPU != tile.Float {
			t.Errorf("row %+v", r)
		}
		c, _ := tile.CncJoin(y.specs[i].Cnc)
		if !c.Held() || c.Pid() != r.Pid {
			t.Errorf("cnc of %d: held %t pid %d", i, c.Held(), c.Pid())
		}
	}
	if table := Table(rows); strings.Count(table, "\n") != 4 || !strings.Contains(table, "t:2") || !strings.Contains(table, "running") {
		t.Errorf("table\n%s", table)
	}
	if err := y.s.Run(ctx); !errors.Is(err, ErrRunning) {
		t.Errorf("second Run: %v", err)
	}
	cancel()
	for i := 2; i >= 0; i-- {
		if e := y.next(Died, -1); e.ID != i || !e.Exit.Clean() || !e.Expected || e.Again {
			t.Errorf("%v, want tile %d", e, i)
		}
	}
	if err := y.end(); err != nil {
		t.Error(err)
	}
	if !slices.Equal(woken, []int{2, 1, 0}) {
		t.Errorf("woken %v", woken)
	}
	if r := y.s.Status()[0]; r.State != StateEnded || r.Pid != 0 {
		t.Errorf("row %+v", r)
	}
	if err := y.s.Restart("t", 0); !errors.Is(err, ErrNoTile) {
		t.Error(err)
	}
	y.s.Stop() // does nothing, and to no descriptor
}

func TestKilledIsRestarted(t *testing.T) {
	y := newYard(t, Options{BackoffMin: 60 * time.Millisecond, BackoffMax: time.Minute, Budget: 3}, "tile", "tile")
	y.run(t.Context())
	<-y.s.AllReady()
	other := y.s.Status()[0].Pid
	after := []time.Duration{0, 60 * time.Millisecond, 120 * time.Millisecond}
	for n, want := range after {
		e := y.next(Ready, 1)
		killed := time.Now()
		if err := unix.Kill(e.Pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		d := y.next(Died, 1)
		if d.Exit.Signal != syscall.SIGKILL || d.Pid != e.Pid || d.Expected || !d.Again || d.After != want {
			t.Errorf("death %d: %v after %v, want %v", n, d, d.After, want)
		}
		r := y.next(Restarted, 1)
		if took := time.Since(killed); took < want || took > want+2*time.Second {
			t.Errorf("restart %d after %v, want %v", n, took, want)
		}
		if r.Restarts != n+1 || r.Pid == e.Pid {
			t.Errorf("restart %d: %v", n, r)
		}
	}
	e := y.next(Ready, 1)
	rows := y.s.Status()
	if c, _ := tile.CncJoin(y.specs[1].Cnc); c.Restarts() != 3 || rows[1].Restarts != 3 || rows[0].Pid != other || rows[0].Restarts != 0 {
		t.Errorf("restarts %d, rows %+v", c.Restarts(), rows)
	}

	// The budget is spent now.
	unix.Kill(e.Pid, unix.SIGKILL)
	if d := y.next(Died, 1); d.Again {
		t.Errorf("%v", d)
	}
	y.next(GaveUp, 1)
	if d := y.next(Died, 0); !d.Expected || !d.Exit.Clean() {
		t.Errorf("the other: %v", d)
	}
	err := y.end()
	if !errors.Is(err, ErrBudget) || !strings.Contains(err.Error(), "t:1") || !strings.Contains(err.Error(), "3 restarts") {
		t.Errorf("%v", err)
	}
}

func TestEndsAndPolicies(t *testing.T) {
	for _, c := range []struct {
		part    string
		restart Restart
		budget  int
		ends    error
		cause   string
		deaths  int
	}{
		{"done", RestartOnFailure, 5, nil, "", 1},
		{"done", RestartAlways, 2, ErrBudget, "", 3},
		{"fail", RestartOnFailure, 1, ErrBudget, "nothing works", 2},
		{"fail", RestartNever, 5, nil, "nothing works", 1},
		{"panic", RestartOnFailure, -1, ErrBudget, "panic: at the disco", 1},
	} {
		t.Run(c.part, func(t *testing.T) {
			y := newYard(t, Options{}, c.part)
			y.specs[0].Restart = c.restart
			null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer null.Close()
			y.specs[0].Stderr = null
			y.o(Options{BackoffMin: time.Millisecond, Budget: c.budget, Event: y.s.o.Event})
			y.run(t.Context())
			if err := y.end(); !errors.Is(err, c.ends) {
				t.Errorf("%v, want %v", err, c.ends)
			} else if err != nil && !strings.Contains(err.Error(), c.cause) {
				t.Errorf("%v does not say %q", err, c.cause)
			}
			deaths := 0
			for _, e := range y.rest() {
				if e.What == Died {
					if deaths++; e.Cause != c.cause {
						t.Errorf("cause %q", e.Cause)
					}
				}
			}
			if deaths != c.deaths {
				t.Errorf("%d deaths", deaths)
			}
		})
	}
}

func TestStuck(t *testing.T) {
	const timeout = 150 * time.Millisecond
	y := newYard(t, Options{}, "tile", "tile")
	note := y.s.o.Event
	y.o(Options{HeartbeatTimeout: timeout, Event: func(e Event) {
		if e.What == Stuck && e.Age < timeout {
			t.Errorf("%v", e)
		}
		note(e)
	}})
	y.run(t.Context())
	<-y.s.AllReady()
	pid := y.s.Status()[0].Pid
	unix.Kill(pid, unix.SIGSTOP)
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	for y.next(Stuck, 0); y.s.Status()[0].State != StateStuck; y.next(Stuck, 0) { // it was late before it was stopped
	}
	if r := y.s.Status()[0]; r.State != StateStuck || r.Age < timeout || r.Pid != pid {
		t.Errorf("%+v", r)
	}
	unix.Kill(pid, unix.SIGCONT)
	y.next(Recovered, 0)
	if r := y.s.Status()[0]; r.State != StateRunning && r.Age < timeout || r.Pid != pid {
		t.Errorf("%+v", r)
	}
	y.s.Stop()
	if err := y.end(); err != nil {
		t.Error(err)
	}
	for _, e := range y.rest() { // a machine that has other things to do makes tiles late
		if e.What != Stuck && e.What != Recovered && (e.What != Died || !e.Exit.Clean()) {
			t.Errorf("%v", e)
		}
	}
}

func TestStuckKilled(t *testing.T) {
	y := newYard(t, Options{HeartbeatTimeout: 150 * time.Millisecond, KillStuck: true}, "tile")
	y.run(t.Context())
	pid := y.next(Ready, 0).Pid
	unix.Kill(pid, unix.SIGSTOP)
	y.next(Stuck, 0)
	if e := y.next(Died, 0); e.Exit.Signal != syscall.SIGKILL || e.Cause != "stuck" || e.Expected || !e.Again {
		t.Errorf("%v", e)
	}
	if e := y.next(Ready, 0); e.Pid == pid {
		t.Error("not restarted")
	}
}

func TestUnready(t *testing.T) {
	y := newYard(t, Options{ReadyTimeout: 200 * time.Millisecond, Budget: -1}, "unready", "tile")
	y.run(t.Context())
	y.next(Unready, 0)
	if e := y.next(Died, 0); e.Exit.Signal != syscall.SIGKILL || !strings.Contains(e.Cause, "not ready after 200ms") {
		t.Errorf("%v", e)
	}
	if err := y.end(); !errors.Is(err, ErrBudget) {
		t.Error(err)
	}
	for _, e := range y.rest() {
		if e.ID == 1 {
			t.Errorf("%v, though what comes before it was never ready", e)
		}
	}
}

// TestRefusal: who says that it cannot run is not started again, unless it once could.
func TestRefusal(t *testing.T) {
	y := newYard(t, Options{Refusal: refusal}, "tile", "refuse", "tile")
	y.run(t.Context())
	y.next(Started, 1)
	if e := y.next(Died, -1); e.ID != 1 || e.Again || e.Cause != "no such thing" {
		t.Errorf("%v", e)
	}
	if e := y.next(GaveUp, -1); e.ID != 1 || e.Restarts != 0 {
		t.Errorf("%v", e)
	}
	if err := y.end(); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "t:1 (exit 9): no such thing") {
		t.Error(err)
	}
	for _, e := range y.rest() {
		if e.ID != 0 || e.What != Died || !e.Expected {
			t.Errorf("%v", e)
		}
	}

	y = newYard(t, Options{Refusal: refusal, Budget: 1}, "late")
	y.run(t.Context())
	unix.Kill(y.next(Ready, 0).Pid, unix.SIGTERM)
	if e := y.next(Died, 0); !e.Again || e.Exit.Code != refusal {
		t.Errorf("%v", e)
	}
	y.next(Ready, 0)
}

// TestForced: halt, SIGTERM, SIGKILL, each in its time, last tile first.
func TestForced(t *testing.T) {
	// Long enough for the one that obeys, on a machine that has other things to do.
	const halt, term = time.Second, 250 * time.Millisecond
	y := newYard(t, Options{HaltGrace: halt, TermGrace: term}, "tile", "deaf", "deafer")
	y.run(t.Context())
	<-y.s.AllReady()
	for range 3 {
		y.next(Ready, -1)
	}
	began := time.Now()
	y.s.Stop()
	if err := y.end(); err != nil {
		t.Error(err)
	}
	if took, least := time.Since(began), 2*halt+term; took < least || took > least+3250*time.Millisecond {
		t.Errorf("took %v", took)
	}
	var got []string
	for _, e := range y.rest() {
		got = append(got, e.What.String()+" "+strconv.Itoa(e.ID)+" "+strings.Split(e.Cause, ":")[0]+e.Exit.String())
	}
	want := []string{"forced 2 SIGTERMexit 0", "forced 2 SIGKILLexit 0", "died 2 signal killed",
		"forced 1 SIGTERMexit 0", "died 1 signal terminated", "died 0 exit 0"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestKillAtOnce(t *testing.T) {
	y := newYard(t, Options{HaltGrace: time.Minute}, "deafer", "deafer")
	y.run(t.Context())
	<-y.s.AllReady()
	y.s.Stop()
	y.s.Kill()
	if err := y.end(); err != nil {
		t.Error(err)
	}
	for i := range 2 {
		if r := y.s.Status()[i]; r.Exit.Signal != syscall.SIGKILL || r.State != StateEnded {
			t.Errorf("%+v", r)
		}
	}
}

func TestRestartOne(t *testing.T) {
	y := newYard(t, Options{Budget: -1}, "tile", "tile")
	y.run(t.Context())
	<-y.s.AllReady()
	first := y.s.Status()
	if err := y.s.Restart("t", 0); err != nil {
		t.Fatal(err)
	}
	if e := y.next(Died, 0); !e.Expected || !e.Exit.Clean() || !e.Again {
		t.Errorf("%v", e)
	}
	if e := y.next(Ready, 0); e.Pid == first[0].Pid {
		t.Error("the same process")
	}
	if r := y.s.Status(); r[1].Pid != first[1].Pid || r[0].Restarts != 1 {
		t.Errorf("%+v", r)
	}
	if err := y.s.Restart("t", 9); !errors.Is(err, ErrNoTile) {
		t.Error(err)
	}
}

// TestStrays: what a tile leaves behind, out of its group and its session, is ended; what is spared is not.
func TestStrays(t *testing.T) {
	y := newYard(t, Options{}, "leaves")
	bystander := exec.Command(os.Args[0]) // a child of ours in our group is nobody's stray
	bystander.Env = append(os.Environ(), childEnv+"=sleep")
	bystander.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	_ = plainStarter().do(func() {
		if err := bystander.Start(); err != nil {
			t.Error(err)
		}
	})
	defer func() { bystander.Process.Kill(); bystander.Wait() }()
	y.run(t.Context())
	e := y.next(Ready, 0)
	unix.Kill(e.Pid, unix.SIGKILL)
	y.next(Ready, 0)
	y.s.Stop()
	if err := y.end(); err != nil {
		t.Error(err)
	}
	pids := map[int]bool{}
	for _, line := range y.log {
		if pid, ok := strings.CutPrefix(line, "stray pid="); ok {
			n, _ := strconv.Atoi(pid)
			pids[n] = true
		}
	}
	// Two orphans of each life, and the orphan's own of each.
	if len(pids) != 8 || pids[bystander.Process.Pid] {
		t.Errorf("strays %v, bystander %d", pids, bystander.Process.Pid)
	}
	for pid := range pids {
		gone(t, pid)
	}
	if err := unix.Kill(bystander.Process.Pid, 0); err != nil {
		t.Errorf("bystander: %v", err)
	}
}

func TestSpare(t *testing.T) {
	y := newYard(t, Options{}, "leaves")
	var spared []int
	y.o(Options{Event: y.s.o.Event, Spare: func(pid int) bool { spared = append(spared, pid); return true }})
	y.run(t.Context())
	y.next(Ready, 0)
	y.s.Stop()
	if err := y.end(); err != nil {
		t.Error(err)
	}
	if len(spared) < 2 {
		t.Fatalf("asked about %v", spared)
	}
	for _, e := range y.rest() {
		if e.What == Stray {
			t.Errorf("%v", e)
		}
	}
	// They are our children still: end them, and what they leave in turn.
	becomeSubreaper()
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	for pids := strays(); len(pids) > 0; pids = strays() {
		for _, pid := range pids {
			st, err := endStray(pid)
			if err != nil {
				t.Fatal(err)
			}
			gone(t, pid)
			st.reap()
		}
	}
}

// TestSupervisorKilled: tiles die with their supervisor, even of SIGKILL.
func TestSupervisorKilled(t *testing.T) {
	for part, last := range map[string]string{"supervisor": "", "gentle supervisor": "caught"} {
		t.Run(part, func(t *testing.T) { testSupervisorKilled(t, part, last) })
	}
}

// The last word is what the tile says when it is told of its supervisor's death.
func testSupervisorKilled(t *testing.T, part, last string) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+part)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	lines := bufio.NewScanner(out)
	began := time.Now()
	if !lines.Scan() {
		t.Fatal("the supervisor says nothing")
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("a process without cnc is ready when started, not after %v", took)
	}
	pid, err := strconv.Atoi(lines.Text())
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("the tile is not there: %v", err)
	}
	unix.Close(fd)
	cmd.Process.Kill()
	if lines.Scan(); lines.Text() != last {
		t.Errorf("%q, want %q", lines.Text(), last)
	}
	gone(t, pid)
}

// Budget and heartbeat timeout may be changed while tiles run.
func TestTune(t *testing.T) {
	y := newYard(t, Options{HeartbeatTimeout: time.Hour}, "tile")
	y.run(t.Context())
	pid := y.next(Ready, 0).Pid
	unix.Kill(pid, unix.SIGSTOP)
	y.s.Tune(-1, 100*time.Millisecond)
	if e := y.next(Stuck, 0); e.Pid != pid {
		t.Errorf("%v", e)
	}
	unix.Kill(pid, unix.SIGKILL)
	y.next(GaveUp, 0)
	if err := y.end(); !errors.Is(err, ErrBudget) {
		t.Error(err)
	}
	y.s.Tune(5, 0) // does nothing any more
}

// TestInherits: a tile has its three, its Files and the ready pipe, and nothing of ours; we have none too many after.
func TestInherits(t *testing.T) {
	var got []string
	run := func(t *testing.T) {
		rd, wr, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer rd.Close()
		y := newYard(t, Options{}, "tile", "fds")
		y.specs[1].Cnc = shmem.Mem{}
		y.specs[1].Files = []*os.File{wr}
		y.specs[1].Env = append(y.specs[1].Env, "TOPO_TEST_REGION=")
		y.o(Options{Event: y.s.o.Event})
		y.run(t.Context())
		y.next(Died, 1)
		y.s.Stop()
		if err := y.end(); err != nil {
			t.Error(err)
		}
		wr.Close()
		got = nil
		for lines := bufio.NewScanner(rd); lines.Scan(); {
			got = append(got, lines.Text())
		}
	}
	t.Run("first", run) // the runtime's own descriptors come with it
	before := openFDs(t)
	t.Run("second", run)
	// What this test was itself started with goes on to the tile; it is not ours to close.
	for _, fd := range inheritable() {
		if fd > 4 {
			got = slices.DeleteFunc(got, func(l string) bool { return strings.HasPrefix(l, strconv.Itoa(fd)+" ") })
		}
	}
	if len(got) != 6 || !strings.HasPrefix(got[0], "0 /dev/null") || !strings.HasPrefix(got[3], "3 pipe:") ||
		!strings.HasPrefix(got[4], "4 pipe:") || got[5] != "pgrp true ready 4" {
		t.Errorf("the tile has\n%s", strings.Join(got, "\n"))
	}
	if after := openFDs(t); len(after) != len(before) {
		t.Errorf("descriptors before %v\nafter %v", slices.Sorted(maps.Values(before)), slices.Sorted(maps.Values(after)))
	}
}

func TestNewAndStartNegative(t *testing.T) {
	mem := shmem.Heap(tile.CncFootprint, 128)
	if err := tile.CncNew(mem, "net", 0); err != nil {
		t.Fatal(err)
	}
	good := Spec{Kind: "net", Path: "/bin/true", Cnc: mem}
	change := func(f func(*Spec)) []Spec { s := good; f(&s); return []Spec{s} }
	for name, specs := range map[string][]Spec{
		"none":           nil,
		"no path":        change(func(s *Spec) { s.Path = "" }),
		"no kind":        change(func(s *Spec) { s.Kind = "" }),
		"other tile":     change(func(s *Spec) { s.ID = 1 }),
		"no cnc there":   change(func(s *Spec) { s.Cnc = shmem.Heap(tile.CncFootprint, 128) }),
		"read-only":      change(func(s *Spec) { s.Cnc = mem.AsReadOnly() }),
		"the same twice": {good, good},
	} {
		if _, err := New(specs, Options{}); !errors.Is(err, ErrSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := New(change(func(s *Spec) { s.Path = "/no/such/program" }), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, ErrStart) || !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "net:0") {
		t.Errorf("%v", err)
	}
	cnc, _ := tile.CncJoin(mem)
	role, err := cnc.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer role.Unlock()
	if s, err = New([]Spec{good}, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, tile.ErrHeld) {
		t.Errorf("somebody is that tile already: %v", err)
	}
}

// TestIdleBlocks: with nothing going on, the supervisor is woken for heartbeats only.
func TestIdleBlocks(t *testing.T) {
	y := newYard(t, Options{HeartbeatTimeout: 100 * time.Millisecond}, "tile", "tile", "done")
	y.run(t.Context())
	<-y.s.AllReady()
	y.next(Died, 2)
	y.s.mu.Lock()
	before, begin := y.s.turns, time.Now()
	y.s.mu.Unlock()
	<-time.After(300 * time.Millisecond)
	y.s.mu.Lock()
	defer y.s.mu.Unlock()
	// Each of two tiles is looked at once per 95 to 100 ms; the rest is for interrupted waits.
	if n, took := y.s.turns-before, time.Since(begin); n > int(took/(10*time.Millisecond)) {
		t.Errorf("%d turns in %v", n, took)
	}
}

func TestBackoff(t *testing.T) {
	for deaths, want := range []time.Duration{0, 1, 2, 4, 8, 10, 10, 10} {
		if got := backoff(deaths, 1, 10); got != want {
			t.Errorf("%d deaths: %d, want %d", deaths, got, want)
		}
	}
	if got := backoff(1000, time.Second, time.Hour); got != time.Hour {
		t.Error(got)
	}
}

// TestEventText: what operators read.
func TestEventText(t *testing.T) {
	for want, e := range map[string]Event{
		"died tile=net:0 pid=7 exit=signal killed restart_in=0s cause=stuck": {What: Died, Kind: "net", Pid: 7,
			Exit: Exit{Signal: syscall.SIGKILL}, Again: true, Cause: "stuck"},
		"ready tile=net:1 pid=7 took=1s": {What: Ready, Kind: "net", ID: 1, Pid: 7, Took: time.Second},
		"stray pid=9":                    {What: Stray, Pid: 9},
		"unknown":                        {What: 200},
	} {
		if e.String() != want {
			t.Errorf("%q, want %q", e.String(), want)
		}
	}
	if State(99).String() != "unknown" || StateEnded.String() != "ended" || Stray.String() != "stray" {
		t.Error("names and numbers do not fit")
	}
	if (Event{What: Died, Expected: true}).Level() != 0 || (Event{What: GaveUp}).Level() != 8 || (Event{What: Stuck}).Level() != 4 {
		t.Error("levels")
	}
}
