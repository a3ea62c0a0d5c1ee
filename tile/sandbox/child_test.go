package sandbox

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// childEnv makes the test binary play a confined process.
const childEnv = "SANDBOX_TEST_CHILD"

func TestMain(m *testing.M) {
	if part := os.Getenv(childEnv); part != "" {
		if err := childMain(part); err != nil {
			fmt.Println("child:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var lists = map[string]func() []Rule{"net": NetCalls, "producer": ProducerCalls, "source": SourceCalls}

// childMain lays the filter that part names (LIST or LIST.WHAT; open: none), tries what must not be, then what must, and waits for its input
// to end.
func childMain(part string) error {
	list, what, _ := strings.Cut(part, ".")
	var held sync.WaitGroup // threads that are there before the filter
	release := make(chan struct{})
	for range 4 {
		held.Go(func() { runtime.LockOSThread(); <-release })
	}
	if calls := lists[list]; calls != nil {
		if err := Verify(); err != nil {
			return err
		}
		if err := Filter(calls()); err != nil {
			return err
		}
	} else if what == "unverified" {
		return Verify()
	}
	if what == "x32" {
		_, _, e := unix.RawSyscall(x32Bit|unix.SYS_GETPID, 0, 0, 0)
		return fmt.Errorf("lived through a call of another ABI: %v", e)
	}
	if what == "panic" {
		panic("at the disco")
	}
	for _, f := range forbidden {
		fmt.Printf("%s %d\n", f.name, f.try())
	}
	if err := work(); err != nil {
		return err
	}
	fmt.Println("worked")
	_, err := io.Copy(io.Discard, os.Stdin)
	close(release)
	held.Wait()
	return err
}

// forbidden is harmless, and works or fails by anything but EPERM, where there is no sandbox.
var forbidden = []struct {
	name    string
	allowed string // list that allows it
	try     func() unix.Errno
}{
	{"openat /etc/passwd", "", func() unix.Errno { return openat("/etc/passwd", unix.O_RDONLY) }},
	{"openat to make a file", "", func() unix.Errno { return openat(os.Getenv("SANDBOX_TEST_FILE"), unix.O_WRONLY|unix.O_CREAT) }},
	{"openat to cut a file", "", func() unix.Errno {
		return openat("/dev/null", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_TRUNC)
	}},
	{"openat of a bell", "net producer source", func() unix.Errno { return openat("/dev/null", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC) }},
	{"execve", "", func() unix.Errno { return errno(syscall.Exec("/nonexistent", nil, nil)) }},
	{"fork", "", func() unix.Errno { return raw(unix.SYS_CLONE, unix.CLONE_SIGHAND, 0, 0) }},              // EINVAL: it wants CLONE_VM
	{"fork by clone3", "net producer source", func() unix.Errno { return raw(unix.SYS_CLONE3, 0, 0, 0) }}, // ENOSYS, else EINVAL
	{"socket", "", func() unix.Errno { return sock(unix.AF_INET) }},
	{"unix socket", "", func() unix.Errno { return sock(unix.AF_UNIX) }},
	{"connect", "", func() unix.Errno { return raw(unix.SYS_CONNECT, ^uintptr(0), 0, 0) }},
	{"bind", "", func() unix.Errno { return raw(unix.SYS_BIND, ^uintptr(0), 0, 0) }},
	{"accept4", "net", func() unix.Errno { return raw(unix.SYS_ACCEPT4, ^uintptr(0), 0, 0) }},
	{"sendmsg", "net", func() unix.Errno { return raw(unix.SYS_SENDMSG, ^uintptr(0), 0, 0) }},
	{"ptrace", "", func() unix.Errno { return raw(unix.SYS_PTRACE, unix.PTRACE_CONT, ^uintptr(0)>>1, 0) }},
	{"process_vm_readv", "", func() unix.Errno { return raw(unix.SYS_PROCESS_VM_READV, 0, 0, 0) }},
	{"mount", "", func() unix.Errno { return errno(unix.Mount("", "/nonexistent", "", 0, "")) }},
	{"unshare", "", func() unix.Errno { return errno(unix.Unshare(0)) }},
	{"setuid", "", func() unix.Errno { return raw(unix.SYS_SETRESUID, ^uintptr(0), ^uintptr(0), ^uintptr(0)) }},
	{"bpf", "", func() unix.Errno { return raw(unix.SYS_BPF, ^uintptr(0), 0, 0) }},
	{"io_uring", "", func() unix.Errno { return raw(unix.SYS_IO_URING_SETUP, 0, 0, 0) }},
	{"ioctl", "", func() unix.Errno { return raw(unix.SYS_IOCTL, ^uintptr(0), 0, 0) }},
	{"memory to execute", "", func() unix.Errno {
		return raw(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC)
	}},
	{"mprotect to execute", "", func() unix.Errno { return raw(unix.SYS_MPROTECT, 1, 1, unix.PROT_EXEC) }},
	{"kill", "source", func() unix.Errno { return errno(unix.Kill(os.Getpid(), 0)) }},
	{"tgkill of another", "", func() unix.Errno { return errno(unix.Tgkill(os.Getppid(), os.Getppid(), 0)) }},
	{"rlimit", "", func() unix.Errno { return raw(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, 0) }},
	{"unlink", "", func() unix.Errno { return raw(unix.SYS_UNLINKAT, ^uintptr(0), 0, 0) }},
	{"a filter more", "", func() unix.Errno { return shmem.SeccompAction(unix.SECCOMP_RET_ERRNO) }},
	{"prctl", "", func() unix.Errno { return raw(unix.SYS_PRCTL, unix.PR_GET_DUMPABLE, 0, 0) }},
}

func raw(nr, a, b, c uintptr) unix.Errno {
	_, _, e := unix.RawSyscall(nr, a, b, c)
	return e
}

func errno(err error) unix.Errno {
	e, _ := err.(unix.Errno)
	return e
}

func openat(path string, flags int) unix.Errno {
	fd, err := unix.Open(path, flags, 0o600)
	if err == nil {
		unix.Close(fd)
	}
	return errno(err)
}

func sock(family int) unix.Errno {
	fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.Close(fd)
	}
	return errno(err)
}

// work is what a Go process must still be able to do: threads, timers, memory, collection, preemption, a pipe's wait.
func work() error {
	var wg sync.WaitGroup
	spin := make(chan struct{})
	for range 8 { // more threads than there were
		wg.Go(func() {
			runtime.LockOSThread()
			b := make([]byte, 4<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			<-spin
		})
	}
	var idle atomic.Bool
	wg.Go(func() { // is preempted by signals
		for n := 0; !idle.Load(); {
			for range 1 << 20 {
				n++
			}
		}
	})
	runtime.GC()
	timer := time.NewTimer(10 * time.Millisecond)
	<-timer.C
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	if _, e := shmem.EpollWait(ep, make([]unix.EpollEvent, 1), 5); e != 0 && e != unix.EINTR {
		return e
	}
	idle.Store(true)
	close(spin)
	wg.Wait()
	func() {
		defer func() { _ = recover() }()
		var p *int
		*p = 1 // a fault is a signal
	}()
	return nil
}

// child starts the test binary confined (or not), as uid if that is not 0.
func child(t *testing.T, part string, confined bool, uid uint32) (*exec.Cmd, *bufio.Reader, io.Closer) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+part, "SANDBOX_TEST_FILE="+filepath.Join(dir, "made"), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr, cmd.Dir = os.Stderr, dir // where a core is dumped
	if strings.HasSuffix(part, ".panic") {
		cmd.Stderr = new(strings.Builder)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if uid != 0 {
		// The binary lies where another user may not go; by /proc/self/exe it may.
		cmd.Path = "/proc/self/exe"
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
		cmd.Dir = "/"
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	begun := make(chan error)
	go func() { // its thread ends with it
		runtime.LockOSThread()
		if confined {
			if err := DropPrivileges(); err != nil {
				begun <- err
				return
			}
		}
		begun <- cmd.Start()
	}()
	if err := <-begun; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewReader(out), in
}

// tries reads what the child has tried: name to errno.
func tries(t *testing.T, out *bufio.Reader) map[string]unix.Errno {
	t.Helper()
	got := map[string]unix.Errno{}
	for {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("%q, %v after %v", line, err, got)
		}
		line = strings.TrimSpace(line)
		if line == "worked" {
			return got
		}
		i := strings.LastIndexByte(line, ' ')
		n, err := strconv.Atoi(line[i+1:])
		if err != nil {
			t.Fatalf("the child says: %s", line)
		}
		got[line[:i]] = unix.Errno(n)
	}
}

func needSeccomp(t *testing.T) {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
}

// Forbidden calls fail under each list, and but for it would not; every thread is held.
func TestForbidden(t *testing.T) {
	needSeccomp(t)
	for list := range lists {
		t.Run(list, func(t *testing.T) {
			cmd, out, in := child(t, list, true, 0)
			got := tries(t, out)
			for _, f := range forbidden {
				may := strings.Contains(" "+f.allowed+" ", " "+list+" ")
				if (got[f.name] != unix.EPERM) != may {
					t.Errorf("%s: %v", f.name, got[f.name])
				}
			}
			if e := got["fork by clone3"]; e != unix.ENOSYS {
				t.Errorf("clone3: %v", e)
			}
			held(t, cmd.Process.Pid, 2)
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("open", func(t *testing.T) {
		_, out, _ := child(t, "open", false, 0)
		for name, e := range tries(t, out) {
			if e == unix.EPERM {
				t.Errorf("%s fails without a sandbox: it proves nothing", name)
			}
		}
	})
}

// held checks every thread of a process as it is seen from outside.
func held(t *testing.T, pid, seccomp int) {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if len(tasks) < 5 {
		t.Errorf("only threads %v", tasks)
	}
	for _, f := range tasks {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		if err := verify(b); err != nil {
			t.Errorf("%s: %v", f, err)
		}
		if s := field(b, "Seccomp"); s != strconv.Itoa(seccomp) {
			t.Errorf("%s: Seccomp %s, want %d", f, s, seccomp)
		}
		if c := field(b, "CapBnd"); os.Geteuid() == 0 && bits(c) != 0 && field(b, "Uid")[0] == '0' {
			t.Errorf("%s: CapBnd %s", f, c)
		}
	}
}

func TestOtherUser(t *testing.T) {
	needSeccomp(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can start something as another user")
	}
	cmd, out, _ := child(t, "net", true, 65534)
	tries(t, out)
	held(t, cmd.Process.Pid, 2)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil || field(b, "Uid") != "65534\t65534\t65534\t65534" || field(b, "Groups") != "" {
		t.Errorf("Uid %q, Groups %q, %v", field(b, "Uid"), field(b, "Groups"), err)
	}
}

// A call by another ABI ends the process.
func TestOtherABI(t *testing.T) {
	needSeccomp(t)
	cmd, _, _ := child(t, "net.x32", true, 0)
	_ = cmd.Wait()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != unix.SIGSYS {
		t.Errorf("it ended with %v", cmd.ProcessState)
	}
}

// A crash says what it has to say, and ends as without a filter.
func TestCrash(t *testing.T) {
	needSeccomp(t)
	for _, c := range []struct {
		traceback string
		end       syscall.WaitStatus
	}{{"single", 2 << 8}, {"crash", syscall.WaitStatus(unix.SIGABRT)}} {
		t.Setenv("GOTRACEBACK", c.traceback)
		cmd, _, _ := child(t, "net.panic", true, 0)
		_ = cmd.Wait()
		if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws&^0x80 != c.end {
			t.Errorf("%s: it ended with %v", c.traceback, cmd.ProcessState)
		}
		if said := cmd.Stderr.(*strings.Builder).String(); !strings.Contains(said, "panic: at the disco") || !strings.Contains(said, "child_test.go:") {
			t.Errorf("%s: it said %q", c.traceback, said)
		}
	}
}

// Nobody takes a process for confined that is not.
func TestVerifyRefuses(t *testing.T) {
	_, out, _ := child(t, "open.unverified", false, 0)
	if line, _ := out.ReadString('\n'); !strings.HasPrefix(line, "child: thread ") || !strings.Contains(line, ErrPrivileged.Error()) {
		t.Errorf("%q", line)
	}
	good := "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t000001fffeffffff\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
	if err := verify([]byte(good)); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{
		"", strings.Replace(good, "CapPrm:\t0", "CapPrm:\t8", 1), strings.Replace(good, "CapAmb:\t0", "CapAmb:\tx", 1),
		strings.Replace(good, "Privs:\t1", "Privs:\t0", 1), strings.Replace(good, "CapEff", "Cap", 1),
	} {
		if verify([]byte(bad)) == nil {
			t.Errorf("taken for good:\n%s", bad)
		}
	}
}
