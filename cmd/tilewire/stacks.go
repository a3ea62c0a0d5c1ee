package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"
)

// dumpStacks writes the stacks of all goroutines to standard error.
func dumpStacks(who string) {
	b := make([]byte, 64<<10)
	n := runtime.Stack(b, true)
	for n == len(b) && n < 8<<20 {
		b = make([]byte, 2*n)
		n = runtime.Stack(b, true)
	}
	fmt.Fprintf(os.Stderr, "stacks of %s, process %d:\n%s\n", who, os.Getpid(), b[:n])
}

// dumpOnQuit has SIGQUIT write the stacks of this process, which goes on.
func dumpOnQuit(who string) {
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, unix.SIGQUIT)
	go func() {
		for range quit {
			dumpStacks(who)
		}
	}()
}
