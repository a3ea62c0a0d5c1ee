package shmem

import "errors"

// The errors of this package. Each is returned wrapped once with the figures; test with errors.Is.
var (
	// ErrBadName: a region's name is not 1 to 40 of [a-z0-9._-] beginning with a letter or a digit.
	ErrBadName = errors.New("shmem: bad region name")
	// ErrBadSize: a size is 0, above MaxSize, or overflows when rounded up to pages.
	ErrBadSize = errors.New("shmem: bad size")
	// ErrBadOption: Options hold a page size, mode or backing that does not exist or excludes another option.
	ErrBadOption = errors.New("shmem: bad option")
	// ErrExists: Create found a region of this name on one of the mounts, or a name was found on two of them.
	ErrExists = errors.New("shmem: region exists")
	// ErrNotFound: no mount holds a region of this name.
	ErrNotFound = errors.New("shmem: no such region")
	// ErrNotRegion: the file under a region's name is no region: not a regular file, a symbolic link, empty,
	// not a multiple of its pages, or with holes (it would end in SIGBUS).
	ErrNotRegion = errors.New("shmem: not a region")
	// ErrNoMemory: pages are short: the text names what is needed, what is free, and the command that mends it.
	ErrNoMemory = errors.New("shmem: not enough memory")
	// ErrNoPages: Strict or BackingHugetlbfs asked for a page size that this host does not offer at all
	// (no mount of that page size, kernel without it); the text names the command that mends it.
	ErrNoPages = errors.New("shmem: no pages of this size")
	// ErrMlock: Options.Mlock was asked for and RLIMIT_MEMLOCK forbids it; the text has need, limit and mend.
	ErrMlock = errors.New("shmem: memory may not be locked")
	// ErrLocked: the byte is locked by somebody, perhaps by this process; the text names byte and holder.
	ErrLocked = errors.New("shmem: locked")
	// ErrJoined: Unlink without force of a region that processes are joined to; the text names their pids.
	ErrJoined = errors.New("shmem: region is joined")
	// ErrBounds: an offset or a length lies outside the memory it is applied to.
	ErrBounds = errors.New("shmem: out of bounds")
	// ErrAlign: an address or an alignment does not fit the type or is no power of two.
	ErrAlign = errors.New("shmem: misaligned")
	// ErrPointers: the type of At or SliceAt holds Go pointers, which mean nothing in another process.
	ErrPointers = errors.New("shmem: type holds pointers")
	// ErrReadOnly: a write lock was asked of memory that is joined read-only.
	ErrReadOnly = errors.New("shmem: joined read-only")
	// ErrPermission: the kernel refuses this user the file, the mount or the group.
	ErrPermission = errors.New("shmem: permission denied")
	// ErrLeft: the region was already left.
	ErrLeft = errors.New("shmem: region was left")
)
