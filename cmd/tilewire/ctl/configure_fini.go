package ctl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// finiJSON is what fini prints.
type finiJSON struct {
	Actions   []step      `json:"actions"`   // done, or to be done if dry_run
	Forgotten []forgotten `json:"forgotten"` // not undone, and not kept in mind any longer
	DryRun    bool        `json:"dry_run"`
}

// forgotten is something that init did and others have undone or changed since.
type forgotten struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

func configureFiniCmd() *cobra.Command {
	var dry, force bool
	cmd := &cobra.Command{
		Use: "fini", Short: "Undo what init did",
		Long: `Undoes what init did, and that alone: unmounts what it mounted and removes the directories made for it, puts group and mode back, and
gives back the pages it added to the pool. What others have undone or changed since is left as it is and named. Refused while there are
regions on a mount that would go; --force removes them, but none that a process is joined to, and no files of others.`,
		Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := loadState(!dry && os.Geteuid() == 0)
			if err != nil {
				return err
			}
			defer st.close()
			if !dry && os.Geteuid() != 0 && !st.empty() {
				return fmt.Errorf("%w: undoing what init did needs root; mend: sudo tilewire configure fini", ErrNotConfigured)
			}
			v := finiJSON{DryRun: dry, Forgotten: []forgotten{}}
			steps, err := finiSteps(st, force, &v.Forgotten)
			if err != nil {
				return err
			}
			v.Actions, err = runSteps(steps, dry, "fini")
			if err == nil && !dry && os.Geteuid() == 0 {
				err = st.save()
			}
			return errors.Join(emit(cmd, v, func(w io.Writer) {
				stepsText(w, v.Actions)
				for _, f := range v.Forgotten {
					fmt.Fprintf(w, "forgotten: %s: %s\n", f.What, f.Why)
				}
				if len(steps)+len(v.Forgotten) == 0 {
					fmt.Fprintln(w, "nothing to undo")
				}
			}), err)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print what would be done")
	cmd.Flags().BoolVar(&force, "force", false, "remove the regions on a mount that goes, unless they are joined")
	addJSON(cmd)
	return cmd
}

// finiSteps undoes what st says, as far as it is still so; the rest goes to gone. Each step takes its note out of the state.
func finiSteps(st *hostState, force bool, gone *[]forgotten) (steps []step, err error) {
	forget := func(what, why string, args ...any) { *gone = append(*gone, forgotten{what, fmt.Sprintf(why, args...)}) }
	for _, o := range slices.Backward(slices.Clone(st.Owners)) {
		if s, ok := ownBackStep(st, o, forget); ok {
			steps = append(steps, s)
		} else {
			drop(&st.Owners, o)
		}
	}
	for _, m := range slices.Backward(slices.Clone(st.Mounts)) {
		s, err := unmountSteps(st, m, force, forget)
		if err != nil {
			return nil, err
		}
		if steps = append(steps, s...); len(s) == 0 {
			drop(&st.Mounts, m)
		}
	}
	less := map[string]uint64{} // pages that earlier steps will have given back, by page size
	for _, p := range slices.Backward(slices.Clone(st.Pools)) {
		if s, ok := poolBackStep(st, p, less, forget); ok {
			steps = append(steps, s)
		} else {
			drop(&st.Pools, p)
		}
	}
	return steps, nil
}

// ownBackStep puts back group and mode, each if nobody has changed it since.
func ownBackStep(st *hostState, o ownerState, forget func(what, why string, args ...any)) (step, bool) {
	var fi unix.Stat_t
	if _, ok := hugetlbfsAt(o.Dir); !ok || unix.Stat(o.Dir, &fi) != nil {
		forget("group and mode of "+o.Dir, "no hugetlbfs is mounted there any more")
		return step{}, false
	}
	gid, mode := fi.Gid, fi.Mode&0o7777 // as they will be
	var what, command []string
	if gid != o.GidAfter {
		forget("group of "+o.Dir, "others have made it %d", gid)
	} else if gid = o.GidBefore; gid != o.GidAfter {
		what, command = append(what, fmt.Sprintf("group %d", gid)), append(command, fmt.Sprintf("chgrp %d %s", gid, o.Dir))
	}
	if mode != o.ModeAfter {
		forget("mode of "+o.Dir, "others have made it %04o", mode)
	} else if mode = o.ModeBefore; mode != o.ModeAfter {
		what, command = append(what, fmt.Sprintf("mode %04o", mode)), append(command, fmt.Sprintf("chmod %04o %s", mode, o.Dir))
	}
	return step{
		What:    fmt.Sprintf("put %s of %s back", strings.Join(what, " and "), o.Dir),
		Command: strings.Join(command, " && "),
		do: func(*step) error {
			if err := setOwner(o.Dir, gid, mode); err != nil {
				return err
			}
			drop(&st.Owners, o)
			return st.save()
		},
	}, len(what) > 0
}

func unmountSteps(st *hostState, m mountState, force bool, forget func(what, why string, args ...any)) ([]step, error) {
	if _, ok := hugetlbfsAt(m.Dir); !ok {
		return madeDirStep(st, m, forget), nil
	}
	regions, err := regionsToGo(m.Dir, force)
	if err != nil {
		return nil, err
	}
	var steps []step
	for i, name := range regions {
		path := filepath.Join(m.Dir, "tilewire."+name)
		steps = append(steps, step{"remove " + path, "rm " + path, func(*step) error {
			if i == 0 { // before the first is gone: whoever holds the mount is in the way of all of it
				if err := unix.Unmount(m.Dir, unix.MNT_EXPIRE); err == unix.EBUSY { // only asks, umount(2)
					return mountBusy(m.Dir)
				}
			}
			return shmem.UnlinkIn(m.Dir, name, false)
		}})
	}
	command := "umount " + m.Dir
	if m.Levels > 0 {
		command += " && " + rmdirs(m)
	}
	return append(steps, step{
		What:    "unmount " + m.Dir,
		Command: command,
		do: func(*step) error {
			if err := unix.Unmount(m.Dir, 0); err == unix.EBUSY {
				return mountBusy(m.Dir)
			} else if err != nil {
				return fmt.Errorf("umount %s: %w", m.Dir, err)
			}
			m.removeMade()
			drop(&st.Mounts, m)
			return st.save()
		},
	}), nil
}

func mountBusy(dir string) error {
	return fmt.Errorf("%w: processes still use it; mend: `fuser -vm %s` shows them", ErrInUse, dir)
}

// regionsToGo returns the names of the regions on a mount that is to go. Errors: ErrInUse if there are any, unless force; and
// in any case if processes are joined to one, or there are other files.
func regionsToGo(dir string, force bool) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("looking for regions: %w", err)
	}
	infos, err := shmem.ListIn(dir)
	if err != nil {
		return nil, err
	}
	var others, joined []string
	for _, e := range entries {
		k := slices.IndexFunc(infos, func(in shmem.Info) bool { return filepath.Base(in.Path) == e.Name() })
		switch {
		case k < 0 || infos[k].Joiners == nil:
			others = append(others, e.Name())
		case len(infos[k].Joiners) > 0:
			joined = append(joined, fmt.Sprintf("%s (by %s)", e.Name(), joinersText(infos[k].Joiners)))
		default:
			names = append(names, infos[k].Name)
		}
	}
	switch {
	case len(joined) > 0:
		return nil, fmt.Errorf("%w: %s holds regions that are joined: %s; mend: end these processes", ErrInUse, dir, strings.Join(joined, ", "))
	case len(others) > 0:
		return nil, fmt.Errorf("%w: %s holds what is none of Tilewire's: %s; mend: see whose it is, and remove it by hand", ErrInUse, dir,
			strings.Join(others, ", "))
	case len(names) > 0 && !force:
		return nil, fmt.Errorf("%w: %s holds %s, which would go with it; mend: `tilewire shmem unlink %s`, or give --force", ErrInUse,
			dir, "tilewire."+strings.Join(names, ", tilewire."), strings.Join(names, " "))
	}
	return names, nil
}

// madeDirStep is for a mount that others have unmounted: the directories made for it go, if they are empty.
func madeDirStep(st *hostState, m mountState, forget func(what, why string, args ...any)) []step {
	entries, err := os.ReadDir(m.Dir)
	var in, up unix.Stat_t
	switch {
	case err != nil || m.Levels == 0:
		forget("mount on "+m.Dir, "no hugetlbfs is mounted there any more")
		return nil
	case unix.Stat(m.Dir, &in) != nil || unix.Stat(filepath.Dir(m.Dir), &up) != nil || in.Dev != up.Dev:
		forget("mount on "+m.Dir, "something else is mounted there now")
		return nil
	case len(entries) > 0:
		forget("directory "+m.Dir, "no hugetlbfs is mounted there any more, and others have put %s into it", entries[0].Name())
		return nil
	}
	return []step{{
		What:    fmt.Sprintf("remove %s, which was made for a mount that is gone", m.Dir),
		Command: rmdirs(m),
		do: func(*step) error {
			m.removeMade()
			drop(&st.Mounts, m)
			return st.save()
		},
	}}
}

// rmdirs is removeMade as a command.
func rmdirs(m mountState) string {
	command := "rmdir"
	for dir := range m.made {
		command += " " + dir
	}
	return command
}

// removeMade removes the directories that were made for a mount. Those that others have put something into stay.
func (m mountState) removeMade() {
	for dir := range m.made {
		if os.Remove(dir) != nil {
			return
		}
	}
}

// made gives the directories that were made for a mount, innermost first.
func (m mountState) made(yield func(string) bool) {
	for dir, n := m.Dir, m.Levels; n > 0 && yield(dir); dir, n = filepath.Dir(dir), n-1 {
	}
}

// poolBackStep takes from the pool what init added. What others changed since stays changed.
func poolBackStep(st *hostState, p poolState, less map[string]uint64, forget func(what, why string, args ...any)) (step, bool) {
	pages := filepath.Base(filepath.Dir(p.File)) // the same for a node's part and the whole
	now, target, err := p.back(less[pages])
	if err != nil {
		forget("pages of "+p.File, "%v", err)
		return step{}, false
	}
	if target == now {
		if p.After > p.Before {
			forget("pages of "+p.File, "others have given them back: there are %d", now)
		}
		return step{}, false
	}
	less[pages] += now - target
	write := func(target uint64) string { return fmt.Sprintf("echo %d > %s", target, p.File) }
	return step{
		What:    fmt.Sprintf("give back %d pages; those in use go when they are freed", now-target),
		Command: write(target),
		do: func(s *step) error {
			_, target, err := p.back(0)
			if err == nil {
				s.Command = write(target)
				err = os.WriteFile(p.File, []byte(strconv.FormatUint(target, 10)), 0)
			}
			if err != nil {
				return err
			}
			drop(&st.Pools, p)
			return st.save()
		},
	}, true
}

// back returns how many pages the pool has, not counting less of them, and how many it is to have.
func (p poolState) back(less uint64) (now, target uint64, err error) {
	b, err := os.ReadFile(p.File)
	if err == nil {
		now, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	}
	now -= min(now, less)
	added := p.After - min(p.Before, p.After)
	if target = now - min(now, added); now <= p.After { // nobody has raised it since
		target = min(now, p.Before)
	}
	return now, target, err
}
