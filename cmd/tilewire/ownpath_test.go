package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPathOf(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	link := filepath.Join(dir, "links", "own")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{link: exe, filepath.Join(dir, "other"): "/bin/true", filepath.Join(dir, "twice"): link, filepath.Join(dir, "in"): "links"} {
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("PATH", "/nowhere:"+filepath.Dir(link)+":/bin")
	for argv0, want := range map[string]string{
		link: link, "links/own": link, "./links/own": dir + "/./links/own", dir + "/twice": dir + "/twice", "in/own": dir + "/in/own", "in/../links/own": dir + "/in/../links/own",
		"own":  link, // by PATH
		"true": exe, "other": exe, "./other": exe, "none": exe, "-own": exe, "": exe, "/proc/self/exe": exe,
	} {
		if got := pathOf(argv0); got != want {
			t.Errorf("%q: %s, want %s", argv0, got, want)
		}
	}
}

// Who flips the link that a program was started by has upgraded it at the next restart. Where nothing is there any more the
// program that runs goes on.
func TestUpgradeByLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	builds := []string{filepath.Join(dir, "v1"), filepath.Join(dir, "v2")}
	for _, b := range builds {
		if out, err := exec.Command("cp", program, b).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	link := filepath.Join(dir, "tilewire")
	flip := func(to string) {
		t.Helper()
		if err := os.Symlink(to, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
	}
	flip("v1")
	p := startAs(t, func(c *exec.Cmd) { // as a shell starts it
		c.Path, c.Args[0] = link, "tilewire"
		c.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	}, "run", "--name", "flip", "--listen", "127.0.0.1:0", "--ring-size-mib", "1", "--max-connections", "10")
	p.serving()
	runs := func(want string) {
		t.Helper()
		if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", children(t, p.cmd.Process.Pid)["tw net:0"])); err != nil || exe != want {
			t.Errorf("net:0 runs %s (%v), want %s", exe, err, want)
		}
	}
	runs(builds[0])
	c := p.dial()
	flip("v2")
	runs(builds[0])
	verb(t, 0, "restart", "net:0", "--name", "flip")
	runs(builds[1])
	flip("v1") // and back
	verb(t, 0, "restart", "net:0", "--name", "flip")
	runs(builds[0])
	flip("nothing")
	verb(t, 0, "restart", "net:0", "--name", "flip")
	runs(builds[0])
	p.signal(unix.SIGTERM)
	c.closes(1012, "restarting")
	p.exit(0)
}
