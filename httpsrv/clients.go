package httpsrv

import (
	"net/netip"
	"time"
)

// Client is what anybody who is joined may know of a connection, without a role and
// in read-only memory too. It was the connection's own at one moment, field by field;
// the fields need not be of the same moment.
type Client struct {
	ID       ConnID
	State    string         // request, await, respond, upgrade, stream, closing or linger
	Peer     netip.AddrPort // zero: by a unix socket
	Opened   int64          // CLOCK_MONOTONIC ns of its accept
	Ws       bool           // the WebSocket handshake is done
	Ring     int            // followed; NoRing: none
	App      int            // application in another process that gets its events, -1: none
	Sent     uint64         // bytes given to the kernel
	Received uint64         // bytes taken from the kernel
	Pending  uint32         // messages of its own that wait for their turn
	Blocked  bool           // the kernel takes nothing more for it now
	RTT      time.Duration  // of its pings, smoothed; 0: not known yet
	Reason   CloseReason    // while State is closing or linger

	// How far it is behind the ring that it follows, by what the kernel has not yet been given. A client whose
	// descriptors were reused is at least so many messages behind.
	LagMessages uint64
	LagBytes    uint64 // ring bytes, frame headers and gaps at a wrap included; the ring's size at most
	LagTime     int64  // ns since the first message was published that it has not been given whole; 0: nothing waits
}

var connStates = [...]string{"free", "request", "respond", "upgrade", "stream", "closing", "linger", "await"}

// Clients calls f with each connection there is, by tile and slot, until f returns
// false. The Client is f's only until it returns. What a tile that died left is told as
// well: TileHeld says whether it lives. It reads shared memory and nothing else: the
// tiles take no note of it. Cost: a look at each slot, and log2(depth) descriptors of
// a ring for each client that is behind.
func (s *Server) Clients(f func(c *Client) bool) {
	views := s.ringViews()
	var c Client
	for tile := range s.conns {
		for slot := range s.conns[tile] {
			if s.client(views, tile, uint32(slot), &c) && !f(&c) {
				return
			}
		}
	}
}

// Client returns one connection, and whether there is (still) one of this id.
func (s *Server) Client(id ConnID) (c Client, ok bool) {
	if t := id.Tile(); t >= len(s.conns) || uint64(id.Slot()) >= uint64(len(s.conns[t])) {
		return c, false
	}
	ok = s.client(s.ringViews(), id.Tile(), id.Slot(), &c)
	return c, ok && c.ID == id
}

// ringView is where a ring stood when it was looked at. It is a reader that pins
// nothing and has no role: it may look at descriptors, never at a message's bytes.
type ringView struct {
	reader
	now int64
	ok  bool
}

// ringViews looks at all producers' rings.
func (s *Server) ringViews() []ringView {
	vs := make([]ringView, len(s.rings))
	for i := range vs {
		v := &vs[i]
		v.r, v.now = s.rings[i], sys.now()
		var m message
		for range 100 { // without a pin it may be lapped while it reads
			v.seen = v.r.hdr.head.Load()
			if v.ok = v.r.read(v.seen, &m); v.ok {
				v.end = m.end[areaBroadcast]
				break
			}
		}
	}
	return vs
}

// client reads a slot. The tile may be changing it: what was read counts if the slot
// had the same connection before and afterwards. A tile frees a slot by its state,
// fills it with the next connection, stores that one's generation, and then its state:
// whoever has read anything of the next one finds one or the other changed.
func (s *Server) client(views []ringView, tile int, slot uint32, to *Client) bool {
	c := &s.conns[tile][slot]
	gen := c.gen.Load()
	state := c.state
	if gen == 0 || state == stFree || int(state) >= len(connStates) {
		return false
	}
	flags, reason, app, ring := c.flags, c.reason, c.app, c.ring
	*to = Client{
		ID: connID(gen, tile, slot), State: connStates[state], Opened: c.opened, Ring: NoRing, App: int(app) - 1,
		Ws: flags&flWs != 0, Blocked: flags&flBlocked != 0, Pending: c.pendCnt, RTT: time.Duration(c.rtt) * time.Microsecond,
		Received: c.rx[c.rxGen&1].end,
	}
	peer, port := c.peer, c.peerPort
	p, cursor := s.place(c)
	if to.Sent = p.pos; state == stClosing || state == stLinger {
		to.Reason = min(reason, closeReasonCnt)
	}
	if peer != ([16]byte{}) || port != 0 {
		to.Peer = netip.AddrPortFrom(netip.AddrFrom16(peer).Unmap(), port)
	}
	if ring >= 0 && int(ring) < len(views) && (state == stStream || state == stClosing) {
		to.Ring = int(ring)
		views[ring].lag(cursor, to)
	}
	return c.state != stFree && c.gen.Load() == gen
}

// place returns what byte the connection goes on with, and its cursor in the ring.
func (s *Server) place(c *conn) (p txPos, cursor uint64) {
	for range 4 { // a flip between the loads may have taken halves of two
		n := c.txGen
		p, cursor = c.tx[n&1], c.cursor
		if c.txGen == n {
			break
		}
	}
	if p.src() == srcRing {
		cursor = p.off()
	}
	return p, cursor
}

// lag says how far cursor is behind the ring. Whatever cursor is: no more than the ring holds.
func (v *ringView) lag(cursor uint64, to *Client) {
	if !v.ok || cursor >= v.end { // or moved on since the ring was looked at
		return
	}
	to.LagBytes = min(v.end-cursor, v.r.size[areaBroadcast])
	var m message
	first := v.r.oldest(v.seen)
	if v.find(cursor, &m) {
		first = m.seq
		if m.end[areaBroadcast] == cursor {
			first++ // it has that one whole
		}
	}
	to.LagMessages = v.seen + 1 - first
	if v.r.read(first, &m) {
		to.LagTime = max(v.now-m.time, 0)
	}
}

// RingTail returns the sequence number of the oldest message that a client could still
// be given, Head + 1 if there is none, and when it was published (CLOCK_MONOTONIC ns, 0: none).
func (s *Server) RingTail(ring int) (Seq, int64) {
	r := s.rings[ring]
	var m message
	for range 100 {
		v := reader{r: r, seen: r.hdr.head.Load()}
		lo, hi := r.oldest(v.seen), v.seen+1
		limit := r.hdr.limit[areaBroadcast].Load()
		for lo != hi {
			mid := lo + (hi-lo)/2
			if mid == r.hdr.seq0 || !r.read(mid, &m) || m.start() < limit {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		if lo == v.seen+1 {
			return Seq(lo), 0
		}
		if r.read(lo, &m) {
			return Seq(lo), m.time
		}
	}
	return Seq(r.hdr.head.Load() + 1), 0
}
