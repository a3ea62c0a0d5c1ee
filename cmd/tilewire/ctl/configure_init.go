package ctl

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// configuredJSON is what init and fini print.
type configuredJSON struct {
	Actions    []step `json:"actions"` // done, or to be done if dry_run
	DryRun     bool   `json:"dry_run"`
	PageSize   uint64 `json:"page_size"`
	PagesTotal uint64 `json:"pages_total"`
	PagesFree  uint64 `json:"pages_free"`
	Mount      string `json:"mount"`
}

func configureInitCmd() *cobra.Command {
	var wa wanted
	var dry bool
	cmd := &cobra.Command{
		Use: "init", Short: "Reserve huge pages, mount hugetlbfs, set permissions",
		Long: `Makes sure that there are --size bytes in huge pages, that a hugetlbfs of them is mounted, and that --group may make regions in it. Each
action is printed with the command it amounts to; what is there already is left alone. Needs root, but for --dry-run.
It holds until the next boot: hugepage.md says how to make it last.`,
		Example: "  sudo tilewire configure init --size 1G\n  tilewire configure init --size 4G --page-size gigantic --group web --dry-run",
		Args:    argCount(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := wa.resolve(); err != nil {
				return err
			}
			return configureInit(cmd, &wa, dry)
		},
	}
	wa.flags(cmd)
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print what would be done")
	return cmd
}

func configureInit(cmd *cobra.Command, wa *wanted, dry bool) error {
	st, err := loadState(!dry && os.Geteuid() == 0)
	if err != nil && !errors.Is(err, fs.ErrPermission) { // who only looks need not know what was done
		return err
	}
	defer st.close()
	var steps []step
	reserve, err := reserveStep(wa, st)
	if err != nil {
		return err
	}
	steps = append(steps, reserve...)
	dir, mounted := wa.findMount()
	if mounted {
		own, err := ownStep(wa, dir, st)
		if err != nil {
			return err
		}
		steps = append(steps, own...)
	} else {
		steps = append(steps, mountStep(wa, dir, st))
	}
	done, err := runSteps(steps, dry, "init"+wa.args())
	_, total, free, _ := wa.have()
	v := configuredJSON{done, dry, wa.page, total, free, dir}
	return errors.Join(emit(cmd, v, func(w io.Writer) {
		stepsText(w, done)
		switch {
		case err != nil || dry && len(done) > 0:
		case len(done) == 0:
			fmt.Fprintf(w, "nothing to do: %d of %d pages of %s are free, mounted on %s\n", free, total, sizeText(wa.page), dir)
		default:
			fmt.Fprintf(w, "done: %d of %d pages of %s are free, mounted on %s; `tilewire configure fini` undoes it\n", free, total, sizeText(wa.page), dir)
		}
	}), err)
}

// reserveStep raises the pool to what is wanted; no step if it is large enough.
func reserveStep(wa *wanted, st *hostState) ([]step, error) {
	p, total, _, err := wa.have()
	if err != nil || total >= wa.pages() {
		return nil, err
	}
	file, want := p.File(wa.node), wa.pages()
	where := ""
	if wa.node >= 0 {
		where = fmt.Sprintf(" of node %d", wa.node)
	}
	return []step{{
		What:    fmt.Sprintf("reserve %d pages of %s%s, there were %d", want, sizeText(wa.page), where, total),
		Command: fmt.Sprintf("echo %d > %s", want, file),
		do:      func(*step) error { return reserve(wa, st, file, total) },
	}}, nil
}

// reserve asks for the pages, and once more after memory was compacted. What it got is noted, were it too few.
func reserve(wa *wanted, st *hostState, file string, before uint64) error {
	want := wa.pages()
	if err := st.raised(file, before, want); err != nil {
		return err
	}
	set := func() (uint64, error) {
		err := os.WriteFile(file, []byte(strconv.FormatUint(want, 10)), 0)
		_, total, _, _ := wa.have()
		return total, err
	}
	got, err := set()
	if err == nil && got < want {
		_ = os.WriteFile("/proc/sys/vm/compact_memory", []byte("1"), 0) // to be had for nothing where it is not allowed
		got, err = set()
	}
	if got < want {
		if e := st.raised(file, want, got); e != nil {
			return e
		}
		return fmt.Errorf("%w: %d pages of %s wanted, the kernel gave %d (%v): memory is short or fragmented; mend: ask for less, free "+
			"memory and repeat it, or reserve at boot: hugepages= on the kernel command line", ErrNotConfigured, want, sizeText(wa.page), got, err)
	}
	return nil
}

// findMount returns the directory of the hugetlbfs to use, and whether it is mounted.
func (wa *wanted) findMount() (dir string, mounted bool) {
	if wa.mount != "" {
		page, ok := hugetlbfsAt(wa.mount)
		return wa.mount, ok && page == wa.page
	}
	for _, m := range shmem.Mounts() {
		if m.Hugetlbfs && m.PageSize == wa.page {
			return m.Dir, true
		}
	}
	dir = shmem.HugetlbfsDir(wa.page)
	page, ok := hugetlbfsAt(dir)
	return dir, ok && page == wa.page // mounted, but not among TILEWIRE_SHM_DIR
}

// hugetlbfsAt returns the page size of the hugetlbfs mounted on dir; ok is false if none is.
func hugetlbfsAt(dir string) (page uint64, ok bool) {
	var sfs unix.Statfs_t
	var in, up unix.Stat_t
	if unix.Statfs(dir, &sfs) != nil || sfs.Type != unix.HUGETLBFS_MAGIC || unix.Stat(dir, &in) != nil || unix.Stat(filepath.Join(dir, ".."), &up) != nil {
		return 0, false
	}
	return uint64(sfs.Bsize), in.Dev != up.Dev // a directory within such a mount is none itself
}

// mountStep mounts hugetlbfs on dir.
func mountStep(wa *wanted, dir string, st *hostState) step {
	gid := -1
	if wa.hasGid {
		gid = int(wa.gid)
	}
	opts, command := shmem.MountCommand(dir, wa.page, gid, uint32(wa.perm))
	made := missingLevels(dir)
	return step{
		What:    fmt.Sprintf("mount hugetlbfs with pages of %s on %s%s", sizeText(wa.page), dir, forWhom(wa)),
		Command: command,
		do: func(*step) error {
			if err := st.mounted(dir, made); err != nil {
				return err
			}
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("%w: %v", ErrNotConfigured, err)
			}
			if err := unix.Mount("none", dir, "hugetlbfs", unix.MS_NOSUID|unix.MS_NODEV, opts); err != nil {
				return fmt.Errorf("%w: mount: %v (a container needs CAP_SYS_ADMIN; mount the host's directory instead)", ErrNotConfigured, err)
			}
			return nil
		},
	}
}

// missingLevels is how many directories of dir have to be made.
func missingLevels(dir string) (n int) {
	for ; dir != filepath.Dir(dir); dir, n = filepath.Dir(dir), n+1 {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return n
}

func forWhom(wa *wanted) string {
	if wa.hasGid {
		return fmt.Sprintf(", for group %d", wa.gid)
	}
	return ", for root alone (--group lets others in)"
}

// ownStep lets the group make regions in a mount that is there; no step if no group was named or it may already.
func ownStep(wa *wanted, dir string, st *hostState) ([]step, error) {
	var fi unix.Stat_t
	if err := unix.Stat(dir, &fi); err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrNotConfigured, dir, err)
	}
	if !wa.hasGid || groupMay(fi, uint32(wa.gid)) {
		return nil, nil
	}
	o := ownerState{Dir: dir, GidBefore: fi.Gid, GidAfter: uint32(wa.gid), ModeBefore: fi.Mode & 0o7777, ModeAfter: fi.Mode&0o7777 | 0o1070}
	return []step{{
		What:    fmt.Sprintf("let group %d make regions in %s", wa.gid, dir),
		Command: fmt.Sprintf("chgrp %d %s && chmod %04o %s", o.GidAfter, dir, o.ModeAfter, dir),
		do: func(*step) error {
			if err := st.owned(o); err != nil {
				return err
			}
			return setOwner(dir, o.GidAfter, o.ModeAfter)
		},
	}}, nil
}

// groupMay reports whether members of the group may create files in the directory of fi.
func groupMay(fi unix.Stat_t, gid uint32) bool {
	return fi.Gid == gid && fi.Mode&0o030 == 0o030 || fi.Gid != gid && fi.Mode&0o003 == 0o003
}

func setOwner(dir string, gid, mode uint32) error {
	if err := os.Chown(dir, -1, int(gid)); err != nil {
		return fmt.Errorf("%w: %v", ErrNotConfigured, err)
	}
	return unix.Chmod(dir, mode)
}
