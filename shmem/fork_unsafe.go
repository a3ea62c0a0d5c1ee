package shmem

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Keep is what a keeper does: a process that shares the descriptors of the one that made it, and so holds them when that
// one dies (package tile/keeper). All its memory is here: it is a copy, made at Fork.
type Keep struct {
	Name  string    // of the process, 15 bytes at most
	Paths [2]string // programs that it executes, at SIGUSR1 and at SIGUSR2
	Argv  []string
	Env   []string
	Tell  int // descriptor of a pipe that is told of each process it makes: tag and pid, native byte order; not closed at exec
	Tag   uint32

	name      *byte
	path      [2]*byte
	argv, env **byte
	set, mask uint64 // signals that it waits for; mask of those it makes
	parent    uintptr
	info      [128]byte
	msg       [2]uint32
	strings   [][]byte
}

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

// Fork makes the keeper: by clone(2) with the descriptor table shared and the memory copied (mappings of shared memory are
// MADV_DONTFORK and stay behind), as a child of this process's parent. It ends with its parent, at SIGTERM, and never
// returns into Go. The caller is on a locked thread. Errors: a string with a NUL; what clone says (EINVAL for the first
// process of a PID namespace, which has no siblings).
func (k *Keep) Fork() (pid int, err error) {
	if err := k.prepare(); err != nil {
		return 0, err
	}
	runtime.GC() // the copy is the smaller for it
	beforeFork() // all signals are blocked, and the stack must not grow
	n, _, e := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_FILES|unix.CLONE_PARENT|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e == 0 && n == 0 {
		k.run()
	}
	afterFork()
	runtime.KeepAlive(k)
	if e != 0 {
		return 0, fmt.Errorf("shmem: clone: %w", e)
	}
	return int(n), nil
}

func (k *Keep) prepare() error {
	c := func(s string) (*byte, error) {
		b, err := unix.ByteSliceFromString(s)
		if err != nil {
			return nil, fmt.Errorf("shmem: %q: %w", s, err)
		}
		k.strings = append(k.strings, b)
		return &b[0], nil
	}
	list := func(ss []string) (**byte, error) {
		ps := make([]*byte, len(ss)+1)
		for i, s := range ss {
			var err error
			if ps[i], err = c(s); err != nil {
				return nil, err
			}
		}
		return &ps[0], nil
	}
	var err error
	if k.name, err = c(k.Name[:min(len(k.Name), 15)]); err != nil {
		return err
	}
	for i, p := range k.Paths {
		if k.path[i], err = c(p); err != nil {
			return err
		}
	}
	if k.argv, err = list(k.Argv); err != nil {
		return err
	}
	if k.env, err = list(k.Env); err != nil {
		return err
	}
	bit := func(s syscall.Signal) uint64 { return 1 << (uint(s) - 1) }
	k.set = bit(unix.SIGUSR1) | bit(unix.SIGUSR2) | bit(unix.SIGTERM)
	k.parent = uintptr(unix.Getppid())
	return nil
}

// run is the keeper's life. Here and below nothing but system calls: there is one thread, no runtime, and no stack to grow.
//
//go:nosplit
//go:norace
func (k *Keep) run() {
	unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(k.name)), 0, 0, 0, 0)
	unix.RawSyscall(unix.SYS_SETPGID, 0, 0, 0)
	k.boundToParent()
	for {
		n, _, e := unix.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&k.set)), uintptr(unsafe.Pointer(&k.info)), 0, 8, 0, 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
		}
		if *(*int32)(unsafe.Pointer(&k.info[8])) != 0 || uintptr(*(*uint32)(unsafe.Pointer(&k.info[16]))) != k.parent { // si_code, which nobody can forge to be SI_USER, and si_pid: nobody else commands it
			continue
		}
		switch syscall.Signal(n) {
		case unix.SIGUSR1:
			k.make(k.path[0])
		case unix.SIGUSR2:
			k.make(k.path[1])
		case unix.SIGTERM:
			unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
}

// make starts the successor, which gets a copy of the descriptors, and tells of it.
//
//go:nosplit
//go:norace
func (k *Keep) make(path *byte) {
	pid, _, e := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_PARENT|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e == 0 && pid == 0 {
		unix.RawSyscall(unix.SYS_SETPGID, 0, 0, 0)
		k.boundToParent()
		unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&k.mask)), 0, 8, 0, 0)
		unix.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(k.argv)), uintptr(unsafe.Pointer(k.env)))
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
	}
	k.msg[0], k.msg[1] = k.Tag, uint32(pid)
	if e != 0 {
		k.msg[1] = 0
	}
	unix.RawSyscall(unix.SYS_WRITE, uintptr(k.Tell), uintptr(unsafe.Pointer(&k.msg)), unsafe.Sizeof(k.msg))
}

// boundToParent has the process die with its parent, or at once if that is gone already.
//
//go:nosplit
//go:norace
func (k *Keep) boundToParent() {
	unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0, 0)
	if p, _, _ := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); p != k.parent {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}
