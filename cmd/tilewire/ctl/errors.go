package ctl

import (
	"errors"
	"fmt"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/wksp"
)

// ErrUsage: a verb was given arguments that mean nothing or exclude each other.
var ErrUsage = errors.New("usage")

// usageError is bad usage in words of its own; errors.Is finds ErrUsage.
type usageError struct{ text string }

func (e usageError) Error() string   { return e.text }
func (e usageError) Is(t error) bool { return t == ErrUsage }

func usagef(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// ExitCode returns the program's exit status for the error of a control verb: 2 bad usage, 3 the host has not the
// pages, limits or permissions that were asked for, 5 no such region or one of another layout, 1 any other.
func ExitCode(err error) int {
	is := func(all ...error) bool {
		for _, e := range all {
			if errors.Is(err, e) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return 0
	case is(ErrUsage, shmem.ErrBadName, shmem.ErrBadSize, shmem.ErrBadOption,
		wksp.ErrBadName, wksp.ErrParams, wksp.ErrAlign, wksp.ErrTag):
		return 2
	case is(ErrNotConfigured, shmem.ErrNoMemory, shmem.ErrNoPages, shmem.ErrMlock, shmem.ErrPermission):
		return 3
	case is(shmem.ErrNotFound, wksp.ErrMagic, wksp.ErrVersion, wksp.ErrLayout, instance.ErrNone, instance.ErrMany):
		return 5
	}
	return 1
}
