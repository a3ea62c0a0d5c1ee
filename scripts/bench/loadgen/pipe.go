package main

import "golang.org/x/sys/unix"

// writeAll writes p to a blocking pipe; 8 bytes are never split (pipe(7), PIPE_BUF).
func writeAll(fd int, p []byte) error {
	for {
		if _, err := unix.Write(fd, p); err != unix.EINTR {
			return err
		}
	}
}
