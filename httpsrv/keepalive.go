package httpsrv

import "github.com/tilewire/tilewire/httpsrv/h1"

// Keep-alive (RFC 9112 section 9.3) and pipelining (9.3.2). A connection holds
// its request buffer for as long as it lives:
//
//	base        done            done+left       end              base + MaxRequestLen
//	| answered  | this request  | next ones     | to be received |
//
// While a response is sent nothing is read, so that requests are answered in
// the order in which they came; then the request's end becomes done. Where it
// stands follows from rxPos alone: a successor that finds the response sent
// goes on as responded does.

// keeps reports whether the connection may live on after the response to h.
// The last quarter of the slots is for those who leave after one request, so
// that idle connections never keep a newcomer out.
func (t *NetTile) keeps(h *h1.Head) bool {
	return t.opt.KeepAlive && h.KeepAlive() && !t.draining && 4*uint64(t.httpNow) <= 3*uint64(t.srv.params.MaxConnectionCnt)
}

// anew has a connection whose response is sent await its next request, of which
// a part, or all, or more may be there.
func (t *NetTile) anew(slot uint32, c *conn) {
	rx := *c.rxNow()
	rx.done += rx.left
	rx.left, rx.scan = 0, 0
	if rx.done == rx.end {
		rx.base = rx.end
	}
	c.rxCommit(&rx)
	if c.fwd&fwVia != 0 {
		t.uncount(c)
		c.goBack()
		t.count(c)
	}
	step(ptAnswered)
	c.state = stRequest
	step(ptAnswered)
	c.flags &^= flKeep
	if rx.end > rx.done {
		t.setDeadline(slot, t.opt.RequestTimeout.Nanoseconds())
	} else {
		t.setDeadline(slot, t.opt.IdleTimeout.Nanoseconds())
	}
	if rx.end > rx.done || c.flags&(flMore|flPeerEOF) != 0 {
		t.later(slot)
	}
}

// wants reports whether more must be received before it can be told more of the request.
func (p *rxPos) wants() bool {
	have := p.end - p.done
	return have == 0 || have < p.left || p.left == 0 && p.scan != 0
}

// fill reads on into the request buffer. stop: nothing more now, or the
// connection is gone.
func (t *NetTile) fill(slot uint32, c *conn) (stop bool) {
	if !t.makeRoom(slot, c) {
		return true
	}
	rx := c.rxNow()
	room := t.req.buf(rx.buf)[rx.end-rx.base : t.srv.params.MaxRequestLen]
	n, stop := t.read(slot, room)
	if stop {
		return true
	}
	if rx.end == rx.done && rx.base == rx.done && rx.done > 0 { // was idle; behind a proxy's header it was not
		t.setDeadline(slot, t.opt.RequestTimeout.Nanoseconds())
		t.order.renew(queueHTTP, slot)
	} else if rx.left != 0 {
		t.bodyGrows(c)
	}
	rx.end += uint64(n)
	if n == len(room) || c.flags&flUrgent != 0 {
		c.flags |= flMore
	} else {
		c.flags &^= flMore // the socket is empty: the next byte brings an event
	}
	return false
}

// makeRoom moves a request that began in the middle of a full buffer to the
// start of another. Never within one: a move that the tile's death cuts short
// has harmed nothing. There is a spare one, for each connection holds one, and
// the move is over before another begins. A buffer takes a request of the
// greatest length allowed, and the parser refuses one that fills it.
func (t *NetTile) makeRoom(slot uint32, c *conn) bool {
	rx := *c.rxNow()
	if rx.end-rx.base < uint64(t.srv.params.MaxRequestLen) {
		return true
	}
	to := t.req.get()
	if to == 0 {
		t.cnt.Cell(cntBufWaits).Inc()
		t.refuse(slot, 503, CloseLimit)
		return false
	}
	from := rx.buf
	copy(t.req.buf(to), t.req.buf(from)[rx.done-rx.base:rx.end-rx.base])
	rx.base, rx.buf = rx.done, to
	c.rxCommit(&rx)
	t.putBuf(&t.req, &from)
	return true
}
