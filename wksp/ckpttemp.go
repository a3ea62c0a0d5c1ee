package wksp

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ckptTemp is a checkpoint's file before it is whole. It has no name where the file system can do that (O_TMPFILE), so that
// a process that is killed leaves nothing. Elsewhere, and for the moment in which it replaces a file that is there, its
// name is .BASE.NUMBER.tmp in the same directory. Who writes it holds a lock on it (flock(2)), which a death lets go:
// the next checkpoint to the same path removes those that nobody holds.
type ckptTemp struct {
	*os.File
	path string // to get
	temp string // the name it has; "" none
}

// openNameless opens a file without a name. A variable for the test that is on a file system without.
var openNameless = func(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
}

func newCkptTemp(path string) (*ckptTemp, error) {
	t := &ckptTemp{path: path}
	dir, base := filepath.Dir(path), filepath.Base(path)
	sweepCkptTemps(dir, base)
	step(pointFile)
	f, err := openNameless(dir)
	if err != nil {
		if f, err = os.CreateTemp(dir, "."+base+".*.tmp"); err != nil {
			return nil, err
		}
		t.temp = f.Name()
	}
	t.File = f
	for unix.Flock(int(f.Fd()), unix.LOCK_EX) == unix.EINTR { // waits for a sweep; where there are no such locks, nobody sweeps
	}
	if t.temp != "" && !isFile(t.temp, f) { // swept before it was locked, by another checkpoint to path
		t.drop()
		return newCkptTemp(path)
	}
	return t, nil
}

// isFile tells whether path names f.
func isFile(path string, f *os.File) bool {
	a, err := os.Lstat(path)
	if err != nil {
		return false
	}
	b, err := f.Stat()
	return err == nil && os.SameFile(a, b)
}

// rewind empties it.
func (t *ckptTemp) rewind() error {
	if _, err := t.Seek(0, 0); err != nil {
		return err
	}
	return t.Truncate(0)
}

// publish syncs it and gives it its name, in the place of a file that has it.
func (t *ckptTemp) publish() error {
	step(pointFile)
	if err := t.Sync(); err != nil {
		return err
	}
	dir, base := filepath.Dir(t.path), filepath.Base(t.path)
	for to := t.path; t.temp == ""; to = filepath.Join(dir, fmt.Sprintf(".%s.%d.tmp", base, rand.Uint32())) {
		step(pointFile)
		err := t.link(to)
		if err == nil && to == t.path {
			return syncDir(dir)
		}
		if err == nil {
			t.temp = to
		} else if err != unix.EEXIST { // link(2) does not replace
			return fmt.Errorf("linking %s: %w", to, err)
		}
	}
	step(pointFile)
	if err := os.Rename(t.temp, t.path); err != nil {
		return err
	}
	t.temp = ""
	step(pointFile)
	return syncDir(dir)
}

// link gives the nameless file a name. /proc/self/fd is what an ordinary user may link from.
func (t *ckptTemp) link(to string) error {
	return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", t.Fd()), unix.AT_FDCWD, to, unix.AT_SYMLINK_FOLLOW)
}

// drop closes it; without the name that was to be got, it is gone.
func (t *ckptTemp) drop() {
	if t.temp != "" {
		os.Remove(t.temp)
	}
	t.Close()
}

// sweepCkptTemps removes what killed processes left of checkpoints to dir/base. What it may not remove stays.
func sweepCkptTemps(dir, base string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "."+base+".")
		number, ok2 := strings.CutSuffix(number, ".tmp")
		if !ok || !ok2 || number == "" || strings.Trim(number, "0123456789") != "" || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			os.Remove(path)
		}
		f.Close()
	}
}

// syncDir makes a name last. A file system that cannot sync directories (EINVAL) has nothing to lose there.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Fsync(int(d.Fd())); err != nil && err != unix.EINVAL {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}
