package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
)

// listeners are the instance's listening sockets: made by the supervisor, so
// that a busy port is found before anything else is done, handed to the tiles.
type listeners struct {
	files []*os.File
	addrs []string
	made  []string // of these, not inherited
}

// sndBuf bounds what the kernel holds for one client that does not read.
const sndBuf = 256 << 10

// listen makes a listening socket for each address. What it can't, it says with what to do about it.
func listen(addrs []string) (l listeners, err error) {
	if addrs, err = resolve(addrs, os.Getenv, os.Getpid()); err != nil {
		return l, err
	}
	keepPassed()
	for _, a := range addrs {
		fd, actual, err := httpsrv.ListenSocket(a, sndBuf)
		if err != nil {
			l.close()
			return l, listenError(a, err)
		}
		if !strings.HasPrefix(a, "fd:") { // else the file, if any, is the service manager's
			l.made = append(l.made, actual)
		}
		l.files = append(l.files, os.NewFile(uintptr(fd), actual))
		l.addrs = append(l.addrs, actual)
	}
	return l, nil
}

// listenError says what a person can do about a listener that can't be made.
func listenError(addr string, err error) error {
	path, isUnix := strings.CutPrefix(addr, "unix:")
	switch {
	case errors.Is(err, httpsrv.ErrParams):
		return usageError{errors.New("--" + strings.TrimPrefix(err.Error(), httpsrv.ErrParams.Error()+": "))}
	case isUnix && errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%s is in use, or is no socket; choose another --listen unix:PATH", path)
	case isUnix && (errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS)):
		return fmt.Errorf("%s: this user may not make a socket there; choose another --listen unix:PATH", path)
	case isUnix && errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%s: there is no such directory; choose another --listen unix:PATH", path)
	case isUnix && errors.Is(err, unix.EINVAL):
		return usageError{fmt.Errorf("unix socket path %q: 1 to 107 bytes", path)}
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%s is in use by another process; choose another --listen ADDR:PORT (port 0 takes a free one)", addr)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%s: ports below 1024 need root or CAP_NET_BIND_SERVICE; choose another --listen ADDR:PORT", addr)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%s is no address of this host; choose another --listen ADDR:PORT", addr)
	}
	return err
}

// give makes the sockets u's: who else may listen at their port in one group (SO_REUSEPORT) is settled by their user,
// and who may connect to one in the file system by its file's.
func (l *listeners) give(u instance.User) error {
	if !u.Set() {
		return nil
	}
	for _, f := range l.files {
		if err := f.Chown(int(u.Uid), int(u.Gid)); err != nil {
			return fmt.Errorf("%w: listener: %w", instance.ErrUser, err)
		}
	}
	for _, a := range l.addrs {
		path, ok := strings.CutPrefix(a, "unix:")
		if !ok || strings.HasPrefix(path, "@") {
			continue
		}
		if err := os.Lchown(path, int(u.Uid), int(u.Gid)); err != nil {
			return fmt.Errorf("%w: listener: %w", instance.ErrUser, err)
		}
	}
	return nil
}

// refuse ends listening for everybody who holds the sockets: who comes is refused. Those that were passed are the service
// manager's: who comes waits for the next instance.
func (l *listeners) refuse() {
	for _, f := range l.files {
		if !slices.Contains(l.made, f.Name()) {
			continue
		}
		if raw, err := f.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RD) })
		}
	}
}

func (l *listeners) close() {
	for _, f := range l.files {
		f.Close()
	}
	for _, a := range l.made {
		httpsrv.RemoveSocket(a)
	}
	l.files, l.made = nil, nil
}
