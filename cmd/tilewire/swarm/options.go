package swarm

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Mode says how much of each message is verified.
type Mode uint8

const (
	ModeFull Mode = iota // seq, length, order and every byte of the filler
	ModeSeq              // seq, length and order; cheap enough for tens of millions of messages per second
)

// String returns "full" or "seq", "unknown" for anything else.
func (m Mode) String() string {
	switch m {
	case ModeFull:
		return "full"
	case ModeSeq:
		return "seq"
	}
	return "unknown"
}

// Options say what Run does. Only Addr and Clients are needed. Run ends when Duration has passed,
// UntilSeq is reached, every client that counts has ended, or its context is done.
type Options struct {
	Addr    string // server, "127.0.0.1:8080" or "[::1]:8080"
	Path    string // request target; default "/ws"
	Clients int    // healthy, stalling and slow ones together, 1 or more
	Size    int    // payload length wanted in bytes, PrefixSz or more; 0 takes any
	Mode    Mode

	Idle     int    // further clients that only upgrade; dialled in between the others
	IdlePath string // request target of the idle ones; default Path

	StallClients int           // so many of Clients stop reading ...
	StallAfter   uint64        // ... after this number of messages each
	SlowClients  int           // so many of Clients read ...
	SlowBytes    int           // ... at most this number of bytes ...
	SlowInterval time.Duration // ... per interval (default 10 ms)

	Warmup   time.Duration // from the moment all are connected until counting begins
	Duration time.Duration // length of the counted window; 0: no bound
	UntilSeq uint64        // ends when every healthy client has this seq; 0: no bound

	ConnectTimeout time.Duration // for all upgrades together; default 60 s
	ConnectPending int           // handshakes in flight at most; default 512
	StallWait      time.Duration // at the end: wait so long until the server has ended all stalling clients or the context is done; 0: do not
	CloseWait      time.Duration // at the end: send close 1000 and wait so long for the answers; 0: just close
	Source         int           // first source address: 127.0.0.(1+Source); for several processes against one port
	RecvBuf        int           // SO_RCVBUF in bytes; 0: the kernel's

	Subprotocol string // Sec-WebSocket-Protocol; empty: none
	// Hello is a binary message that all but the idle clients send after the upgrade; they count as connected
	// when the first frame has come in answer. nil: none.
	Hello []byte
	// Unwrap takes the next message out of a frame's payload, for servers with an envelope of their
	// own; nil: the payload is the message. A nil msg means 'something else', an empty rest ends the frame, ok
	// false that the frame is torn. It must not allocate.
	Unwrap func(frame []byte) (msg, rest []byte, ok bool)

	// The callbacks run on Run's thread and hold it up; nil: none.
	OnReady    func(connected int) // all clients are connected (or have ended)
	OnWindow   func()              // counting begins
	OnProgress func(min uint64)    // the lowest last seq of all healthy clients has risen; called once per wake-up at most
	OnTick     func(Tick)          // once per TickEvery from OnReady on
	OnEnd      func()              // counting has ended, connections still stand
	TickEvery  time.Duration       // default 1 s
}

// Tick is what OnTick is told.
type Tick struct {
	Elapsed    time.Duration // since all were connected
	Deliveries uint64        // messages that healthy clients got since then
	Open       int           // clients connected now, of any role
	Ended      int           // clients that ended, of any role
	Min        uint64        // lowest last seq of the healthy clients, 0 = nothing yet
	Faults     uint64        // sum of all faults so far
}

// withDefaults checks o and fills in what was left out. It returns the server's address too.
func (o Options) withDefaults() (Options, netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(o.Addr)
	if err != nil {
		return o, ap, fmt.Errorf("%w: address %q is not IP:PORT", ErrOptions, o.Addr)
	}
	for _, r := range []struct {
		name     string
		v        int
		low, top int
	}{
		{"clients", o.Clients, 1, 1 << 20},
		{"idle", o.Idle, 0, 1 << 20},
		{"stalling plus slow clients", o.StallClients + o.SlowClients, 0, o.Clients},
		{"stalling clients", o.StallClients, 0, o.Clients},
		{"slow clients", o.SlowClients, 0, o.Clients},
		{"slow bytes", o.SlowBytes, min(o.SlowClients, 1), recvBufSz},
		{"source", o.Source, 0, 253},
		{"connections in flight", o.ConnectPending, 0, 1 << 16},
	} {
		if r.v < r.low || r.v > r.top {
			return o, ap, fmt.Errorf("%w: %s is %d, not %d to %d", ErrOptions, r.name, r.v, r.low, r.top)
		}
	}
	if o.Size != 0 && (o.Size < PrefixSz || o.Size > maxFrameSz) {
		return o, ap, fmt.Errorf("%w: size is %d, not 0 or %d to %d", ErrOptions, o.Size, PrefixSz, maxFrameSz)
	}
	if o.Mode > ModeSeq {
		return o, ap, fmt.Errorf("%w: mode is %d", ErrOptions, o.Mode)
	}
	if len(o.Hello) > 65535 {
		return o, ap, fmt.Errorf("%w: hello of %d bytes, more than 65535", ErrOptions, len(o.Hello))
	}
	def(&o.Path, "/ws")
	def(&o.IdlePath, o.Path)
	def(&o.SlowInterval, 10*time.Millisecond)
	def(&o.ConnectTimeout, time.Minute)
	def(&o.ConnectPending, 512)
	def(&o.TickEvery, time.Second)
	return o, ap, nil
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// checkDescriptors holds the clients against RLIMIT_NOFILE; 64 are left for the rest of the process.
func checkDescriptors(clients int) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("%w: RLIMIT_NOFILE cannot be read: %w", ErrDescriptors, err)
	}
	if need := uint64(clients) + 64; need > lim.Cur {
		return fmt.Errorf("%w: %d clients need %d, RLIMIT_NOFILE is %d (hard %d); mend: ulimit -n %d, as root if that is above the hard limit, or fewer clients",
			ErrDescriptors, clients, need, lim.Cur, lim.Max, need)
	}
	return nil
}
