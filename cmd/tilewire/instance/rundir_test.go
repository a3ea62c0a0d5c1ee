package instance

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Run directories and sockets without memory go, but what is new, served, or somebody's own.
func TestTidy(t *testing.T) {
	base := t.TempDir()
	t.Setenv("TILEWIRE_RUN_DIR", base)
	t.Setenv("TILEWIRE_SHM_DIR", t.TempDir())
	old := time.Now().Add(-time.Hour)
	dir := func(name string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(base, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	socket := func(name string, live bool) {
		t.Helper()
		l, err := net.Listen("unix", filepath.Join(base, name))
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		if live {
			t.Cleanup(func() { l.Close() })
		} else {
			l.Close()
		}
	}
	dir("gone")
	dir("holds")
	socket("gone/admin.sock", false)
	socket("gone.sock", false)
	socket("live.sock", true)
	socket("other", false)
	for name, text := range map[string]string{"holds/file": "mine", "file.sock": "no socket"} {
		if err := os.WriteFile(filepath.Join(base, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"gone", "holds", "gone.sock", "live.sock", "other", "file.sock"} {
		if err := os.Chtimes(filepath.Join(base, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	dir("new")
	if names, err := Clean(); err != nil || names != nil {
		t.Error(names, err)
	}
	for name, stays := range map[string]bool{"gone": false, "gone.sock": false, "holds": true, "live.sock": true, "other": true, "file.sock": true, "new": true} {
		if _, err := os.Lstat(filepath.Join(base, name)); (err == nil) != stays {
			t.Errorf("%s: %v, and is to stay: %v", name, err, stays)
		}
	}
}
