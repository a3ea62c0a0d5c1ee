package httpsrv

import (
	"bytes"

	"github.com/tilewire/tilewire/httpsrv/h1"
	"github.com/tilewire/tilewire/httpsrv/proxy"
	"github.com/tilewire/tilewire/httpsrv/ws"
)

// limits are those of the request parser.
func (t *NetTile) limits() h1.Limits {
	n := int(t.srv.params.MaxRequestLen)
	return h1.Limits{MaxRequest: n, MaxHead: n}
}

// readRequest reads until a request is whole, then answers it. What the last
// request of the connection left behind is looked at first.
func (t *NetTile) readRequest(slot uint32, c *conn) {
	lim, h := t.limits(), &t.reqHead
	for range receiveTurns {
		if c.rxNow().wants() && t.fill(slot, c) {
			return
		}
		if c.awaitsHeader() && !t.readHeader(slot, c) {
			if c.state != stRequest {
				return
			}
			continue
		}
		rx := c.rxNow()
		raw := t.req.buf(rx.buf)[rx.done-rx.base : rx.end-rx.base]
		if uint64(len(raw)) < rx.left { // the head is known, its body is not whole
			continue
		}
		next, v := h1.Parse(raw, int(rx.scan), &lim, h)
		switch {
		case v.Failed() && t.opt.ProxyProtocol != ProxyOff && proxy.Begins(raw):
			t.drop(slot, CloseProxyHeader) // of somebody who is no trusted proxy
			return
		case v.Failed():
			t.refuse(slot, int(v.Status), parseReasons[v.Reason])
			return
		case v.Incomplete():
			rx.scan = uint32(next)
			continue
		}
		first := rx.left == 0
		rx.left = uint64(h.Len) + uint64(h.BodyLen())
		if uint64(len(raw)) < rx.left {
			if h.Expect100 && first && len(raw) == h.Len && !t.sayContinue(slot, c) {
				return
			}
			if first {
				t.bodyBegins(slot, c, rx.left-uint64(len(raw)))
			}
			continue
		}
		if c.fwd&fwTrusted == 0 || t.clientOf(slot, c, h, raw) {
			t.request(slot, c, h, raw)
		}
		return
	}
	t.later(slot)
}

// sayContinue answers Expect: 100-continue (RFC 9110 section 10.1.1), unless
// the body is on its way already. A client that got none of it, because what
// was sent before fills the socket, sends its body after a while; one that got
// a part of it could not be answered any more. false: it is closed.
func (t *NetTile) sayContinue(slot uint32, c *conn) bool {
	n, _ := sys.send(int(c.fd), []byte(h1.Continue))
	p := c.pos()
	c.commit(txPos{p.pos + uint64(n), p.at})
	if n > 0 && n < len(h1.Continue) {
		t.reset(slot, CloseTooSlow)
		return false
	}
	return true
}

// request has the application answer a whole request.
func (t *NetTile) request(slot uint32, c *conn, h *h1.Head, raw []byte) {
	id := t.connID(slot)
	if t.makeWay(true); c.state != stRequest || t.connID(slot) != id {
		return
	}
	end := h.Len + int(h.BodyLen())
	if end > h.Len && t.repliesFull() { // its answer most likely has a body as well
		t.cnt.Cell(cntRejected).Inc()
		t.refuse(slot, 503, CloseLimit)
		return
	}
	r := &t.reqNow
	r.set(id, h, raw)
	resp := Response{Status: 404}
	if t.cb.Request != nil {
		t.stage.room0 = 0 // what is staged now is most likely a body
		t.stage.Unstage()
		t.slot.busy.Store(uint64(id))
		resp = t.cb.Request(r)
		t.slot.busy.Store(0)
		t.stage.room0 = roomShort
		t.stage.Unstage()
	}
	if c.state != stRequest || t.connID(slot) != id {
		return // the callback closed it
	}
	if t.rd[t.replyRing()].behind() {
		t.deliverRing(t.replyRing())
	}
	if resp.Forward {
		t.forward(slot, c, h, raw[:end], &resp)
		return
	}
	if resp.UpgradeWebsocket {
		t.upgrade(slot, c, h, raw, &resp)
		return
	}
	t.respond(slot, c, &resp, h.Method == MethodHead, !resp.Close && t.keeps(h))
}

// respond puts the response's head into the head buffer and its body behind it.
// keep: the connection lives on.
func (t *NetTile) respond(slot uint32, c *conn, r *Response, headOnly, keep bool) {
	n := r.StaticBody.len
	if r.staged {
		n = uint64(r.bodyLen)
	}
	if r.Status == 205 { // RFC 9110 section 15.3.6: no content
		n = 0
	}
	rh := respHead(r, n, t.today())
	if keep {
		rh.Conn = h1.ConnKeepAlive
	}
	if !t.headBuf(slot, c) {
		return
	}
	b, ok := h1.AppendHead(t.head.buf(c.headBuf)[:0:headBufSz], &rh)
	if !ok || n > 1<<31 || r.StaticBody.off+r.StaticBody.len > uint64(len(t.static)) {
		t.refuseAs(slot, 500, CloseInternal, h1.Served, headOnly)
		return
	}
	ok = true
	switch {
	case n == 0 || headOnly || h1.Bodyless(rh.Status):
	case r.staged:
		ok = t.enqueue(slot, int16(t.replyRing()), r.bodyOff, r.bodyLen, 0)
	default:
		ok = t.enqueue(slot, staticRing, r.StaticBody.off, uint32(n), 0)
	}
	if ok {
		t.begin(slot, c, len(b), keep, CloseOK)
	}
}

// refuse answers with an error of the server's own, and why.
func (t *NetTile) refuse(slot uint32, status int, why CloseReason) {
	t.refuseAs(slot, status, why, h1.Served, t.asksHead(&t.conns[slot]))
}

// asksHead reports whether what was received of a request begins as a HEAD: an
// answer to it, whatever else is wrong with it, has no body (RFC 9110 section 9.3.2).
func (t *NetTile) asksHead(c *conn) bool {
	rx := c.rxNow()
	if rx.buf == 0 {
		return false
	}
	raw := t.req.buf(rx.buf)[rx.done-rx.base : rx.end-rx.base]
	return bytes.HasPrefix(bytes.TrimLeft(raw, "\r\n"), []byte("HEAD "))
}

// refuseAs is refuse with the methods that a 405 or 501 names, and without a
// body in answer to HEAD.
func (t *NetTile) refuseAs(slot uint32, status int, why CloseReason, allow h1.MethodSet, headOnly bool) {
	c := &t.conns[slot]
	if !t.headBuf(slot, c) {
		return
	}
	r := h1.RespHead{Status: status, Date: t.today(), WsVersion: status == 426}
	switch {
	case status == 405 || status == 501:
		r.Allow = allow
	case status == 503 || status == 429:
		r.RetryAfter = 1
	}
	b, ok := h1.AppendError(t.head.buf(c.headBuf)[:0:headBufSz], &r, headOnly)
	if !ok {
		t.reset(slot, CloseInternal)
		return
	}
	t.begin(slot, c, len(b), false, why)
}

func (t *NetTile) headBuf(slot uint32, c *conn) bool {
	if c.headBuf == 0 {
		c.headBuf = t.head.get()
	}
	if c.headBuf == 0 {
		t.cnt.Cell(cntBufWaits).Inc()
		t.reset(slot, CloseLimit)
		return false
	}
	return true
}

// begin sends the head buffer's first n bytes as the response, and the messages
// that wait as its body. The state is stored last: until then a successor answers
// the request anew.
func (t *NetTile) begin(slot uint32, c *conn, n int, keep bool, why CloseReason) {
	c.ctlLen[ctlHead] = uint16(n)
	if c.flags &^= flKeep; keep {
		c.flags |= flKeep
	}
	c.reason, c.bound = why, 0
	c.slow |= slowCtl
	step(ptAnswered)
	c.state = stRespond
	step(ptAnswered)
	if !keep { // what else it has sent is not looked at
		t.putBuf(&t.req, &c.rxNow().buf)
	}
	t.setDeadline(slot, t.opt.WriteTimeout.Nanoseconds())
	t.touch(slot)
}

// responded: the whole response is with the kernel.
func (t *NetTile) responded(slot uint32, c *conn) {
	t.cnt.Cell(cntRequests).Inc()
	t.putBuf(&t.head, &c.headBuf)
	if c.flags&flKeep != 0 && !t.draining {
		t.anew(slot, c)
		return
	}
	t.putBuf(&t.req, &c.rxNow().buf)
	t.linger(slot, c)
}

// upgrade answers the opening handshake (RFC 6455 section 4.2).
func (t *NetTile) upgrade(slot uint32, c *conn, h *h1.Head, raw []byte, r *Response) {
	if v := h1.CheckUpgrade(h); v.Failed() {
		t.refuseAs(slot, int(v.Status), parseReasons[v.Reason], h1.Methods(MethodGet), h.Method == MethodHead)
		return
	}
	host, secure := c.askedHost(h, raw)
	switch {
	case !originAllowed(t.opt.AllowOrigins, h.Origin, host, secure):
		t.refuseOrigin(slot, h.Origin, host)
		return
	case len(raw) > h.Len:
		t.refuse(slot, 400, CloseBadRequest) // bytes before our answer are nobody's frames
		return
	case r.Protocol != "" && !ws.Offers(h.WsProtocol, r.Protocol): // the client would have to fail the connection
		t.refuse(slot, 500, CloseInternal)
		return
	case r.Ring < NoRing || r.Ring >= len(t.srv.rings):
		t.refuse(slot, 404, CloseInternal)
		return
	}
	gen, state := c.gen.Load(), c.state
	room := !t.draining && t.roomWs()
	if c.state != state || c.gen.Load() != gen {
		return // closed by the callback that was told of the end of one who was evicted
	}
	if !room {
		t.cnt.Cell(cntRejected).Inc()
		t.refuse(slot, 503, CloseLimit)
		return
	}
	if !t.headBuf(slot, c) {
		return
	}
	var accept [28]byte
	ws.Accept(h.WsKey, &accept)
	b, ok := h1.Append101(t.head.buf(c.headBuf)[:0:ctlSlot], &accept, r.Protocol, nil)
	if !ok {
		t.refuse(slot, 500, CloseInternal)
		return
	}
	c.ctlLen[ctlHead] = uint16(len(b))
	c.flags &^= flKeep
	c.ring, c.history, c.reason, c.bound = int16(r.Ring), r.History, CloseOK, 0
	c.slow |= slowCtl
	step(ptAnswered)
	c.state = stUpgrade // from here on a successor sends the 101, and has no request any more
	step(ptAnswered)
	c.fwd &^= fwVia // peer stays
	t.streams(slot, c)
	t.putBuf(&t.req, &c.rxNow().buf)
	step(ptAnswered)
	end := c.rxNow().end
	c.rxCommit(&rxPos{base: end, end: end, done: end})
	t.setDeadline(slot, t.opt.WriteTimeout.Nanoseconds())
	t.touch(slot)
}

// upgraded: the 101 is with the kernel, and the connection streams from what is
// published now, or from the history it asked for.
func (t *NetTile) upgraded(slot uint32, c *conn) {
	t.cnt.Cell(cntUpgrades).Inc()
	if c.ring >= 0 {
		rd := t.rd[c.ring]
		// What was published since the last walk comes with the next
		// pass, which this client is part of.
		c.commit(txPos{c.pos().pos, at(srcRing, rd.history(uint64(c.history)))})
		c.done = uint32(rd.msgs)
		if c.history > 0 { // may begin later within the history, see lost
			c.flags |= flFresh
			c.stop = rd.end
		}
	}
	c.slow &^= slowState
	step(ptAnswered)
	c.state = stStream // once it stands where it begins
	c.deadline = 0
	t.pingFirst(slot, c)
	if p := t.port(c); p != nil { // for this process it stays a connection that ends with Close
		c.flags |= flMore
		t.putOpen(slot, c, p)
		return
	}
	c.flags |= flWs | flMore
	if t.cb.WsOpen != nil {
		id := t.connID(slot)
		t.cb.WsOpen(id)
		t.afterCallback()
	}
}

// afterCallback takes what a callback sent to single clients off the reply ring.
func (t *NetTile) afterCallback() {
	t.stage.Unstage()
	if i := t.replyRing(); t.rd[i].behind() {
		t.deliverRing(i)
	}
}
