package shmem

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// SeccompAction asks whether this kernel (or the container's host) offers a seccomp filter's action (unix.SECCOMP_RET_...).
// ENOSYS or EINVAL: no seccomp at all; EOPNOTSUPP: not this action; EPERM: a filter above forbids to ask.
func SeccompAction(action uint32) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	return e
}

// SeccompFilter lays a classic BPF program (1 to 4096 instructions) over the calling thread, or with SECCOMP_FILTER_FLAG_TSYNC
// in flags over all threads of the process; it can never be taken away. The caller has no_new_privs set or CAP_SYS_ADMIN
// (else EACCES). tid is not 0 if TSYNC failed on that thread: then nothing was changed.
func SeccompFilter(prog []unix.SockFilter, flags uintptr) (tid int, e unix.Errno) {
	if len(prog) == 0 || len(prog) > unix.BPF_MAXINSNS {
		return 0, unix.EINVAL
	}
	p := unix.SockFprog{Len: uint16(len(prog)), Filter: unsafe.SliceData(prog)}
	n, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&p)))
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}
