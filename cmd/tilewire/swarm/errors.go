package swarm

import "errors"

var (
	// ErrOptions says that an option is out of its range; returned before any socket is opened.
	ErrOptions = errors.New("swarm: bad option")

	// ErrDescriptors says that RLIMIT_NOFILE is too low for the clients asked for; returned before
	// any socket is opened.
	ErrDescriptors = errors.New("swarm: too few descriptors")

	// ErrNobody says that not a single client got through the upgrade; the report tells how each ended.
	ErrNobody = errors.New("swarm: no client connected")

	// ErrEpoll says that the kernel refused the epoll instance or a wait on it.
	ErrEpoll = errors.New("swarm: epoll")
)
