package main

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// After the grace who connects is refused, whoever else holds the sockets; those that a service manager passed are left to it.
func TestDrainEndsListening(t *testing.T) {
	t.Parallel()
	passed, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer passed.Close()
	f, err := passed.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	path := t.TempDir() + "/s"
	p := activate(t, "web", []*os.File{f}, "run", "--name", "enough", "--listen", "127.0.0.1:0", "--listen", "unix:"+path, "--listen", "fd:web",
		"--ring-size-mib", "4", "--max-connections", "64", "--lame-duck", "1h")
	p.serving()
	a, b := p.dial(), p.dial()
	p.signal(unix.SIGUSR2)
	p.says(`"msg":"draining","clients":2`)
	for network, addr := range map[string]string{"tcp": strings.Trim(strings.TrimPrefix(p.url, "http://"), "/"), "unix": path} {
		for begin := time.Now(); ; time.Sleep(time.Millisecond) { // nobody is told of the moment
			c, err := net.Dial(network, addr)
			if errors.Is(err, unix.ECONNREFUSED) {
				break
			}
			if err == nil {
				c.Close()
			}
			if time.Since(begin) > limit {
				t.Fatalf("%s: %v", addr, err)
			}
		}
	}
	if c, err := net.Dial("tcp", passed.Addr().String()); err != nil { // waits for the next instance
		t.Error(err)
	} else {
		c.Close()
	}
	a.closes(websocket.StatusServiceRestart, "restarting")
	verb(t, 0, "stop", "--name", "enough")
	b.closes(websocket.StatusGoingAway, "shutting down")
	p.exit(0)
	if _, err := os.Lstat(path); err == nil {
		t.Error("the unix socket is left")
	}
}

// The successor of a tile that dies while it drains goes on with that: its clients are sent away as they would have been.
func TestTileDiesWhileDraining(t *testing.T) {
	t.Parallel()
	p := runs(t, "dies", "--drain-grace", "1s", "--drain-time", "200ms", "--", "sleep", "1000")
	c := p.dial()
	p.signal(unix.SIGTERM)
	p.says(`"msg":"draining","clients":1`)
	if err := unix.Kill(children(t, p.cmd.Process.Pid)["tw net:0"], unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.closes(websocket.StatusServiceRestart, "restarting")
	p.exit(0)
	p.says(`"msg":"died","tile":"net:0"(?s:.*)"msg":"restarted","tile":"net:0"(?s:.*)"msg":"ended","tile":"net:0"(?s:.*)"msg":"ended","tile":"source:0"`)
}

// Messages go on while clients are sent away, and each gets all that came before its close.
func TestDrainWhilePublishing(t *testing.T) {
	t.Parallel()
	p := runs(t, "feeds", "--drain-time", "2s", "--", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done")
	const n = 8
	ends := make(chan error, n)
	ready := make(chan struct{}, n)
	for range n {
		c := p.dial()
		go func() {
			defer func() { // also if it fails before it was
				select {
				case ready <- struct{}{}:
				default:
				}
			}()
			last := 0
			for {
				s, err := c.next()
				if err != nil {
					if websocket.CloseStatus(err) == websocket.StatusServiceRestart {
						err = nil
					}
					ends <- err
					return
				}
				k := number(s)
				if last != 0 && k != last+1 {
					ends <- errors.New("after " + s + " comes another")
					return
				}
				if last == 0 {
					ready <- struct{}{}
				}
				last = k
			}
		}()
	}
	for range n {
		<-ready
	}
	p.signal(unix.SIGTERM)
	for range n {
		if err := <-ends; err != nil {
			t.Error(err)
		}
	}
	p.exit(0)
}

func number(s string) (n int) {
	for _, d := range s {
		n = 10*n + int(d-'0')
	}
	return n
}
