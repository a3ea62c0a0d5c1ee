package httpsrv

import (
	"fmt"

	"github.com/tilewire/tilewire/httpsrv/h1"
	"github.com/tilewire/tilewire/shmem"
)

// find returns what is known of a connection of t, or the place for it; nil for
// one whose slot had a later connection in the queue.
func (t *appTile) find(id ConnID) *appConn {
	k := &t.known[id.Slot()]
	if k.id != id {
		if k.state != apUnknown && (id.Gen()-k.id.Gen())&0x7fffffff > 1<<30 {
			return nil
		}
		*k = appConn{id: id}
	}
	return k
}

// handle does what an event asks for. One that came before, told by connection
// and end offset, is dropped.
func (a *App) handle(t *appTile, e *event, payload []byte) {
	id := ConnID(e.conn)
	if id.Tile() >= len(a.tiles) || t != &a.tiles[id.Tile()] || int(id.Slot()) >= len(t.known) {
		a.corrupt++
		a.lastErr = fmt.Errorf("%w: event of connection %v", ErrCorrupt, id)
		return
	}
	k := t.find(id)
	if k == nil || k.state == apClosed && (e.kind != evRequest || e.end <= k.end) { // a later request: it was another application's meanwhile
		a.repeats++
		return
	}
	a.now = Event{Conn: id, End: e.end, Tag: e.tag}
	switch e.kind {
	case evRequest:
		if int64(e.pos-t.from) < 0 { // asked of a predecessor: the tile answers 503
			return
		}
		if k.state == apStreams || k.state != apUnknown && e.end <= k.end {
			a.repeats++
			return
		}
		a.request(k, e, payload)
	case evOpen:
		if k.state == apStreams {
			a.repeats++
			return
		}
		a.opened(k, e.tag, false)
		k.end = max(k.end, e.end)
	case evMessage:
		if k.state != apStreams { // its open was handled by a predecessor, and it is gone from the table by now
			a.opened(k, e.tag, true)
			a.now.Again, a.now.End = false, e.end
		}
		if e.end <= k.end {
			a.repeats++
			return
		}
		if a.cb.WsMessage != nil {
			a.cb.WsMessage(id, e.op, payload)
			a.stage.Unstage()
		}
		k.end = e.end
	case evClose:
		was := k.state
		k.state = apClosed
		switch {
		case was == apStreams && a.cb.WsClose != nil:
			a.cb.WsClose(id, e.reason)
		case (was == apIdle || was == apAwaits) && a.cb.Close != nil:
			a.cb.Close(id, e.reason)
		}
		a.stage.Unstage()
	}
}

func (a *App) opened(k *appConn, tag uint64, again bool) {
	k.state = apStreams
	a.now = Event{Conn: k.id, End: k.end, Tag: tag, Again: again}
	if a.cb.WsOpen != nil {
		a.cb.WsOpen(k.id)
		a.stage.Unstage()
	}
}

// request has the application answer. Its bytes are copied first, so that what
// was parsed stays what it was.
func (a *App) request(k *appConn, e *event, payload []byte) {
	raw := a.req[:min(len(payload), len(a.req))]
	shmem.SpecCopy(raw, payload)
	h, lim := &a.reqHead, h1.Limits{MaxRequest: len(a.req), MaxHead: len(a.req)}
	if (k.state == apUnknown || k.state == apClosed) && a.cb.Open != nil {
		k.state = apIdle
		a.cb.Open(k.id)
	}
	k.state, k.end, k.pos, k.head, k.keep = apAwaits, e.end, e.pos, false, e.keep != 0
	if _, v := h1.Parse(raw, 0, &lim, h); !v.OK() || h.Len+int(h.BodyLen()) > len(raw) { // the tile had found it whole
		a.corrupt++
		a.lastErr = fmt.Errorf("%w: request of connection %v", ErrCorrupt, k.id)
		a.give(k, &Response{Status: 500})
		return
	}
	k.head = h.Method == MethodHead
	r := &a.reqNow
	r.set(k.id, h, raw)
	resp := Response{Status: 404}
	if a.cb.Request != nil {
		a.stage.room0 = respRoom // what is staged now is most likely a body: its head goes before it
		a.stage.Unstage()
		resp = a.cb.Request(r)
	}
	if k.state == apAwaits && k.pos == e.pos && !resp.Later { // unless the callback used Respond, or Close
		a.give(k, &resp)
	}
	a.stage.room0 = roomShort
	a.stage.Unstage()
}

// give is respond; when that fails the client is told so, if anything can be.
func (a *App) give(k *appConn, r *Response) {
	err := a.respond(k, r)
	if err == nil {
		return
	}
	a.lastErr = err
	if a.respond(k, &Response{Status: 500}) != nil {
		k.state = apIdle // nobody will answer: the tile does, after AppTimeout
	}
}

// Respond answers a request that was put off (Response.Later). The body, if any,
// was staged and made r's by Stage.Body right before. Errors: ErrConn if no
// request of this connection awaits an answer (it may be gone); ErrParams for a
// response head that can't be written; ErrTooLarge and ErrBusy of the stage. After
// ErrBusy it may be tried again, with the body staged anew.
func (a *App) Respond(id ConnID, r *Response) error {
	k := a.awaits(id)
	if k == nil {
		a.stage.Unstage()
		return fmt.Errorf("%w: no request of %v awaits an answer", ErrConn, id)
	}
	return a.respond(k, r)
}

func (a *App) awaits(id ConnID) *appConn {
	if id == 0 || id.Tile() >= len(a.tiles) || int(id.Slot()) >= len(a.tiles[id.Tile()].known) {
		return nil
	}
	if k := &a.tiles[id.Tile()].known[id.Slot()]; k.id == id && k.state == apAwaits {
		return k
	}
	return nil
}

// respond publishes the answer to the request that k awaits one for.
func (a *App) respond(k *appConn, r *Response) error {
	s := a.stage
	body := uint64(0)
	switch {
	case r.staged && (s.err != ErrStaged || s.n != uint64(r.bodyLen)):
		s.Unstage()
		return fmt.Errorf("%w: the body is no longer what is staged", ErrStaged)
	case r.staged:
		s.err, body = nil, s.n
	default:
		s.Unstage()
		body = r.StaticBody.len
	}
	if r.Status == 205 { // RFC 9110 section 15.3.6: no content
		body = 0
	}
	a.answer = appAnswer{pos: k.pos}
	if r.UpgradeWebsocket {
		if len(r.Protocol) > answerMax || r.Ring < NoRing || r.Ring >= len(a.srv.rings) {
			s.Unstage()
			return fmt.Errorf("%w: subprotocol of %d bytes (up to %d), ring %d of %d", ErrParams, len(r.Protocol), answerMax, r.Ring, len(a.srv.rings))
		}
		a.answer.tag, a.answer.ring, a.answer.history = r.Tag, int32(r.Ring), r.History
		s.Unstage()
		return a.tell(k, opUpgrade, r.Protocol)
	}
	rh := respHead(r, body, a.today())
	if a.answer.keep = k.keep && !r.Close; a.answer.keep {
		rh.Conn = h1.ConnKeepAlive
	}
	head, ok := h1.AppendHead(a.out[answerSz:answerSz:respRoom], &rh)
	if !ok {
		s.Unstage()
		return fmt.Errorf("%w: a response head of more than %d bytes, or with what must not be in one", ErrParams, headBufSz)
	}
	switch {
	case k.head || body == 0 || h1.Bodyless(rh.Status):
		s.Trunc(0)
	case !r.staged:
		a.answer.static = r.StaticBody
	}
	a.answer.encode(a.out[:])
	off, n := s.prefix(a.out[:answerSz+len(head)])
	return a.sent(k, off, n, opResponse)
}

// tell publishes an answer with a text behind it.
func (a *App) tell(k *appConn, op byte, text string) error {
	a.answer.encode(a.out[:])
	n := answerSz + copy(a.out[answerSz:answerSz+answerMax], text)
	off, all := a.stage.prefix(a.out[:n])
	return a.sent(k, off, all, op)
}

func (a *App) sent(k *appConn, off, n uint64, op byte) error {
	if _, err := a.stage.publish(areaSide, off, n, uint64(k.id), op); err != nil {
		return err
	}
	if k.state == apAwaits {
		k.state = apIdle
	}
	return nil
}

// Close ends a connection of the application at once, whatever it is, without a
// response or a close frame. Its Close or WsClose callback comes when the tile
// has done it. ErrConn for an id that was never given out; ErrBusy.
func (a *App) Close(id ConnID) error { return a.end(id, 0, "") }

// WsClose ends a WebSocket of the application with a close frame of this code
// (RFC 6455 section 7.4; one that must not be sent becomes 1011) and text (UTF-8,
// at most 123 bytes are sent), after the messages sent to it before. Errors as of Close.
func (a *App) WsClose(id ConnID, code uint16, text string) error {
	if code == 0 {
		code = CodeNormal
	}
	return a.end(id, code, text)
}

func (a *App) end(id ConnID, code uint16, text string) error {
	if id == 0 || id.Tile() >= len(a.tiles) {
		return fmt.Errorf("%w: %v", ErrConn, id)
	}
	a.stage.Unstage()
	k := a.awaits(id)
	if k == nil {
		k = &appConn{id: id}
	}
	a.answer = appAnswer{code: code}
	return a.tell(k, opClose, text)
}
