package shmem

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// The test binary starts itself as a child: childEnv names a function of children, which prints "ready" when it has
// done its part and then waits for its stdin to end.
const childEnv = "TILEWIRE_TEST_CHILD"

var children = map[string]func(arg string) error{}

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		mode, arg, _ := strings.Cut(spec, ":")
		if err := children[mode](arg); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	dir, err := os.MkdirTemp(defaultShm, "tilewire-test-")
	if err != nil {
		dir, _ = os.MkdirTemp("", "tilewire-test-")
	}
	os.Chmod(dir, 0o777)
	os.Setenv(EnvDirs, dir)
	code := m.Run()
	if code == 0 {
		code = leaks(dir)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// leaks reports mappings and descriptors of regions that are still there after all tests.
func leaks(dir string) (code int) {
	for line := range strings.Lines(readString("/proc/self/maps")) {
		if strings.Contains(line, filePrefix) || strings.Contains(line, dir) {
			fmt.Println("leaked mapping:", line)
			code = 1
		}
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.HasPrefix(to, dir) {
			fmt.Println("leaked descriptor:", fd.Name(), to)
			code = 1
		}
	}
	return code
}

// child is a running child process.
type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	pid   int
}

// start runs children[mode](arg) in a process of its own and waits until it is ready.
func start(t *testing.T, mode, arg string, attr *syscall.SysProcAttr, env ...string) *child {
	t.Helper()
	c, line := spawn(t, mode, arg, attr, env...)
	if line != "ready" {
		t.Fatalf("child %s: %s", mode, line)
	}
	return c
}

// spawn is start that returns the child's first line, whatever it is.
func spawn(t *testing.T, mode, arg string, attr *syscall.SysProcAttr, env ...string) (*child, string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), childEnv+"="+mode+":"+arg, "GORACE=atexit_sleep_ms=0"), env...)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, stdin: in, pid: cmd.Process.Pid}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		line = "ended: " + err.Error()
	}
	return c, strings.TrimSpace(line)
}

// kill ends the child by SIGKILL and waits for its death, but leaves it a zombie: locks must be free already.
func (c *child) kill(t *testing.T) {
	t.Helper()
	c.cmd.Process.Signal(syscall.SIGKILL)
	var si [128]byte
	// waitid(P_PID, WEXITED|WNOWAIT)
	_, _, e := syscall.Syscall6(syscall.SYS_WAITID, 1, uintptr(c.pid), uintptrOf(&si), 4|0x01000000, 0, 0)
	if e != 0 {
		t.Fatal("waitid:", e)
	}
}

// fresh returns a region name for this test and unlinks it afterwards.
func fresh(t testing.TB) string {
	name := fmt.Sprintf("t%d.%s", os.Getpid(), strings.ToLower(strings.NewReplacer("/", "-", "_", "-", "=", "-", "#", "-").Replace(t.Name())))
	name = name[:min(len(name), maxName)]
	t.Cleanup(func() { Unlink(name, true) })
	return name
}

// region creates a region for this test.
func region(t testing.TB, size uint64) *Region {
	t.Helper()
	r, err := Create(fresh(t), size, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Leave() })
	return r
}

// onMem runs f on heap memory, and on a region unless the race detector is on.
func onMem(t *testing.T, size uint64, f func(t *testing.T, m Mem)) {
	t.Run("heap", func(t *testing.T) { f(t, Heap(size, 128)) })
	if !raceEnabled {
		t.Run("mapped", func(t *testing.T) { f(t, region(t, size).Mem()) })
	}
}
