package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
)

// ownPath is where this program was started from: what lies there when a network tile is restarted is its successor's program.
var ownPath = sync.OnceValue(func() string { return pathOf(os.Args[0]) })

// pathOf makes an absolute path of what a program was called by, as the shell does, and leaves symbolic links in it: who flips
// one changes what it names. Where that is another program than the one that runs (argv[0] may say anything, and PATH or the
// working directory may have changed) the path that the kernel has of it counts, which has no links. "": that is not known either.
func pathOf(argv0 string) string {
	path := argv0
	if !strings.Contains(argv0, "/") {
		found, err := exec.LookPath(argv0)
		if err != nil && !errors.Is(err, exec.ErrDot) {
			found = ""
		}
		path = found
	}
	if path != "" && !filepath.IsAbs(path) {
		wd, _ := os.Getwd()
		path = wd + "/" + path // not cleaned: behind a link to a directory .. is that directory's
	}
	here, err := os.Stat(path)
	if running, e := os.Stat("/proc/self/exe"); err == nil && e == nil && os.SameFile(here, running) && !strings.HasPrefix(path, "/proc/") {
		return path
	}
	exe, _ := os.Executable()
	return exe
}
