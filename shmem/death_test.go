package shmem

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func init() {
	children["join"] = func(name string) error {
		_, err := Open(name, ReadWrite)
		return err
	}
	children["view"] = func(name string) error {
		_, err := Open(name, ReadOnly)
		return err
	}
	children["lock"] = func(name string) error {
		r, err := Open(name, ReadWrite)
		if err == nil {
			_, err = r.Mem().Lock(100)
		}
		return err
	}
	// keeper locks, then forks a child that shares the descriptor table and copies the mappings, as a network tile does.
	children["keeper"] = func(name string) error {
		r, err := Open(name, ReadWrite)
		if err != nil {
			return err
		}
		if _, err = r.Mem().Lock(100); err != nil {
			return err
		}
		pid, err := forkKeeper()
		if err == nil {
			// The parent test ends it by this name.
			err = os.WriteFile(r.Path()+".keeper", []byte(strconv.Itoa(pid)), 0o600)
		}
		return err
	}
	// half stops in the middle of a creation.
	children["half"] = func(name string) error {
		_, err := Create(name, 4<<20, Options{Init: func(m Mem) error {
			os.Stdout.WriteString("ready\n")
			_, err := os.Stdin.Read(make([]byte, 1)) // until it is killed
			return err
		}})
		return err
	}
}

// forkKeeper is raw clone(CLONE_FILES|SIGCHLD): a child with a copy of the memory that only sleeps, without the Go
// runtime, until it is killed.
func forkKeeper() (int, error) {
	// Nothing may run in the child but system calls: block all signals around the clone.
	all := unix.Sigset_t{}
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	var old unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, &old); err != nil {
		return 0, err
	}
	pid, _, e := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_FILES|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if pid == 0 && e == 0 {
		for {
			unix.RawSyscall(unix.SYS_PAUSE, 0, 0, 0)
		}
	}
	unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	if e != 0 {
		return 0, e
	}
	return int(pid), nil
}

func TestKilledJoiner(t *testing.T) {
	r := region(t, 4096)
	a, b := start(t, "join", r.Name(), nil), start(t, "view", r.Name(), nil)
	want := []Joiner{{os.Getpid(), false}, {a.pid, false}, {b.pid, true}}
	slices.SortFunc(want, func(a, b Joiner) int { return a.Pid - b.Pid })
	if js, err := Joiners(r.Name()); err != nil || !slices.Equal(js, want) {
		t.Errorf("%v %v, want %v", js, err, want)
	}
	if err := Unlink(r.Name(), false); !errors.Is(err, ErrJoined) || !strings.Contains(err.Error(), strconv.Itoa(b.pid)+" (ro)") {
		t.Error(err)
	}
	a.kill(t) // a zombie now
	b.kill(t)
	if js, err := Joiners(r.Name()); err != nil || !slices.Equal(js, []Joiner{{os.Getpid(), false}}) {
		t.Error("the dead are joined:", js, err)
	}
}

func TestKilledHolder(t *testing.T) {
	r := region(t, 4096)
	c := start(t, "lock", r.Name(), nil)
	if !r.Mem().Locked(100) || r.Mem().Holder(100) != c.pid {
		t.Errorf("locked %v, holder %d, child %d", r.Mem().Locked(100), r.Mem().Holder(100), c.pid)
	}
	if _, err := r.Mem().Lock(100); !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "pid "+strconv.Itoa(c.pid)) {
		t.Error(err)
	}
	c.kill(t)
	if r.Mem().Locked(100) {
		t.Error("a dead process holds the lock")
	}
	l, err := r.Mem().Lock(100)
	if err != nil {
		t.Fatal(err)
	}
	l.Unlock()
}

// TestKeeper: a fork without exec that outlives its parent, sharing its descriptors, keeps neither lock nor join.
func TestKeeper(t *testing.T) {
	r := region(t, 4096)
	c := start(t, "keeper", r.Name(), nil)
	b, err := os.ReadFile(r.Path() + ".keeper")
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(r.Path() + ".keeper")
	keeper, _ := strconv.Atoi(string(b))
	t.Cleanup(func() { syscall.Kill(keeper, syscall.SIGKILL) })
	if !r.Mem().Locked(100) {
		t.Fatal("not locked")
	}
	c.kill(t)
	if err := syscall.Kill(keeper, 0); err != nil {
		t.Fatal("the keeper is gone, this tests nothing:", err)
	}
	if r.Mem().Locked(100) || r.Mem().Holder(100) != 0 {
		t.Error("the keeper keeps the lock")
	}
	if js, err := Joiners(r.Name()); err != nil || len(js) != 1 {
		t.Error("the keeper keeps the join:", js, err)
	}
}

func TestKilledCreator(t *testing.T) {
	name := fresh(t)
	before, ok := examine(os.Getenv(EnvDirs))
	c := start(t, "half", name, nil)
	c.kill(t)
	if _, err := Joiners(name); !errors.Is(err, ErrNotFound) {
		t.Error("a half made region is left:", err)
	}
	// Its pages are gone as well. Others use the mount too: look at the greater part only.
	c.cmd.Wait()
	if after, _ := examine(os.Getenv(EnvDirs)); ok && before.capped && before.free > after.free+2<<20 {
		t.Errorf("%d bytes before, %d after", before.free, after.free)
	}
}
