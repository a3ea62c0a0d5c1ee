package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/tile/sandbox"
)

// status returns a value of /proc/PID/status, or of one of its threads'.
func status(t testing.TB, file, key string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		if k, v, ok := strings.Cut(string(line), ":"); ok && k == key {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return ""
}

// privilegesOf checks every thread of a process: capabilities (none), no_new_privs, and the mode of seccomp.
func privilegesOf(t testing.TB, pid int, noNewPrivs, seccomp string) {
	t.Helper()
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if len(threads) == 0 {
		t.Fatalf("process %d is gone", pid)
	}
	for _, th := range threads {
		if got := status(t, th, "NoNewPrivs") + " " + status(t, th, "Seccomp"); got != noNewPrivs+" "+seccomp {
			t.Errorf("%s: NoNewPrivs, Seccomp %s, want %s %s", th, got, noNewPrivs, seccomp)
		}
		if noNewPrivs == "0" {
			continue
		}
		for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapAmb"} {
			if got := status(t, th, set); strings.Trim(got, "0") != "" {
				t.Errorf("%s: %s %s", th, set, got)
			}
		}
	}
}

// unbound checks that not even a program with all capabilities in its file would give a process one: root's supervisor sees to it,
// another's cannot, and needs not, under no_new_privs.
func unbound(t testing.TB, pid int) {
	t.Helper()
	if got := status(t, fmt.Sprintf("/proc/%d/status", pid), "CapBnd"); os.Geteuid() == 0 && strings.Trim(got, "0") != "" {
		t.Errorf("process %d: CapBnd %s", pid, got)
	}
}

// child returns the one process that pid has started, whatever it is called by now.
func child(t testing.TB, pid int) int {
	t.Helper()
	kids := children(t, pid)
	if len(kids) != 1 {
		t.Fatalf("children of %d: %v", pid, kids)
	}
	for _, k := range kids {
		return k
	}
	return 0
}

func needSeccomp(t testing.TB) {
	t.Helper()
	if err := sandbox.Supported(); err != nil {
		t.Skip(err)
	}
}

// Each tile is confined as soon as it is ready, and again after a restart; a source's command has no filter, but nothing to gain either.
func TestTilesAreConfined(t *testing.T) {
	t.Parallel()
	needSeccomp(t)
	p := runs(t, "confined", "--history", "1", "--", "sh", "-c", "echo a; exec sleep 1000")
	p.says(`"msg":"ready","tile":"source:0"`)
	c := p.dial()
	c.gets("a")
	kids := children(t, p.cmd.Process.Pid)
	privilegesOf(t, kids["tw net:0"], "1", "2")
	privilegesOf(t, kids["tw source:0"], "1", "2")
	privilegesOf(t, child(t, kids["tw source:0"]), "1", "0")
	unbound(t, kids["tw net:0"])
	unbound(t, child(t, kids["tw source:0"]))
	wait := gone(t, kids["tw net:0"])
	if err := unix.Kill(kids["tw net:0"], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait()
	p.says(`"msg":"restarted","tile":"net:0"(?s:.*)"msg":"ready","tile":"net:0"`)
	p.dial().gets("a")
	privilegesOf(t, children(t, p.cmd.Process.Pid)["tw net:0"], "1", "2")
	p.signal(unix.SIGTERM)
	p.exit(0)
	if strings.Contains(p.err.String(), "forced") {
		t.Errorf("a tile had to be forced:\n%s", p.err.String())
	}
}

func TestDemoTilesAreConfined(t *testing.T) {
	t.Parallel()
	needSeccomp(t)
	p := start(t, "demo", "--clients", "5", "--stall", "1", "--rate", "2000")
	p.says("will stop reading")
	kids := children(t, p.cmd.Process.Pid)
	privilegesOf(t, kids["tw net:0"], "1", "2")
	privilegesOf(t, kids["tw ticker:0"], "1", "2")
	p.signal(unix.SIGTERM)
	p.exit(0)
}

// Who switches the sandbox off gets tiles with the supervisor's privileges.
func TestSandboxOff(t *testing.T) {
	t.Parallel()
	p := runs(t, "unconfined", "--sandbox=false", "--history", "1", "--", "sh", "-c", "echo a; exec sleep 1000")
	p.dial().gets("a")
	nnp := status(t, "/proc/self/status", "NoNewPrivs") // a container may have set it for all
	mode := status(t, "/proc/self/status", "Seccomp")
	for _, pid := range children(t, p.cmd.Process.Pid) {
		privilegesOf(t, pid, nnp, mode)
	}
	p.signal(unix.SIGTERM)
	p.exit(0)
}

// A tile that was not started by a supervisor does not pretend.
func TestTileByHand(t *testing.T) {
	t.Parallel()
	start(t, "server", "new", "--name", "byhand", "--ring-size-mib", "1", "--max-connections", "16").exit(0)
	defer func() { start(t, "server", "delete", "--name", "byhand").exit(0) }()
	p := start(t, "tile", "net", "--instance", "byhand")
	p.exit(126)
	p.says(`^tilewire: .*sandbox: privileges are left: .*\n$`)
}

// other is the user that tiles run as in these tests, with directories that this user may search.
func other(t *testing.T) (u *user.User, env []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can run tiles as somebody else")
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	shm, err := os.MkdirTemp("/dev/shm", "tilewire-test-user-")
	if err != nil {
		t.Fatal(err)
	}
	run, err := os.MkdirTemp("", "tilewire-user-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, d := range []string{shm, run} {
			if left, _ := filepath.Glob(d + "/*"); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			os.RemoveAll(d)
		}
	})
	if err := os.Chmod(shm, 0o711); err != nil { // run is 0700: the program opens it
		t.Fatal(err)
	}
	return u, []string{"TILEWIRE_SHM_DIR=" + shm, "TILEWIRE_RUN_DIR=" + run, "PATH=" + os.Getenv("PATH"), "HOME=/root"}
}

// asNobody starts the program as that user.
func asNobody(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	c.Dir = "/"
}

// As root with --user: every tile, the command, the region, the run directory and the sockets are that user's; a tile is
// restarted, the supervisor replaced, and all is gone in the end.
func TestRunAsUser(t *testing.T) {
	t.Parallel()
	u, env := other(t)
	sock := filepath.Join(t.TempDir(), "s")
	run := func() *proc {
		p := startAs(t, func(c *exec.Cmd) { c.Env = env }, "run", "--name", "asuser", "--user", u.Username, "--listen", "127.0.0.1:0", "--listen", "unix:"+sock,
			"--ring-size-mib", "4", "--max-connections", "64", "--history", "1", "--", "sh", "-c", `echo "$USER $HOME $(id -un)"; exec sleep 1000`)
		p.serving()
		return p
	}
	owned := func(path string) {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil || fmt.Sprint(st.Uid) != u.Uid || fmt.Sprint(st.Gid) != u.Gid {
			t.Errorf("%s: user %d, group %d, %v", path, st.Uid, st.Gid, err)
		}
	}
	p := run()
	said := fmt.Sprintf("%s %s %s", u.Username, u.HomeDir, u.Username)
	c := p.dial()
	c.gets(said)
	kids := children(t, p.cmd.Process.Pid)
	for _, pid := range []int{kids["tw net:0"], kids["tw source:0"], child(t, kids["tw source:0"])} {
		if got := status(t, fmt.Sprintf("/proc/%d/status", pid), "Uid"); got != strings.Join([]string{u.Uid, u.Uid, u.Uid, u.Uid}, " ") {
			t.Errorf("process %d of %v: Uid %s", pid, kids, got)
		}
	}
	privilegesOf(t, kids["tw net:0"], "1", "2")
	unbound(t, kids["tw net:0"])
	shm, dir := strings.TrimPrefix(env[0], "TILEWIRE_SHM_DIR="), strings.TrimPrefix(env[1], "TILEWIRE_RUN_DIR=")
	regions, _ := filepath.Glob(shm + "/*")
	if len(regions) != 1 {
		t.Fatalf("regions %v", regions)
	}
	for _, path := range []string{regions[0], dir + "/asuser", dir + "/asuser/net.0.bell", sock} {
		owned(path)
	}
	port := regexp.MustCompile(`:(\d+)/`).FindStringSubmatch(p.url)[1]
	if n, _ := strconv.Atoi(port); !listenerOf(t, n, u.Uid) {
		t.Errorf("the listener at port %s is not that of user %s", port, u.Uid)
	}

	// A producer of root's, through the bell of the user's tile, and the other way round after a restart of the tile.
	wait := gone(t, kids["tw net:0"])
	if err := unix.Kill(kids["tw net:0"], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait()
	p.says(`"msg":"restarted","tile":"net:0"(?s:.*)"msg":"ready","tile":"net:0"`)
	p.dial().gets(said)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := c.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the client noticed: %v", err)
	}

	// The supervisor dies with the tiles; the next one takes over what they left, or makes it anew.
	p.kills()
	if err := os.Remove(sock); err != nil {
		t.Fatal(err)
	}
	p = run()
	c = p.dial()
	c.gets(said)
	p.signal(unix.SIGTERM)
	c.closes(websocket.StatusServiceRestart, "restarting")
	p.exit(0)
	if strings.Contains(p.err.String(), "forced") || strings.Contains(p.err.String(), "memory left") {
		t.Error(p.err.String())
	}
}

// listenerOf looks into the kernel's table whether the listener at a port is this user's.
func listenerOf(t *testing.T, port int, uid string) bool {
	t.Helper()
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) > 7 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
			return f[7] == uid
		}
	}
	return false
}

// Memory that root made, or that a producer of root's is joined to, is given to the user.
func TestRunAsUserOnMadeMemory(t *testing.T) {
	t.Parallel()
	u, env := other(t)
	with := func(c *exec.Cmd) { c.Env = env }
	startAs(t, with, "server", "new", "--name", "given", "--listen", "127.0.0.1:0", "--ring-size-mib", "4", "--max-connections", "64", "--history", "1").exit(0)
	p := startAs(t, with, "run", "--name", "given", "--user", u.Uid)
	p.serving()
	prod := startAs(t, with, "pipe", "--join", "given")
	prod.write("a\n")
	p.dial().gets("a")
	prod.in.Close()
	prod.exit(0)
	second := startAs(t, with, "run", "--name", "given", "--listen", "127.0.0.1:0")
	second.exit(5) // not root's any more
	second.says(`belongs to user ` + u.Uid)
	p.signal(unix.SIGTERM)
	p.exit(0)
}

func TestRunAsUserRefused(t *testing.T) {
	t.Parallel()
	p := start(t, "run", "--name", "nouser", "--listen", "127.0.0.1:0", "--user", "no-such-user")
	p.exit(2)
	p.says(`^tilewire: user of the tiles: there is no user "no-such-user" on this host; mend: .*\n$`)
	u, env := other(t)
	shm := strings.TrimPrefix(env[0], "TILEWIRE_SHM_DIR=")
	if err := os.Chmod(shm, 0o700); err != nil {
		t.Fatal(err)
	}
	p = startAs(t, func(c *exec.Cmd) { c.Env = env }, "run", "--name", "nouser", "--listen", "127.0.0.1:0", "--ring-size-mib", "1", "--max-connections", "16", "--user", u.Username)
	p.exit(2)
	p.says(`^tilewire: user of the tiles: nobody may not search ` + shm + `, where .* lies; mend: .*\n$`)
	p = startAs(t, func(c *exec.Cmd) { asNobody(c); c.Env = env }, "run", "--name", "nouser", "--listen", "127.0.0.1:0", "--user", "root")
	p.exit(2)
	p.says(`^tilewire: user of the tiles: only root can run tiles as "root", and this is user 65534; .*\n$`)
}
