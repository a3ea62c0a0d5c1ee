package ctl

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// psJSON is what --json shows.
type psJSON struct {
	Instances []instance.Status `json:"instances"`
	Removed   []string          `json:"removed"` // by --clean
}

// PsCmd returns the verb that shows the instances of this host and their tiles.
func PsCmd() *cobra.Command {
	var clean bool
	cmd := &cobra.Command{
		Use:   "ps",
		Short: "Show the instances of this host, and what runs where",
		Long: `Shows each instance and its tiles: process, CPU, state, age of the heartbeat, restarts. It asks no daemon, but reads
shared memory and the kernel's locks: it shows what crashes left as well. --clean removes that: memory that nobody is
joined to, unless it was made to be run later.`,
		Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := psJSON{Removed: []string{}}
			if clean {
				gone, err := instance.Clean()
				if err != nil {
					return err
				}
				out.Removed = append(out.Removed, gone...)
			}
			var err error
			if out.Instances, err = instance.All(); err != nil {
				return err
			}
			return emit(cmd, out, func(w io.Writer) { psText(w, out) })
		},
	}
	cmd.Flags().BoolVar(&clean, "clean", false, "remove what crashes left")
	addJSON(cmd)
	return cmd
}

func psText(w io.Writer, p psJSON) {
	for _, n := range p.Removed {
		fmt.Fprintf(w, "removed %s\n", n)
	}
	if len(p.Instances) == 0 {
		fmt.Fprintln(w, "no instance is here")
		return
	}
	t := newTable("instance", "state", "tile", ">pid", ">cpu", "tile state", ">heartbeat", ">restarts", "listens on, or why it failed")
	now := shmem.Monotonic()
	for _, s := range p.Instances {
		state := s.State
		if s.Since > 0 {
			state += " " + time.Duration(max(now-s.Since, 0)).Round(time.Second).String()
		}
		t.add(s.Name, state, "supervisor", s.Pid, "", "", "", "", strings.Join(s.Listen, " "))
		for _, r := range s.Tiles {
			if r.State == "absent" {
				continue
			}
			cpu, age := "float", "-"
			if r.CPU != tile.Float {
				cpu = fmt.Sprint(r.CPU)
			}
			if r.Age >= 0 {
				age = r.Age.Round(time.Millisecond).String()
			}
			t.add(s.Name, "", fmt.Sprintf("%s:%d", r.Kind, r.ID), r.Pid, cpu, r.State, age, r.Restarts, r.Cause)
		}
	}
	t.write(w)
}
