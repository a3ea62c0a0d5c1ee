// Package keeper has a tile's sockets outlive it. A keeper is a process that shares the tile's table of descriptors
// (clone(2) with CLONE_FILES) and does nothing: what the tile accepts is the keeper's at once, at no cost, and what
// the tile closes is closed. When the tile is dead, its supervisor has the keeper fork and execute a successor, which
// inherits every socket under the number that it had.
//
//	supervisor ──starts──▶ tile ──clone──▶ keeper      all three are the supervisor's children
//	           ◀──"K pid"─── pipe                      (CLONE_PARENT)
//	tile dies
//	           ──SIGUSR1──────────────────▶ keeper ──fork, exec──▶ successor ──clone──▶ its keeper
//	           ◀──"S pid"─────────────────── pipe                             ◀──"K pid"──
//	           ──SIGKILL──────────────────▶ keeper: the new one has all that it had
//
// The old keeper lives until the new one is published, so the successor may die at any moment as well. It needs no
// right but to signal its own children: no ptrace, no capability; nothing that a container's filter forbids.
//
// What must survive is not close-on-exec, everything else is. The tile makes its keeper when it has taken over, and before it
// accepts anybody or its system calls are filtered; the keeper itself has no filter, and obeys the supervisor only
// (si_pid). It is killed by the kernel when its supervisor ends (PR_SET_PDEATHSIG).
//
// Limits: tile and keeper killed together (a cgroup, a container) lose what they hold. The keeper holds stdout and stderr
// open. A tile that is the first process of its PID namespace can have none.
package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// Environment of a tile that shall have a keeper: the descriptor of the pipe that its supervisor reads, and the path of
// the program that an upgrade starts.
const (
	PipeEnv = "TILEWIRE_KEEPER_FD"
	PathEnv = "TILEWIRE_KEEPER_PATH"
)

// Tags of what comes through the pipe.
const (
	TagKeeper    = 'K' // pid of a keeper that now holds all that its tile holds
	TagSuccessor = 'S' // pid of a successor that a keeper has made; 0: it could not
)

// MessageSz is the length of a message: tag and pid, 4 bytes each. It is written at once and never split (pipe(7)).
const MessageSz = 8

// ErrNone: this process was not started to have a keeper.
var ErrNone = errors.New("keeper: not wanted here")

// Wanted reports whether this process's supervisor wants it to have a keeper.
func Wanted() bool { return os.Getenv(PipeEnv) != "" }

// Start makes this process's keeper and publishes it. most is how many descriptors the process may come to have: the table
// grows to it first, for one that two share grows slowly; one descriptor stays open there. On the tile's locked thread, before its calls are filtered.
// Errors: ErrNone; what is wrong with the pipe; those of clone(2).
func Start(name string, most int) (pid int, err error) {
	fd, err := pipe()
	if err != nil {
		return 0, err
	}
	grow(fd, most)
	path := os.Getenv(PathEnv)
	if path == "" {
		path = "/proc/self/exe"
	}
	k := shmem.Keep{
		Name: "tw keep " + name, Paths: [2]string{"/proc/self/exe", path}, Argv: os.Args, Env: environ(), Tell: fd, Tag: TagSuccessor,
	}
	if pid, err = k.Fork(); err != nil {
		return 0, fmt.Errorf("keeper: %w", err)
	}
	step("forked")
	err = tell(fd, TagKeeper, pid)
	step("told")
	return pid, err
}

// grow has the descriptor table hold most of them. Of a process with threads that takes 10 ms (the kernel waits for all who
// may be looking at it, expand_fdtable), so a copy of the pipe stays at the far end: what the keeper makes inherits the size.
func grow(fd, most int) {
	var here, there unix.Stat_t
	if unix.Fstat(most, &there) == nil && unix.Fstat(fd, &here) == nil && here.Ino == there.Ino && here.Dev == there.Dev {
		return
	}
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_DUPFD, most) // beyond the limit it grows as it is needed
}

// pipe returns the descriptor that the supervisor passed.
func pipe() (int, error) {
	v := os.Getenv(PipeEnv)
	if v == "" {
		return 0, ErrNone
	}
	fd, err := strconv.Atoi(v)
	if err != nil || fd < 3 {
		return 0, fmt.Errorf("keeper: %s=%q is not a descriptor", PipeEnv, v)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return 0, fmt.Errorf("keeper: %s=%d is not a pipe", PipeEnv, fd)
	}
	return fd, nil
}

// environ is the successor's: this process's, but for the pipe that told its readiness, whose number may be a socket's by then.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, tile.ReadyEnv+"=") })
}

func tell(fd int, tag uint32, pid int) error {
	var b [MessageSz]byte
	binary.NativeEndian.PutUint32(b[:], tag)
	binary.NativeEndian.PutUint32(b[4:], uint32(pid))
	if _, err := unix.Write(fd, b[:]); err != nil {
		return fmt.Errorf("keeper: publish: %w", err)
	}
	return nil
}

// Parse takes a message apart.
func Parse(b [MessageSz]byte) (tag uint32, pid int) {
	return binary.NativeEndian.Uint32(b[:]), int(binary.NativeEndian.Uint32(b[4:]))
}
