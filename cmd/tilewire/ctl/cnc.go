package ctl

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// CncCmd returns `cnc`: the command-and-control of an instance's tiles, for people who build their own.
func CncCmd() *cobra.Command {
	return family("cnc", "Look at tiles' command-and-control, and signal them",
		`Each tile of an instance has a cnc in shared memory: who it is, the signal by which it is
commanded, its heartbeat. query reads it, with or without a supervisor, also after a crash.`,
		cncQueryCmd(), cncSignalCmd())
}

type cncJSON struct {
	Tile      string   `json:"tile"` // kind:id
	Kind      string   `json:"kind"`
	ID        int      `json:"id"`
	Pid       int      `json:"pid"`  // of the last that took the role, 0: none did
	Held      bool     `json:"held"` // by a live process
	Signal    string   `json:"signal"`
	Heartbeat *float64 `json:"heartbeat_age_seconds"` // null: none yet
	CPU       *int     `json:"cpu"`                   // null: floats
	Restarts  int      `json:"restarts"`
	Cause     string   `json:"cause"` // while the signal is fail
}

// cncOf reads a cnc at now (shmem.Monotonic).
func cncOf(c *tile.Cnc, now int64) cncJSON {
	j := cncJSON{Tile: c.Name(), Kind: c.Kind(), ID: c.ID(), Pid: c.Pid(), Held: c.Held(), Signal: c.Signal().String(), Restarts: c.Restarts(), Cause: c.Cause()}
	if beat := c.Heartbeat(); beat > 0 {
		age := max(time.Duration(now-beat), 0).Round(time.Millisecond).Seconds()
		j.Heartbeat = &age
	}
	if cpu := c.CPU(); cpu != tile.Float {
		j.CPU = &cpu
	}
	return j
}

func cncQueryCmd() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "query [TILE]", Short: "Show what tiles say of themselves, and whether they live", Args: argCount(0, 1),
		Example: "  tilewire cnc query\n  tilewire cnc query net:0 --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := instance.Join(name, shmem.ReadOnly)
			if err != nil {
				return err
			}
			rows := []cncJSON{}
			for _, t := range in.Tiles() {
				if len(args) > 0 && t.String() != args[0] {
					continue
				}
				var c *tile.Cnc
				if c, err = cncJoin(in, t); err != nil {
					break
				}
				rows = append(rows, cncOf(c, shmem.Monotonic()))
			}
			if err == nil && len(args) > 0 && len(rows) == 0 {
				err = noTile(in, args[0])
			}
			if err = errors.Join(err, in.Leave()); err != nil {
				return err
			}
			return emit(cmd, rows, func(w io.Writer) { cncTable(w, rows) })
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the instance; not needed while only one is there")
	addJSON(cmd)
	return cmd
}

func cncTable(w io.Writer, rows []cncJSON) {
	t := newTable("tile", ">pid", "held", "signal", ">heartbeat", ">cpu", ">restarts", "cause")
	for _, r := range rows {
		beat, cpu, held := "", "float", "no"
		if r.Heartbeat != nil {
			beat = strconv.FormatFloat(*r.Heartbeat, 'f', 3, 64) + "s"
		}
		if r.CPU != nil {
			cpu = strconv.Itoa(*r.CPU)
		}
		if r.Held {
			held = "yes"
		}
		t.add(r.Tile, r.Pid, held, r.Signal, beat, cpu, r.Restarts, r.Cause)
	}
	t.write(w)
}

func cncSignalCmd() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "signal TILE (halt | user N)", Short: "Tell a tile to end, or hand it one of its own signals", Args: argCount(2, 3),
		Long: `Signal a tile that runs. halt: it ends in order; its supervisor does not start it again then
(tilewire run keeps the instance up without it). user N: a signal of a tile of your own, N from 4 on,
which it takes at its next look, within 100 ms; while it has not yet taken the last one, another is refused.`,
		Example: "  tilewire cnc signal source:0 halt\n  tilewire cnc signal mytile:0 user 5",
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := parseSignal(args[1:])
			if err != nil {
				return err
			}
			in, err := instance.Join(name, shmem.ReadWrite)
			if err != nil {
				return err
			}
			if err := errors.Join(cncSignal(in, args[0], s), in.Leave()); err != nil {
				return err
			}
			return emit(cmd, map[string]string{"tile": args[0], "signal": s.String()}, func(io.Writer) {})
		},
	}
	addJSON(cmd)
	cmd.Flags().StringVar(&name, "name", "", "name of the instance; not needed while only one is there")
	return cmd
}

// parseSignal reads halt, user N and user-N. Errors: ErrUsage.
func parseSignal(args []string) (tile.Signal, error) {
	s, err := tile.ParseSignal(strings.Join(args, "-"))
	if err != nil || s != tile.SignalHalt && s < tile.SignalUser {
		return 0, usagef("%q is no signal to give: halt, or user N with N from %d", strings.Join(args, " "), tile.SignalUser)
	}
	return s, nil
}

// own are the kinds of this program's tiles.
var own = []string{instance.KindNet, "source", "ticker", "admin"}

func cncSignal(in *instance.Instance, name string, s tile.Signal) error {
	for _, t := range in.Tiles() {
		if t.String() != name {
			continue
		}
		if s != tile.SignalHalt && slices.Contains(own, t.Kind) {
			return usagef("%s is this program's own, whose signals are not for others: halt it, or use `tilewire drain|reload|restart`", name)
		}
		c, err := cncJoin(in, t)
		if err != nil {
			return err
		}
		if !c.Held() {
			return fmt.Errorf("%s of %s is not running", name, in.Info.Name)
		}
		if s == tile.SignalHalt {
			c.Halt()
		} else if err := c.Raise(s); err != nil {
			return err
		}
		if t.Kind == "net" { // it may sleep
			return in.Server.WakeTile(t.ID)
		}
		return nil
	}
	return noTile(in, name)
}

func cncJoin(in *instance.Instance, t instance.Tile) (*tile.Cnc, error) {
	m, err := in.Cnc(t)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", t, err)
	}
	c, err := tile.CncJoin(m)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", t, err)
	}
	return c, nil
}

// noTile says which tiles there are instead.
func noTile(in *instance.Instance, name string) error {
	var names []string
	for _, t := range in.Tiles() {
		names = append(names, t.String())
	}
	return usagef("%q is no tile of %s; these are: %s", name, in.Info.Name, strings.Join(names, ", "))
}
