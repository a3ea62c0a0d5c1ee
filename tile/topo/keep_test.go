package topo

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/keeper"
)

// echoTile takes connections off the listener 3, sends back what comes, on every socket that it finds open, and has a keeper.
func echoTile(c *tile.Cnc, l *tile.Loop) error {
	runtime.LockOSThread()
	if os.Getenv("TOPO_TEST_LEAK") != "" && c.Restarts()%2 == 1 { // it dies before it publishes its keeper
		k := shmem.Keep{Name: "tw keep leaked", Paths: [2]string{"/", "/"}}
		if _, err := k.Fork(); err != nil {
			return err
		}
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	if _, err := keeper.Start("t", 64); err != nil {
		return err
	}
	if c == nil {
		forever()
	}
	unix.SetNonblock(3, true) // os.StartProcess has it block
	var buf [4096]byte
	l.Poll = func(int64, int) (work int) {
		if fd, e := shmem.AcceptKept(3, nil); e == 0 {
			work++
			unix.SetNonblock(fd, true)
		}
		for fd := 4; fd < 64; fd++ {
			n, e := shmem.Recv(fd, buf[:])
			if e == 0 && n > 0 {
				shmem.Send(fd, buf[:n])
				work++
			} else if e == 0 {
				unix.Close(fd)
			}
		}
		if work == 0 {
			time.Sleep(time.Millisecond)
		}
		return work
	}
	return l.Run()
}

// keepYard is a yard of one tile that keeps, and the address that it serves. change, if any, is made to its spec.
func keepYard(t *testing.T, o Options, change func(*Spec)) (*yard, string) {
	t.Helper()
	y := newYard(t, o, "keep")
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	s := &y.specs[0]
	s.Keep, s.Files = true, []*os.File{f}
	if change != nil {
		change(s)
	}
	o.Event = y.s.o.Event
	y.o(o)
	y.run(t.Context())
	<-y.s.AllReady()
	return y, ln.Addr().String()
}

func connect(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp4", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// echoes sends a line and wants it back.
func echoes(t *testing.T, c net.Conn, line string) {
	t.Helper()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte(line)); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	got := make([]byte, len(line))
	for n := 0; n < len(line); {
		k, err := c.Read(got[n:])
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		n += k
	}
	if string(got) != line {
		t.Fatalf("%s comes back as %s", line, got)
	}
}

// keepers lists the keepers among the children of pid.
func keepers(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, l := range lists {
		b, _ := os.ReadFile(l)
		for f := range bytes.FieldsSeq(b) {
			comm, _ := os.ReadFile("/proc/" + string(f) + "/comm")
			stat, _ := os.ReadFile("/proc/" + string(f) + "/stat")
			if n, err := strconv.Atoi(string(f)); err == nil && strings.HasPrefix(string(comm), "tw keep") && !bytes.Contains(stat, []byte(") Z")) {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// one waits until there is one keeper, and returns it.
func oneKeeper(t *testing.T, of int) int {
	t.Helper()
	var k []int
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(2 * time.Millisecond) {
		if k = keepers(of); len(k) == 1 {
			return k[0]
		}
	}
	t.Fatalf("keepers: %v", k)
	return 0
}

// What a tile had accepted, and who waited to be, outlive its deaths.
func TestKeep(t *testing.T) {
	y, addr := keepYard(t, Options{Budget: 1000}, nil)
	c := connect(t, addr)
	echoes(t, c, "before")
	pid := y.next(Ready, 0).Pid
	for i := range 25 {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		late := connect(t, addr) // in the backlog, or the successor takes it
		echoes(t, c, fmt.Sprintf("after death %d", i))
		echoes(t, late, "late")
		late.Close()
		pid = y.next(Ready, 0).Pid
	}
	oneKeeper(t, os.Getpid())
	y.s.Stop()
	if err := y.end(); err != nil {
		t.Error(err)
	}
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the connection outlives the instance: %v", err)
	}
	if k := keepers(os.Getpid()); k != nil {
		t.Errorf("keepers %v are left", k)
	}
}

// A tile that dies between making its keeper and publishing it leaves a stray, which is ended; the keeper before it serves.
func TestKeepLeaked(t *testing.T) {
	y, addr := keepYard(t, Options{Budget: 1000}, func(s *Spec) { s.Env = append(s.Env, "TOPO_TEST_LEAK=1") })
	c := connect(t, addr)
	for i := range 5 {
		if err := unix.Kill(y.next(Ready, 0).Pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		echoes(t, c, strconv.Itoa(i))
		y.next(Stray, -1)
	}
	oneKeeper(t, os.Getpid())
}

// Without its keeper a tile goes on; its death then ends its connections, and the tile that is started has a keeper again.
func TestKeepKeeperDied(t *testing.T) {
	y, addr := keepYard(t, Options{}, nil)
	c := connect(t, addr)
	echoes(t, c, "before")
	if err := unix.Kill(oneKeeper(t, os.Getpid()), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	y.next(Unkept, 0)
	echoes(t, c, "without")
	unix.Kill(y.s.Status()[0].Pid, unix.SIGKILL)
	y.next(Restarted, 0)
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the connection outlives tile and keeper: %v", err)
	}
	echoes(t, connect(t, addr), "anew")
	oneKeeper(t, os.Getpid())
}

// Restart hands over to the program that lies at Upgrade; one that does not start leaves the old one.
func TestKeepUpgrade(t *testing.T) {
	dir := t.TempDir()
	next := filepath.Join(dir, "next")
	if out, err := exec.Command("cp", os.Args[0], next).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	y, addr := keepYard(t, Options{}, func(s *Spec) { s.Upgrade = next })
	y.next(Ready, 0)
	c := connect(t, addr)
	echoes(t, c, "old")
	if err := y.s.Restart("t", 0); err != nil {
		t.Fatal(err)
	}
	pid := y.next(Ready, 0).Pid
	echoes(t, c, "new")
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); exe != next {
		t.Errorf("the successor runs %s (%v), want %s", exe, err, next)
	}
	if err := os.Rename(next, next+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(next, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := y.s.Restart("t", 0); err != nil {
		t.Fatal(err)
	}
	for y.next(Died, 0).Exit.Code != 127 {
	}
	pid = y.next(Ready, 0).Pid
	echoes(t, c, "as before")
	if exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); exe != next+".old" {
		t.Errorf("the successor runs %s", exe)
	}
}

// The keeper's life is its supervisor's, however that ends.
func TestKeepSupervisorKilled(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=keeping supervisor", "TOPO_TEST_REGION=")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	k := oneKeeper(t, cmd.Process.Pid)
	cmd.Process.Kill()
	_ = cmd.Wait()
	gone(t, pid)
	gone(t, k)
}

// An upgrade that ends before it was ready has done nothing, even with exit code 0: the program before it goes on.
func TestKeepUpgradeEndsAtOnce(t *testing.T) {
	y, addr := keepYard(t, Options{}, func(s *Spec) { s.Upgrade = "/bin/true" })
	c := connect(t, addr)
	echoes(t, c, "before")
	y.next(Ready, 0)
	if err := y.s.Restart(y.specs[0].Kind, 0); err != nil {
		t.Fatal(err)
	}
	y.next(Died, 0) // the one that was told to
	if e := y.next(Died, 0); !e.Again || !e.Exit.Clean() {
		t.Errorf("%v", e)
	}
	y.next(Ready, 0)
	echoes(t, c, "after")
	y.s.Stop()
	if err := y.end(); err != nil {
		t.Error(err)
	}
}

// A tile that dies after it was told to halt, and before it has, has a successor that halts in its place: what it held is closed
// in order. There is one: it ends like any other.
func TestKeepDiesStopping(t *testing.T) {
	y, addr := keepYard(t, Options{HaltGrace: time.Minute}, nil)
	c := connect(t, addr)
	echoes(t, c, "before")
	pid := y.next(Ready, 0).Pid
	for i := range 2 {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		y.s.Stop()
		cnc, _ := tile.CncJoin(y.specs[0].Cnc)
		for begin := time.Now(); cnc.Signal() != tile.SignalHalt; time.Sleep(time.Millisecond) { // a cnc rings nobody
			if time.Since(begin) > 10*time.Second {
				t.Fatal(cnc.Signal())
			}
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if e := y.next(Died, 0); e.Expected != (i > 0) || e.Again != (i == 0) || e.Exit.Signal != unix.SIGKILL {
			t.Errorf("death %d: %v", i, e)
		}
		if i == 0 {
			pid = y.next(Restarted, 0).Pid
		}
	}
	if err := y.end(); err != nil {
		t.Error(err)
	}
}

// A keeper of which its tile has told is no stray, although the sweep that another tile's death put off comes before the pipe is read.
func TestKeepToldIsNoStray(t *testing.T) {
	y := newYard(t, Options{}, "keep")
	y.specs[0].Keep = true
	y.o(y.s.o)
	s, p := y.s, y.s.procs[0]
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.openPipe(p, 0); err != nil {
		t.Fatal(err)
	}
	k := exec.Command(os.Args[0])
	k.Env = append(os.Environ(), childEnv+"=sleep")
	k.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := k.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = k.Process.Kill(); _ = k.Wait() }()
	var m [keeper.MessageSz]byte
	binary.NativeEndian.PutUint32(m[:], keeper.TagKeeper)
	binary.NativeEndian.PutUint32(m[4:], uint32(k.Process.Pid))
	if _, err := p.keep.wr.Write(m[:]); err != nil {
		t.Fatal(err)
	}
	cnc, err := tile.CncJoin(p.spec.Cnc)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := cnc.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	cnc.SetSignal(tile.SignalRun)
	p.cnc, p.state, s.unswept = cnc, StateBooting, true
	s.stepBooting(p, shmem.Monotonic())
	if len(s.strays) != 0 || p.keep.pid != k.Process.Pid || s.unswept || p.state != StateRunning {
		t.Errorf("strays %v, keeper %d of %d, swept %v, %v", s.strays, p.keep.pid, k.Process.Pid, !s.unswept, p.state)
	}
	unix.Close(p.keep.pidfd)
	unclaimPid(k.Process.Pid)
}
