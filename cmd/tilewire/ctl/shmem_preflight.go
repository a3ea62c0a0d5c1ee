package ctl

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/shmem"
)

// preflightJSON is what a region of this size would get.
type preflightJSON struct {
	OK       bool      `json:"ok"`
	Size     uint64    `json:"size"` // asked for
	Choice   int       `json:"choice"`
	Fallback string    `json:"fallback"`
	Error    string    `json:"error"`
	Mend     string    `json:"mend"` // of the best way that has one
	Ways     []wayJSON `json:"ways"` // best first; choice is an index, -1 for none
}

type wayJSON struct {
	OK          bool        `json:"ok"`
	Mount       string      `json:"mount"` // empty: none has pages of this size
	Backing     string      `json:"backing"`
	PageSize    uint64      `json:"page_size"`
	Size        uint64      `json:"size"` // rounded up to pages
	PagesNeeded uint64      `json:"pages_needed"`
	PagesFree   uint64      `json:"pages_free"`
	Nodes       []nodeJSON  `json:"nodes"`
	Limits      []limitJSON `json:"limits"`
	Error       string      `json:"error"`
	Mend        string      `json:"mend"`
}

type nodeJSON struct {
	Node   int    `json:"node"`
	Total  uint64 `json:"total"` // pages
	Free   uint64 `json:"free"`
	Barred bool   `json:"barred"` // by the cpuset
}

type limitJSON struct {
	File string `json:"file"`
	Max  uint64 `json:"max"` // bytes
	Used uint64 `json:"used"`
	Free uint64 `json:"free"`
}

func shmemPreflightCmd() *cobra.Command {
	var b backing
	cmd := &cobra.Command{
		Use: "preflight SIZE", Short: "Say what pages a region would get, before anything is touched",
		Long: `Says what pages a region of SIZE bytes would get: every way there is, best first, with pages needed and free as mount, pool, memory and
control groups allow; pages by NUMA node; limits of control groups; and the command that mends what is short. Nothing is
touched. Status 0 if the region can be had as asked, 3 if not.`,
		Example: "  tilewire shmem preflight 256M\n  tilewire shmem preflight 1G --backing hugetlbfs --strict",
		Args:    argCount(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			size, err := parseSize(args[0])
			if err != nil {
				return err
			}
			o, err := b.options()
			if err != nil {
				return err
			}
			p, err := shmem.Preflight(size, o)
			if len(p.Ways) == 0 {
				return err // not as asked about a host, but as a question
			}
			v := preflightView(size, p, err)
			if e := emit(cmd, v, v.text); e != nil {
				return e
			}
			return err
		},
	}
	b.flags(cmd)
	addJSON(cmd)
	return cmd
}

func preflightView(size uint64, p shmem.Plan, err error) preflightJSON {
	v := preflightJSON{OK: err == nil, Size: size, Choice: -1, Fallback: p.Fallback, Ways: []wayJSON{}}
	if err != nil {
		v.Error = err.Error()
	}
	for i, w := range p.Ways {
		j := wayJSON{w.Err == nil, w.Mount, w.Backing, w.PageSize, w.Size, w.PagesNeeded, w.PagesFree, []nodeJSON{}, []limitJSON{}, "", mendOf(w.Err)}
		if w.Err != nil {
			j.Error = w.Err.Error()
		} else if v.Choice < 0 && err == nil {
			v.Choice = i
		}
		for _, n := range w.Nodes {
			j.Nodes = append(j.Nodes, nodeJSON{n.Node, n.Total, n.Free, n.Barred})
		}
		for _, l := range w.Limits {
			j.Limits = append(j.Limits, limitJSON{l.File, l.Max, l.Used, l.Free()})
		}
		if v.Mend == "" && err != nil {
			v.Mend = j.Mend
		}
		v.Ways = append(v.Ways, j)
	}
	return v
}

// mendOf returns the command in the text of an error with one reason; empty if it has none.
func mendOf(err error) string {
	if err == nil {
		return ""
	}
	_, mend, _ := strings.Cut(err.Error(), "; mend: ")
	return mend
}

func (v preflightJSON) text(w io.Writer) {
	t := newTable("TAKEN", "BACKING", "MOUNT", ">NEEDED", ">FREE", "WHY NOT")
	for i, way := range v.Ways {
		mark := "no"
		if i == v.Choice {
			mark = "yes"
		} else if way.OK {
			mark = "else"
		}
		why, _, _ := strings.Cut(way.Error, "; mend: ")
		t.add(mark, way.Backing, way.Mount, way.PagesNeeded, way.PagesFree, strings.TrimPrefix(why, "shmem: "))
	}
	t.write(w)
	seen := map[string]bool{}
	for _, way := range v.Ways {
		var lines []string
		for _, n := range way.Nodes {
			barred := ""
			if n.Barred {
				barred = ", which the cpuset bars"
			}
			lines = append(lines, fmt.Sprintf("node %d: %d of %d pages of %s free%s", n.Node, n.Free, n.Total, sizeText(way.PageSize), barred))
		}
		for _, l := range way.Limits {
			lines = append(lines, fmt.Sprintf("limit %s: %d of %d bytes free", l.File, l.Free, l.Max))
		}
		if way.Mend != "" {
			lines = append(lines, "mend: "+way.Mend)
		}
		for _, l := range lines {
			if !seen[l] {
				seen[l] = true
				fmt.Fprintln(w, l)
			}
		}
	}
}
