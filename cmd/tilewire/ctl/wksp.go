package ctl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/wksp"
)

// WkspCmd returns the verbs about workspaces.
func WkspCmd() *cobra.Command {
	return family("wksp", "Make, show, mend and remove workspaces in shared memory",
		`A workspace is what is formatted inside a region of shared memory: named, tagged, aligned allocations that
several processes see and that outlive each of them. It has the name of its region. These verbs need no daemon,
work beside a running instance, and on what a crash left.

Sizes may have a unit: 4096, 64K, 32MiB, 1G. Gaddrs and tags are decimal or, with 0x, hexadecimal.`,
		wkspNewCmd(), wkspDeleteCmd(), wkspListCmd(), wkspAllocCmd(), wkspFreeCmd(), wkspQueryCmd(), wkspUsageCmd(),
		wkspVerifyCmd(), wkspRebuildCmd(), wkspResetCmd(), wkspCheckptCmd(), wkspRestoreCmd())
}

// joint is a region and the workspace in it, both joined.
type joint struct {
	*wksp.Wksp
	region *shmem.Region
}

// leave ends both joins; the verb is over and has nothing to do about an error of that.
func (j *joint) leave() {
	j.Leave()
	_ = j.region.Leave()
}

// joinWksp joins region name and its workspace.
func joinWksp(name string, access shmem.Access) (*joint, error) {
	r, err := shmem.Open(name, access)
	if err != nil {
		return nil, explain(name, err)
	}
	w, err := wksp.Join(r.Mem())
	if err != nil {
		_ = r.Leave()
		if errors.Is(err, wksp.ErrCorrupt) { // no rebuild comes so far
			return nil, fmt.Errorf("workspace %s: %w; mend: `tilewire wksp delete %s` removes it", name, err, name)
		}
		return nil, explain(name, err)
	}
	return &joint{w, r}, nil
}

// explain adds which workspace it is about and the command that mends it, where one is known.
func explain(name string, err error) error {
	mend := ""
	switch {
	case err == nil:
		return nil
	case errors.Is(err, shmem.ErrNotFound):
		mend = "`tilewire wksp list` shows the workspaces there are, `tilewire wksp new " + name + " --size 64M` makes one"
	case errors.Is(err, wksp.ErrMagic):
		mend = "`tilewire wksp new " + name + " --existing` formats the region, `tilewire shmem unlink " + name + "` removes it"
	case errors.Is(err, wksp.ErrVersion), errors.Is(err, wksp.ErrLayout):
		mend = "use the program that made it, or remove it by `tilewire wksp delete " + name + "`"
	case errors.Is(err, wksp.ErrDirty):
		mend = "`tilewire wksp rebuild " + name + "` mends it, and so does the next alloc or free"
	case errors.Is(err, wksp.ErrDamaged):
		mend = "`tilewire wksp query " + name + "` shows the damaged rows, `tilewire wksp rebuild " + name + " --drop-bad` drops those that are " +
			"impossible, --drop-row N one of those that overlap; `tilewire wksp reset " + name + "` drops everything"
	case errors.Is(err, wksp.ErrCorrupt):
		mend = "`tilewire wksp rebuild " + name + "` mends it"
	case errors.Is(err, wksp.ErrNoSpace):
		mend = "`tilewire wksp query " + name + "` shows what could be freed; a checkpoint can be restored into a larger workspace"
	case errors.Is(err, wksp.ErrNoPart):
		mend = "free something, or restore a checkpoint into a workspace with more --part-max"
	case errors.Is(err, wksp.ErrNotFound), errors.Is(err, wksp.ErrExists):
		mend = "`tilewire wksp query " + name + "` shows what there is"
	}
	if mend == "" {
		return fmt.Errorf("workspace %s: %w", name, err)
	}
	return fmt.Errorf("workspace %s: %w; mend: %s", name, err, mend)
}

// refuseJoined gives ErrJoined, with pids, if anybody is joined to region name, unless force. To be asked before
// joining it oneself.
func refuseJoined(name string, force bool, why string) error {
	if force {
		return nil
	}
	js, err := shmem.Joiners(name)
	if err != nil {
		return explain(name, err)
	}
	if len(js) > 0 {
		return fmt.Errorf("%w: %s by %s; %s: end them first, or give --force", shmem.ErrJoined, name, joinersText(js), why)
	}
	return nil
}

func joinersText(js []shmem.Joiner) string {
	var who []string
	for _, j := range js {
		who = append(who, fmt.Sprintf("%d(%s)", j.Pid, accessOf(j)))
	}
	return strings.Join(who, " ")
}

func accessOf(j shmem.Joiner) string {
	if j.ReadOnly {
		return "ro"
	}
	return "rw"
}

// joinerJSON is a joiner as --json shows it.
type joinerJSON struct {
	Pid    int    `json:"pid"`
	Access string `json:"access"` // rw or ro
}

// joinersJSON is empty if nobody is joined, and null if that is not known.
func joinersJSON(js []shmem.Joiner) []joinerJSON {
	if js == nil {
		return nil
	}
	out := []joinerJSON{}
	for _, j := range js {
		out = append(out, joinerJSON{j.Pid, accessOf(j)})
	}
	return out
}

// stateOf says in a word or a line how a workspace is, as far as u and the owner's words tell. Damage comes before an
// operation left unfinished: as long as it is there, that cannot be finished.
func stateOf(w *wksp.Wksp, u wksp.Usage) string {
	o, err := w.Owner()
	switch {
	case err != nil:
		return err.Error()
	case o.Held:
		return fmt.Sprintf("busy: pid %d", o.Pid)
	case u.Bad > 0:
		return "damaged: " + plural(u.Bad, "bad row")
	case o.Op != wksp.OpNone:
		return fmt.Sprintf("unfinished: %s of pid %d", o.Op, o.Pid)
	}
	return "ok"
}
