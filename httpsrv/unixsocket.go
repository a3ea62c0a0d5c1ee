package httpsrv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A unix socket's address is PATH, or PATH|MODE with the file's mode in octal
// ("/run/x.sock|0660"; without one the umask decides). A PATH that begins with
// @ is abstract: there is no file.

// socketPath takes such an address apart. mode is -1 if none is given.
func socketPath(addr string) (path string, mode int, ok bool) {
	path, m, given := strings.Cut(addr, "|")
	if !given {
		return path, -1, true
	}
	v, err := strconv.ParseUint(m, 8, 32)
	return path, int(v), err == nil && v <= 0o777 && !strings.HasPrefix(path, "@")
}

// bindSocket binds fd to path and listens. A file that a process which is gone
// left there is replaced; a socket that is served, and what is no socket, is
// EADDRINUSE. Nobody can connect before mode is set.
func bindSocket(fd int, path string, mode int) error {
	sa := &unix.SockaddrUnix{Name: path}
	if strings.HasPrefix(path, "@") {
		if err := sys.bind(fd, sa); err != nil {
			return err
		}
		return sys.listen(fd, backlog)
	}
	if path == "" { // would be a name of the kernel's choice
		return unix.EINVAL
	}
	unlock, err := lockDir(path)
	if err != nil {
		return err
	}
	defer unlock()
	if err = sys.bind(fd, sa); err == unix.EADDRINUSE && staleSocket(path) {
		_ = os.Remove(path)
		err = sys.bind(fd, sa)
	}
	if err != nil {
		return err
	}
	if mode >= 0 {
		err = unix.Chmod(path, uint32(mode))
	}
	if err == nil {
		err = sys.listen(fd, backlog)
	}
	if err != nil {
		_ = os.Remove(path)
	}
	return err
}

// RemoveSocket removes the file of the unix socket at addr ("unix:PATH", as
// ListenSocket returned it) if nobody listens there any more: call it once the
// descriptor is closed. A successor's socket at the same path stays. Other
// addresses have no file.
func RemoveSocket(addr string) {
	path, ok := strings.CutPrefix(addr, "unix:")
	if !ok || path == "" || path[0] == '@' {
		return
	}
	unlock, err := lockDir(path)
	if err != nil {
		return
	}
	defer unlock()
	if staleSocket(path) {
		_ = os.Remove(path)
	}
}

// staleSocket reports whether path is a socket that nobody listens on.
func staleSocket(path string) bool {
	if fi, err := os.Lstat(path); err != nil || fi.Mode()&os.ModeSocket == 0 {
		return false
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) == unix.ECONNREFUSED
}

const lockDirWait = time.Second // others hold it for microseconds

// lockDir keeps others from replacing a socket in the directory of path between
// its bind and its listen, when it looks like one that nobody listens on. A
// directory that may not be read is not locked.
func lockDir(path string) (unlock func(), err error) {
	fd, err := unix.Open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EACCES) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockDirWait); ; time.Sleep(5 * time.Millisecond) {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { unix.Close(fd) }, nil
		case err != unix.EWOULDBLOCK: // a file system without locks
			return func() { unix.Close(fd) }, nil
		case time.Now().After(end):
			unix.Close(fd)
			return nil, fmt.Errorf("%s is locked by another process (lslocks names it)", filepath.Dir(path))
		}
	}
}
