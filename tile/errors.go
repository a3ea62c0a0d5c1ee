package tile

import "errors"

var (
	// ErrMagic says that the memory bears no object of the kind that was joined: it was never formatted, was
	// deleted, or holds something else.
	ErrMagic = errors.New("tile: no such object in this memory")

	// ErrLayout says that the object was formatted by a build with another version or layout of it.
	ErrLayout = errors.New("tile: object has another layout version")

	// ErrSize says that the memory is shorter than the object needs, or that a size or count in it is out of range.
	ErrSize = errors.New("tile: memory too short or size out of range")

	// ErrAlign says that the memory does not start on a multiple of 128 bytes.
	ErrAlign = errors.New("tile: memory is not aligned")

	// ErrHeld says that a live process holds the role of the tile, so that it can neither be taken nor deleted.
	ErrHeld = errors.New("tile: role is held by a live process")

	// ErrKind says that a tile's kind or id is not printable ASCII of 1 to 16 bytes, or out of range.
	ErrKind = errors.New("tile: bad kind or id")

	// ErrSignal says that a signal is unknown, or that the tile is not in a state to take it.
	ErrSignal = errors.New("tile: bad signal")

	// ErrNames says that counter names are empty, too long, not printable ASCII, double, or not those of the block.
	ErrNames = errors.New("tile: bad counter names")

	// ErrBell says that a bell's path is empty, too long, not a FIFO, or that the bell has no descriptor.
	ErrBell = errors.New("tile: bad bell")

	// ErrCPU says that a CPU list cannot be read, or names a CPU that this process may not use.
	ErrCPU = errors.New("tile: bad CPU list")

	// ErrLoop says that a Loop lacks a Poll function or a Cnc.
	ErrLoop = errors.New("tile: loop is incomplete")

	// ErrPanic says that a callback of a Loop panicked; the text holds the value and the stack.
	ErrPanic = errors.New("tile: panic in the run loop")
)
