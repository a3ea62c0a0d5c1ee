// Command tilewire streams messages from a producer process to thousands of
// WebSocket clients through shared memory. `tilewire --help` lists its verbs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/config"
	"github.com/tilewire/tilewire/cmd/tilewire/control"
	"github.com/tilewire/tilewire/cmd/tilewire/ctl"
	"github.com/tilewire/tilewire/cmd/tilewire/feed"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/httpsrv/steer"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile/sandbox"
	"github.com/tilewire/tilewire/tile/topo"
)

// Exit codes of the program.
const (
	exitOK       = 0
	exitFailure  = 1
	exitUsage    = 2
	exitHost     = 3 // host not configured: pages, limits, capabilities
	exitBudget   = 4 // a tile died and its restart budget is spent
	exitInstance = 5 // no instance, or one of another layout

	// exitRefused is a tile's word to its supervisor that it cannot run as it was started; a shell's for a command
	// that it cannot execute.
	exitRefused = 126

	exitTimeout = 124 // what was waited for has not come in time
)

// usageError is bad usage found after the flags were parsed.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	root := &cobra.Command{
		Use:   "tilewire",
		Short: "Stream messages to thousands of WebSocket clients through shared memory",
		Example: `  vmstat -n 1 | tilewire pipe      every line to every browser that is connected
  tilewire demo                    a producer, a network tile, 2,000 clients of which 5 are slow`,
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(pipeCmd(), publishCmd(), tailCmd(), runCmd(), demoCmd(), serverCmd(), tileCmd(), versionCmd(), benchCmd(), benchServeCmd(), configCmd(), validateCmd(), echoCmd(),
		readyCmd(), drainCmd(), reloadCmd(), restartCmd(), stopCmd(), clientsCmd())
	root.AddCommand(ctl.Commands()...)
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitOK
	}
	code := exitCode(err)
	line := oneLine(err)
	if errors.Is(err, shmem.ErrNoMemory) || errors.Is(err, shmem.ErrNoPages) {
		line += ctl.ReapHint()
	}
	var refused *control.Refused
	if errors.Is(err, config.ErrConfig) || errors.As(err, &refused) {
		line = err.Error() // with line and caret
	} else if code == exitUsage {
		line += fmt.Sprintf(" (`%s --help` explains)", cmd.CommandPath())
	}
	fmt.Fprintf(os.Stderr, "tilewire: %s\n", line)
	return code
}

// oneLine joins the lines of errors.Join, and those of cobra's suggestions.
func oneLine(err error) string {
	var parts []string
	for l := range strings.Lines(err.Error()) {
		if l = strings.TrimSpace(l); l != "" {
			parts = append(parts, l)
		}
	}
	return strings.ReplaceAll(strings.Join(parts, "; "), "?; ", "? ")
}

func exitCode(err error) int {
	var usage usageError
	var refused *control.Refused
	switch {
	case errors.As(err, &refused):
		return refused.Exit
	case errors.Is(err, errTimeout):
		return exitTimeout
	case errors.As(err, &usage), errors.Is(err, feed.ErrFraming), errors.Is(err, config.ErrConfig), errors.Is(err, httpsrv.ErrParams), errors.Is(err, shmem.ErrBadName),
		errors.Is(err, shmem.ErrBadSize), errors.Is(err, instance.ErrUser), errors.Is(err, topo.ErrRefused), cobraUsage(err):
		return exitUsage
	case errors.Is(err, shmem.ErrNoMemory), errors.Is(err, shmem.ErrNoPages), errors.Is(err, shmem.ErrMlock), errors.Is(err, unix.EMFILE), errors.Is(err, steer.ErrPermission), errors.Is(err, steer.ErrUnsupported),
		errors.Is(err, sandbox.ErrHost):
		return exitHost
	case errors.Is(err, errCommand), errors.Is(err, sandbox.ErrPrivileged):
		return exitRefused
	case errors.Is(err, topo.ErrBudget):
		return exitBudget
	case errors.Is(err, instance.ErrNone), errors.Is(err, instance.ErrMany), errors.Is(err, instance.ErrForeign):
		return exitInstance
	}
	return ctl.ExitCode(err)
}

// cobraUsage tells cobra's own complaints, which have no sentinel, from ours.
func cobraUsage(err error) bool {
	for _, p := range []string{"unknown command", "unknown flag", "accepts ", "requires at least", "required flag", "if any flags in the group"} {
		if strings.HasPrefix(err.Error(), p) {
			return true
		}
	}
	return false
}

// together is how long two signals count as one: who signals a group and its members sends each of them several.
const together = 50 * time.Millisecond

// forced is called before a second signal ends the process; nil: nothing is to be done.
var forced atomic.Pointer[func()]

// stopOnSignal returns a context that ends at the first SIGINT or SIGTERM; the
// second ends the process at once.
func stopOnSignal() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, unix.SIGINT, unix.SIGTERM)
	go func() {
		if _, ok := <-ch; !ok {
			return
		}
		cancel()
		first := time.Now()
		for s := range ch {
			if time.Since(first) < together {
				continue
			}
			if f := forced.Load(); f != nil {
				(*f)()
			}
			os.Exit(128 + int(s.(unix.Signal)))
		}
	}()
	return ctx, func() {
		signal.Stop(ch)
		cancel()
	}
}
