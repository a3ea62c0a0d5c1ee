package ctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/wksp"
)

// memJSON is a map of one region's memory, as --json shows it.
type memJSON struct {
	Region    regionJSON   `json:"region"`
	Workspace usageJSON    `json:"workspace"`
	Objects   []objectJSON `json:"objects"` // named, by gaddr
	Joiners   []joinerJSON `json:"joiners"`
}

type regionJSON struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	Size     uint64 `json:"size"`
	PageSize uint64 `json:"page_size"` // in use, as measured
	Backing  string `json:"backing"`
	Numa     string `json:"numa"` // nodes that it lies on, "" if the kernel was not told
}

type objectJSON struct {
	allocJSON
	Share float64 `json:"share"` // of the region, 0 to 1
}

// MemCmd returns the verb that shows what lies where in an instance's memory.
func MemCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "mem [NAME]",
		Short: "Show what lies where in an instance's memory, and who is joined",
		Long: `Shows a map of one instance's memory: its region and the size of its pages, the workspace in it, each named object with gaddr, size, tag
and share of the whole, what lies between them, and who is joined. Without NAME it takes the instance that runs, or else
the only one that was left. It works on any region that holds a workspace.`,
		Args: argCount(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := pickWksp(args)
			if err != nil {
				return err
			}
			joiners, err := shmem.Joiners(name)
			if err != nil {
				return explain(name, err)
			}
			j, err := joinWksp(name, shmem.ReadOnly)
			if err != nil {
				return err
			}
			defer j.leave()
			return mem(cmd, j, joiners)
		},
	}
	cmd.SetFlagErrorFunc(flagError)
	addJSON(cmd)
	return cmd
}

// pickWksp returns the name given, or the one workspace that somebody is joined to, or the only one there is.
func pickWksp(args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	all, err := wksps()
	if err != nil {
		return "", err
	}
	var live, names []string
	for _, v := range all {
		names = append(names, v.Name)
		if len(v.Joiners) > 0 {
			live = append(live, v.Name)
		}
	}
	switch {
	case len(live) == 1:
		return live[0], nil
	case len(live) > 1:
		return "", fmt.Errorf("%w: %s; name one: `tilewire mem %s`", instance.ErrMany, strings.Join(live, ", "), live[0])
	case len(names) == 1:
		return names[0], nil
	case len(names) > 1:
		return "", fmt.Errorf("%w runs here, but %d were left: %s; name one: `tilewire mem %s`", instance.ErrNone, len(names), strings.Join(names, ", "), names[0])
	}
	return "", fmt.Errorf("%w runs here, and none was left; start one with `tilewire pipe` or `tilewire run`", instance.ErrNone)
}

func mem(cmd *cobra.Command, j *joint, joiners []shmem.Joiner) error {
	r := j.region
	u, err := usageOf(j.Wksp)
	if err != nil {
		return explain(r.Name(), err)
	}
	list, err := j.TagQuery()
	if err != nil {
		return explain(r.Name(), err)
	}
	v := memJSON{
		Region:    regionJSON{r.Name(), r.Path(), r.Size(), r.PageSize(), r.Backing(), r.Numa().String()},
		Workspace: u, Objects: []objectJSON{}, Joiners: joinersJSON(joiners),
	}
	data := u.Size - u.DataMax // where it begins
	rows := []mapRow{{at: 0, bytes: data, what: "(header and tables)"}}
	at, others := data, uint64(0)
	gap := mapRow{at: data}
	flush := func() {
		if gap.bytes > 0 {
			gap.what = "(free)"
			if others > 0 {
				gap.what = fmt.Sprintf("(%s without a name, %d bytes free)", plural(others, "allocation"), gap.free)
			}
			rows = append(rows, gap)
		}
		others = 0
	}
	for _, o := range list {
		end := min((o.Gaddr+o.Size+wksp.Granule-1)&^(wksp.Granule-1), u.Size)
		if o.Gaddr > at { // always, unless the workspace is corrupt
			gap.bytes += o.Gaddr - at
			gap.free += o.Gaddr - at
		}
		at = max(at, end)
		if o.Name == "" {
			others++
			gap.bytes += end - o.Gaddr
			continue
		}
		flush()
		rows = append(rows, mapRow{at: o.Gaddr, bytes: end - o.Gaddr, size: o.Size, tag: o.Tag, what: o.Name})
		gap = mapRow{at: end}
		v.Objects = append(v.Objects, objectJSON{allocJSON{o.Gaddr, o.Size, o.Tag, o.Name}, float64(end-o.Gaddr) / float64(r.Size())})
	}
	gap.bytes += u.Size - at
	gap.free += u.Size - at
	flush()
	if r.Size() > u.Size {
		rows = append(rows, mapRow{at: u.Size, bytes: r.Size() - u.Size, what: "(beyond the workspace)"})
	}
	return emit(cmd, v, func(w io.Writer) { v.text(w, rows) })
}

// mapRow is a line of the map: a named object or what lies between two.
type mapRow struct {
	at, bytes uint64 // partition
	size, tag uint64 // of a named object: bytes asked for
	free      uint64 // of a gap: bytes that nobody holds
	what      string
}

func (v *memJSON) text(w io.Writer, rows []mapRow) {
	u := &v.Workspace
	t := newPairs()
	t.add("region", fmt.Sprintf("%s, %s (%d bytes) on %s", v.Region.Name, sizeText(v.Region.Size), v.Region.Size, v.Region.Backing))
	t.add("path", v.Region.Path)
	if v.Region.Numa != "" {
		t.add("numa", v.Region.Numa)
	}
	t.add("workspace", fmt.Sprintf("%s, %s, %d of %d bytes of data used (%s), state %s",
		u.Name, plural(u.Used, "allocation"), u.UsedBytes, u.DataMax, shareText(u.UsedBytes, u.DataMax), u.State))
	who := "none"
	if len(v.Joiners) > 0 {
		var s []string
		for _, j := range v.Joiners {
			s = append(s, fmt.Sprintf("%d(%s)", j.Pid, j.Access))
		}
		who = strings.Join(s, " ")
	}
	t.add("joiners", who)
	t.write(w)
	fmt.Fprintln(w)
	t = newTable(">GADDR", ">SIZE", ">TAG", ">SHARE", "OBJECT")
	for _, r := range rows {
		size, tag := r.bytes, ""
		if r.tag != 0 {
			size, tag = r.size, fmt.Sprint(r.tag)
		}
		t.add(hexText(r.at), size, tag, shareText(r.bytes, v.Region.Size), r.what)
	}
	t.write(w)
}
