package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The units are as systemd understands them, and leave little open. scripts/systemd/try.sh runs them.
func TestSystemdUnits(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd-analyze here (Debian: systemd)")
	}
	dir := t.TempDir()
	var units []string
	for _, name := range []string{"tilewire.socket", "tilewire.service"} {
		b, err := os.ReadFile("../../scripts/systemd/" + name)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "=/usr/local/bin/tilewire ", "="+program+" ") // ExecStart, ExecReload
		if name == "tilewire.service" && !strings.Contains(text, program) {
			t.Fatal("the service does not start /usr/local/bin/tilewire")
		}
		unit := filepath.Join(dir, name)
		if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, unit)
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	if !knows(analyze, "--offline") {
		t.Skip("systemd before 250 cannot judge a unit that is not installed")
	}
	if out, err := exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold=20", units[1]).CombinedOutput(); err != nil {
		t.Errorf("exposure is above 2.0: %v\n%s", err, out)
	}
}

func knows(program, option string) bool {
	help, _ := exec.Command(program, "--help").CombinedOutput()
	return strings.Contains(string(help), option)
}
