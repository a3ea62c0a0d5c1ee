package httpsrv

import (
	"encoding/binary"
	"sync/atomic"
	"unicode/utf8"

	"github.com/tilewire/tilewire/httpsrv/h1"
	"github.com/tilewire/tilewire/httpsrv/ws"
)

// appAnswer is what an application tells a tile about one connection, at the start
// of a message in its reply ring:
//
//	opResponse   answer, response head, body: ready for the wire
//	opUpgrade    answer, subprotocol
//	opClose      answer, text of the close frame
type appAnswer struct {
	pos     uint64 // of the request's event: the answer is to that one and to no later one
	tag     uint64
	static  Static
	ring    int32
	history uint32
	code    uint16 // of the close frame, 0: closed without one
	keep    bool   // the response's head says that the connection lives on
}

const (
	answerSz  = 48
	answerMax = 256                  // bytes of a subprotocol or a text
	respRoom  = answerSz + headBufSz // before a body, so that its head goes there without moving it
)

func (a *appAnswer) encode(b []byte) {
	_ = b[:answerSz]
	le := binary.LittleEndian
	le.PutUint64(b, a.pos)
	le.PutUint64(b[8:], a.tag)
	le.PutUint64(b[16:], a.static.off)
	le.PutUint64(b[24:], a.static.len)
	le.PutUint32(b[32:], uint32(a.ring))
	le.PutUint32(b[36:], a.history)
	le.PutUint64(b[40:], uint64(a.code))
	if a.keep {
		b[42] = 1
	}
}

func (a *appAnswer) decode(b []byte) {
	_ = b[:answerSz]
	le := binary.LittleEndian
	*a = appAnswer{
		pos: le.Uint64(b), tag: le.Uint64(b[8:]), static: Static{le.Uint64(b[16:]), le.Uint64(b[24:])},
		ring: int32(le.Uint32(b[32:])), history: le.Uint32(b[36:]), code: le.Uint16(b[40:]), keep: b[42] != 0,
	}
}

// prefix puts p right before the staged payload, which moves only if too little
// room was left before it, and returns the whole's offset and length. A staging
// error is reported by the publish that follows.
func (s *Stage) prefix(p []byte) (off, n uint64) {
	room, need := s.room, uint64(len(p))
	if !s.grow(max(need, room) - room) {
		return s.start, 0
	}
	at, d := s.r.phys(s.area, s.start), s.r.data[s.area]
	if need > room {
		copy(d[at+need:at+need+s.n], d[at+room:at+room+s.n])
		room = need
	}
	copy(d[at+room-need:], p)
	return s.start + room - need, need + s.n
}

// walkedTo tells the applications' stages how far their reply rings were taken
// over, once everything was sent that the clients take now.
func (t *NetTile) walkedTo() {
	for i := range t.ports {
		p := &t.ports[i]
		if to := t.rd[t.replyRing()+1+i].walking.end[areaSide]; to != p.walked {
			p.walked = to
			p.q.hdr.walked.Store(to)
		}
	}
}

// answered takes an application's answer off its reply ring. It counts only for
// a connection of that application that awaits it.
func (t *NetTile) answered(slot uint32, c *conn, m *message) bool {
	var a appAnswer
	var text [answerMax]byte
	rd := t.rd[t.walked]
	if c.app == 0 || int(c.app) != t.walked-t.replyRing() || m.len < answerSz {
		return false
	}
	n := min(int(m.len)-answerSz, answerMax)
	ok := rd.pinSide(m.off)
	if ok {
		b := rd.r.data[areaSide][rd.r.phys(areaSide, m.off):][:m.len]
		a.decode(b)
		copy(text[:], b[answerSz:answerSz+n])
	}
	rd.unpin()
	awaits := c.state == stAwait && c.evFlags&evWaits == 0 && a.pos == c.tag
	switch {
	case !ok:
		return false
	case m.op == opClose && a.code == 0:
		t.drop(slot, CloseApplication)
	case m.op == opClose && (c.state == stStream || c.state == stUpgrade):
		t.closeFor(slot, a.code, text[:n])
	case m.op == opUpgrade && awaits:
		t.upgradeFor(slot, c, &a, text[:n])
	case m.op == opUpgrade && c.state == stUpgrade && a.pos == c.tag: // a predecessor came so far
		c.tag = a.tag
	case m.op == opResponse && awaits:
		if a.static.len > 0 && (a.static.off > uint64(len(t.static)) || a.static.len > uint64(len(t.static))-a.static.off) {
			t.refuseAs(slot, 500, CloseInternal, h1.Served, c.flags&flHead != 0)
			return true
		}
		if t.enqueue(slot, int16(t.walked), m.off+answerSz, m.len-answerSz, 0) &&
			(a.static.len == 0 || t.enqueue(slot, staticRing, a.static.off, uint32(a.static.len), 0)) {
			t.begin(slot, c, 0, a.keep && c.evFlags&evKeeps != 0, CloseOK)
		}
	default:
		return false
	}
	return true
}

// closeFor closes a WebSocket with the application's own code and text, after
// the messages that it was sent before.
func (t *NetTile) closeFor(slot uint32, code uint16, text []byte) {
	if !ws.ValidCloseCode(code) {
		code, text = CodeInternal, nil
	}
	if !utf8.Valid(text) {
		text = nil
	}
	t.closeSoon(slot, code, string(text), CloseApplication)
}

// upgradeFor answers the opening handshake that the connection still holds as
// the application says.
func (t *NetTile) upgradeFor(slot uint32, c *conn, a *appAnswer, protocol []byte) {
	_, all, ok := t.heldRequest(c)
	if !ok {
		t.refuse(slot, 500, CloseInternal)
		return
	}
	t.upgrade(slot, c, &t.appHead, all, &Response{
		UpgradeWebsocket: true, Ring: int(a.ring), History: a.history, Protocol: string(protocol),
	})
	if c.state == stUpgrade {
		step(ptAnswered)
		c.tag = a.tag // until then the tag tells that this answer is to its request
	}
}

// respHead is a response's head with a body of n bytes.
func respHead(r *Response, n uint64, date *[29]byte) h1.RespHead {
	rh := h1.RespHead{
		Status: r.Status, ContentLength: int64(n), Date: date,
		ContentType: r.ContentType, ContentEncoding: r.ContentEncoding, CacheControl: r.CacheControl, Location: r.Location,
		AllowOrigin: r.AllowOrigin, AllowMethods: r.AllowMethods, AllowHeaders: r.AllowHeaders, MaxAge: r.MaxAge,
		RetryAfter: r.RetryAfter, Allow: r.Allow, Extra: r.Extra,
	}
	if rh.Status == 0 {
		rh.Status = 200
	}
	if rh.Status == 405 && rh.Allow == 0 {
		rh.Allow = h1.Served
	}
	return rh
}

// walkedWords are the words in which tiles say how far they took an
// application's reply ring over.
func (s *Server) walkedWords(app int) ([]*atomic.Uint64, error) {
	var ws []*atomic.Uint64
	for i := range int(s.params.TileCnt) {
		q, err := s.queue(i, app)
		if err != nil {
			return nil, err
		}
		ws = append(ws, &q.hdr.walked)
	}
	return ws, nil
}
