package topo

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/keeper"
	"github.com/tilewire/tilewire/tile/sandbox"
)

// child is a started process.
type child struct {
	proc  *os.Process
	pidfd int // readable when the process is dead
	ready int // read end of the pipe of tile.NotifyReady, -1 when it is done with
}

// A starter runs functions on one thread that lives as long as the process. A child's Pdeathsig fires when the thread
// that started it ends, not when the process does (golang.org/issue/27505), and Go ends threads when it likes.
// The thread has the affinity that the process began with, since children inherit it, and their credentials: that is
// why confined children have one of their own, which has given its privileges up.
type starter struct {
	work chan func()
	err  error // why it could not be confined
}

var (
	plainStarter    = sync.OnceValue(func() *starter { return newStarter(func() error { return nil }) })
	confinedStarter = sync.OnceValue(func() *starter { return newStarter(sandbox.DropPrivileges) })
)

func newStarter(confine func() error) *starter {
	s := &starter{work: make(chan func())}
	begun := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		if initialOK {
			unix.SchedSetaffinity(0, &initialCPUs)
		}
		s.err = confine()
		close(begun)
		for f := range s.work {
			f()
		}
	}()
	<-begun
	return s
}

// The affinity of the main thread before anybody could pin it.
var initialCPUs, initialOK = func() (set unix.CPUSet, ok bool) {
	return set, unix.SchedGetaffinity(0, &set) == nil
}()

// do waits for f.
func (s *starter) do(f func()) error {
	if s.err != nil {
		return s.err
	}
	done := make(chan struct{})
	s.work <- func() { defer close(done); f() }
	<-done
	return nil
}

// start starts the process of a spec: in a process group of its own, so that what the terminal sends to the
// foreground reaches the supervisor only, and with Spec.DeathSignal to follow should the supervisor die.
func start(s *Spec, keep *os.File) (*child, error) {
	rd, wr, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrStart, s.name(), err)
	}
	defer wr.Close()
	defer rd.Close()
	files, closeFiles, err := s.files(wr)
	if err != nil {
		return nil, err
	}
	defer closeFiles()

	env := s.Env
	if env == nil {
		env = os.Environ()
	}
	env = append(env[:len(env):len(env)], tile.ReadyEnv+"="+strconv.Itoa(len(files)-1))
	if keep != nil {
		env = append(env, keeper.PipeEnv+"="+strconv.Itoa(len(files)), keeper.PathEnv+"="+s.Upgrade)
		files = append(files, keep)
	}

	pidfd := -1
	sys := &syscall.SysProcAttr{}
	if s.Sys != nil {
		s.Sys(sys)
	}
	sys.Setpgid, sys.Pgid = true, 0
	if sys.Pdeathsig = s.DeathSignal; sys.Pdeathsig == 0 {
		sys.Pdeathsig = syscall.SIGKILL
	}
	sys.PidFD = &pidfd

	from := plainStarter()
	if s.Confined {
		from = confinedStarter()
	}
	var proc *os.Process
	refused := from.do(func() {
		started.mu.Lock() // with it, so that a search for strays knows the pid as soon as there is one
		defer started.mu.Unlock()
		proc, err = os.StartProcess(s.Path, append([]string{s.Path}, s.Args...), &os.ProcAttr{
			Dir: s.Dir, Env: env, Files: files, Sys: sys,
		})
		if err == nil {
			started.pids[proc.Pid] = struct{}{}
		}
	})
	if err = errors.Join(refused, err); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrStart, s.name(), err)
	}
	c := &child{proc: proc, pidfd: pidfd, ready: -1}
	if pidfd < 0 {
		proc.Kill()
		c.reap()
		return nil, fmt.Errorf("%w: %s: no pidfd (Linux 5.4 and up has it)", ErrKernel, s.name())
	}
	// Kept as a bare descriptor: the runtime's poller must not close it behind epoll's back.
	if c.ready, err = unix.FcntlInt(rd.Fd(), unix.F_DUPFD_CLOEXEC, 3); err != nil {
		c.ready = -1 // the cnc is looked at anyway
	}
	return c, nil
}

// files lists what the child gets from 0 on, ready pipe last.
func (s *Spec) files(ready *os.File) (files []*os.File, done func(), err error) {
	done = func() {}
	stdin, stdout, stderr := s.Stdin, s.Stdout, s.Stderr
	if stdin == nil {
		if stdin, err = os.Open(os.DevNull); err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %w", ErrStart, s.name(), err)
		}
		done = func() { stdin.Close() }
	}
	if stdout == nil {
		stdout = os.Stdout
	}
	if stderr == nil {
		stderr = os.Stderr
	}
	return append(append([]*os.File{stdin, stdout, stderr}, s.Files...), ready), done, nil
}

// reap takes the exit status of a process that is dead, or about to be, and closes its descriptors.
func (c *child) reap() Exit {
	var e Exit
	started.mu.Lock() // a pid is free for another process once it is waited for
	st, err := c.proc.Wait()
	delete(started.pids, c.proc.Pid)
	started.mu.Unlock()
	if err != nil {
		e.Code = -1 // somebody else in this process has waited for it
	} else if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = ws.Signal()
	} else {
		e.Code = st.ExitCode()
	}
	if c.pidfd >= 0 {
		unix.Close(c.pidfd)
	}
	c.closeReady()
	c.pidfd = -1
	return e
}

// abandon closes the descriptors of a process that will not be waited for.
func (c *child) abandon() {
	c.proc.Release()
	unix.Close(c.pidfd)
	c.pidfd = -1
	c.closeReady()
}

func (c *child) closeReady() {
	if c.ready >= 0 {
		unix.Close(c.ready)
	}
	c.ready = -1
}

// signal sends by pidfd, so that it can never hit another process.
func (c *child) signal(sig syscall.Signal) error {
	err := unix.PidfdSendSignal(c.pidfd, sig, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("topo: signal %v to pid %d: %w", sig, c.proc.Pid, err)
	}
	return nil
}

// started holds the pids of all tiles that this process has started and not reaped, of all its supervisors.
var started = struct {
	mu   sync.Mutex
	pids map[int]struct{}
}{pids: map[int]struct{}{}}
