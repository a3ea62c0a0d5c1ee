package topo

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// privileges returns what the kernel says of the main thread: the five sets, no_new_privs, the user.
func privileges(t *testing.T, pid int) (caps []string, nnp, uid string) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(b) {
		k, v, _ := strings.Cut(string(line), ":")
		switch f := strings.Fields(v); {
		case strings.HasPrefix(k, "Cap"):
			caps = append(caps, k+" "+f[0])
		case k == "NoNewPrivs":
			nnp = f[0]
		case k == "Uid":
			uid = f[0]
		}
	}
	return caps, nnp, uid
}

// other is the process that is another user's.
func other(y *yard) int {
	for _, r := range y.s.Status() {
		if r.Kind == "other" {
			return r.Pid
		}
	}
	return 0
}

// TestConfined: a confined process is born without privileges, also as another user, and again; one that is not keeps its own, and so do
// the supervisor's threads.
func TestConfined(t *testing.T) {
	y := newYard(t, Options{}, "tile", "tile")
	y.specs[0].Confined = true
	if os.Geteuid() == 0 { // it cannot join root's region, so it is a process without a cnc
		y.specs = append(y.specs, Spec{Kind: "other", Path: "/proc/self/exe", Confined: true, Dir: "/", Env: append(os.Environ(), childEnv+"=sleep"),
			Sys: func(a *syscall.SysProcAttr) { a.Credential = &syscall.Credential{Uid: 65534, Gid: 65534} }})
	}
	y.o(y.s.o)
	own, nnp, _ := privileges(t, os.Getpid())
	y.run(t.Context())
	pids := []int{y.next(Ready, 0).Pid, y.next(Ready, 1).Pid}
	if caps, n, _ := privileges(t, pids[1]); n != nnp || strings.Join(caps, " ") != strings.Join(own, " ") {
		t.Errorf("not confined: %v, no_new_privs %s; the supervisor has %v, %s", caps, n, own, nnp)
	}
	none := func(pid int) {
		t.Helper()
		caps, n, _ := privileges(t, pid)
		for _, c := range caps {
			// Without privilege the bounding set is out of reach, and without meaning.
			if !strings.HasSuffix(c, " 0000000000000000") && (os.Geteuid() == 0 || !strings.HasPrefix(c, "CapBnd")) {
				t.Errorf("confined: %s", c)
			}
		}
		if n != "1" {
			t.Errorf("confined: no_new_privs %s", n)
		}
	}
	if os.Geteuid() == 0 {
		<-y.s.AllReady()
		pid := other(y)
		none(pid)
		if _, _, uid := privileges(t, pid); uid != "65534" {
			t.Errorf("user %s", uid)
		}
	}
	for range 2 {
		none(pids[0])
		if err := unix.Kill(pids[0], unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		pids[0] = y.next(Ready, 0).Pid
	}
	y.s.Stop()
	if err := y.end(); err != nil {
		t.Error(err)
	}
}
