package ctl

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/wksp"
)

// ckptJSON is a checkpoint as --json shows it.
type ckptJSON struct {
	Workspace string `json:"workspace"` // it was taken of
	File      string `json:"file"`
	FileBytes uint64 `json:"file_bytes"`
	Allocs    uint64 `json:"used"` // allocations
	Bytes     uint64 `json:"asked_bytes"`
	PartMax   uint64 `json:"part_max"`
	DataMax   uint64 `json:"data_max"`
	Taken     string `json:"taken"` // RFC 3339
	Into      string `json:"into"`  // restored into; "" for a checkpoint
	Created   bool   `json:"created"`
}

func ckptOf(file string, c wksp.CheckptInfo) ckptJSON {
	return ckptJSON{
		Workspace: c.Name, File: file, FileBytes: c.FileLen, Allocs: c.Allocs, Bytes: c.Bytes,
		PartMax: c.PartMax, DataMax: c.DataMax, Taken: c.Taken.UTC().Format(time.RFC3339Nano),
	}
}

func wkspCheckptCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checkpt NAME FILE",
		Short: "Write all that a workspace holds to a file",
		Long: `Writes every allocation of a workspace, with its gaddr, size, tag, name and bytes, to FILE, checksummed. FILE is replaced as a
whole or not at all. Others allocate and free meanwhile; bytes that somebody writes at that moment are not of one instant.`,
		Args: argCount(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := joinWksp(args[0], shmem.ReadWrite)
			if err != nil {
				return err
			}
			defer j.leave()
			info, err := j.Checkpt(args[1])
			if err != nil {
				return explain(args[0], err)
			}
			v := ckptOf(args[1], info)
			return emit(cmd, v, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %s, %d bytes, of workspace %s\n", v.File, plural(v.Allocs, "allocation"), v.Bytes, v.Workspace)
			})
		},
	}
	addJSON(cmd)
	return cmd
}

func wkspRestoreCmd() *cobra.Command {
	var b backing
	var g geometry
	var force bool
	cmd := &cobra.Command{
		Use:   "restore NAME FILE",
		Short: "Put back what a checkpoint holds, at the same gaddrs",
		Long: `Puts back what is in FILE, each allocation at the gaddr it had. Where there is no workspace NAME, one is made as large as the one
the checkpoint was taken of, or larger by --data-max, and appears complete or not at all. A workspace that is there is refused if it holds
allocations, which would be replaced, or processes are joined to it, unless --force. FILE is verified as a whole first; one that is truncated, altered or
foreign is refused, and nothing is harmed.`,
		Args: argCount(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := b.options()
			if err != nil {
				return err
			}
			v, err := wkspRestore(args[0], args[1], g, o, force)
			if err != nil {
				return err
			}
			return emit(cmd, v, func(w io.Writer) {
				made := ""
				if v.Created {
					made = ", which was made for it"
				}
				fmt.Fprintf(w, "restored %s, %d bytes, taken of workspace %s at %s, into %s%s\n",
					plural(v.Allocs, "allocation"), v.Bytes, v.Workspace, v.Taken, v.Into, made)
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace what is allocated, also under those who are joined")
	cmd.Flags().Var(&g.dataMax, "data-max", "bytes of data of a workspace that is made (default: as it was)")
	cmd.Flags().Uint64Var(&g.partMax, "part-max", 0, "rows of the partition table of one that is made (default: as it was)")
	b.flags(cmd)
	addJSON(cmd)
	return cmd
}

func wkspRestore(name, file string, g geometry, o shmem.Options, force bool) (v ckptJSON, err error) {
	if err := shmem.CheckName(name); err != nil {
		return v, err
	}
	info, err := wksp.ReadCheckpt(file)
	if err != nil {
		return v, err
	}
	v = ckptOf(file, info)
	v.Into = name
	err = refuseJoined(name, force, "what they use would be replaced")
	if errors.Is(err, shmem.ErrNotFound) {
		v.Created = true
		return v, restoreNew(name, file, info, g, o)
	}
	if err != nil {
		return v, err
	}
	if g.dataMax != 0 || g.partMax != 0 {
		return v, usagef("workspace %s is there; --data-max and --part-max are for one that is made", name)
	}
	j, err := joinWksp(name, shmem.ReadWrite)
	if err != nil {
		return v, err
	}
	defer j.leave()
	u, err := j.Usage()
	if err != nil {
		return v, explain(name, err)
	}
	if u.Used+u.Bad > 0 && !force {
		bad := ""
		if u.Bad > 0 {
			bad = fmt.Sprintf(" (and %s)", plural(u.Bad, "damaged row"))
		}
		return v, fmt.Errorf("workspace %s holds %s, %d bytes%s, which would be replaced; mend: restore into another, `tilewire wksp reset %s`, or give --force",
			name, plural(u.Used, "allocation"), u.UsedBytes, bad, name)
	}
	if _, err = j.Restore(file); errors.Is(err, wksp.ErrGeometry) {
		return v, fmt.Errorf("%w; mend: restore into a name that is free, where a workspace that fits is made", err)
	}
	return v, err
}

// restoreNew makes a region that has the checkpoint's contents before anybody can see it.
func restoreNew(name, file string, info wksp.CheckptInfo, g geometry, o shmem.Options) error {
	parts, data := info.PartMax, info.DataMax
	if g.partMax != 0 {
		parts = g.partMax
	}
	if g.dataMax != 0 {
		data = uint64(g.dataMax)
	}
	size, err := wksp.Footprint(parts, data)
	if err != nil {
		return err
	}
	o.Init = func(m shmem.Mem) error {
		if err := wksp.New(m, name, parts, data, info.Seed); err != nil {
			return err
		}
		w, err := wksp.Join(m)
		if err != nil {
			return err
		}
		defer w.Leave()
		_, err = w.Restore(file)
		return err
	}
	r, err := shmem.Create(name, size, o)
	if err != nil {
		return fmt.Errorf("workspace %s: %w", name, err)
	}
	return r.Leave()
}
