package steer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is committed as built comes from the source that is committed: by its hash, and by building it anew where the
// same clang is to be had.
func TestGenerated(t *testing.T) {
	read := func(path string) []byte {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	by, sum, _ := strings.Cut(string(read("program.built")), "\n")
	if want := fmt.Sprintf("%x  program.c\n", sha256.Sum256(read("program.c"))); sum != want {
		t.Fatalf("program.c has changed since it was built (%q, now %q): make generate", sum, want)
	}
	dir := t.TempDir()
	out, err := exec.Command("../../scripts/generate.sh", dir).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		t.Skipf("%s", out)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	built := string(read(filepath.Join(dir, "program.built")))
	if have, _, _ := strings.Cut(built, "\n"); have != by {
		t.Skipf("it builds, but cannot be compared: by %s, committed is what %s made", have, by)
	}
	for _, name := range []string{"program_bpfel.o", "program_bpfel.go"} {
		if !bytes.Equal(read(name), read(filepath.Join(dir, name))) {
			t.Errorf("%s is not what program.c gives: make generate", name)
		}
	}
}
