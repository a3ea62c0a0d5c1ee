package topo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// childEnv makes the test binary play the tile that it names; the rest of the environment says how.
const childEnv = "TOPO_TEST_CHILD"

func TestMain(m *testing.M) {
	if part := os.Getenv(childEnv); part != "" {
		if err := childMain(part); err != nil {
			fmt.Fprintln(os.Stderr, part+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func openFDs(t *testing.T) map[string]string {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			m[fd.Name()] = to
		}
	}
	return m
}

// childMain is what the tiles of the tests do.
func childMain(part string) error {
	var c *tile.Cnc
	if name := os.Getenv("TOPO_TEST_REGION"); name != "" {
		r, err := shmem.Open(name, shmem.ReadWrite)
		if err != nil {
			return err
		}
		i, err := strconv.Atoi(os.Getenv("TOPO_TEST_INDEX"))
		if err != nil {
			return err
		}
		m, err := r.Mem().Slice(uint64(i)*tile.CncFootprint, tile.CncFootprint)
		if err != nil {
			return err
		}
		if c, err = tile.CncJoin(m); err != nil {
			return err
		}
		if _, err = c.Take(); err != nil {
			return err
		}
	}
	l := tile.Loop{Cnc: c, CPU: tile.Float, Interval: 5 * time.Millisecond,
		Poll: func(_ int64, ms int) int { time.Sleep(time.Duration(ms) * time.Millisecond); return 0 }}
	switch part {
	case "tile":
		return l.Run()
	case "quiet": // a tile that does not know of NotifyReady
		os.Unsetenv(tile.ReadyEnv)
		return l.Run()
	case "done": // ends by itself
		l.Poll = func(int64, int) int { l.Stop(nil); return 0 }
		return l.Run()
	case "fail":
		l.Poll = func(int64, int) int { l.Stop(errors.New("nothing works")); return 0 }
		return l.Run()
	case "panic":
		l.Poll = func(int64, int) int { panic("at the disco") }
		return l.Run()
	case "refuse":
		c.Fail(errors.New("no such thing"))
		os.Exit(refusal)
	case "late": // was ready; refuses at SIGTERM
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		go func() {
			<-term
			os.Exit(refusal)
		}()
		return l.Run()
	case "unready":
		forever()
	case "sleep":
		tellParent()
		forever()
	case "deaf": // knows of no halt
		c.SetSignal(tile.SignalRun)
		tile.NotifyReady()
		forever()
	case "deafer": // nor of SIGTERM
		signal.Ignore(syscall.SIGTERM)
		c.SetSignal(tile.SignalRun)
		tile.NotifyReady()
		forever()
	case "leaves": // an orphan, in a session of its own, that an orphan of its own follows
		for range 2 {
			if err := leave(); err != nil {
				return err
			}
		}
		return l.Run()
	case "orphan":
		if err := leave(); err != nil {
			return err
		}
		tellParent()
		forever()
	case "fds":
		return listFDs()
	case "catches": // and says so
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		fmt.Println(os.Getpid())
		<-term
		fmt.Println("caught")
		return nil
	case "keep":
		return echoTile(c, &l)
	case "supervisor":
		return superviseAndReport("sleep", 0)
	case "keeping supervisor":
		return superviseAndReport("keep", 0)
	case "gentle supervisor":
		return superviseAndReport("catches", syscall.SIGTERM)
	}
	return fmt.Errorf("no such part: %s", part)
}

// refusal is the exit code of a tile that cannot run.
const refusal = 9

// forever is what select {} would be if the runtime did not call that a deadlock.
func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

// leave starts a process that outlives this one, and waits until it and what it leaves are up.
func leave() error {
	rd, wr, err := os.Pipe()
	if err != nil {
		return err
	}
	part := "sleep"
	if os.Getenv(childEnv) == "leaves" {
		part = "orphan"
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+part, "TOPO_TEST_REGION=", "TOPO_TEST_TELL=3")
	cmd.ExtraFiles = []*os.File{wr}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	wr.Close()
	defer rd.Close()
	if err != nil {
		return err
	}
	_, err = rd.Read(make([]byte, 1))
	return err
}

func tellParent() {
	if os.Getenv("TOPO_TEST_TELL") != "" {
		unix.Write(3, []byte{1})
		unix.Close(3)
	}
}

// inheritable lists the descriptors that exec does not close.
func inheritable() (fds []int) {
	for fd := range 1024 {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// listFDs writes what it inherited to descriptor 3.
func listFDs() error {
	out := os.NewFile(3, "out")
	for _, fd := range inheritable() {
		to, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		fmt.Fprintf(out, "%d %s\n", fd, to)
	}
	fmt.Fprintf(out, "pgrp %t ready %s\n", unix.Getpgrp() == os.Getpid(), os.Getenv(tile.ReadyEnv))
	return nil
}

// superviseAndReport supervises one tile, tells its pid, and lives until it is killed.
func superviseAndReport(part string, death syscall.Signal) error {
	os.Setenv(childEnv, part) // of a variable that is there twice the first counts: the tile would supervise one of its own, and so on
	s, err := New([]Spec{{Kind: "net", Path: os.Args[0], CPU: tile.Float, DeathSignal: death, Keep: part == "keep"}}, Options{
		Event: func(e Event) {
			if e.What == Ready && death == 0 { // else the tile tells it, once it can catch
				fmt.Println(e.Pid)
			}
		},
	})
	if err != nil {
		return err
	}
	return s.Run(context.Background())
}

// yard is a supervisor under test, with its cncs in a region and a log of its events.
type yard struct {
	t      *testing.T
	s      *Supervisor
	specs  []Spec
	events chan Event
	done   chan error
	log    []string
	mu     sync.Mutex
}

var regionSerial atomic.Int64

// newYard makes tiles called t:0, t:1 ... of these parts.
func newYard(t *testing.T, o Options, parts ...string) *yard {
	t.Helper()
	name := fmt.Sprintf("topotest-%d-%d", os.Getpid(), regionSerial.Add(1))
	r, err := shmem.Create(name, uint64(len(parts))*tile.CncFootprint, shmem.Options{Backing: shmem.BackingShm, MaxPageSize: shmem.PageNormal})
	if err != nil {
		t.Skipf("no region to be had: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Leave(); err != nil {
			t.Error(err)
		}
		if err := shmem.Unlink(name, true); err != nil {
			t.Error(err)
		}
	})
	y := &yard{t: t, events: make(chan Event, 1000), done: make(chan error, 1)}
	for i, part := range parts {
		m, err := r.Mem().Slice(uint64(i)*tile.CncFootprint, tile.CncFootprint)
		if err != nil {
			t.Fatal(err)
		}
		if err := tile.CncNew(m, "t", i); err != nil {
			t.Fatal(err)
		}
		y.specs = append(y.specs, Spec{Kind: "t", ID: i, Path: os.Args[0], CPU: tile.Float, Cnc: m,
			Env: append(os.Environ(), childEnv+"="+part, "GORACE=atexit_sleep_ms=0", "TOPO_TEST_REGION="+name, "TOPO_TEST_INDEX="+strconv.Itoa(i))})
	}
	o.Event = func(e Event) {
		y.mu.Lock()
		y.log = append(y.log, e.String())
		y.mu.Unlock()
		y.events <- e
	}
	y.o(o)
	return y
}

func (y *yard) o(o Options) {
	y.t.Helper()
	var err error
	if y.s, err = New(y.specs, o); err != nil {
		y.t.Fatal(err)
	}
}

// run starts Run; when the test ends, all must be gone.
func (y *yard) run(ctx context.Context) {
	over := make(chan struct{})
	go func() { y.done <- y.s.Run(ctx); close(over) }()
	y.t.Cleanup(func() {
		y.s.Kill()
		select {
		case <-over:
		case <-time.After(10 * time.Second):
			y.t.Error("Run does not return")
		}
		if y.t.Failed() {
			y.mu.Lock()
			defer y.mu.Unlock()
			y.t.Log("events:\n" + strings.Join(y.log, "\n"))
		}
		for _, pid := range strays() {
			y.t.Errorf("pid %d is left", pid)
		}
	})
}

// end waits for Run to return.
func (y *yard) end() error {
	y.t.Helper()
	select {
	case err := <-y.done:
		return err
	case <-time.After(10 * time.Second):
		y.t.Fatal("Run does not return")
		return nil
	}
}

// next waits for an event of this sort about tile id (-1: any), passing over others.
func (y *yard) next(w What, id int) Event {
	y.t.Helper()
	timeout := time.After(10 * time.Second)
	for {
		select {
		case e := <-y.events:
			if e.What == w && (id < 0 || e.ID == id) {
				return e
			}
		case <-timeout:
			y.t.Fatalf("no event %v of tile %d", w, id)
		}
	}
}

// rest lists the events that have come since, once Run has returned.
func (y *yard) rest() (all []Event) {
	for {
		select {
		case e := <-y.events:
			all = append(all, e)
		default:
			return all
		}
	}
}

// gone waits for a process that is not our child.
func gone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
	for err == unix.EINTR {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000)
	}
	if n != 1 {
		t.Errorf("pid %d lives", pid)
		unix.Kill(pid, unix.SIGKILL)
	}
}
