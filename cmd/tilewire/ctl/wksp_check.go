package ctl

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/wksp"
)

// usageJSON is how full a workspace is, as --json shows it. Bytes of allocations are rounded up to whole partitions,
// but for asked_bytes.
type usageJSON struct {
	Name        string    `json:"name"`
	Size        uint64    `json:"size"`
	PartMax     uint64    `json:"part_max"`
	DataMax     uint64    `json:"data_max"`
	Used        uint64    `json:"used"`  // allocations
	Named       uint64    `json:"named"` // of these
	Free        uint64    `json:"free"`  // free pieces
	Idle        uint64    `json:"idle"`  // rows of the partition table left
	Bad         uint64    `json:"bad"`   // rows that cannot be believed
	UsedBytes   uint64    `json:"used_bytes"`
	AskedBytes  uint64    `json:"asked_bytes"`
	FreeBytes   uint64    `json:"free_bytes"`
	LargestFree uint64    `json:"largest_free"`
	Rebuilt     uint64    `json:"rebuilt"` // how often
	State       string    `json:"state"`
	Tags        []tagJSON `json:"tags"`

	BadRows []badRowJSON `json:"bad_rows"`
}

type tagJSON struct {
	Tag   uint64 `json:"tag"`
	Count uint64 `json:"count"`
	Bytes uint64 `json:"bytes"`
}

func usageOf(w *wksp.Wksp) (usageJSON, error) {
	u, err := w.Usage()
	if err != nil {
		return usageJSON{}, err
	}
	v := usageJSON{
		Name: u.Name, Size: u.Size, PartMax: u.PartMax, DataMax: u.DataMax, Used: u.Used, Named: u.Named, Free: u.Free,
		Idle: u.Idle, Bad: u.Bad, UsedBytes: u.UsedBytes, AskedBytes: u.AskedBytes, FreeBytes: u.FreeBytes,
		LargestFree: u.LargestFree, Rebuilt: u.Rebuilt, State: stateOf(w, u), Tags: []tagJSON{}, BadRows: []badRowJSON{},
	}
	for _, t := range u.Tags {
		v.Tags = append(v.Tags, tagJSON{t.Tag, t.Count, t.Bytes})
	}
	if u.Bad > 0 {
		bad, err := badRows(w)
		if err != nil {
			return v, err
		}
		v.BadRows = badRowsJSON(bad)
	}
	return v, nil
}

func wkspUsageCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "usage NAME", Short: "Show how full a workspace is", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := joinWksp(args[0], shmem.ReadOnly)
			if err != nil {
				return err
			}
			defer j.leave()
			v, err := usageOf(j.Wksp)
			if err != nil {
				return explain(args[0], err)
			}
			return emit(cmd, v, func(w io.Writer) {
				t := newPairs()
				t.add("name", v.Name)
				t.add("state", v.State)
				t.add("size", v.Size)
				t.add("data-max", v.DataMax)
				t.add("used-bytes", fmt.Sprintf("%d (%s)", v.UsedBytes, shareText(v.UsedBytes, v.DataMax)))
				t.add("asked-bytes", v.AskedBytes)
				t.add("free-bytes", v.FreeBytes)
				t.add("largest-free", v.LargestFree)
				t.add("allocations", v.Used)
				t.add("named", v.Named)
				t.add("free-pieces", v.Free)
				t.add("rows-left", fmt.Sprintf("%d of %d", v.Idle, v.PartMax))
				t.add("bad-rows", v.Bad)
				t.add("rebuilt", v.Rebuilt)
				t.write(w)
				badRowsText(w, "\ndamaged rows:", v.BadRows)
				if len(v.Tags) == 0 {
					return
				}
				fmt.Fprintln(w)
				t = newTable(">TAG", ">COUNT", ">BYTES", ">SHARE")
				for _, g := range v.Tags {
					t.add(g.Tag, g.Count, g.Bytes, shareText(g.Bytes, v.DataMax))
				}
				t.write(w)
			})
		},
	}
	addJSON(cmd)
	return cmd
}

func wkspVerifyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify NAME", Short: "Check a workspace from end to end; changes nothing", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := joinWksp(args[0], shmem.ReadOnly)
			if err != nil {
				return err
			}
			defer j.leave()
			bad := j.Verify()
			u, err := j.Usage()
			if err != nil {
				return explain(args[0], err)
			}
			v := struct {
				Name      string `json:"name"`
				Sound     bool   `json:"sound"`
				Error     string `json:"error"` // "" if sound
				Used      uint64 `json:"used"`
				UsedBytes uint64 `json:"used_bytes"`
				DataMax   uint64 `json:"data_max"`
			}{args[0], bad == nil, "", u.Used, u.UsedBytes, u.DataMax}
			if bad != nil {
				v.Error = bad.Error()
			}
			err = emit(cmd, v, func(w io.Writer) {
				if bad == nil {
					fmt.Fprintf(w, "%s is sound: %s, %d of %d bytes\n", v.Name, plural(v.Used, "allocation"), v.UsedBytes, v.DataMax)
				}
			})
			if bad != nil {
				return explain(args[0], bad)
			}
			return err
		},
	}
	addJSON(cmd)
	return cmd
}

func wkspRebuildCmd() *cobra.Command {
	var dropBad bool
	var dropRows []uint
	cmd := &cobra.Command{
		Use:   "rebuild NAME",
		Short: "Compute a workspace's indices anew from what is allocated",
		Long: `Verifies, computes everything anew from the allocations' own rows, and verifies again. Allocations keep place, size,
tag and name. After a restore that was killed the outcome is an empty workspace.

Rows whose range is impossible, or that overlap, are refused unless it is told to drop them: --drop-bad drops all that are impossible by
themselves, --drop-row one by its number, as query shows it: of two that overlap, only you know which is wrong. What is dropped is printed;
nothing is dropped unless the rest is sound.`,
		Example: "  tilewire wksp query scratch       # shows damaged rows too\n  tilewire wksp rebuild scratch --drop-bad\n  tilewire wksp rebuild scratch --drop-row 7",
		Args:    argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := joinWksp(args[0], shmem.ReadWrite)
			if err != nil {
				return err
			}
			defer j.leave()
			r, dropped, err := rebuild(j.Wksp, dropBad, dropRows)
			if err != nil {
				return explain(args[0], err)
			}
			u, err := j.Usage()
			if err != nil {
				return explain(args[0], err)
			}
			v := struct {
				Name       string `json:"name"`
				Unfinished string `json:"unfinished"` // the operation that a dead owner left, "none"
				Found      string `json:"found"`      // what was wrong before, ""
				Used       uint64 `json:"used"`       // allocations kept
				UsedBytes  uint64 `json:"used_bytes"`
				Rebuilt    uint64 `json:"rebuilt"` // how often, this time included

				Dropped []badRowJSON `json:"dropped"`
			}{args[0], r.Unfinished.String(), "", u.Used, u.UsedBytes, u.Rebuilt, badRowsJSON(dropped)}
			if r.Found != nil {
				v.Found = r.Found.Error()
			}
			return emit(cmd, v, func(w io.Writer) {
				t := newPairs()
				t.add("name", v.Name)
				t.add("unfinished", v.Unfinished)
				t.add("found", v.Found)
				t.add("allocations", v.Used)
				t.add("used-bytes", v.UsedBytes)
				t.add("rebuilt", v.Rebuilt)
				t.add("dropped", plural(uint64(len(v.Dropped)), "row"))
				t.write(w)
				badRowsText(w, "\ndropped rows:", v.Dropped)
			})
		},
	}
	cmd.Flags().BoolVar(&dropBad, "drop-bad", false, "drop the rows that are impossible by themselves")
	cmd.Flags().UintSliceVar(&dropRows, "drop-row", nil, "drop this row, one that is damaged (repeatable)")
	addJSON(cmd)
	return cmd
}

func wkspResetCmd() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "reset NAME", Short: "Free everything in a workspace", Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := refuseJoined(args[0], force, "they may use what would be freed"); err != nil {
				return err
			}
			j, err := joinWksp(args[0], shmem.ReadWrite)
			if err != nil {
				return err
			}
			defer j.leave()
			u, err := j.Usage()
			if err == nil {
				err = j.Reset()
			}
			if err != nil {
				return explain(args[0], err)
			}
			v := struct {
				Name      string `json:"name"`
				Freed     uint64 `json:"freed"`
				FreedByte uint64 `json:"freed_bytes"`
				Bad       uint64 `json:"bad"` // rows that could not be believed, gone too
			}{args[0], u.Used, u.UsedBytes, u.Bad}
			return emit(cmd, v, func(w io.Writer) {
				fmt.Fprintf(w, "freed %s, %d bytes\n", plural(v.Freed, "allocation"), v.FreedByte)
				if v.Bad > 0 {
					fmt.Fprintf(w, "%s among them or beside them\n", plural(v.Bad, "damaged row"))
				}
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "free it under those who are joined")
	addJSON(cmd)
	return cmd
}
