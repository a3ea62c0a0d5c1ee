package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// SocketName is the socket's in the run directory.
	SocketName = "control.sock"

	requestMax  = 4096 // bytes of a request
	requestTime = 5 * time.Second
	clientsMax  = 64 // connections at a time; further ones are closed
)

// Request is what a verb asks for.
type Request struct {
	Verb string `json:"verb"`           // drain, stop, reload, restart
	Tile string `json:"tile,omitempty"` // restart: kind:id
}

// Change is a key of the configuration that has another value now.
type Change struct {
	Key string `json:"key"`
	Old string `json:"old"`
	New string `json:"new"`
}

// Reply is the answer. Exit is the exit code that the verb is to end with.
type Reply struct {
	Exit    int      `json:"exit"`
	Error   string   `json:"error,omitempty"`   // what was wrong, may have several lines
	Note    string   `json:"note,omitempty"`    // a line for people
	Clients uint64   `json:"clients,omitempty"` // drain, stop: so many stream now
	Changes []Change `json:"changes,omitempty"` // reload
}

// Server answers requests. Its methods may be called from any goroutine.
type Server struct {
	l     *net.UnixListener
	path  string
	slots chan struct{}
	wg    sync.WaitGroup
}

// Serve makes the socket in dir and answers each request by handle, which may be called by several goroutines at once. If
// hold is true the connection stays open until this process ends, so that the verb sees that. Errors: that of the system.
func Serve(dir string, handle func(Request) (r Reply, hold bool)) (*Server, error) {
	path := filepath.Join(dir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	addr, done, err := address(path)
	if err != nil {
		return nil, err
	}
	defer done()
	// The file gets its mode from the socket, before it has a name: the directory may be the tiles' user's, who could put
	// something else in its place.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	nl, err := lc.Listen(context.Background(), "unix", addr)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l := nl.(*net.UnixListener)
	l.SetUnlinkOnClose(false) // addr may be gone by then
	s := &Server{l: l, path: path, slots: make(chan struct{}, clientsMax)}
	s.wg.Go(func() { s.accept(handle) })
	return s, nil
}

// Close ends listening and removes the socket. Connections that are held stay until the process ends.
func (s *Server) Close() {
	_ = os.Remove(s.path)
	s.l.Close()
	s.wg.Wait()
}

func (s *Server) accept(handle func(Request) (Reply, bool)) {
	for {
		c, err := s.l.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // EMFILE and friends: weather
			time.Sleep(100 * time.Millisecond)
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			c.Close()
			continue
		}
		go func() {
			if !serve(c, handle) {
				c.Close()
				<-s.slots
			}
		}()
	}
}

// held keeps connections of which the end is to be that of the process: nothing else refers to them.
var held struct {
	sync.Mutex
	conns []*net.UnixConn
}

func serve(c *net.UnixConn, handle func(Request) (Reply, bool)) (keep bool) {
	send := func(r Reply) {
		_ = c.SetWriteDeadline(time.Now().Add(requestTime))
		_ = json.NewEncoder(c).Encode(r)
	}
	_ = c.SetReadDeadline(time.Now().Add(requestTime))
	line, err := bufio.NewReader(io.LimitReader(c, requestMax)).ReadBytes('\n')
	if uid, err := peer(c); err != nil || uid != os.Geteuid() && uid != 0 {
		send(Reply{Exit: 1, Error: fmt.Sprintf("user %d may not steer an instance of user %d; run the verb as that user, or as root", uid, os.Geteuid())})
		return false
	}
	var q Request
	if err == nil {
		err = json.Unmarshal(line, &q)
	}
	if err != nil {
		send(Reply{Exit: 2, Error: fmt.Sprintf("request of %d bytes: %v", len(line), err)})
		return false
	}
	r, hold := handle(q)
	if hold {
		held.Lock()
		held.conns = append(held.conns, c)
		held.Unlock()
	}
	send(r)
	return hold
}

// peer returns the user of the process at the other end.
func peer(c *net.UnixConn) (uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil {
		return -1, e
	}
	if err != nil {
		return -1, err
	}
	return int(cred.Uid), nil
}

// address returns an address for path, good until done is called.
func address(path string) (addr string, done func(), err error) {
	if len(path) < len(unix.RawSockaddrUnix{}.Path) {
		return path, func() {}, nil
	}
	fd, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, fmt.Errorf("control socket: %w", &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err})
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", fd, filepath.Base(path)), func() { unix.Close(fd) }, nil
}
