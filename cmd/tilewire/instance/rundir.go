package instance

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/control"
	"github.com/tilewire/tilewire/shmem"
)

// Bell returns the path of a network tile's doorbell.
func (in *Instance) Bell(id int) string {
	return filepath.Join(in.Info.RunDir, "net."+strconv.Itoa(id)+".bell")
}

// AppBell returns the path of the doorbell of an application in a process of its own.
func (in *Instance) AppBell(id int) string {
	return filepath.Join(in.Info.RunDir, "app."+strconv.Itoa(id)+".bell")
}

// makeRunDir makes the directory for what is not memory: in $TILEWIRE_RUN_DIR,
// /run/tilewire for root, $XDG_RUNTIME_DIR/tilewire, or one in the temporary
// directory that belongs to this user alone, one for each instance.
func makeRunDir(name string) (string, error) {
	dir, err := runDirPath(name)
	if err != nil {
		return "", err
	}
	removeGiven(dir)
	return dir, checkRunDir(dir, User{})
}

// removeGiven removes what a crash left of a run directory that root gave to the
// tiles' user, if nobody but root could have put it there.
func removeGiven(dir string) {
	base, err := os.Lstat(filepath.Dir(dir))
	if err != nil || os.Geteuid() != 0 || owner(base) != 0 || base.Mode().Perm()&0o022 != 0 {
		return
	}
	if fi, err := os.Lstat(dir); err == nil && fi.IsDir() && owner(fi) != 0 {
		removeRunDir(dir)
	}
}

// runDirPath is where an instance of this user called name has its run directory.
func runDirPath(name string) (string, error) {
	base := os.Getenv("TILEWIRE_RUN_DIR")
	switch xdg := os.Getenv("XDG_RUNTIME_DIR"); {
	case base != "":
	case os.Geteuid() == 0:
		base = "/run/tilewire"
	case xdg != "":
		base = filepath.Join(xdg, "tilewire")
	default:
		base = filepath.Join(os.TempDir(), "tilewire-"+strconv.Itoa(os.Geteuid()))
	}
	return filepath.Abs(filepath.Join(base, name))
}

// checkRunDir makes dir unless it is there, and refuses one that others could
// put things into: the directory, or the one that it lies in, is a link or
// another user's. The tiles' user may own dir itself; the one that it lies in is
// for others to search, so that this user gets there.
func checkRunDir(dir string, u User) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o711); err != nil {
		return runDirError(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return runDirError(err)
	}
	base, err := os.Lstat(filepath.Dir(dir))
	if err != nil {
		return runDirError(err)
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return runDirError(err)
	}
	switch uid := os.Geteuid(); {
	case !fi.IsDir():
		return runDirError(fmt.Errorf("%s is no directory", dir))
	case owner(fi) != uid && !(u.Set() && owner(fi) == int(u.Uid)) || fi.Mode().Perm()&0o022 != 0:
		return runDirError(fmt.Errorf("%s belongs to user %d with mode %#o, and must be this user's (%d) alone", dir, owner(fi), fi.Mode().Perm(), uid))
	case owner(base) != uid && owner(base) != 0:
		return runDirError(fmt.Errorf("%s belongs to user %d", filepath.Dir(dir), owner(base)))
	}
	return nil
}

func runDirError(err error) error {
	return fmt.Errorf("run directory: %w (set TILEWIRE_RUN_DIR to a directory of yours)", err)
}

func owner(fi os.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

func group(fi os.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Gid)
	}
	return -1
}

// removeLeft removes the run directory of an instance of this user whose memory is
// gone, and reports whether there was one and is none now.
func removeLeft(name string) bool {
	dir, err := runDirPath(name)
	if err != nil {
		return false
	}
	if fi, err := os.Lstat(dir); err != nil || !fi.IsDir() || owner(fi) != os.Geteuid() {
		return false
	}
	removeRunDir(dir)
	_, err = os.Lstat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// AdminSocket returns the path of the admin tile's socket where no other place was named.
func (in *Instance) AdminSocket() string { return filepath.Join(in.Info.RunDir, "admin.sock") }

// removeRunDir removes the doorbells and sockets in dir, and dir if nothing else is in it.
func removeRunDir(dir string) {
	for pattern, mode := range map[string]fs.FileMode{"*.bell": fs.ModeNamedPipe, "admin.sock": fs.ModeSocket, control.SocketName: fs.ModeSocket} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, f := range files {
			if fi, err := os.Lstat(f); err == nil && fi.Mode()&mode != 0 {
				_ = os.Remove(f)
			}
		}
	}
	_ = os.Remove(dir)
}

// startsWithin is how long an instance may take from its run directory to its memory.
const startsWithin = 10 * time.Second

// tidy removes run directories, and admin sockets beside them, of instances that have no memory (any more): what is this user's own,
// nobody listens at, and is older than a start takes.
func tidy() {
	base, err := runDirPath("x")
	if err != nil {
		return
	}
	base = filepath.Dir(base)
	all, err := shmem.List()
	if err != nil {
		return
	}
	known := map[string]bool{}
	for _, i := range all {
		known[i.Name] = true
	}
	entries, _ := os.ReadDir(base)
	for _, e := range entries {
		fi, err := e.Info()
		name := strings.TrimSuffix(e.Name(), ".sock")
		path := filepath.Join(base, e.Name())
		switch {
		case err != nil, known[name], owner(fi) != os.Geteuid(), time.Since(fi.ModTime()) < startsWithin:
		case fi.IsDir():
			removeRunDir(path)
		case fi.Mode()&fs.ModeSocket != 0 && name != e.Name():
			if c, err := net.Dial("unix", path); errors.Is(err, syscall.ECONNREFUSED) {
				_ = os.Remove(path)
			} else if err == nil {
				_ = c.Close()
			}
		}
	}
}
