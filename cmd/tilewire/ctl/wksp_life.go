package ctl

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/wksp"
)

// geometry is what the flags of wksp new say about sizes; 0: not given.
type geometry struct {
	size, dataMax, avg sizeFlag
	partMax            uint64
	seed               uint64
}

// leastParts: a workspace made by its data alone gets at least so many rows.
const leastParts = 64

// solve returns partMax and dataMax for avail bytes, or, if avail is 0, for as many as the workspace needs, which it
// returns. Errors: ErrUsage, wksp.ErrParams.
func (g geometry) solve(avail uint64) (parts, data, need uint64, err error) {
	parts, data = g.partMax, uint64(g.dataMax)
	avg := uint64(g.avg)
	if avg == 0 {
		return 0, 0, 0, usagef("--avg 0: allocations have at least a byte")
	}
	if parts == 0 {
		if parts = wksp.PartMaxEst(avail, avg); avail == 0 {
			parts = min(max(2*(data/avg)+1, leastParts), wksp.MaxParts)
		}
	}
	if data == 0 {
		if data = wksp.DataMaxEst(avail, parts); data == 0 {
			return 0, 0, 0, usagef("%d bytes have no room for %d partitions and data; give more --size or less --part-max", avail, parts)
		}
	}
	need, err = wksp.Footprint(parts, data)
	if err == nil && avail != 0 && need > avail {
		err = usagef("part-max %d and data-max %d make %d bytes, there are %d", parts, data, need, avail)
	}
	return parts, data, need, err
}

type wkspNewJSON struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	Size     uint64 `json:"size"`
	PageSize uint64 `json:"page_size"`
	Backing  string `json:"backing"`
	PartMax  uint64 `json:"part_max"`
	DataMax  uint64 `json:"data_max"`
	Fallback string `json:"fallback"`
}

func wkspNewCmd() *cobra.Command {
	var g geometry
	var b backing
	var existing bool
	cmd := &cobra.Command{
		Use:   "new NAME (--size SIZE | --data-max SIZE | --existing)",
		Short: "Make a region with an empty workspace in it",
		Example: `  tilewire wksp new scratch --size 64M
  tilewire wksp new big --data-max 4G --part-max 1000 --backing hugetlbfs --strict`,
		Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if g.seed == 0 {
				g.seed = rand.Uint64()
			}
			o, err := b.options()
			if err != nil {
				return err
			}
			return wkspNew(cmd, args[0], g, o, existing)
		},
	}
	f := cmd.Flags()
	f.Var(&g.size, "size", "bytes of the region; partitions and data are estimated from it")
	f.Var(&g.dataMax, "data-max", "bytes of data")
	f.Uint64Var(&g.partMax, "part-max", 0, "rows of the partition table, about twice as many as allocations")
	g.avg = 16 << 10
	f.Var(&g.avg, "avg", "bytes of an average allocation, for the estimate of --part-max")
	f.Uint64Var(&g.seed, "seed", 0, "shapes the indices (0: at random)")
	f.BoolVar(&existing, "existing", false, "format a region that is there and holds no workspace")
	b.flags(cmd)
	addJSON(cmd)
	return cmd
}

func wkspNew(cmd *cobra.Command, name string, g geometry, o shmem.Options, existing bool) error {
	var parts, data uint64
	init := func(m shmem.Mem) (err error) {
		if parts, data, _, err = g.solve(m.Len()); err != nil {
			return err
		}
		return wksp.New(m, name, parts, data, g.seed)
	}
	var r *shmem.Region
	var err error
	switch size := uint64(g.size); {
	case existing && size != 0:
		return usagef("--existing takes the region's own size; leave --size out")
	case existing:
		if err := refuseJoined(name, false, "formatting it would take it from them"); err != nil {
			return err
		}
		if r, err = shmem.Open(name, shmem.ReadWrite); err == nil {
			if err = init(r.Mem()); err != nil {
				_ = r.Leave()
			}
		}
	default:
		if size == 0 {
			if g.dataMax == 0 {
				return usagef("wksp new %s: how large? Give --size, or --data-max (and --part-max)", name)
			}
			if _, _, size, err = g.solve(0); err != nil {
				return err
			}
		} else if _, _, _, err = g.solve(size); err != nil {
			return err
		}
		o.Init = init
		r, err = shmem.Create(name, size, o)
	}
	if errors.Is(err, shmem.ErrExists) || errors.Is(err, wksp.ErrExists) {
		return fmt.Errorf("workspace %s: %w; mend: take another name, or `tilewire wksp delete %s`", name, err, name)
	}
	if err != nil {
		return fmt.Errorf("workspace %s: %w", name, err)
	}
	defer r.Leave()
	v := wkspNewJSON{name, r.Path(), r.Size(), r.PageSize(), r.Backing(), parts, data, r.Fallback()}
	return emit(cmd, v, func(w io.Writer) {
		t := newPairs()
		t.add("name", v.Name)
		t.add("path", v.Path)
		t.add("size", v.Size)
		t.add("backing", v.Backing)
		t.add("part-max", v.PartMax)
		t.add("data-max", v.DataMax)
		if v.Fallback != "" {
			t.add("fallback", v.Fallback)
		}
		t.write(w)
	})
}

func wkspDeleteCmd() *cobra.Command {
	var force, keep bool
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a workspace and its region",
		Long: `Deletes a workspace, of whatever layout version, and unlinks its region. While processes are joined to it this is
refused; with --force they get an error from their next call about the workspace, and the memory goes with the last of them.`,
		Args: argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := wkspDelete(args[0], force, keep); err != nil {
				return err
			}
			v := struct {
				Deleted string `json:"deleted"`
			}{args[0]}
			return emit(cmd, v, func(w io.Writer) { fmt.Fprintf(w, "deleted %s\n", v.Deleted) })
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "delete it under those who are joined")
	cmd.Flags().BoolVar(&keep, "keep-region", false, "delete the workspace only; the region stays")
	addJSON(cmd)
	return cmd
}

func wkspDelete(name string, force, keep bool) error {
	if err := refuseJoined(name, force, "deleting it would take it from them"); err != nil {
		return err
	}
	r, err := shmem.Open(name, shmem.ReadWrite)
	if err != nil {
		return explain(name, err)
	}
	if _, err = wksp.Join(r.Mem()); errors.Is(err, wksp.ErrMagic) {
		_ = r.Leave()
		return explain(name, err)
	}
	if !keep && !force { // refused or wholly done: nothing is changed before the name is gone
		_ = r.Leave()
		return shmem.Unlink(name, false)
	}
	err = wksp.Delete(r.Mem())
	_ = r.Leave()
	if keep || err != nil && !(force && errors.Is(err, wksp.ErrBusy)) {
		return explain(name, err)
	}
	return shmem.Unlink(name, true)
}

// wkspListJSON is a workspace as wksp list shows it; the figures are 0 where it cannot be joined.
type wkspListJSON struct {
	Name      string       `json:"name"`
	Path      string       `json:"path"`
	Size      uint64       `json:"size"` // of the region
	DataMax   uint64       `json:"data_max"`
	UsedBytes uint64       `json:"used_bytes"`
	Used      uint64       `json:"used"`    // allocations
	Joiners   []joinerJSON `json:"joiners"` // null: not known, state says why
	State     string       `json:"state"`
}

func wkspListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "List the regions that hold a workspace", Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, err := wksps()
			if err != nil {
				return err
			}
			return emit(cmd, list, func(w io.Writer) {
				t := newTable("NAME", ">SIZE", ">DATA", ">USED", ">ALLOCATIONS", ">JOINERS", "STATE")
				for _, v := range list {
					joiners := any(len(v.Joiners))
					if v.Joiners == nil {
						joiners = "?"
					}
					t.add(v.Name, v.Size, v.DataMax, v.UsedBytes, v.Used, joiners, v.State)
				}
				t.write(w)
			})
		},
	}
	addJSON(cmd)
	return cmd
}

// wksps returns every region that holds a workspace, or of which that cannot be told.
func wksps() ([]wkspListJSON, error) {
	infos, err := shmem.List()
	if err != nil {
		return nil, err
	}
	list := []wkspListJSON{}
	for _, in := range infos {
		v := wkspListJSON{Name: in.Name, Path: in.Path, Size: in.Size, Joiners: joinersJSON(in.Joiners)}
		switch {
		case errors.Is(in.Err, shmem.ErrNotRegion):
			continue
		case in.Err != nil:
			v.State = in.Err.Error()
		default:
			if err := v.look(); errors.Is(err, wksp.ErrMagic) || errors.Is(err, shmem.ErrNotFound) {
				continue
			} else if err != nil {
				v.State = err.Error()
			}
		}
		list = append(list, v)
	}
	return list, nil
}

// look joins the region for a moment, read-only.
func (v *wkspListJSON) look() error {
	r, err := shmem.Open(v.Name, shmem.ReadOnly)
	if err != nil {
		return err
	}
	defer r.Leave()
	w, err := wksp.Join(r.Mem())
	if err != nil {
		return err
	}
	defer w.Leave()
	u, err := w.Usage()
	if err != nil {
		return err
	}
	v.DataMax, v.UsedBytes, v.Used, v.State = u.DataMax, u.UsedBytes, u.Used, stateOf(w, u)
	return nil
}
