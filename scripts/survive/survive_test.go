package main

import (
	"cmp"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The command's run in short: what it promises holds, but for the outage, which needs a machine to itself.
func TestSurvive(t *testing.T) {
	program := filepath.Join(t.TempDir(), "tilewire")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/tilewire").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	explore := filepath.Join(t.TempDir(), "tilewire")
	if out, err := exec.Command("go", "build", "-tags", "explore", "-o", explore, "../../cmd/tilewire").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	self := filepath.Join(t.TempDir(), "survive")
	if out, err := exec.Command("go", "build", "-o", self, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range []struct {
		name, args, want string
		fails            bool
		program          string // "": as it is shipped
	}{
		{name: "killed", args: "-kills 40 -clients 100 -hasty 5"},
		{name: "at moments", args: "-kills 60 -clients 100 -moments", program: explore, want: " died at 1"},
		{name: "without the formula", args: "-kills 60 -clients 100 -moments -plan-only", program: explore, want: "clients noticed", fails: true},
		{name: "restarted", args: "-kills 10 -clients 60 -restart"},
		{name: "keeper gone", args: "-kills 2 -clients 30 -unkept", want: "clients noticed", fails: true}, // or the test could not fail
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(self, append(strings.Fields(c.args), "-program", cmp.Or(c.program, program), "-bound", "0")...)
			timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
			defer timer.Stop()
			out, err := cmd.CombinedOutput()
			if (err != nil) != c.fails || !strings.Contains(string(out), c.want) {
				t.Fatalf("%v: %s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}
