package sandbox

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// call allows each of these whatever its arguments.
func call(nrs ...uint32) (rules []Rule) {
	for _, nr := range nrs {
		rules = append(rules, Rule{Nr: nr})
	}
	return rules
}

// runtimeCalls is what every Go process goes on to need: memory that cannot be executed, threads but no processes,
// signals to itself, time, and its end. With cgo threads are libc's.
func runtimeCalls() []Rule {
	self := uint32(os.Getpid())
	return slices.Concat(
		call(unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MINCORE, unix.SYS_BRK,
			unix.SYS_FUTEX, unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_SCHED_YIELD, unix.SYS_CLOCK_GETTIME,
			unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETRANDOM, unix.SYS_SCHED_GETAFFINITY,
			unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_RESTART_SYSCALL,
			unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
			unix.SYS_READ, unix.SYS_PREAD64, unix.SYS_WRITE, unix.SYS_CLOSE, unix.SYS_FCNTL, unix.SYS_FSTAT,
			unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_CREATE1, unix.SYS_EVENTFD2,
			unix.SYS_EXIT, unix.SYS_EXIT_GROUP),
		[]Rule{
			{Nr: unix.SYS_MMAP, Args: []Arg{{I: 2, Mask: unix.PROT_EXEC, Want: 0}}},
			{Nr: unix.SYS_MPROTECT, Args: []Arg{{I: 2, Mask: unix.PROT_EXEC, Want: 0}}},
			{Nr: unix.SYS_CLONE, Args: []Arg{{I: 0, Mask: unix.CLONE_THREAD, Want: unix.CLONE_THREAD}}},
			{Nr: unix.SYS_CLONE3, Errno: uint32(unix.ENOSYS)}, // its flags lie in memory, which no filter reads; libc then takes clone
			{Nr: unix.SYS_TGKILL, Args: []Arg{{I: 0, Mask: ^uint32(0), Want: self}}},
			{Nr: unix.SYS_PRCTL, Args: []Arg{{I: 0, Mask: ^uint32(0), Want: unix.PR_SET_VMA}}}, // names of mappings
			{Nr: unix.SYS_SCHED_SETAFFINITY, Args: []Arg{{I: 0, Mask: ^uint32(0), Want: 0}}},   // the end of tile.Loop
		},
	)
}

// ringBell is how a producer opens a network tile's doorbell, whose path may change under it: by name only to look what it
// is, then for writing what must exist. Nothing can be read, made or cut short that way.
func ringBell() []Rule {
	all := ^uint32(0)
	return []Rule{
		{Nr: unix.SYS_OPENAT, Args: []Arg{{I: 2, Mask: all, Want: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC}}},
		{Nr: unix.SYS_OPENAT, Args: []Arg{{I: 2, Mask: all, Want: unix.O_WRONLY | unix.O_NONBLOCK | unix.O_CLOEXEC}}},
	}
}

// NetCalls is what a network tile needs once it has its memory, its doorbell and its listeners: to take connections and
// to serve them, and to wake an application in another process, which may come later. It connects to nobody, starts nothing.
func NetCalls() []Rule {
	return append(ProducerCalls(), call(unix.SYS_ACCEPT4, unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_RECVFROM, unix.SYS_SHUTDOWN,
		unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT)...)
}

// AdminCalls is what a tile needs that answers over net/http on a listener which it has inherited, and now and then takes a
// producer's role for one message: that opens the region's file once more, for reading and writing. No filter sees which file
// is opened: it is one that exists, that the tile's user may write, and that is neither made nor cut short.
func AdminCalls() []Rule {
	return append(append(ProducerCalls(), call(unix.SYS_ACCEPT4, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME, unix.SYS_SHUTDOWN,
		unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT)...),
		Rule{Nr: unix.SYS_OPENAT, Args: []Arg{{I: 2, Mask: ^uint32(0), Want: unix.O_RDWR | unix.O_CLOEXEC}}})
}

// ProducerCalls is what a tile needs that makes its messages itself.
func ProducerCalls() []Rule { return append(runtimeCalls(), ringBell()...) }

// SourceCalls is what a tile needs that publishes the output of a process which it has started before: its end, and to end
// it. The process itself has no filter.
func SourceCalls() []Rule {
	return append(ProducerCalls(), call(unix.SYS_WAITID, unix.SYS_WAIT4, unix.SYS_KILL, unix.SYS_PIDFD_SEND_SIGNAL)...)
}
