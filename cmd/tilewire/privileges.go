package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/sandbox"
	"github.com/tilewire/tilewire/tile/topo"
)

// privileges is what the tiles of an instance are left with.
type privileges struct {
	sandbox bool          // no capabilities, and only the system calls of the tile's work
	user    instance.User // whose processes they are; zero: the supervisor's user
}

func (p *privileges) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&p.sandbox, "sandbox", true, "tiles have no capability and only the system calls that they need")
}

// check refuses to start tiles that could not be confined, before anything was made. Safe by default: who can live
// without says so.
func (p *privileges) check() error {
	if !p.sandbox {
		return nil
	}
	if err := sandbox.Supported(); err != nil {
		return fmt.Errorf("%w; mend: a kernel with CONFIG_SECCOMP_FILTER, or a container that allows seccomp(2); "+
			"--sandbox=false runs the tiles without", err)
	}
	return nil
}

// confine makes tiles start as p says.
func (p *privileges) confine(specs []topo.Spec) {
	for i := range specs {
		s := &specs[i]
		s.Confined = p.sandbox
		s.Args = slices.Insert(s.Args, 2, "--sandbox="+strconv.FormatBool(p.sandbox)) // `tile KIND ...`
		s.Env = tileEnv()
		if u := p.user; u.Set() {
			s.Sys = func(a *syscall.SysProcAttr) {
				a.Credential = &syscall.Credential{Uid: u.Uid, Gid: u.Gid, Groups: u.Groups}
			}
			s.Env = userEnv(s.Env, u)
		}
	}
}

// tileEnv is this process's environment without what a service manager said to it alone.
func tileEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		key, _, _ := strings.Cut(v, "=")
		switch key {
		case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES":
			return true
		}
		return false
	})
}

// userEnv is env with what names the user.
func userEnv(env []string, u instance.User) []string {
	env = slices.DeleteFunc(env, func(v string) bool {
		key, _, _ := strings.Cut(v, "=")
		return key == "USER" || key == "LOGNAME" || key == "HOME" || key == "XDG_RUNTIME_DIR"
	})
	return append(env, "USER="+u.Name, "LOGNAME="+u.Name, "HOME="+u.Home)
}

// confine is the tile's own part: the filter, laid when everything is open that it needs.
func (a tileArgs) confine(l *tile.Loop, calls func() []sandbox.Rule) {
	if a.sandbox {
		l.Confine = func() error { return sandbox.Filter(calls()) }
	}
}
