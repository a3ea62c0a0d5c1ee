package ctl

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/wksp"
)

// allocJSON is an allocation as --json shows it.
type allocJSON struct {
	Gaddr uint64 `json:"gaddr"`
	Size  uint64 `json:"size"`
	Tag   uint64 `json:"tag"`
	Name  string `json:"name"` // "" if it has none
}

func wkspAllocCmd() *cobra.Command {
	var align sizeFlag
	var tag, name string
	var atLeast, zero bool
	cmd := &cobra.Command{
		Use:     "alloc NAME SIZE",
		Short:   "Allocate memory in a workspace and print its gaddr",
		Long:    "Allocates SIZE bytes and prints the gaddr, alone on a line. The bytes are as the last user left them, unless --zero.",
		Example: "  g=$(tilewire wksp alloc scratch 1M --name input --tag 7)",
		Args:    argCount(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := parseSize(args[1])
			if err != nil {
				return err
			}
			if size == 0 {
				return usagef("an allocation has at least 1 byte")
			}
			t, err := parseNumber("tag", tag)
			if err != nil {
				return err
			}
			j, err := joinWksp(args[0], shmem.ReadWrite)
			if err != nil {
				return err
			}
			defer j.leave()
			v := allocJSON{Size: size, Tag: t, Name: name}
			switch {
			case atLeast && name != "":
				return usagef("--at-least and --name exclude each other")
			case atLeast:
				v.Gaddr, v.Size, err = j.AllocAtLeast(uint64(align), size, t)
			case name != "":
				var o wksp.Object
				o, err = j.NewNamed(name, uint64(align), size, t)
				v.Gaddr = o.Gaddr
			default:
				v.Gaddr, err = j.Alloc(uint64(align), size, t)
			}
			if err != nil {
				return explain(args[0], err)
			}
			if zero {
				m, err := j.Laddr(v.Gaddr, v.Size)
				if err != nil {
					return explain(args[0], err)
				}
				clear(m.Bytes())
			}
			return emit(cmd, v, func(w io.Writer) { fmt.Fprintln(w, hexText(v.Gaddr)) })
		},
	}
	f := cmd.Flags()
	f.Var(&align, "align", fmt.Sprintf("a power of 2; the gaddr is a multiple of it (default %d)", wksp.DefaultAlign))
	f.StringVar(&tag, "tag", "1", "any number but 0; query and free go by it")
	f.StringVar(&name, "name", "", "a name to find it by, 1 to 40 of letters, digits and . _ - /")
	f.BoolVar(&atLeast, "at-least", false, "take more where that saves a row of the partition table")
	f.BoolVar(&zero, "zero", false, "set its bytes to 0")
	addJSON(cmd)
	return cmd
}

// parseTags reads the values of --tag.
func parseTags(texts []string) ([]uint64, error) {
	var tags []uint64
	for _, s := range texts {
		t, err := parseNumber("tag", s)
		if err != nil {
			return nil, err
		}
		if t == 0 {
			return nil, usagef("tag 0 marks what is free; give another")
		}
		tags = append(tags, t)
	}
	return tags, nil
}

func wkspFreeCmd() *cobra.Command {
	var tagTexts, names []string
	var force bool
	cmd := &cobra.Command{
		Use:   "free NAME [GADDR]...",
		Short: "Free allocations by gaddr, tag or name",
		Long: `Frees allocations and prints the gaddr of each that it freed. All that is named is looked for before the first is freed:
if one is not there, none is. In a damaged workspace it stops at the first whose neighbourhood cannot be mended, and still
prints what was freed. While processes are joined to the workspace it is refused, unless --force.`,
		Args: argCount(1, -1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var gaddrs []uint64
			for _, s := range args[1:] {
				g, err := parseNumber("gaddr", s)
				if err != nil {
					return err
				}
				gaddrs = append(gaddrs, g)
			}
			tags, err := parseTags(tagTexts)
			if err != nil {
				return err
			}
			if len(gaddrs)+len(tags)+len(names) == 0 {
				return usagef("wksp free %s: free what? Give gaddrs, --tag or --name", args[0])
			}
			if err := refuseJoined(args[0], force, "they may use what would be freed"); err != nil {
				return err
			}
			j, err := joinWksp(args[0], shmem.ReadWrite)
			if err != nil {
				return err
			}
			defer j.leave()
			list, err := toFree(j.Wksp, gaddrs, tags, names)
			if err != nil {
				return explain(args[0], err)
			}
			freed := struct {
				Freed []allocJSON `json:"freed"`
			}{[]allocJSON{}}
			for _, o := range list {
				if err = j.Free(o.Gaddr); err == nil || !allocated(j.Wksp, o) {
					freed.Freed = append(freed.Freed, allocJSON{o.Gaddr, o.Size, o.Tag, o.Name})
				}
				if err != nil {
					err = explain(args[0], fmt.Errorf("%d of %d were freed: %w", len(freed.Freed), len(list), err))
					break
				}
			}
			return errors.Join(emit(cmd, freed, func(w io.Writer) {
				for _, o := range freed.Freed {
					fmt.Fprintln(w, hexText(o.Gaddr))
				}
			}), err)
		},
	}
	cmd.Flags().StringSliceVar(&tagTexts, "tag", nil, "free all that has this tag (repeatable)")
	cmd.Flags().BoolVar(&force, "force", false, "free it under those who are joined")
	cmd.Flags().StringSliceVar(&names, "name", nil, "free the allocation of this name (repeatable)")
	addJSON(cmd)
	return cmd
}

// allocated tells whether o still has its tag: a Free that met damage may have taken it before.
func allocated(w *wksp.Wksp, o wksp.Object) bool {
	list, err := w.TagQuery(o.Tag)
	return err != nil || slices.ContainsFunc(list, func(l wksp.Object) bool { return l.Gaddr == o.Gaddr })
}

// toFree finds all that is to be freed, each once. A tag that nothing has is no error.
func toFree(w *wksp.Wksp, gaddrs, tags []uint64, names []string) ([]wksp.Object, error) {
	all, err := w.TagQuery()
	if err != nil {
		return nil, err
	}
	var list []wksp.Object
	for _, g := range gaddrs {
		i := slices.IndexFunc(all, func(o wksp.Object) bool { return o.Gaddr == g })
		if i < 0 {
			return nil, fmt.Errorf("%w: no allocation starts at gaddr %s", wksp.ErrNotFound, hexText(g))
		}
		list = append(list, all[i])
	}
	for _, n := range names {
		o, err := w.Lookup(n)
		if err != nil {
			return nil, err
		}
		list = append(list, o)
	}
	for _, o := range all {
		if slices.Contains(tags, o.Tag) {
			list = append(list, o)
		}
	}
	seen := map[uint64]bool{}
	return slices.DeleteFunc(list, func(o wksp.Object) bool {
		was := seen[o.Gaddr]
		seen[o.Gaddr] = true
		return was
	}), nil
}

// queriedJSON is an allocation, or a damaged row in the place of one, as query --json shows it.
type queriedJSON struct {
	allocJSON
	State string `json:"state"` // ok, damaged
	Row   uint32 `json:"row"`   // of a damaged one, for rebuild --drop-row; else 0
	Why   string `json:"why"`   // it is damaged
}

func wkspQueryCmd() *cobra.Command {
	var tagTexts, names []string
	cmd := &cobra.Command{
		Use: "query NAME", Short: "List a workspace's allocations, and the damaged rows among them", Args: argCount(1, 1),
		Long: `Lists a workspace's allocations by gaddr. Rows of its table that are impossible or overlap come behind them, with the row number by
which rebuild --drop-row takes them; in JSON their state is damaged, and those that overlap are there once, as damaged.`,
		Example: "  tilewire wksp query scratch --tag 7\n  tilewire wksp query scratch --name input --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			tags, err := parseTags(tagTexts)
			if err != nil {
				return err
			}
			j, err := joinWksp(args[0], shmem.ReadOnly)
			if err != nil {
				return err
			}
			defer j.leave()
			list, bad, err := query(j.Wksp, tags, names)
			if err != nil {
				return explain(args[0], err)
			}
			all := []queriedJSON{}
			for _, o := range list {
				all = append(all, queriedJSON{allocJSON: o, State: "ok"})
			}
			for _, b := range bad {
				all = append(all, queriedJSON{allocJSON{b.Lo, b.Hi - b.Lo, b.Tag, b.Name}, "damaged", b.Row, b.Why})
			}
			return emit(cmd, all, func(w io.Writer) {
				t := newTable(">GADDR", ">SIZE", ">TAG", "NAME")
				for _, o := range list {
					t.add(hexText(o.Gaddr), o.Size, o.Tag, o.Name)
				}
				t.write(w)
				badRowsText(w, "\ndamaged rows:", bad)
			})
		},
	}
	cmd.Flags().StringSliceVar(&tagTexts, "tag", nil, "only what has this tag (repeatable)")
	cmd.Flags().StringSliceVar(&names, "name", nil, "the allocation of this name; not there is an error (repeatable)")
	addJSON(cmd)
	return cmd
}

// query returns what has one of tags or names, or all if there are neither: what is sound by gaddr, and what is damaged by row.
func query(w *wksp.Wksp, tags []uint64, names []string) (list []allocJSON, bad []badRowJSON, err error) {
	rows, err := badRows(w)
	if err != nil {
		return nil, nil, err
	}
	wanted := func(tag uint64, name string) bool {
		return slices.Contains(tags, tag) || slices.Contains(names, name) || len(tags)+len(names) == 0
	}
	for _, b := range badRowsJSON(rows) {
		if wanted(b.Tag, b.Name) {
			bad = append(bad, b)
		}
	}
	for _, n := range names {
		if slices.ContainsFunc(bad, func(b badRowJSON) bool { return b.Name == n }) {
			continue
		}
		if _, err := w.Lookup(n); err != nil {
			return nil, nil, err
		}
	}
	objects, err := w.TagQuery()
	for _, o := range objects {
		damaged := slices.ContainsFunc(rows, func(b wksp.BadRow) bool { return b.Lo == o.Gaddr && b.Tag == o.Tag && b.Name == o.Name })
		if wanted(o.Tag, o.Name) && !damaged {
			list = append(list, allocJSON{o.Gaddr, o.Size, o.Tag, o.Name})
		}
	}
	return list, bad, err
}
