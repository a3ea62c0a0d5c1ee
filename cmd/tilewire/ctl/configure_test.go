package ctl

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// TestConfigureScripts runs testdata/configure with real huge pages, one script at a time. The pools and mounts are put
// back as they were, whatever fails.
func TestConfigureScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("reserving pages and mounting needs root")
	}
	lockPools(t)
	was := spare(t)
	giga, hasGiga := shmem.ReadPool(shmem.PageGigantic)
	scripts, err := filepath.Glob("testdata/configure/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	script, err := filepath.Abs("../../../scripts/hugepages.sh")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range scripts {
		// Scripts of one Run are parallel; the pool is one.
		t.Run(filepath.Base(file), func(t *testing.T) {
			testscript.Run(t, testscript.Params{
				Files: []string{file},
				Setup: func(env *testscript.Env) error {
					dir, err := os.MkdirTemp("/tmp", "tilewire-configure-")
					if err != nil {
						return err
					}
					os.Chmod(dir, 0o755)
					huge := dir + "/huge"
					env.Defer(func() {
						for _, dir := range []string{huge, env.WorkDir + "/here/deep/down/huge", env.WorkDir + "/here/deep/huge"} {
							unix.Unmount(dir, unix.MNT_DETACH)
						}
						restore(t, was)
						if hasGiga {
							restore(t, giga)
						}
						os.RemoveAll(dir)
					})
					for _, d := range []string{"/run", "/shm"} {
						if err := os.Mkdir(dir+d, 0o755); err != nil {
							return err
						}
					}
					want, more := was.Total+4, was.Total+7
					for k, v := range map[string]any{
						"HUGE": huge, "RUN": dir + "/run", "TILEWIRE_RUN_DIR": dir + "/run", shmem.EnvDirs: huge + ":" + dir + "/shm",
						"POOL": was.Total, "WANT": want, "SIZE": fmt.Sprintf("%dM", 2*want), "SIZEMIB": 2 * want, "SUDO_GID": "", "GORACE": "atexit_sleep_ms=0",
						"MORE": fmt.Sprintf("%dM", 2*more), "MOREPAGES": more, "HUGEPAGES": script,
						"MOREMIB": 2 * more, "OTHERS": more + 1, "OTHERSLEFT": was.Total + 1,
						"GIGASIZE": fmt.Sprintf("%dG", giga.Total+1), "GIGAPAGES": giga.Total + 1,
					} {
						env.Setenv(k, fmt.Sprint(v))
					}
					return nil
				},
				Condition: func(cond string) (bool, error) {
					if cond != "gigantic" || !hasGiga {
						return false, nil
					}
					err := setPool(giga, giga.Total+1)
					now, _ := shmem.ReadPool(shmem.PageGigantic)
					restore(t, giga)
					return err == nil && now.Total == giga.Total+1, nil
				},
				Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
					"exits": exits, "json": checkJSON, "pool": wantPool, "setpool": setPages,
					"nobody":   func(ts *testscript.TestScript, _ bool, args []string) { as(ts, 65534, args) },
					"stranger": func(ts *testscript.TestScript, _ bool, args []string) { as(ts, 65533, args) },
				},
				RequireExplicitExec: true,
			})
		})
	}
}

// as N tilewire ...: the program, run by user uid, ends with status N. The binary is found by /proc/self/exe, since its
// directory is closed to others.
func as(ts *testscript.TestScript, uid uint32, args []string) {
	var out, errs bytes.Buffer
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = args[1:]
	cmd.Env = []string{shmem.EnvDirs + "=" + ts.Getenv(shmem.EnvDirs), "TILEWIRE_RUN_DIR=" + ts.Getenv("TILEWIRE_RUN_DIR"), "GORACE=atexit_sleep_ms=0"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	err := cmd.Run()
	fmt.Fprint(ts.Stdout(), out.String())
	fmt.Fprint(ts.Stderr(), errs.String())
	if code := cmd.ProcessState.ExitCode(); strconv.Itoa(code) != args[0] {
		ts.Fatalf("uid %d: exit status %d (%v), want %s", uid, code, err, args[0])
	}
}

// setPages N: somebody sets the pool of 2 MiB pages to N.
func setPages(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.ParseUint(args[0], 10, 64)
	ts.Check(err)
	p, _ := shmem.ReadPool(shmem.PageHuge)
	ts.Check(setPool(p, n))
}

// wantPool N: there are N pages of 2 MiB.
func wantPool(ts *testscript.TestScript, _ bool, args []string) {
	if p, _ := shmem.ReadPool(shmem.PageHuge); strconv.FormatUint(p.Total, 10) != args[0] {
		ts.Fatalf("%d pages of 2 MiB, want %s", p.Total, args[0])
	}
}

// lockPools keeps other test processes from the pools until the test ends (package shmem's tests take the same lock).
func lockPools(t *testing.T) {
	path := filepath.Join(os.TempDir(), "tilewire-test-pools.lock")
	f, err := os.Open(path)
	if err != nil {
		f, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o644)
	}
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		t.Skip("lock of the pools:", err)
	}
	t.Cleanup(func() { f.Close() })
}

// spare returns the pool of 2 MiB pages, or skips if the host cannot add some to it and mount them.
func spare(t *testing.T) shmem.Pool {
	was, ok := shmem.ReadPool(shmem.PageHuge)
	if !ok {
		t.Skip("this kernel has no 2 MiB pages")
	}
	err := setPool(was, was.Total+8)
	now, _ := shmem.ReadPool(shmem.PageHuge)
	restore(t, was)
	if err != nil || now.Total != was.Total+8 {
		t.Skipf("reserving 8 pages of 2 MiB: %v, got %d", err, now.Total-was.Total)
	}
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "hugetlbfs", 0, "pagesize=2M"); err != nil {
		t.Skip("mounting hugetlbfs:", err)
	}
	unix.Unmount(dir, 0)
	return was
}

func setPool(p shmem.Pool, n uint64) error {
	return os.WriteFile(p.File(-1), []byte(strconv.FormatUint(n, 10)), 0)
}

func restore(t *testing.T, was shmem.Pool) {
	if now, _ := shmem.ReadPool(was.PageSize); now.Total != was.Total {
		setPool(was, was.Total)
	}
	if now, _ := shmem.ReadPool(was.PageSize); now.Total != was.Total {
		t.Errorf("%d pages of %d, %d before", now.Total, was.PageSize, was.Total)
	}
}

// TestReserveTooFew: the kernel gives fewer pages than asked for. What it gave goes back, and nothing of it stays noted but what an earlier
// init raised.
func TestReserveTooFew(t *testing.T) {
	lockPools(t)
	wa := wanted{size: sizeFlag(shmem.MaxSize), pageSize: "huge", node: -1}
	if err := wa.resolve(); err != nil {
		t.Fatal(err)
	}
	_, total, _, err := wa.have()
	if err != nil {
		t.Skip(err)
	}
	for _, earlier := range []bool{false, true} {
		t.Setenv("TILEWIRE_RUN_DIR", t.TempDir())
		st, err := loadState(true)
		if err != nil {
			t.Fatal(err)
		}
		defer st.close()
		file := filepath.Join(t.TempDir(), "nr_hugepages") // takes the number, gives nothing
		os.WriteFile(file, nil, 0o600)
		var want []poolState
		if earlier {
			st.raised(file, total, total+5)
			want = []poolState{{file, total, total + 5}}
		}
		err = reserve(&wa, st, file, total)
		text := fmt.Sprintf("524288 pages of 2 MiB wanted, the kernel gave %d: memory is short or fragmented; they were given back, there are %[1]d as before; mend", total)
		if !errors.Is(err, ErrNotConfigured) || ExitCode(err) != 3 || !strings.Contains(err.Error(), text) {
			t.Error(err)
		}
		if b, _ := os.ReadFile(file); string(b) != strconv.FormatUint(total, 10) {
			t.Errorf("the pool was left at %s, want %d", b, total)
		}
		if !slices.Equal(st.Pools, want) {
			t.Errorf("noted: %+v, want %+v", st.Pools, want)
		}
	}
}

// TestPoolBack: fini takes away what init added, whatever others did meanwhile.
func TestPoolBack(t *testing.T) {
	t.Setenv("TILEWIRE_RUN_DIR", t.TempDir())
	for _, c := range []struct {
		before, after, now uint64
		want               string // "" for nothing to do
	}{
		{0, 8, 8, "0"}, {5, 8, 8, "5"}, {5, 8, 20, "17"}, {5, 8, 6, "5"}, {5, 8, 3, ""}, {5, 8, 5, ""}, {0, 8, 0, ""}, {0, 206, 128, "0"}, {4, 4, 4, ""},
	} {
		file := filepath.Join(t.TempDir(), "nr")
		os.WriteFile(file, []byte(fmt.Sprintf("%d\n", c.now)), 0o600)
		st, err := loadState(true)
		if err != nil {
			t.Fatal(err)
		}
		st.raised(file, c.before, c.after)
		var gone []forgotten
		steps, err := finiSteps(st, false, &gone)
		got := ""
		if what := c.want == "" && c.before != c.after; what != (len(gone) == 1) {
			t.Errorf("%+v: forgotten: %v", c, gone)
		}
		for _, s := range steps {
			if err := s.do(&s); err != nil {
				t.Error(err)
			}
			b, _ := os.ReadFile(file)
			got = string(b)
		}
		if err != nil || got != c.want || len(st.Pools) != 0 {
			t.Errorf("%+v: set to %q, %v, left %v", c, got, err, st.Pools)
		}
		if err := st.save(); err != nil {
			t.Error(err)
		}
		st.close()
	}
}

// TestStateKept: the state survives being written and read, and the first 'before' counts.
func TestStateKept(t *testing.T) {
	t.Setenv("TILEWIRE_RUN_DIR", t.TempDir()+"/deep/down")
	st, err := loadState(true)
	if err != nil {
		t.Fatal(err)
	}
	st.raised("/a", 1, 5)
	st.raised("/a", 5, 9)
	st.mounted("/with a  blank/m", 2)
	st.mounted("/with a  blank/m", 1)
	st.owned(ownerState{"/o", 1, 2, 0o755, 0o1770})
	st.owned(ownerState{"/o", 2, 3, 0o1770, 0o1775})
	st.close()
	again, err := loadState(true)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if len(again.Pools) != 1 || again.Pools[0] != (poolState{"/a", 1, 9}) || len(again.Mounts) != 1 || again.Mounts[0] != (mountState{"/with a  blank/m", 2}) ||
		len(again.Owners) != 1 || again.Owners[0] != (ownerState{"/o", 1, 3, 0o755, 0o1775}) {
		t.Errorf("%+v", again)
	}
}

// TestStateRefused: a record that is not wholly understood is not guessed at.
func TestStateRefused(t *testing.T) {
	for _, text := range []string{
		"", "version 2\n", "pool 1 2 /a\n", "version 1\npool 1 /a\n", "version 1\npool 1 2 a\n", "version 1\npool -1 2 /a\n", "version 1\nmount /a\n",
		"version 1\nmount -1 /a\n", "version 1\nmount 1 a\n", "version 1\nowner 1 2 0755 /a\n", "version 1\nowner 1 2 0788 0755 /a\n", "version 1\nother 1 /a\n", "{}",
	} {
		if err := new(hostState).parse(text); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
	var st hostState
	if err := st.parse("# a comment\nversion 1\nmount 0 /a\n\npool 1 2 /b\n"); err != nil || len(st.Mounts) != 1 || len(st.Pools) != 1 {
		t.Errorf("%v, %+v", err, st)
	}
}

// TestOneMend: for a mount that is missing, preflight and check give the same command.
func TestOneMend(t *testing.T) {
	t.Setenv(shmem.EnvDirs, "")
	for _, m := range shmem.Mounts() {
		if m.Hugetlbfs && m.PageSize == shmem.PageHuge {
			t.Skip("a hugetlbfs is mounted on", m.Dir)
		}
	}
	t.Setenv("SUDO_GID", "")
	wa := wanted{size: 4 << 20, pageSize: "huge", node: -1}
	if err := wa.resolve(); err != nil {
		t.Fatal(err)
	}
	items := checkMount(&wa)
	_, err := shmem.Preflight(4<<20, shmem.Options{Backing: shmem.BackingHugetlbfs})
	if err == nil || items[0].Mend == "" || !strings.HasSuffix(mendOf(err), items[0].Mend) {
		t.Errorf("preflight: %v\ncheck: %s", err, items[0].Mend)
	}
}
