package httpsrv

import "slices"

// SetOptions has a tile that serves go on with other options, without any of its connections noticing: the timeouts, the
// limits besides those of Params, the origins, the proxies, KeepAlive, OnFull. What needs memory of its own, or was taken into a socket,
// stays as it was: Callbacks, BellPath, SndBuf, Headroom, PollEvents, ReplyWait, Steering. A time that runs already runs to its end;
// those that begin from now on are the new ones. Who is over a limit that is new stays in. Between two Polls.
// Errors: ErrParams as of TakeTile; nothing is changed then.
func (t *NetTile) SetOptions(o TileOptions) error {
	old := t.opt
	o.Callbacks, o.BellPath, o.SndBuf, o.Headroom = old.Callbacks, old.BellPath, old.SndBuf, old.Headroom
	o.PollEvents, o.ReplyWait, o.Steering = old.PollEvents, old.ReplyWait, old.Steering
	if err := o.complete(&t.srv.params); err != nil {
		return err
	}
	t.opt = o
	if !t.draining {
		t.closeWithin = o.CloseTimeout
	}
	t.lagInit()
	if o.AcceptRate != old.AcceptRate {
		t.rate = bucket{rate: int64(o.AcceptRate)}
		for i := range t.listeners {
			t.listeners[i].retryAt = 0
		}
	}
	if o.MaxConnectionsPerIP > 0 != (old.MaxConnectionsPerIP > 0) || !slices.Equal(o.TrustedProxies, old.TrustedProxies) {
		t.recount()
	}
	if o.PingInterval != old.PingInterval {
		t.replanPings()
	}
	return nil
}

// replanPings spreads the pings of all streams over the new interval. Pongs that are awaited still are.
func (t *NetTile) replanPings() {
	for i := range t.conns {
		if c := &t.conns[i]; c.state == stStream && c.pingAt == 0 {
			c.ping = 0
			t.pingFirst(uint32(i), c)
		}
	}
}
