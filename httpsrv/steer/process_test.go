package steer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func init() {
	children["tile"] = tileChild
	children["bare"] = bareChild
	children["capable"] = capableChild
}

const (
	tileEnv = "STEER_TEST_TILE"
	nobody  = 65534
	capBPF  = 39
)

// child runs the part in a process of its own, as nobody and without a capability but those if this is root. files are its
// descriptors from 3 on. It ends when its input does.
func child(t *testing.T, part string, caps []uintptr, env string, files ...*os.File) (*exec.Cmd, io.Closer) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), childEnv+"="+part, env, "GORACE=atexit_sleep_ms=0")
	cmd.ExtraFiles = files
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: caps}
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	return cmd, in
}

// tileChild is a tile: descriptor 3 the shared array, 4 its listener. It greets each client with a letter of its own.
func tileChild() error {
	tile, err := strconv.Atoi(os.Getenv(tileEnv))
	if err != nil {
		return err
	}
	j, err := Join(3, tile)
	if err != nil {
		return err
	}
	unix.Close(3)
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	for _, fd := range []int{0, 4} {
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	for n := uint64(0); ; {
		fd, _, err := unix.Accept4(4, unix.SOCK_NONBLOCK)
		switch err {
		case nil:
			n++
			j.Took()
			j.SetLoad(n)
			if _, err := unix.Write(fd, []byte{byte('A' + tile)}); err != nil {
				return err
			}
			continue
		case unix.EAGAIN:
			j.Drained()
		case unix.EINTR:
		default:
			return err
		}
		ev := make([]unix.EpollEvent, 2)
		k, _ := unix.EpollWait(ep, ev, 100)
		for _, e := range ev[:max(k, 0)] {
			if e.Fd == 0 {
				return nil
			}
		}
	}
}

// Four tiles in processes of their own, without any right; one stands still while clients come, and is then killed with a
// full backlog. Everybody is served, evenly.
func TestProcesses(t *testing.T) {
	eachNet(t, func(t *testing.T, network string, _ bool) {
		st := load(t, Options{Tiles: tiles, Ports: 1, Mode: Least})
		s := newSite(t, network, tiles)
		s.insert(st, 0)
		array, err := st.File()
		if err != nil {
			t.Fatal(err)
		}
		defer array.Close()
		var cmds [tiles]*exec.Cmd
		for i := range cmds {
			fd, err := unix.FcntlInt(uintptr(s.fds[i]), unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				t.Fatal(err)
			}
			l := os.NewFile(uintptr(fd), "listener")
			cmd, in := child(t, "tile", nil, fmt.Sprint(tileEnv, "=", i), array, l)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			l.Close()
			s.leave(i) // it is the child's alone now
			cmds[i] = cmd
			t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
			if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
				t.Fatal("tile ", i, " does not begin: ", err)
			}
		}
		const still = 2
		if err := cmds[still].Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := unix.Waitid(unix.P_PID, cmds[still].Process.Pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
			t.Fatal(err)
		}
		s.connect(conns, nil)
		if n := st.Stats().Tiles[still].Pending; n < conns/tiles-10 || n > conns/tiles+10 {
			t.Errorf("%d wait at the tile that stands still, its share is %d", n, conns/tiles)
		}
		_ = st.SetLive(still, false)
		if err := cmds[still].Process.Kill(); err != nil {
			t.Fatal(err)
		}
		var by [tiles]int
		for _, fd := range s.clients {
			await(t, fd, unix.POLLIN)
			var b [1]byte
			if n, err := unix.Read(fd, b[:]); n != 1 {
				t.Fatal("a client was lost: ", n, err)
			}
			by[b[0]-'A']++
		}
		t.Logf("served by %v; %d had to move", by, st.Stats().Migrated())
		if by[still] != 0 {
			t.Error("served by a tile that was stopped")
		}
		spread(t, []int{by[0], by[1], by[3]}, conns/3-10, conns/3+10)
	})
}

// bareChild has no capability: it may Join, and not Load.
func bareChild() error {
	if _, err := Load(Options{Tiles: 1, Ports: 1}); !errors.Is(err, ErrPermission) || !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("load without a capability: %w", err)
	} else {
		fmt.Println(err)
	}
	return nil
}

// capableChild has CAP_BPF and nothing else: it may Load, Insert, and all the rest.
func capableChild() error {
	st, err := Load(Options{Tiles: 2, Ports: 2, Mode: Least})
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	if err := unix.Listen(fd, 5); err != nil { // at a port that the kernel chooses
		return err
	}
	if err := st.Insert(1, 1, fd); err != nil {
		return err
	}
	fmt.Println("loaded")
	return st.Close()
}

func TestRights(t *testing.T) {
	run := func(part string, caps []uintptr) string {
		cmd, in := child(t, part, caps, "")
		defer in.Close()
		out, err := cmd.CombinedOutput()
		if err != nil {
			if errors.Is(err, syscall.EPERM) {
				t.Skip("this test's process has no CAP_BPF to give")
			}
			t.Errorf("%s: %v %s", part, err, out)
		}
		return string(out)
	}
	t.Run("none", func(t *testing.T) {
		if os.Getuid() != 0 && canLoad() {
			t.Skip("this user may load")
		}
		t.Log(run("bare", nil))
	})
	t.Run("CAP_BPF", func(t *testing.T) {
		if os.Getuid() != 0 || !canLoad() {
			t.Skip("needs root, with CAP_BPF")
		}
		t.Log(run("capable", []uintptr{capBPF}))
	})
}

func canLoad() bool {
	st, err := Load(Options{Tiles: 1, Ports: 1})
	if err == nil {
		_ = st.Close()
	}
	return !errors.Is(err, ErrPermission)
}
