package ctl

import (
	"math"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/shmem"
)

// backing holds the flags that say what pages a new region gets.
type backing struct {
	kind, page, mode string
	strict, mlock    bool
	gid              int64
}

// maxGid is the highest group: one more is chown's "leave it as it is".
const maxGid = math.MaxUint32 - 1

// flags adds them to cmd.
func (b *backing) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&b.kind, "backing", "auto", "where the pages come from: auto, hugetlbfs or shm")
	f.StringVar(&b.page, "page-size", "huge", "largest pages to use: normal (4K), huge (2M) or gigantic (1G)")
	f.BoolVar(&b.strict, "strict", false, "pages of exactly --page-size or an error, no fallback")
	f.BoolVar(&b.mlock, "mlock", false, "keep the pages from being swapped out")
	f.StringVar(&b.mode, "mode", "0600", "permissions of the region's file, octal")
	f.Int64Var(&b.gid, "gid", 0, "group of the region's file (0: yours)")
}

// options returns what the flags say. Errors: ErrUsage.
func (b *backing) options() (shmem.Options, error) {
	kind, err := shmem.ParseBacking(b.kind)
	o := shmem.Options{Backing: kind, Strict: b.strict, Mlock: b.mlock, Gid: int(b.gid)}
	if err != nil {
		return o, usagef("--backing %q is none of auto, hugetlbfs, shm", b.kind)
	}
	if b.gid < 0 || b.gid > maxGid {
		return o, usagef("--gid %d: 0 to %d", b.gid, int64(maxGid))
	}
	var named bool
	if o.MaxPageSize, named = shmem.ParsePages(b.page); !named {
		v, err := parseSize(b.page)
		if err != nil || v != shmem.PageNormal && v != shmem.PageHuge && v != shmem.PageGigantic {
			return o, usagef("--page-size %q is none of normal (4K), huge (2M), gigantic (1G)", b.page)
		}
		o.MaxPageSize = v
	}
	m, err := strconv.ParseUint(b.mode, 8, 32)
	if err != nil || m == 0 {
		return o, usagef("--mode %q is no octal number from 0600 to 0666", b.mode)
	}
	o.Mode = os.FileMode(m)
	return o, nil
}
