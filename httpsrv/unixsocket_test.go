package httpsrv

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// leave makes the file of a socket that nobody listens on any more.
func leave(t testing.TB, path string) {
	t.Helper()
	fd, _, err := ListenSocket("unix:"+path, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
}

// A stale file is replaced; a socket that is served, a file, and a directory are not.
func TestUnixSocketPaths(t *testing.T) {
	dir := t.TempDir()
	leave(t, dir+"/stale")
	fd, at, err := ListenSocket("unix:"+dir+"/stale", 0)
	if err != nil || at != "unix:"+dir+"/stale" {
		t.Fatal(at, err)
	}
	defer unix.Close(fd)
	if err := os.WriteFile(dir+"/file", []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	dgram, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dgram)
	if err := unix.Bind(dgram, &unix.SockaddrUnix{Name: dir + "/dgram"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"stale", "file", "dgram", "."} {
		if _, _, err := ListenSocket("unix:"+dir+"/"+name, 0); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("%s: %v", name, err)
		}
		RemoveSocket("unix:" + dir + "/" + name)
		if _, err := os.Lstat(dir + "/" + name); err != nil {
			t.Errorf("%s was removed: %v", name, err)
		}
	}
	for _, addr := range []string{"unix:", "unix:" + dir + "/x|", "unix:" + dir + "/x|8", "unix:" + dir + "/x|1777", "unix:@x|600"} {
		if _, _, err := ListenSocket(addr, 0); !errors.Is(err, ErrParams) && !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestUnixSocketMode(t *testing.T) {
	for _, mode := range []os.FileMode{0o600, 0o660, 0o666, 0o777} { // whatever the umask
		path := t.TempDir() + "/s"
		fd, at, err := ListenSocket(fmt.Sprintf("unix:%s|%04o", path, mode), 0)
		if err != nil || at != "unix:"+path {
			t.Fatal(at, err)
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("%v, want %v, %v", fi.Mode().Perm(), mode, err)
		}
		unix.Close(fd)
		RemoveSocket(at)
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Error("the file is left:", err)
		}
	}
}

// What Listen made is gone when listening ends, also by Release; a file that a
// successor has made at the same path stays.
func TestUnixSocketRemoved(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		dir := r.TempDir()
		leave(r, dir+"/a")
		for _, name := range []string{"/a", "/b", "/@no-abstract-name"} {
			at, err := r.tile.Listen("unix:" + dir + name)
			if err != nil {
				r.Fatal(err)
			}
			if a := r.dialTo(at, 0).send([]byte(req("GET", "/", ""))).answered(); a.status != 200 {
				r.Error(a.head)
			}
		}
		if at, err := r.tile.Listen("unix:@tilewire-test"); err != nil || at != "unix:@tilewire-test" {
			r.Error(at, err)
		} else if a := r.dialTo(at, 0).send([]byte(req("GET", "/", ""))).answered(); a.status != 200 {
			r.Error(a.head)
		}
		if err := os.Remove(dir + "/b"); err != nil {
			r.Fatal(err)
		}
		next, _, err := ListenSocket("unix:"+dir+"/b", 0)
		if err != nil {
			r.Fatal(err)
		}
		r.tile.StopListening()
		ents, err := os.ReadDir(dir)
		if err != nil || len(ents) != 1 || ents[0].Name() != "b" {
			r.Error(ents, err)
		}
		unix.Close(next)
	})
}

// Of many that find the same stale file at once exactly one gets the path, and
// is reached there.
func TestUnixSocketRace(t *testing.T) {
	path := t.TempDir() + "/s"
	for range 50 {
		leave(t, path)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var won []int
		for range 8 {
			wg.Go(func() {
				fd, _, err := ListenSocket("unix:"+path, 0)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, fd)
				} else if !errors.Is(err, unix.EADDRINUSE) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 || staleSocket(path) {
			t.Errorf("%d got the path, and it is stale: %v", len(won), staleSocket(path))
		}
		for _, fd := range won {
			unix.Close(fd)
		}
		RemoveSocket("unix:" + path)
	}
}

// A lock that another process keeps on the directory ends in an error that says so.
func TestUnixSocketLocked(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, _, err := ListenSocket("unix:"+dir+"/s", 0); err == nil || !strings.Contains(err.Error(), "locked by another process") {
		t.Error(err)
	}
	if d := time.Since(begin); d < lockDirWait {
		t.Errorf("gave up after %v", d)
	}
}
