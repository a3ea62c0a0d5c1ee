package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
)

// listeners are the instance's listening sockets: made by the supervisor, so
// that a busy port is found before anything else is done, handed to the tiles.
type listeners []port

// port is an address that is listened at.
type port struct {
	addr  string
	files []*os.File // a socket for each network tile, or one for all of them
	made  bool       // by this process, not inherited
}

// shared reports whether each tile has a socket of its own.
func (p *port) shared() bool { return len(p.files) > 1 }

// of returns the sockets of a tile.
func (l listeners) of(id int) (files []*os.File) {
	for i := range l {
		if p := &l[i]; p.shared() {
			files = append(files, p.files[id])
		} else {
			files = append(files, p.files[0])
		}
	}
	return files
}

func (l listeners) addrs() (a []string) {
	for i := range l {
		a = append(a, l[i].addr)
	}
	return a
}

// sndBuf bounds what the kernel holds for one client that does not read.
const sndBuf = 256 << 10

// listen makes listening sockets for each address: one, or for several tiles that share a TCP port as many, of which those of the first
// live ones listen. What it can't, it says with what to do about it.
func listen(addrs []string, tiles, live int) (l listeners, err error) {
	if addrs, err = resolve(addrs, os.Getenv, os.Getpid()); err != nil {
		return nil, err
	}
	keepPassed()
	for _, a := range addrs {
		passed := strings.HasPrefix(a, "fd:") // the file, if any, is the service manager's
		p := port{made: !passed}
		var fds []int
		if tiles > 1 && !passed && !strings.HasPrefix(a, "unix:") {
			fds, p.addr, err = httpsrv.ListenShared(a, tiles, live, sndBuf)
		} else {
			fds = []int{-1}
			fds[0], p.addr, err = httpsrv.ListenSocket(a, sndBuf)
		}
		if err != nil {
			l.close()
			return nil, listenError(a, err)
		}
		for _, fd := range fds {
			p.files = append(p.files, unpolled(fd, p.addr))
		}
		l = append(l, p)
	}
	return l, nil
}

// unpolled makes a file of a nonblocking socket that this process only hands on. The runtime would have epoll tell it of every connection
// otherwise: it looks whether the descriptor blocks when the file is made.
func unpolled(fd int, name string) *os.File {
	_ = unix.SetNonblock(fd, false)
	defer unix.SetNonblock(fd, true)
	return os.NewFile(uintptr(fd), name)
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
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%s: %w; raise the limit (ulimit -n, LimitNOFILE), or run fewer --net-tiles", addr, unix.EMFILE)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%s is no address of this host; choose another --listen ADDR:PORT", addr)
	}
	return err
}

// give makes the sockets u's: who else may listen at their port in one group (SO_REUSEPORT) is settled by their user,
// and who may connect to one in the file system by its file's.
func (l listeners) give(u instance.User) error {
	if !u.Set() {
		return nil
	}
	for i := range l {
		p := &l[i]
		for _, f := range p.files {
			if err := f.Chown(int(u.Uid), int(u.Gid)); err != nil {
				return fmt.Errorf("%w: listener: %w", instance.ErrUser, err)
			}
		}
		path, ok := strings.CutPrefix(p.addr, "unix:")
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
func (l listeners) refuse() {
	for i := range l {
		if p := &l[i]; p.made {
			for _, f := range p.files {
				_ = onFd(f, httpsrv.Unlisten)
			}
		}
	}
}

// onFd calls f with the file's descriptor, which stays the file's.
func onFd(file *os.File, f func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var e error
	if err := raw.Control(func(fd uintptr) { e = f(int(fd)) }); err != nil {
		return err
	}
	return e
}

func (l listeners) close() {
	for i := range l {
		for _, f := range l[i].files {
			f.Close()
		}
		if l[i].made {
			httpsrv.RemoveSocket(l[i].addr)
		}
	}
}
