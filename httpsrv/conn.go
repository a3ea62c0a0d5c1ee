package httpsrv

import (
	"fmt"
	"structs"
	"sync/atomic"
)

// ConnID names a connection for as long as it lives: generation, tile and slot.
// A slot's next connection has another generation, so that a late use of an id
// is noticed. 0 names none.
type ConnID uint64

func connID(gen uint32, tile int, slot uint32) ConnID {
	return ConnID(uint64(gen)<<32 | uint64(tile)<<24 | uint64(slot))
}

// Tile returns the network tile that holds the connection.
func (c ConnID) Tile() int { return int(c>>24) & 0xff }

// Slot returns the connection's slot in its tile.
func (c ConnID) Slot() uint32 { return uint32(c) & 0xffffff }

// Gen returns the slot's generation.
func (c ConnID) Gen() uint32 { return uint32(c >> 32) }

// String gives tile.slot.generation.
func (c ConnID) String() string { return fmt.Sprintf("%d.%d.%d", c.Tile(), c.Slot(), c.Gen()) }

// connState is where a connection stands.
//
//	free -> request [-> await] -> respond -> linger -> free
//	                                      -> request (keep-alive)
//	                           -> upgrade -> stream -> closing -> linger -> free
//
// Any state may end in free at once (reset, timeout).
type connState = uint8

const (
	stFree    connState = iota
	stRequest           // awaits a request
	stRespond           // a response is being sent
	stUpgrade           // the 101 is being sent
	stStream            // WebSocket, open
	stClosing           // WebSocket, stands at or before its close frame, or awaits the peer's
	stLinger            // all is sent and our side shut down; awaits the peer's end
	stAwait             // awaits the answer of an application in another process, its request held
	stStates
)

// What a connection has besides the plain stream; any bit set takes the slow way.
const (
	slowCtl   = 1 << iota // bytes in its head buffer wait or are being sent
	slowPend              // messages of its own wait
	slowStop              // the stream ends at stop
	slowMid               // the cursor may stand inside a frame
	slowState             // not (or no longer) streaming
)

const (
	flFresh     = 1 << iota // asked for history and got nothing yet: may begin later within it, up to stop
	flPeerClose             // the client's close frame was received
	flSentClose             // our close frame is queued or sent
	flHead                  // answer to HEAD: no body
	flWaitBuf               // awaits a buffer of a pool
	flPeerEOF               // the client has ended its side
	flMore                  // the socket may hold more to read
	flBlocked               // the last send left something over
	flWs                    // WsOpen was called, so that WsClose will be
	flStreams               // counts against MaxWsConnectionCnt
	flFailed                // the client broke the protocol: its close is not awaited
	flRetry                 // blocked for want of memory: to be tried again without an event
	flKeep                  // another request may follow the response being sent
	flUrgent                // an urgent byte came: a receive stops before it, and leaves more in the socket
)

// Where the bytes come from that a connection is sent (top 4 bits of txPos.at).
const (
	srcRing = iota // broadcast area, offset: cursor
	srcCtl         // head buffer, offset: slot<<16 + from the slot's start
	srcPend        // pending entries, offset: in the connection's own count
)

const srcShift = 60

// txPos says what byte the connection's TCP stream goes on with: pos is the
// number of bytes given to the kernel so far, at the source and offset of the
// next one. It is written beside the valid one, then txGen flips: a successor
// finds, from the kernel's count of bytes, the exact place.
type txPos struct {
	pos uint64
	at  uint64
}

// rxPos is the state of what is received. Offsets count the stream's bytes.
// Bytes lie in the receive buffer from base on (of a request: in buffer buf);
// end is stored after they are there; everything else changes by a flip of
// rxGen, but left and scan of a request, which can be found again.
type rxPos struct {
	base   uint64 // offset of the buffer's first byte
	end    uint64 // received up to
	done   uint64 // parsed up to; of a request: its first byte
	left   uint64 // payload bytes of the data frame in progress yet to come; length of the request, 0: not known
	msgLen uint32 // bytes of the message in progress
	key    [4]byte
	utf8   uint32
	scan   uint32 // request head: scanned up to, from its start
	phase  uint8  // of the mask
	msgOp  uint8  // opcode of the message in progress, 0: none
	fin    bool   // the frame in progress ends the message
	inData bool   // a data frame is in progress
	buf    uint32 // request buffer held, index+1, 0: none
}

// conn is a connection's state: all of it, but for the socket. writer: its tile
type conn struct {
	_ structs.HostLayout

	// The delivery pass touches this line only.
	gen      atomic.Uint32
	fd       int32
	tx       [2]txPos
	done     uint32 // broadcasts of its ring delivered when it was last caught up (reader.msgs)
	state    connState
	slow     uint8
	reason   CloseReason
	txGen    uint8
	flags    uint16
	ring     int16  // followed; NoRing: none
	pendHead uint32 // index+1 into the pending entries, 0: none
	tag      uint64 // cold: an application's own; until the connection streams, where its request's event is in the queue

	// Cold.
	rx       [2]rxPos
	rxGen    uint32
	pendTail uint32
	pendCnt  uint32
	app      uint8  // application in another process that gets its events, index+1; 0: the tile's own process
	evUnits  uint8  // heads that room is kept for in that application's queue
	evFlags  uint8  // evWaits, ...
	fwd      uint8  // fwHeader, ...
	headBuf  uint32 // buffers held, index+1, 0: none
	recvBuf  uint32
	msgBuf   uint32
	history  uint32           // messages from the past asked for at the upgrade
	cursor   uint64           // in the followed ring, while tx is elsewhere
	stop     uint64           // the stream ends here, a frame boundary; of one that does not stream, half of via
	insert   uint64           // frame boundary at which the head buffer's piece goes; or the other half
	pendEnd  uint64           // bytes ever put into its pending entries
	pendPos  uint64           // bytes of these sent, while tx is elsewhere
	ctlLen   [ctlSlots]uint16 // bytes in each slot of the head buffer
	deadline int64            // CLOCK_MONOTONIC ns at which it is closed, 0: none
	bound    int64            // the same, of a request's body in all and of a stream that is blocked
	ping     int64            // when the next ping goes, or, while pingAt != 0, when its pong is missing; 0: none
	opened   int64
	peer     [16]byte // the client's address, IPv4 as ::ffff:a.b.c.d; zero: none (unix socket)
	peerPort uint16   // 0: told by X-Forwarded-For
	closeGot uint16   // code of the client's close frame
	pingAt   uint32   // µs stamp of the ping whose pong is awaited, and its payload; 0: none
	rtt      uint32   // µs, smoothed; 0: not known yet
	rttLast  uint32
}

// evFlags
const (
	evWaits  = 1 << iota // its next event waits for room in the queue
	evClosed             // its close event is put, or about to be
	evKeeps              // another request may follow the one that an application answers
)

const (
	connSz    = 320
	pendingSz = 48

	// Slots of a connection's head buffer. A response head takes all of it;
	// of a WebSocket's the first holds the 101, and of the two for pongs one
	// may be half sent while the other holds the answer to the latest ping.
	ctlHead  = 0
	ctlPongA = 1
	ctlPongB = 2
	ctlClose = 3
	ctlSlots = 4
	ctlSlot  = headBufSz / ctlSlots
)

// pending is a message for one connection that waits for its turn.
type pending struct {
	_     structs.HostLayout
	next  uint32 // index+1
	ring  int16  // ring whose side area holds it; staticRing: a static body
	_     int16
	off   uint64 // in the area
	start uint64 // of its bytes in the connection's count (conn.pendEnd)
	after uint64 // broadcast offset of the followed ring that it comes after
	len   uint32
	_     [12]byte
}

const staticRing = -2

func (c *conn) pos() txPos { return c.tx[c.txGen&1] }

// commit makes p what the connection goes on with.
func (c *conn) commit(p txPos) {
	c.tx[(c.txGen+1)&1] = p
	c.txGen++
}

func (p txPos) src() uint64 { return p.at >> srcShift }
func (p txPos) off() uint64 { return p.at & (1<<srcShift - 1) }

func at(src, off uint64) uint64 { return src<<srcShift | off }

// rxNow returns the receive state in force.
func (c *conn) rxNow() *rxPos { return &c.rx[c.rxGen&1] }

// rxCommit makes p the receive state in force.
func (c *conn) rxCommit(p *rxPos) {
	c.rx[(c.rxGen+1)&1] = *p
	c.rxGen++
}
