package steer

import "errors"

// The errors of this package. Those of system calls wrap the errno as well, so that errors.Is finds both.
var (
	// ErrParams: an argument is out of its range; the text names it, its value and the range.
	ErrParams = errors.New("steer: parameter out of range")
	// ErrPermission: Load without CAP_BPF (EPERM). Nothing is steered then but by the kernel's hash, or by ClassicCPU.
	ErrPermission = errors.New("steer: loading a BPF program needs CAP_BPF")
	// ErrUnsupported: Load on a kernel that cannot: without bpf(2), or older than 5.14 (select-or-migrate).
	ErrUnsupported = errors.New("steer: this kernel cannot steer by BPF")
	// ErrMPTCP: Insert of an MPTCP socket (EOPNOTSUPP), which is what Go's net package makes by default.
	ErrMPTCP = errors.New("steer: MPTCP sockets cannot be steered")
	// ErrReusePort: Insert or ClassicCPU of a socket that was bound without SO_REUSEPORT (EINVAL).
	ErrReusePort = errors.New("steer: socket was bound without SO_REUSEPORT")
	// ErrNotListening: Insert of a socket before listen(2) (EINVAL).
	ErrNotListening = errors.New("steer: socket does not listen yet")
	// ErrTaken: Insert of a socket that stands in another slot, or in that of another Steering (EBUSY).
	ErrTaken = errors.New("steer: socket is steered already")
	// ErrSocket: the descriptor is no TCP socket, or the kernel refuses it for another reason.
	ErrSocket = errors.New("steer: socket cannot be steered")
	// ErrNotShared: Join of a descriptor that is not that of Steering.File.
	ErrNotShared = errors.New("steer: descriptor is no steering map")
	// ErrLayout: Join of a map of another layout version or size.
	ErrLayout = errors.New("steer: map of another layout")
)
