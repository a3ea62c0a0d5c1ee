package sandbox

import "errors"

var (
	// ErrHost says that the kernel, or the container that this runs in, offers no seccomp filter.
	ErrHost = errors.New("sandbox: no seccomp filter to be had")

	// ErrPrivileged says that a process that should have no privilege has some, or could get some.
	ErrPrivileged = errors.New("sandbox: privileges are left")

	// ErrRules says that rules cannot be made into a filter.
	ErrRules = errors.New("sandbox: bad rules")
)
