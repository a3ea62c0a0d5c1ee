package swarm

// state of a client:
//
//	waiting -> dialing -> upgrading -> streaming -> closing -> ended
//	                                   |     ^ autopsy
//	                                   v     |
//	                                   stalled
//
// Each may go to ended at once; at the end of the run streaming goes to leaving.
type state uint8

const (
	waiting   state = iota // not dialled yet
	dialing                // connect in progress
	upgrading              // request sent, answer incomplete
	streaming
	stalled // does not read; an error or hang-up starts the autopsy: it reads on, to learn why
	closing // the server's close frame was answered; waits for the end of the stream
	leaving // the run is over and our close frame is out; what still comes does not count
	ended
)

// client is one connection: what must survive between two reads, and nothing more.
type client struct {
	fd      int32
	state   state
	role    Role
	autopsy bool // what is read now was left behind by a stalled one that the server ended
	started bool // last holds a seq
	arrived bool // counted as connected

	// The frame in progress, when a read ended in its midst.
	body    bool     // header complete
	fin     bool     // its FIN bit
	op      byte     // its opcode
	hn      uint8    // bytes in hdr
	pn      uint8    // bytes in prefix
	inMsg   bool     // a data message has begun and its last frame is not complete
	badFill bool     // a wrong byte was seen in the message in progress
	hdr     [10]byte // server frames carry no mask, so 10 bytes at most
	prefix  [PrefixSz]byte
	left    uint64 // payload bytes of the frame still to come
	pos     uint64 // payload bytes of the message seen

	last uint64 // seq of the last message
	msgs uint64 // messages
	part []byte // control payload, upgrade answer, or (Unwrap) message in progress; kept once grown
	ctl  []byte // control payload in the midst of a fragmented message
}

// midFrame says whether the stream stands inside a frame or message.
func (c *client) midFrame() bool { return c.hn > 0 || c.body || c.inMsg }
