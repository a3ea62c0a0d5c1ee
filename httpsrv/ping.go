package httpsrv

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// The server's own pings. One goes to each WebSocket every PingInterval, between
// two frames, from the slot of its head buffer that the 101 had; the payload is
// the time, so that the pong tells the round trip. A client that is blocked gets
// none: what it has yet to take comes first, and WriteTimeout watches it.
//
// While a pong is awaited, any bytes from the client put its deadline off: in the
// middle of a long frame it cannot answer (RFC 6455 section 5.4). The pong itself
// must come all the same before the next ping goes.

// Classes of round trips that are counted, in µs; the last one has no bound.
var rttBounds = [rttClasses - 1]uint32{100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000}

const rttClasses = 11

// pingSlot is where the ping lies; the 101 is gone by then.
const pingSlot = ctlHead

// pingFirst sets the time of a new stream's first ping. Those who come at the
// same moment take slots one after the other, which Fibonacci hashing spreads
// evenly over the interval, for good: the next ones keep their distance.
func (t *NetTile) pingFirst(slot uint32, c *conn) {
	iv := t.opt.PingInterval.Nanoseconds()
	if iv <= 0 {
		return
	}
	part := int64((slot + c.gen.Load()) * 0x9e3779b1 >> 16) // of 65,536
	c.ping = t.now + iv/8 + iv/8*7*part>>16
	t.arm(slot, c)
}

// pingDue sends a ping, or closes a stream whose pong did not come.
func (t *NetTile) pingDue(slot uint32, c *conn) {
	switch {
	case c.state != stStream:
		c.ping = 0
	case c.pingAt != 0:
		t.pongDue(slot, c)
	case c.flags&flBlocked != 0 || c.slow != 0:
		c.ping = t.now + t.opt.PingInterval.Nanoseconds()/8
	default:
		t.sendPing(slot, c)
	}
}

func (t *NetTile) sendPing(slot uint32, c *conn) {
	if c.headBuf == 0 {
		if c.headBuf = t.head.get(); c.headBuf == 0 {
			t.cnt.Cell(cntBufWaits).Inc()
			c.ping = t.now + t.opt.PingInterval.Nanoseconds()/8
			return
		}
	}
	at := t.stamp()
	b := t.head.buf(c.headBuf)[pingSlot*ctlSlot:]
	n := ws.PutHeader(b, ws.OpPing, true, 4)
	binary.BigEndian.PutUint32(b[n:], at)
	c.ctlLen[pingSlot] = uint16(n + 4)
	c.slow |= slowCtl
	c.pingAt = at // a ping that goes is awaited; one that is awaited goes
	c.ping = t.now + t.opt.PongTimeout.Nanoseconds()
	t.touch(slot)
}

// stamp is the time in µs, never 0.
func (t *NetTile) stamp() uint32 { return max(uint32(t.now/1000), 1) }

// pingSent: the kernel has the whole ping.
func (t *NetTile) pingSent(slot uint32, c *conn) {
	t.cnt.Cell(cntPingsSent).Inc()
	c.ping = t.now + t.opt.PongTimeout.Nanoseconds()
	t.arm(slot, c)
}

// pongDue: the pong is missing. A client that we do not read from, or to which
// the ping itself could not go, is given more time.
func (t *NetTile) pongDue(slot uint32, c *conn) {
	gen := c.gen.Load()
	t.receive(slot) // the tile may have been late, not the client
	if c.gen.Load() != gen || c.state != stStream || c.pingAt == 0 || c.ping > t.now {
		return
	}
	if c.flags&(flWaitBuf|flMore|flBlocked) != 0 || c.evFlags&evWaits != 0 || c.ctlLen[pingSlot] != 0 || t.local[slot].again || t.local[slot].waitsReply {
		c.ping = t.now + t.opt.PongTimeout.Nanoseconds()
		return
	}
	t.closeSoon(slot, CodeNoPong, CloseNoPong.String(), CloseNoPong)
}

// alive: bytes came from the client.
func (t *NetTile) alive(c *conn) {
	if c.pingAt != 0 && c.ping != 0 {
		c.ping = t.now + t.opt.PongTimeout.Nanoseconds()
	}
}

// ponged takes a pong. One that answers no ping of ours is allowed, and means
// nothing (RFC 6455 section 5.5.3).
func (t *NetTile) ponged(slot uint32, c *conn, p []byte) {
	if c.pingAt == 0 || len(p) != 4 || binary.BigEndian.Uint32(p) != c.pingAt || c.ctlLen[pingSlot] != 0 {
		return
	}
	rtt := max(uint32(t.now/1000)-c.pingAt, 1)
	c.rttLast, c.pingAt = rtt, 0
	if c.rtt == 0 {
		c.rtt = rtt
	} else {
		c.rtt = uint32((7*uint64(c.rtt) + uint64(rtt) + 4) / 8)
	}
	class := 0
	for class < len(rttBounds) && rtt > rttBounds[class] {
		class++
	}
	t.cnt.Cell(cntPongs).Inc()
	t.cnt.Cell(cntRttUs).Add(uint64(rtt))
	t.cnt.Cell(cntRtt0 + class).Inc()
	if c.state == stStream && t.opt.PingInterval <= 0 { // turned off meanwhile
		c.ping = 0
	} else if c.state == stStream {
		c.ping = t.now + t.opt.PingInterval.Nanoseconds() - int64(rtt)*1000
		t.arm(slot, c) // it may be sooner than the pong's deadline was
	}
}

// RTT returns the round trip time of a WebSocket by the server's pings, smoothed
// (by 1/8 of each new one, as TCP does) and of the last pong. Both are 0 before the
// first pong. ErrConn: it is closed.
func (t *NetTile) RTT(id ConnID) (smoothed, last time.Duration, err error) {
	slot, ok := t.lookup(id)
	if !ok {
		return 0, 0, fmt.Errorf("%w: %v", ErrConn, id)
	}
	c := &t.conns[slot]
	return time.Duration(c.rtt) * time.Microsecond, time.Duration(c.rttLast) * time.Microsecond, nil
}
