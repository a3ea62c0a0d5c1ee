package httpsrv

import "errors"

var (
	// ErrParams: Params (or an argument beside them) is out of its range; the text names the field, its value and the range.
	ErrParams = errors.New("httpsrv: parameter out of range")
	// ErrPortTaken: somebody listens at an address that is to be shared by tiles: another instance, or one of another user (EADDRINUSE).
	ErrPortTaken = errors.New("httpsrv: address is taken")
	// ErrAlign: the memory given does not start at a multiple of Align.
	ErrAlign = errors.New("httpsrv: memory is not aligned")
	// ErrMagic: the memory holds no server (never formatted, or deleted).
	ErrMagic = errors.New("httpsrv: no server in this memory")
	// ErrLayout: the memory holds a server of another layout version or hash; both are named.
	ErrLayout = errors.New("httpsrv: server of another layout")
	// ErrSize: the memory is smaller than the footprint, or than its header says.
	ErrSize = errors.New("httpsrv: memory too small")
	// ErrCorrupt: a bound in the memory contradicts its parameters.
	ErrCorrupt = errors.New("httpsrv: server memory is corrupt")
	// ErrJoined: Delete while a role is held; the holder is named.
	ErrJoined = errors.New("httpsrv: a role is still held")
	// ErrRole: the role (tile or producer) is held by another process or by another handle of this one.
	ErrRole = errors.New("httpsrv: role is taken")
	// ErrReadOnly: the operation writes, and the memory was joined read-only.
	ErrReadOnly = errors.New("httpsrv: joined read-only")

	// ErrTooLarge: the message does not fit the ring even when it is empty, or is beyond Stage.Limit. Sticky until the next send or Unstage.
	ErrTooLarge = errors.New("httpsrv: message too large")
	// ErrBusy: a tile was in the middle of a send from the bytes to be reused for longer than the
	// producer's bound. Sticky until the next send or Unstage; nothing was overwritten, and a retry may pass.
	ErrBusy = errors.New("httpsrv: ring space is in use by a send for longer than the bound")
	// ErrStaged: a response's body is staged in an application's reply ring and waits for its head: answer with it
	// before anything else is staged. Sticky; the body is dropped with the send that reports it.
	ErrStaged = errors.New("httpsrv: a response body is staged, and its response not given yet")
	// ErrConn: the connection is closed, is no WebSocket, or never was.
	ErrConn = errors.New("httpsrv: no such connection")
	// ErrNoArea: the ring has no area for this kind of message (a reply ring has no broadcast area).
	ErrNoArea = errors.New("httpsrv: ring has no such area")
	// ErrOpcode: the opcode is neither OpText nor OpBinary.
	ErrOpcode = errors.New("httpsrv: opcode is not a data opcode")
	// ErrClosed: the handle was released before.
	ErrClosed = errors.New("httpsrv: handle is closed")
	// ErrStatic: no static body of this name, no room for another one, or another one under the same name.
	ErrStatic = errors.New("httpsrv: static body")
	// ErrNoHistory: the position asked for is no longer (or not yet) in the ring.
	ErrNoHistory = errors.New("httpsrv: position is not in the ring")
)
