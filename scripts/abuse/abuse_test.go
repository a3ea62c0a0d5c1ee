package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Every attack, against the real program, in about a minute.
func TestAbuse(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	dir := t.TempDir()
	o := options{program: filepath.Join(dir, "tilewire"), rate: 200, size: 256, quick: true}
	if out, err := exec.Command("go", "build", "-o", o.program, "../../cmd/tilewire").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// A directory of one's own on the same tmpfs: what else runs on this host is not seen.
	shm, err := os.MkdirTemp("/dev/shm", "tilewire-abuse-")
	if err != nil {
		t.Skip("no tmpfs:", err)
	}
	defer os.RemoveAll(shm)
	t.Setenv("TILEWIRE_SHM_DIR", shm)
	t.Setenv("TILEWIRE_RUN_DIR", filepath.Join(dir, "run"))
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			f, err := measure(t.Context(), o, a)
			if f != nil {
				t.Log(f)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// What a check is for: it fails when an attacker met something else, or nobody anything.
func TestRecordOnly(t *testing.T) {
	r := newRecord()
	if r.only("408") == nil {
		t.Error("nothing met, and content")
	}
	r.add("408")
	if err := r.only("408", "503"); err != nil {
		t.Error(err)
	}
	r.add("200")
	if r.only("408", "503") == nil || r.get("200") != 1 || fmt.Sprint(r) != "1 × 200, 1 × 408" {
		t.Error(r)
	}
}
