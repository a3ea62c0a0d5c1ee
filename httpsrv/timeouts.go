package httpsrv

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/proxy"
)

// Defaults of TileOptions.
const (
	defaultSndBuf         = 256 << 10
	defaultRequestTimeout = 10 * time.Second
	defaultBodyTimeout    = 10 * time.Second
	defaultIdleTimeout    = 60 * time.Second
	defaultWriteTimeout   = 10 * time.Second
	defaultCloseTimeout   = time.Second
	defaultPingInterval   = 25 * time.Second
	defaultPongTimeout    = 10 * time.Second
	defaultAppTimeout     = 30 * time.Second
	defaultAppGrace       = 10 * time.Second
)

// bodyRate is what a request's body must bring on the whole, in bytes per
// second: one that drips just fast enough for BodyTimeout ends all the same.
const bodyRate = 1024

// complete fills in o's defaults. ErrParams: an option is out of its range.
func (o *TileOptions) complete(p *Params) error {
	for _, d := range []struct {
		name string
		v    time.Duration
	}{
		{"RequestTimeout", o.RequestTimeout}, {"BodyTimeout", o.BodyTimeout}, {"IdleTimeout", o.IdleTimeout},
		{"WriteTimeout", o.WriteTimeout}, {"CloseTimeout", o.CloseTimeout}, {"PongTimeout", o.PongTimeout}, {"MaxLag", o.MaxLag},
		{"AppTimeout", o.AppTimeout}, {"AppGrace", o.AppGrace},
	} {
		if d.v < 0 {
			return fmt.Errorf("%w: %s is %v, must not be negative", ErrParams, d.name, d.v)
		}
	}
	for _, n := range []struct {
		name   string
		v, top int
	}{{"MaxConnectionsPerIP", o.MaxConnectionsPerIP, 1 << 24}, {"AcceptRate", o.AcceptRate, 1e9}, {"OnFull", int(o.OnFull), int(EvictSlowest)}, {"OnLag", int(o.OnLag), int(SkipAhead)}} {
		if n.v < 0 || n.v > n.top {
			return fmt.Errorf("%w: %s is %d, must be 0 to %d", ErrParams, n.name, n.v, n.top)
		}
	}
	if err := CheckOrigins(o.AllowOrigins); err != nil {
		return err
	}
	var err error
	if o.trust, err = trustOf(o.ProxyProtocol, o.TrustedProxies); err != nil {
		return err
	}
	if o.ProxyProtocol != ProxyOff && p.MaxRequestLen < proxy.MinRoom {
		return fmt.Errorf("%w: MaxRequestLen is %d, must be %d at least with ProxyProtocol", ErrParams, p.MaxRequestLen, proxy.MinRoom)
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&o.RequestTimeout, defaultRequestTimeout)
	def(&o.BodyTimeout, defaultBodyTimeout)
	def(&o.IdleTimeout, defaultIdleTimeout)
	def(&o.WriteTimeout, defaultWriteTimeout)
	def(&o.CloseTimeout, defaultCloseTimeout)
	def(&o.PingInterval, defaultPingInterval)
	def(&o.PongTimeout, defaultPongTimeout)
	def(&o.AppTimeout, defaultAppTimeout)
	def(&o.AppGrace, defaultAppGrace)
	if o.SndBuf == 0 {
		o.SndBuf = defaultSndBuf
	}
	return nil
}

// due returns the earliest of a connection's deadlines, 0: it has none.
func (c *conn) due() int64 {
	d := c.deadline
	if c.bound != 0 && (d == 0 || c.bound < d) {
		d = c.bound
	}
	if c.ping != 0 && (d == 0 || c.ping < d) {
		d = c.ping
	}
	return d
}

// arm has the wheel look at slot when its earliest deadline has passed. A look
// too early costs nothing much, and puts it where it belongs; so a deadline that
// moved on is only written down.
func (t *NetTile) arm(slot uint32, c *conn) {
	if d := c.due(); d != 0 {
		t.wheel.sooner(slot, d)
	}
}

func (t *NetTile) setDeadline(slot uint32, ns int64) {
	c := &t.conns[slot]
	c.deadline = t.now + ns
	t.arm(slot, c)
}

// timedOut is called once one of a connection's deadlines may have passed.
func (t *NetTile) timedOut(slot uint32) {
	c := &t.conns[slot]
	if c.state == stFree {
		return
	}
	gen := c.gen.Load()
	if c.ping != 0 && c.ping <= t.now {
		t.pingDue(slot, c)
	}
	if c.state != stFree && c.bound != 0 && c.bound <= t.now {
		t.boundDue(slot, c)
	}
	if c.state != stFree && c.deadline != 0 && c.deadline <= t.now {
		t.deadlineDue(slot, c)
	}
	if c.state != stFree && c.gen.Load() == gen {
		t.arm(slot, c)
	}
}

// deadlineDue: what the connection's state allows it is used up.
func (t *NetTile) deadlineDue(slot uint32, c *conn) {
	switch c.state {
	case stRequest:
		t.requestDue(slot, c)
	case stAwait:
		c.deadline = 0
		t.loseRequest(slot, c)
	case stRespond, stUpgrade:
		c.flags &^= flBlocked
		t.send(slot) // room may have come that was not seen yet
		if c.state != stRespond && c.state != stUpgrade || c.deadline > t.now {
			return
		}
		c.deadline = 0
		why := CloseTooSlow
		if c.state == stUpgrade {
			why = CloseTimeout
		}
		t.reset(slot, why)
	case stClosing:
		c.deadline = 0
		t.reset(slot, c.reason)
	case stLinger:
		c.deadline = 0
		t.orphan(c)
		t.drop(slot, c.reason)
	case stStream:
		c.deadline = 0
		t.holdsOn(slot, c)
	}
}

// requestDue: no whole head in time, or a body that came too slowly.
func (t *NetTile) requestDue(slot uint32, c *conn) {
	before, gen := c.rxNow().end, c.gen.Load()
	t.receive(slot) // the tile may have been late, not the client
	if c.gen.Load() != gen || c.state != stRequest {
		return
	}
	if c.rxNow().end != before && c.deadline > t.now && (c.bound == 0 || c.bound > t.now) {
		return
	}
	c.deadline, c.bound = 0, 0
	if rx := c.rxNow(); rx.end == rx.done || c.awaitsHeader() {
		t.drop(slot, CloseTimeout) // asked nothing: nothing to answer
		return
	}
	t.refuse(slot, 408, CloseTimeout)
}

// bodyBegins: the head is whole, and n bytes of the body are to come.
func (t *NetTile) bodyBegins(slot uint32, c *conn, n uint64) {
	c.bound = t.now + t.opt.BodyTimeout.Nanoseconds() + int64(n*1e9/bodyRate)
	t.setDeadline(slot, t.opt.BodyTimeout.Nanoseconds())
}

// bodyGrows: bytes of the body have come.
func (t *NetTile) bodyGrows(c *conn) { c.deadline = t.now + t.opt.BodyTimeout.Nanoseconds() }

// stalled notes that a client has bytes waiting, of which the kernel took n just
// now: without any for WriteTimeout it is closed.
func (t *NetTile) stalled(slot uint32, c *conn, n int) {
	end := t.now + t.opt.WriteTimeout.Nanoseconds()
	switch c.state {
	case stRespond, stUpgrade:
		if n > 0 {
			c.deadline = end
		}
	case stStream:
		if n > 0 || c.bound == 0 {
			c.bound = end
			t.arm(slot, c)
		}
	}
}

// boundDue: a body was too slow on the whole, or a stream took nothing for too long.
func (t *NetTile) boundDue(slot uint32, c *conn) {
	switch c.state {
	case stRequest:
		t.requestDue(slot, c)
	case stStream:
		c.flags &^= flBlocked
		t.send(slot) // room may have come that was not seen yet
		if c.state != stStream || c.bound == 0 || c.bound > t.now {
			return
		}
		c.bound = 0
		t.evict(slot)
	default:
		c.bound = 0
	}
}

// orphan leaves a socket that is about to be closed with bytes in its buffer to
// the kernel, which delivers them, for as long as the client takes any.
func (t *NetTile) orphan(c *conn) {
	_ = sys.setsockopt(int(c.fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(t.opt.WriteTimeout.Milliseconds()))
}
