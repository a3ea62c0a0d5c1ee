package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/feed"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/sandbox"
)

// commandGrace is what a command has to end after SIGTERM; then comes SIGKILL.
const commandGrace = time.Second

// sourceTile is a producer that runs a command and publishes its output. It ends
// when the command does: in order if its exit code is 0.
func sourceTile(a tileArgs, framing string, args []string) (err error) {
	in, cnc, err := a.enter(kindSource)
	if err != nil {
		return err
	}
	defer failed(cnc, &err)
	fr, err := feed.ParseFraming(framing)
	if err != nil {
		return err
	}
	st, err := produce(in, 0)
	if err != nil {
		return err
	}
	defer st.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	family := newOffspring()
	cmd, out, err := startCommand(ctx, args)
	if err != nil {
		return err
	}
	family.watch(cmd)
	pace, err := newPace(ctx, in, 0)
	if err != nil {
		return err
	}
	chunks, free := reading(out)
	var readErr error
	f := feed.New(st, fr)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	waited := false
	loop := tile.Loop{Cnc: cnc, CPU: tile.Float}
	a.confine(&loop, sandbox.SourceCalls) // the command was started before: it has no filter
	loop.Poll = func(int64, int) int {
		select {
		case c, ok := <-chunks:
			if !ok {
				waited = true
				err := errors.Join(readErr, cmd.Wait())
				if err == nil { // else its last message may be cut off
					err = f.Close()
				}
				loop.Stop(err)
				return 0
			}
			pace.feed(f, c.b)
			readErr = c.err
			free <- c.b
			return 1
		case <-tick.C:
			return 0
		}
	}
	err = loop.Run()
	if waited {
		return err
	}
	stop() // SIGTERM, and SIGKILL after the grace
	go func() {
		for c := range chunks { // a command that ends in order may still have to write
			free <- c.b
		}
	}()
	_ = cmd.Wait()
	killGroup(cmd, unix.SIGKILL) // what it started and left
	return err
}

// errCommand: the command is no program that can be started.
var errCommand = errors.New("command cannot be started")

// checkCommand looks for the command before anything is made for it.
func checkCommand(args []string) error {
	if _, err := exec.LookPath(args[0]); err != nil {
		return usageError{fmt.Errorf("%q cannot be started: %w; name a program on PATH, or the path of one", args[0], errors.Unwrap(err))}
	}
	return nil
}

// startCommand starts the command in a process group of its own: SIGTERM and
// SIGKILL go to all that it started. It dies with this process; what it started, see offspring.
func startCommand(ctx context.Context, args []string) (*exec.Cmd, io.Reader, error) {
	runtime.LockOSThread() // Pdeathsig fires when this thread ends (golang.org/issue/27505)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return killGroup(cmd, unix.SIGTERM) }
	cmd.WaitDelay = commandGrace
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, fmt.Errorf("source: %w", err)
	}
	if err := cmd.Start(); err != nil {
		for _, e := range []error{exec.ErrNotFound, fs.ErrNotExist, fs.ErrPermission, unix.ENOEXEC} {
			if errors.Is(err, e) { // what is weather, such as EAGAIN, is tried again
				return nil, nil, fmt.Errorf("%w: %w", errCommand, err)
			}
		}
		return nil, nil, fmt.Errorf("source: %w", err)
	}
	return cmd, out, nil
}

func killGroup(cmd *exec.Cmd, sig unix.Signal) error {
	if err := unix.Kill(-cmd.Process.Pid, sig); err != nil && err != unix.ESRCH {
		return err
	}
	return nil
}

// chunk is bytes of a command's output, and why there are no more.
type chunk struct {
	b   []byte
	err error
}

// reading reads in a goroutine of its own, so that halts are seen and
// heartbeats given while the command is silent. chunks is closed at the end of
// the output; buffers are given back through free.
func reading(out io.Reader) (chunks <-chan chunk, free chan<- []byte) {
	full, empty := make(chan chunk, 2), make(chan []byte, 2)
	for range cap(empty) {
		empty <- make([]byte, 256<<10)
	}
	go func() {
		defer close(full)
		for b := range empty {
			n, err := out.Read(b[:cap(b)])
			c := chunk{b: b[:n], err: err}
			if errors.Is(err, io.EOF) {
				c.err = nil
			}
			full <- c
			if err != nil {
				return
			}
		}
	}()
	return full, empty
}
