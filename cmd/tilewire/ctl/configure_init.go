package ctl

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
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
	if err := mountable(dir); err != nil {
		return err
	}
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
	if ram := memory(); want*wa.page > ram {
		return nil, fmt.Errorf("%w: %d pages of %s wanted, that is %s, and this host has %s of memory; mend: ask for less: --size", ErrNotConfigured,
			want, sizeText(wa.page), sizeText(want*wa.page), sizeText(ram))
	}
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

// memory is the host's memory in bytes, what is in huge pages included.
func memory() uint64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return math.MaxUint64
	}
	return uint64(si.Totalram) * uint64(si.Unit)
}

// reserve asks for the pages, and once more after memory was compacted. If they are too few, it gives back what it got: a pool
// that is too small for what it was made for only takes memory from others.
func reserve(wa *wanted, st *hostState, file string, before uint64) error {
	want := wa.pages()
	if err := st.raised(file, before, want); err != nil {
		return err
	}
	set := func(n uint64) (uint64, error) {
		err := os.WriteFile(file, []byte(strconv.FormatUint(n, 10)), 0)
		_, total, _, _ := wa.have()
		return total, err
	}
	got, err := set(want)
	if err == nil && got < want {
		_ = os.WriteFile("/proc/sys/vm/compact_memory", []byte("1"), 0) // to be had for nothing where it is not allowed
		got, err = set(want)
	}
	if got >= want {
		return nil
	}
	why := "memory is short or fragmented"
	if err != nil {
		why = err.Error()
	}
	now, _ := set(before)
	if err := st.raised(file, want, now); err != nil {
		return err
	}
	back := fmt.Sprintf("they were given back, there are %d as before", now)
	if now != before {
		back = fmt.Sprintf("of %d before there are %d now, `tilewire configure fini` gives back the rest", before, now)
	}
	return fmt.Errorf("%w: %d pages of %s wanted, the kernel gave %d: %s; %s; mend: ask for less, free memory and repeat it, or reserve at "+
		"boot: hugepages= on the kernel command line", ErrNotConfigured, want, sizeText(wa.page), got, why, back)
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

// mountable returns ErrUsage if dir, or what is there of the way to it, is no directory.
func mountable(dir string) error {
	at := dir
	for _, err := os.Lstat(at); errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR); _, err = os.Lstat(at) {
		at = filepath.Dir(at)
	}
	if fi, err := os.Stat(at); err != nil || !fi.IsDir() {
		return usagef("--mount %s: %s is no directory; mend: give a directory, or a name that is free", dir, at)
	}
	return nil
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
	if wa.perm&0o003 == 0o003 {
		return ", for everybody"
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
