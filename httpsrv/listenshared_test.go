package httpsrv

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const sharedEnv = "HTTPSRV_TEST_LISTEN_SHARED"

func TestListenShared(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0", "[::1%lo]:0", ":0"} {
		fds, at, err := ListenShared(addr, 4, 3, 1<<16)
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
			t.Log(addr, err) // no IPv6 here
			continue
		}
		if err != nil {
			t.Fatal(addr, err)
		}
		closeAll := func() {
			for _, fd := range fds {
				unix.Close(fd)
			}
		}
		for i, fd := range fds {
			live := 1
			if i == 3 {
				live = 0
			}
			for opt, want := range map[int]int{unix.SO_REUSEPORT: 1, unix.SO_ACCEPTCONN: live, unix.SO_PROTOCOL: unix.IPPROTO_TCP} {
				if v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, opt); err != nil || v != want {
					t.Errorf("%s: option %d is %d, %v", addr, opt, v, err)
				}
			}
			if sa, err := unix.Getsockname(fd); err != nil || sockaddrString(sa) != at {
				t.Errorf("%s: one is at %v, not %s", addr, sa, at)
			}
		}
		if len(fds) != 4 || strings.HasSuffix(at, ":0") {
			t.Errorf("%s: %v at %s", addr, fds, at)
		}
		for _, again := range []func() error{
			func() error { _, _, err := ListenShared(at, 2, 2, 0); return err },
			func() error { _, _, err := ListenSocket(at, 0); return err },
		} {
			if err := again(); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("a second instance at %s: %v", at, err)
			}
		}
		if _, _, err := ListenShared(at, 1, 1, 0); !errors.Is(err, ErrPortTaken) {
			t.Error(err)
		}
		for _, fd := range []int{fds[3], fds[0]} { // one that has waited, and comes again; and the first
			for _, again := range []func(int) error{Unlisten, Relisten, Unlisten, Unlisten, Relisten} {
				if err := again(fd); err != nil {
					t.Error(err)
				}
			}
			if sa, err := unix.Getsockname(fd); err != nil || sockaddrString(sa) != at {
				t.Errorf("%s: it is at %v afterwards, %v", at, sa, err)
			}
		}
		took := map[int]bool{} // each gets some
		for range 400 {
			c, err := net.Dial("tcp", strings.Replace(at, "[::]", "127.0.0.1", 1))
			if err != nil {
				t.Fatal(err)
			}
			c.(*net.TCPConn).SetLinger(0)
			defer c.Close()
		}
		for left := 400; left > 0; {
			var p []unix.PollFd
			for _, fd := range fds {
				p = append(p, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
			}
			if n, err := unix.Poll(p, 20_000); n == 0 || err != nil && err != unix.EINTR {
				t.Fatal("nobody waits, ", left, " are missing: ", err)
			}
			for _, fd := range fds {
				if c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC); err == nil {
					if n, _, err := unix.Recvfrom(c, make([]byte, 1), unix.MSG_DONTWAIT); err != unix.EAGAIN {
						t.Errorf("who is accepted is read from: %d, %v", n, err)
					}
					unix.Close(c)
					took[fd] = true
					left--
				}
			}
		}
		if len(took) != 4 {
			t.Errorf("%s: %d of 4 got any", addr, len(took))
		}
		closeAll()
		if fds, _, err = ListenShared(at, 2, 2, 0); err != nil { // free again
			t.Error(err)
		}
		closeAll()
	}
	for _, addr := range []string{"unix:/tmp/x", "fd:0", "nonsense"} {
		if _, _, err := ListenShared(addr, 2, 1, 0); !errors.Is(err, ErrParams) {
			t.Error(addr, err)
		}
	}
	if _, _, err := ListenShared("127.0.0.1:0", 2, 0, 0); !errors.Is(err, ErrParams) {
		t.Error("none:", err)
	}
}

// Another user cannot join the group.
func TestListenSharedOtherUser(t *testing.T) {
	if at := os.Getenv(sharedEnv); at != "" {
		a, err := parseShared(at)
		if err == nil {
			_, _, err = a.open(at, 0, shared)
			err = taken(err)
		}
		fmt.Println("child:", errors.Is(err, ErrPortTaken) && errors.Is(err, unix.EADDRINUSE), err)
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root, to be two users")
	}
	fds, at, err := ListenShared("127.0.0.1:0", 1, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestListenSharedOtherUser$", "-test.v")
	cmd.Env = append(os.Environ(), sharedEnv+"="+at, "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "child: true") {
		t.Errorf("%v %s", err, out)
	}
}
