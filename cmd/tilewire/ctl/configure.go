package ctl

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/shmem"
)

// ErrNotConfigured: the host has not the pages, mounts or permissions that configure was asked about or could not get;
// the text names what is short and the command that mends it.
var ErrNotConfigured = errors.New("host not configured")

// ErrInUse: fini would unmount what holds regions, or is mapped; the text names them.
var ErrInUse = errors.New("in use")

// ConfigureCmd returns the verbs that set a host up for huge pages. They are apart from running: nothing else of the
// program changes the host.
func ConfigureCmd() *cobra.Command {
	return family("configure", "Set this host up for huge pages, look how it is, undo it",
		`Sets a host up for huge pages: init reserves pages, mounts hugetlbfs and gives a group the right to use it; check looks, as any user; fini
undoes what init did, and that alone. Each action is printed with the shell command it amounts to. Init can be repeated: what is
there already stays as it is. What it did is kept in /run/tilewire/configure.state until fini or the next boot; scripts/hugepages.sh keeps
the same file, and either undoes what the other did.`,
		configureInitCmd(), configureCheckCmd(), configureFiniCmd())
}

// defaultPool is the memory reserved unless --size says otherwise: an instance of the default configuration, twice.
const defaultPool sizeFlag = 256 << 20

// wanted is what the host is to have.
type wanted struct {
	size      sizeFlag
	pageSize  string
	node      int
	mount     string
	group     string
	mode      string
	page, gid uint64
	hasGid    bool
	perm      uint64 // 0: shmem.MountCommand's
}

func (wa *wanted) flags(cmd *cobra.Command) {
	wa.size = defaultPool
	f := cmd.Flags()
	f.Var(&wa.size, "size", "memory in huge pages that there must be, what others use included")
	f.StringVar(&wa.pageSize, "page-size", "huge", "huge (2M) or gigantic (1G)")
	f.IntVar(&wa.node, "node", -1, "NUMA node to reserve the pages on (-1: spread over all)")
	f.StringVar(&wa.mount, "mount", "", "directory of the hugetlbfs mount (default: one that is mounted, else /dev/hugepages)")
	f.StringVar(&wa.group, "group", "", "group, by name or number, that may make regions there (default under sudo: yours)")
	f.StringVar(&wa.mode, "mode", "", "permissions of a mount that is made, octal (default 1770 with a group, else 0755)")
	addJSON(cmd)
}

// resolve reads the flags. Errors: ErrUsage.
func (wa *wanted) resolve() error {
	switch wa.pageSize {
	case "huge", "2M":
		wa.page = shmem.PageHuge
	case "gigantic", "1G":
		wa.page = shmem.PageGigantic
	default:
		return usagef("--page-size %q is none of huge (2M), gigantic (1G)", wa.pageSize)
	}
	if wa.size == 0 || uint64(wa.size) > shmem.MaxSize {
		return usagef("--size %d: 1 to %d bytes", uint64(wa.size), shmem.MaxSize)
	}
	var err error
	if wa.mount != "" { // fini may be given elsewhere
		if wa.mount, err = filepath.Abs(wa.mount); err != nil || strings.Contains(wa.mount, "\n") {
			return usagef("--mount %q is no directory to mount on (%v)", wa.mount, err)
		}
	}
	if wa.mode != "" {
		if wa.perm, err = strconv.ParseUint(wa.mode, 8, 32); err != nil || wa.perm > 0o1777 || wa.perm&0o700 != 0o700 {
			return usagef("--mode %q: octal, 0700 to 0777 or 1700 to 1777", wa.mode)
		}
	}
	name := wa.group
	if name == "" {
		if name = os.Getenv("SUDO_GID"); name == "0" {
			name = ""
		}
	}
	if wa.hasGid = name != ""; !wa.hasGid {
		return nil
	}
	if wa.gid, err = strconv.ParseUint(name, 10, 64); err == nil {
		if wa.gid > maxGid {
			return usagef("--group %s: 0 to %d", name, uint64(maxGid))
		}
		return nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return usagef("--group %q: %v", name, err)
	}
	wa.gid, err = strconv.ParseUint(g.Gid, 10, 32)
	return err
}

// pages is how many pages there must be.
func (wa *wanted) pages() uint64 { return (uint64(wa.size) + wa.page - 1) / wa.page }

// args is wa as flags, for mends.
func (wa *wanted) args() string {
	s := " --size " + strconv.FormatUint(uint64(wa.size)>>20, 10) + "M"
	if uint64(wa.size)%(1<<20) != 0 {
		s = " --size " + strconv.FormatUint(uint64(wa.size), 10)
	}
	if wa.page == shmem.PageGigantic {
		s += " --page-size gigantic"
	}
	if wa.node >= 0 {
		s += fmt.Sprintf(" --node %d", wa.node)
	}
	if wa.mount != "" {
		s += " --mount " + wa.mount
	}
	if wa.mode != "" {
		s += " --mode " + wa.mode
	}
	if gid := os.Getegid(); wa.hasGid {
		s += fmt.Sprintf(" --group %d", wa.gid)
	} else if gid != 0 {
		s += fmt.Sprintf(" --group %d", gid)
	}
	return s
}

// have returns the pool and how many pages of it count for wa: those of its node, or all. Errors: ErrNotConfigured.
func (wa *wanted) have() (p shmem.Pool, total, free uint64, err error) {
	p, ok := shmem.ReadPool(wa.page)
	if !ok {
		return p, 0, 0, fmt.Errorf("%w: this kernel has no %s pages; mend: use another --page-size", ErrNotConfigured, sizeText(wa.page))
	}
	if wa.node < 0 {
		return p, p.Total, p.Available(), nil
	}
	for _, n := range p.Nodes {
		if n.Node == wa.node {
			return p, n.Total, n.Free, nil
		}
	}
	return p, 0, 0, usagef("--node %d: this host has no such NUMA node", wa.node)
}

// step is one change of the host.
type step struct {
	What    string            `json:"what"`
	Command string            `json:"command"` // of a shell run by root, to the same effect
	do      func(*step) error // may say better what it did than could be foreseen
}

// stepsText writes what was done, or is to be done.
func stepsText(w io.Writer, steps []step) {
	for _, s := range steps {
		fmt.Fprintf(w, "%s\n    %s\n", s.What, s.Command)
	}
}

// runSteps does the steps until one fails, and returns those that were done. An ordinary user may only look.
func runSteps(steps []step, dry bool, verb string) (done []step, err error) {
	if dry || len(steps) == 0 {
		return append([]step{}, steps...), nil
	}
	if os.Geteuid() != 0 {
		return []step{}, fmt.Errorf("%w: %s needs root to %s; mend: sudo tilewire configure %s (--dry-run shows all of it)", ErrNotConfigured,
			verb, steps[0].What, verb)
	}
	done = []step{}
	for _, s := range steps {
		if err := s.do(&s); err != nil {
			return done, fmt.Errorf("%s: %w", s.What, err)
		}
		done = append(done, s)
	}
	return done, nil
}
