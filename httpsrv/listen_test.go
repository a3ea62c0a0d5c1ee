package httpsrv

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Every kind of listener serves, and says where it is.
func TestListeners(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		path := "unix:" + r.TempDir() + "/s"
		inherited, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			r.Fatal(err)
		}
		if err := unix.Bind(inherited, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			r.Fatal(err)
		}
		if _, _, err := ListenSocket(fmt.Sprint("fd:", inherited), 0); !errors.Is(err, ErrParams) {
			r.Error("a socket that does not listen:", err)
		}
		if err := unix.Listen(inherited, 5); err != nil {
			r.Fatal(err)
		}
		for _, c := range []struct{ addr, prefix string }{
			{"127.0.0.1:0", "127.0.0.1:"}, {"localhost:0", "127.0.0.1:"}, {"[::1]:0", "[::1]:"}, {"[::]:0", "[::]:"}, {":0", "[::]:"},
			{"[::1%lo]:0", "[::1]:"}, {path, path}, {fmt.Sprint("fd:", inherited), "127.0.0.1:"},
		} {
			at, err := r.tile.Listen(c.addr)
			if err != nil {
				if strings.Contains(c.addr, ":") && errors.Is(err, unix.EAFNOSUPPORT) {
					continue // no IPv6 here
				}
				r.Fatal(c.addr, err)
			}
			if !strings.HasPrefix(at, c.prefix) || strings.HasSuffix(at, ":0") {
				r.Errorf("%s is at %s", c.addr, at)
			}
			if a := r.dialTo(strings.Replace(at, "[::]", "[::1]", 1), 0).send([]byte(req("GET", "/", ""))).answered(); a.status != 200 {
				r.Errorf("%s: %q", c.addr, a.head)
			}
			for _, p := range r.peers {
				p.close()
			}
			if c.prefix == "[::]:" { // IPv4 as well
				if a := r.dialTo(strings.Replace(at, "[::]", "127.0.0.1", 1), 0).send([]byte(req("GET", "/", ""))).answered(); a.status != 200 {
					r.Errorf("%s: %q", c.addr, a.head)
				}
			}
		}
		if _, err := r.tile.Listen(r.addr); !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), r.addr) {
			r.Error("a taken port:", err)
		}
	})
}

func TestListenRefuses(t *testing.T) {
	before := len(openFds(t))
	for _, c := range []struct {
		addr string
		want error
	}{
		{"", ErrParams}, {"8080", ErrParams}, {"1.2.3:80", ErrParams}, {"host.example:80", ErrParams}, {"127.0.0.1:65536", ErrParams},
		{"127.0.0.1:-1", ErrParams}, {"127.0.0.1:http", ErrParams}, {"fd:", ErrParams}, {"fd:x", ErrParams}, {"fd:-1", ErrParams},
		{"fd:987654", ErrParams}, {"[fe80::1%nope]:80", ErrParams}, {"fd:0", ErrParams}, {"unix:/no/such/dir/s", unix.ENOENT}, {"unix:" + strings.Repeat("x", 200), unix.EINVAL},
		{"203.0.113.1:1", unix.EADDRNOTAVAIL},
	} {
		fd, _, err := ListenSocket(c.addr, 0)
		if !errors.Is(err, c.want) || fd != -1 || !strings.Contains(err.Error(), c.addr) || strings.Count(err.Error(), "httpsrv: ") != 1 {
			t.Errorf("%q: %d, %v, want %v", c.addr, fd, err, c.want)
		}
	}
	if after := len(openFds(t)); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
