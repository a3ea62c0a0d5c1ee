package main

import (
	"context"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// wake lets reads and writes of descriptors of any kind end when a context
// ends. The descriptors are left as they are: they may be shared with a shell.
type wake struct {
	fd   int // eventfd, readable once the context has ended
	stop func() bool
}

func newWake(ctx context.Context) (*wake, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &wake{fd: fd, stop: context.AfterFunc(ctx, func() { _, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) })}, nil
}

func (w *wake) close() {
	if w.stop() { // else the write may still be under way, and the descriptor must stay
		unix.Close(w.fd)
	}
}

// await waits until fd is ready for events (or has failed), and returns io.EOF
// when the context has ended.
func (w *wake) await(fd int, events int16) error {
	for {
		fds := []unix.PollFd{{Fd: int32(fd), Events: events}, {Fd: int32(w.fd), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case fds[1].Revents != 0:
			return io.EOF
		default:
			return nil
		}
	}
}

// read returns io.EOF at the end of the input, and when the context has ended.
func (w *wake) read(fd int, p []byte) (int, error) {
	for {
		if err := w.await(fd, unix.POLLIN); err != nil {
			return 0, err
		}
		n, err := unix.Read(fd, p)
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

// write writes all of p, unless the context ends before: then what is left is
// dropped. A pipe that is ready takes 4 KiB (PIPE_BUF) without blocking.
func (w *wake) write(fd int, p []byte) error {
	for len(p) > 0 {
		if err := w.await(fd, unix.POLLOUT); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		n, err := unix.Write(fd, p[:min(len(p), 4096)])
		switch {
		case err == unix.EINTR || err == unix.EAGAIN:
		case err != nil:
			return fmt.Errorf("standard output: %w", err)
		}
		p = p[max(n, 0):]
	}
	return nil
}
