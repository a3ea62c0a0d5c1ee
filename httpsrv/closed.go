package httpsrv

import (
	"net/netip"
	"structs"
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
)

// closedCnt is how many of its last connections a tile remembers.
const closedCnt = 256

const (
	closedHdrSz = 128
	closedSz    = 96
)

// closedHdr heads a tile's record of the connections that it has closed; entry n is at n modulo closedCnt. writer: the tile
type closedHdr struct {
	_    structs.HostLayout
	head atomic.Uint64 // entries ever written
	_    [120]byte
}

// closedRec is one of them. writer: the tile, which clears seq, writes the rest, and stores seq.
type closedRec struct {
	_        structs.HostLayout
	seq      atomic.Uint64 // of the entry, from 1 on; 0: being written
	id       uint64
	opened   int64
	at       int64
	sent     uint64
	received uint64
	lagMsgs  uint64
	lagBytes uint64
	peer     [16]byte
	port     uint16
	ring     int16
	code     uint16
	reason   CloseReason
	flags    uint8
	_        [8]byte
}

// Closed is a connection that is gone, as it was at its end.
type Closed struct {
	ID       ConnID
	Peer     netip.AddrPort // zero: by a unix socket
	Opened   int64          // CLOCK_MONOTONIC ns of its accept
	At       int64          // and of its end
	Ws       bool           // the WebSocket handshake was done
	Ring     int            // followed; NoRing: none
	Sent     uint64         // bytes given to the kernel
	Received uint64         // bytes taken from the kernel
	Reason   CloseReason
	Code     uint16 // of the client's close frame, 0: it sent none

	// How far it was behind its ring, as of Client.
	LagMessages uint64
	LagBytes    uint64
}

// closedMem is a tile's part of them.
func (s *Server) closedMem(tile int) (*closedHdr, []closedRec) {
	off := s.tileOff(tile) + s.lay.closed
	recs, err := shmem.SliceAt[closedRec](s.mem, off+closedHdrSz, closedCnt)
	if err != nil {
		panic(err) // Join has checked the size
	}
	return shmem.MustAt[closedHdr](s.mem, off), recs
}

// Closed calls f with the connections that a tile has closed, the last one first, at most 256 of them, until f returns false. The
// Closed is f's only until it returns. Anybody who is joined may look, also in read-only memory; the tile takes no note of it.
func (s *Server) Closed(tile int, f func(c *Closed) bool) {
	h, recs := s.closedMem(tile)
	var c Closed
	for n, seq := 0, h.head.Load(); n < closedCnt && seq > 0; n, seq = n+1, seq-1 {
		r := &recs[(seq-1)%closedCnt]
		if r.seq.Load() != seq {
			continue // written anew meanwhile
		}
		c = Closed{
			ID: ConnID(r.id), Opened: r.opened, At: r.at, Ws: r.flags&1 != 0, Ring: int(r.ring), Sent: r.sent, Received: r.received,
			Reason: min(r.reason, closeReasonCnt), Code: r.code, LagMessages: r.lagMsgs, LagBytes: r.lagBytes,
		}
		if peer := r.peer; peer != ([16]byte{}) || r.port != 0 {
			c.Peer = netip.AddrPortFrom(netip.AddrFrom16(peer).Unmap(), r.port)
		}
		if r.seq.Load() == seq && !f(&c) {
			return
		}
	}
}

// noteClosed remembers a connection that ends.
func (t *NetTile) noteClosed(slot uint32, c *conn, why CloseReason) {
	seq := t.closed.head.Load() + 1
	r := &t.closedRecs[(seq-1)%closedCnt]
	r.seq.Store(0)
	p, cursor := t.srv.place(c)
	r.id, r.opened, r.at, r.sent, r.received = uint64(t.connID(slot)), c.opened, t.now, p.pos, c.rxNow().end
	r.peer, r.port, r.ring, r.code, r.reason, r.flags = c.peer, c.peerPort, NoRing, c.closeGot, why, 0
	r.lagMsgs, r.lagBytes = 0, 0
	if c.flags&flWs != 0 {
		r.flags = 1
	}
	if i := c.ring; i >= 0 && int(i) < int(t.srv.params.RingCnt) && (c.state == stStream || c.state == stClosing) {
		r.ring = i
		v := ringView{reader: *t.rd[i], now: t.now, ok: true}
		var l Client
		v.lag(cursor, &l)
		r.lagMsgs, r.lagBytes = l.LagMessages, l.LagBytes
	}
	r.seq.Store(seq)
	t.closed.head.Store(seq)
}
