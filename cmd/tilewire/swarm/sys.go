package swarm

import (
	"github.com/tilewire/tilewire/shmem"
	"golang.org/x/sys/unix"
)

// recv reads from a non-blocking socket. errno is 0, EAGAIN, or what ended the connection; n is 0 with
// errno 0 at the end of the stream. No allocation.
func recv(fd int32, p []byte) (n int, errno unix.Errno) {
	for {
		if n, errno = shmem.Recv(int(fd), p); errno != unix.EINTR {
			return n, errno
		}
	}
}

// send writes p whole and says whether it could. What is sent here (requests, pongs, closes) is
// small, so that a socket which does not take it belongs to a server that does not read.
func send(fd int32, p []byte) bool {
	n, errno := shmem.Send(int(fd), p)
	return errno == 0 && n == len(p)
}
