package ctl

import (
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
	cmd := &cobra.Command{
		Use:   "free NAME [GADDR]...",
		Short: "Free allocations by gaddr, tag or name",
		Long: `Frees allocations and prints the gaddr of each that it freed. All that is named is looked for before the first is freed:
if one is not there, none is.`,
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
				if err := j.Free(o.Gaddr); err != nil {
					return explain(args[0], fmt.Errorf("after %d were freed: %w", len(freed.Freed), err))
				}
				freed.Freed = append(freed.Freed, allocJSON{o.Gaddr, o.Size, o.Tag, o.Name})
			}
			return emit(cmd, freed, func(w io.Writer) {
				for _, o := range freed.Freed {
					fmt.Fprintln(w, hexText(o.Gaddr))
				}
			})
		},
	}
	cmd.Flags().StringSliceVar(&tagTexts, "tag", nil, "free all that has this tag (repeatable)")
	cmd.Flags().StringSliceVar(&names, "name", nil, "free the allocation of this name (repeatable)")
	addJSON(cmd)
	return cmd
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

func wkspQueryCmd() *cobra.Command {
	var tagTexts, names []string
	cmd := &cobra.Command{
		Use: "query NAME", Short: "List a workspace's allocations", Args: argCount(1, 1),
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
			list := []allocJSON{}
			for _, n := range names {
				o, err := j.Lookup(n)
				if err != nil {
					return explain(args[0], err)
				}
				list = append(list, allocJSON{o.Gaddr, o.Size, o.Tag, o.Name})
			}
			if len(names) == 0 || len(tags) > 0 {
				objects, err := j.TagQuery(tags...)
				if err != nil {
					return explain(args[0], err)
				}
				for _, o := range objects {
					if v := (allocJSON{o.Gaddr, o.Size, o.Tag, o.Name}); !slices.Contains(names, o.Name) {
						list = append(list, v)
					}
				}
			}
			return emit(cmd, list, func(w io.Writer) {
				t := newTable(">GADDR", ">SIZE", ">TAG", "NAME")
				for _, o := range list {
					t.add(hexText(o.Gaddr), o.Size, o.Tag, o.Name)
				}
				t.write(w)
			})
		},
	}
	cmd.Flags().StringSliceVar(&tagTexts, "tag", nil, "only what has this tag (repeatable)")
	cmd.Flags().StringSliceVar(&names, "name", nil, "the allocation of this name; not there is an error (repeatable)")
	addJSON(cmd)
	return cmd
}
