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
)

func configureFiniCmd() *cobra.Command {
	var dry, force bool
	cmd := &cobra.Command{
		Use: "fini", Short: "Undo what init did",
		Long: `Undoes what init did, and that alone: unmounts what it mounted, puts group and mode back, and gives back the pages it added to
the pool. Refused while there are regions on a mount that would go, unless --force removes them.`,
		Args: argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := loadState(!dry && os.Geteuid() == 0)
			if err != nil {
				return err
			}
			defer st.close()
			if !dry && os.Geteuid() != 0 && len(st.Pools)+len(st.Mounts)+len(st.Owners) > 0 {
				return fmt.Errorf("%w: undoing what init did needs root; mend: sudo tilewire configure fini", ErrNotConfigured)
			}
			steps, err := finiSteps(st, force)
			if err != nil {
				return err
			}
			done, err := runSteps(steps, dry, "fini")
			if err == nil && !dry && os.Geteuid() == 0 {
				err = st.save()
			}
			v := struct {
				Actions []step `json:"actions"`
				DryRun  bool   `json:"dry_run"`
			}{done, dry}
			return errors.Join(emit(cmd, v, func(w io.Writer) {
				stepsText(w, done)
				if len(steps) == 0 {
					fmt.Fprintln(w, "nothing to undo")
				}
			}), err)
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print what would be done")
	cmd.Flags().BoolVar(&force, "force", false, "remove the regions on a mount that goes")
	addJSON(cmd)
	return cmd
}

// finiSteps undoes what st says, as far as it is still so. Each step takes its note out of the state.
func finiSteps(st *hostState, force bool) (steps []step, err error) {
	for _, o := range slices.Backward(slices.Clone(st.Owners)) {
		if s, ok := ownBackStep(st, o); ok {
			steps = append(steps, s)
		}
	}
	for _, m := range slices.Backward(slices.Clone(st.Mounts)) {
		s, err := unmountSteps(st, m, force)
		if err != nil {
			return nil, err
		}
		steps = append(steps, s...)
	}
	less := map[string]uint64{} // pages that earlier steps will have given back, by page size
	for _, p := range slices.Backward(slices.Clone(st.Pools)) {
		if s, ok := poolBackStep(st, p, less); ok {
			steps = append(steps, s)
		}
	}
	return steps, nil
}

// drop forgets x.
func drop[T comparable](st *hostState, list *[]T, x T) error {
	*list = slices.DeleteFunc(*list, func(y T) bool { return x == y })
	return st.save()
}

func ownBackStep(st *hostState, o ownerState) (step, bool) {
	var fi unix.Stat_t
	if unix.Stat(o.Dir, &fi) != nil || fi.Gid != o.GidAfter || fi.Mode&0o7777 != o.ModeAfter {
		st.Owners = slices.DeleteFunc(st.Owners, func(y ownerState) bool { return o == y })
		return step{}, false // somebody else's now
	}
	return step{
		What:    fmt.Sprintf("put group %d and mode %04o of %s back", o.GidBefore, o.ModeBefore, o.Dir),
		Command: fmt.Sprintf("chgrp %d %s && chmod %04o %s", o.GidBefore, o.Dir, o.ModeBefore, o.Dir),
		do: func(*step) error {
			if err := setOwner(o.Dir, o.GidBefore, o.ModeBefore); err != nil {
				return err
			}
			return drop(st, &st.Owners, o)
		},
	}, true
}

func unmountSteps(st *hostState, m mountState, force bool) (steps []step, err error) {
	rmdir := ""
	if m.MadeDir {
		rmdir = " && rmdir " + m.Dir
	}
	if _, ok := hugetlbfsAt(m.Dir); !ok {
		st.Mounts = slices.DeleteFunc(st.Mounts, func(y mountState) bool { return m == y })
		return nil, nil
	}
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return nil, fmt.Errorf("looking for regions: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) > 0 && !force {
		return nil, fmt.Errorf("%w: %s holds %s, which would go with it; mend: `tilewire shmem list` shows who is joined; end them and "+
			"`tilewire shmem unlink` it, or give --force", ErrInUse, m.Dir, strings.Join(names, ", "))
	}
	for _, n := range names {
		path := filepath.Join(m.Dir, n)
		steps = append(steps, step{"remove " + path, "rm " + path, func(*step) error { return os.RemoveAll(path) }})
	}
	return append(steps, step{
		What:    "unmount " + m.Dir,
		Command: "umount " + m.Dir + rmdir,
		do: func(*step) error {
			if err := unix.Unmount(m.Dir, 0); err == unix.EBUSY {
				return fmt.Errorf("%w: processes still use it; mend: `fuser -vm %s` shows them", ErrInUse, m.Dir)
			} else if err != nil {
				return fmt.Errorf("umount %s: %w", m.Dir, err)
			}
			if m.MadeDir {
				_ = os.Remove(m.Dir) // if others put something there, it stays
			}
			return drop(st, &st.Mounts, m)
		},
	}), nil
}

// poolBackStep takes from the pool what init added. What others changed since stays changed.
func poolBackStep(st *hostState, p poolState, less map[string]uint64) (step, bool) {
	pages := filepath.Base(filepath.Dir(p.File)) // the same for a node's part and the whole
	now, target, err := p.back(less[pages])
	if err != nil || target == now {
		st.Pools = slices.DeleteFunc(st.Pools, func(y poolState) bool { return p == y })
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
			return drop(st, &st.Pools, p)
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
