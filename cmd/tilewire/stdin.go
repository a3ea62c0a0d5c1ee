package main

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// input reads a descriptor of any kind until its end or until a context ends.
// The descriptor is left as it is: it may be shared with a shell.
type input struct {
	fd   int
	wake int // eventfd, readable once the context has ended
	stop func() bool
}

func newInput(ctx context.Context, fd int) (*input, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	in := &input{fd: fd, wake: wake}
	in.stop = context.AfterFunc(ctx, func() { _, _ = unix.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })
	return in, nil
}

// Read returns io.EOF at the end of the input, and when the context has ended.
func (in *input) Read(p []byte) (int, error) {
	for {
		fds := []unix.PollFd{{Fd: int32(in.fd), Events: unix.POLLIN}, {Fd: int32(in.wake), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return 0, fmt.Errorf("standard input: poll: %w", err)
		}
		if fds[1].Revents != 0 {
			return 0, io.EOF
		}
		n, err := unix.Read(in.fd, p)
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
			continue
		case err != nil:
			return 0, fmt.Errorf("standard input: %w", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

func (in *input) Close() {
	if in.stop() { // else the write may still be under way, and the descriptor must stay
		unix.Close(in.wake)
	}
}
