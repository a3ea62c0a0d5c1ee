package wksp

import (
	"errors"
	"fmt"
)

var (
	// ErrParams: New or Footprint was given a partMax or dataMax out of range.
	ErrParams = errors.New("wksp: parameters out of range")
	// ErrBadName: a name is not 1 to 40 of letters, digits, '.', '_', '-', '/', starting with a letter or digit.
	ErrBadName = errors.New("wksp: bad name")
	// ErrSize: an allocation of 0 bytes was asked for, or memory is smaller than the workspace says or needs.
	ErrSize = errors.New("wksp: bad size")
	// ErrAlign: an alignment is not a power of 2 up to MaxAlign, or the memory does not start at a multiple of Align().
	ErrAlign = errors.New("wksp: bad alignment")
	// ErrTag: the tag 0 was given; it marks what is free.
	ErrTag = errors.New("wksp: tag must not be 0")
	// ErrNoSpace: no free partition has room for the size at the alignment.
	ErrNoSpace = errors.New("wksp: no free partition is large enough")
	// ErrNoPart: there is room for the data, but no idle row in the partition table to describe the split.
	ErrNoPart = errors.New("wksp: partition table is full")
	// ErrExists: the name is taken, or New was given memory that holds a workspace (Delete it first).
	ErrExists = errors.New("wksp: exists")
	// ErrNotFound: no allocation at that gaddr, or none of that name.
	ErrNotFound = errors.New("wksp: not found")
	// ErrBounds: a gaddr and length reach beyond their allocation, or memory is not of this workspace.
	ErrBounds = errors.New("wksp: out of bounds")
	// ErrMagic: the memory holds no workspace: never formatted, formatted halfway, or deleted.
	ErrMagic = errors.New("wksp: no workspace here")
	// ErrVersion: the workspace has another layout version than this program; both are named.
	ErrVersion = errors.New("wksp: other layout version")
	// ErrLayout: same version, but the layout hash differs; both are named.
	ErrLayout = errors.New("wksp: other layout hash")
	// ErrCorrupt: what the memory says contradicts itself. Rebuild mends it unless it is ErrDamaged.
	ErrCorrupt = errors.New("wksp: corrupt")
	// ErrDamaged: tagged rows are impossible, overlap, or are too many, so that nothing can be computed from them; the
	// text names the first. BadRows lists them, RebuildWithout drops some. It is an ErrCorrupt too.
	ErrDamaged = fmt.Errorf("%w: damaged", ErrCorrupt)
	// ErrDirty: an owner died in the middle of an operation; Check, Rebuild or the next mutation mends it.
	ErrDirty = errors.New("wksp: an operation was left unfinished")
	// ErrBusy: another owner held the lock for as long as the caller was ready to wait.
	ErrBusy = errors.New("wksp: busy")
	// ErrNotCheckpt: a file is no checkpoint of a workspace, or is none that one can be written to.
	ErrNotCheckpt = errors.New("wksp: not a checkpoint")
	// ErrCheckpt: a checkpoint is truncated, altered, or contradicts itself; the text says where.
	ErrCheckpt = errors.New("wksp: bad checkpoint")
	// ErrGeometry: what a checkpoint holds does not fit into this workspace at the gaddrs it had.
	ErrGeometry = errors.New("wksp: checkpoint does not fit")
	// ErrReadOnly: an operation that changes something was called on a read-only join.
	ErrReadOnly = errors.New("wksp: joined read-only")
	// ErrLeft: the join was left, or the workspace was deleted or formatted anew under it.
	ErrLeft = errors.New("wksp: no longer joined")
)

// errGone: an allocation of a checkpoint's table was freed before its bytes were copied. Callers never see it.
var errGone = errors.New("an allocation was freed meanwhile")

// errIndex: an index (list, stack or treap) is broken. The owner rebuilds and tries once more; callers never see it bare.
var errIndex = errors.New("broken index")
