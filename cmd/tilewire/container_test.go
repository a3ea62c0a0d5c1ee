package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// contained starts the program by scripts/container/try.sh.
func contained(t *testing.T, static, shm string, args ...string) *proc {
	t.Helper()
	script, err := filepath.Abs("../../scripts/container/try.sh")
	if err != nil {
		t.Fatal(err)
	}
	return startAs(t, func(c *exec.Cmd) {
		c.Path, c.Args = script, append([]string{script, static, shm}, args...)
		c.Env = []string{"PATH=" + os.Getenv("PATH")}
	}, args...)
}

// The container recipe by hand: non-root, read-only root, 64 MiB of shared memory; and what happens where there is less.
func TestContainer(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can make namespaces by hand")
	}
	if err := exec.Command("unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "true").Run(); err != nil {
		t.Skipf("no namespaces to be had: %v", err)
	}
	needSeccomp(t)
	static := filepath.Join(t.TempDir(), "tilewire")
	build := exec.Command("go", "build", "-o", static, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	p := contained(t, static, "64m", "run", "--listen", "127.0.0.1:0", "--ring-size-mib", "32", "--max-connections", "4096", "--drain-grace", "0", "--drain-time", "0")
	p.serving()
	c := p.dial()
	init := child(t, p.cmd.Process.Pid)
	kids := children(t, init)
	net := kids["tw net:0"]
	for _, pid := range []int{init, net, kids["tw admin:0"]} {
		if got := status(t, "/proc/"+strconv.Itoa(pid)+"/status", "Uid"); got != "65534 65534 65534 65534" {
			t.Errorf("process %d: Uid %s", pid, got)
		}
	}
	privilegesOf(t, net, "1", "2")
	if err := unix.Access("/proc/"+strconv.Itoa(init)+"/root/tilewire", unix.X_OK); err != nil {
		t.Error(err)
	}
	if _, err := os.Create("/proc/" + strconv.Itoa(init) + "/root/made"); err == nil || !os.IsPermission(err) && err.(*os.PathError).Err != unix.EROFS {
		t.Errorf("the root can be written: %v", err)
	}
	if err := unix.Kill(init, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.closes(websocket.StatusServiceRestart, "restarting")
	p.exit(0)

	p = contained(t, static, "8m", "run", "--listen", "127.0.0.1:0", "--ring-size-mib", "32", "--max-connections", "4096", "--drain-grace", "0", "--drain-time", "0")
	p.exit(3)
	p.says(`^tilewire: .*not enough memory: [0-9.]+ MiB .* needed of tmpfs /dev/shm of 8 MiB, .* free; mend: .*\(container: --shm-size\)\n$`)
}
