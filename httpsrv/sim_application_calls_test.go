//go:build explore

package httpsrv

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// What the application is asked and told, each once and in order: but for what its process died
// in the middle of, which may come again (docs/application.md).

// simAsked is a request, as the application remembers it.
type simAsked struct {
	path string
	n    int
	body []byte
}

const simAppCode = 4100

func simTag(id ConnID) uint64 { return ^uint64(id) * 5 }

func (a *simApplication) callbacks() Callbacks {
	w := a.w
	turn := func(id ConnID, from, to int, what string) {
		a.settle()
		if w.byID[id] == nil || !w.byID[id].app {
			w.fail("%s(%v), which was never forwarded", what, id)
		}
		if a.life[id] != from {
			w.fail("the application: %s(%v) in state %d, want %d", what, id, a.life[id], from)
		}
		if a.life[id] = to; to == 0 {
			delete(a.life, id)
		}
		w.tell("the application: %s of client %d", what, w.byID[id].n)
	}
	return Callbacks{
		Open:  func(id ConnID) { turn(id, 0, 1, "Open") },
		Close: func(id ConnID, _ CloseReason) { turn(id, 1, 0, "Close") },
		WsOpen: func(id ConnID) {
			ev := a.a.Event()
			from := a.life[id] // unknown, if a predecessor answered its request
			if from == 2 {
				w.fail("the application: WsOpen(%v) twice", id)
			}
			turn(id, from, 2, "WsOpen")
			a.checkTag(ev)
		},
		WsMessage: func(id ConnID, op byte, data []byte) {
			turn(id, 2, 2, "WsMessage")
			a.message(w.byID[id], op, data)
		},
		WsClose: func(id ConnID, why CloseReason) {
			turn(id, 2, 0, "WsClose")
			if c := w.byID[id]; why == CloseOK && !c.rude && !c.kicked {
				if ws := c.role.(*simWs); ws.closing && (len(ws.sent) > 1 || len(ws.sent) == 1 && !ws.inMsg) {
					w.fail("client %d closed in order, and the application never got %d of its messages", c.n, len(ws.sent))
				}
			}
		},
		Request: func(q *Request) Response {
			if a.settle(); a.life[q.Conn] != 1 {
				w.fail("the application: Request of %v in state %d", q.Conn, a.life[q.Conn])
			}
			return a.request(w.byID[q.Conn], q)
		},
	}
}

func (a *simApplication) checkTag(ev Event) {
	if ev.Tag != simTag(ev.Conn) {
		a.w.fail("the application: an event of %v has tag %x", ev.Conn, ev.Tag)
	}
}

// request is answered at once or later. None comes twice, whoever dies: the tile answers what a predecessor did not.
func (a *simApplication) request(c *simClient, q *Request) Response {
	w, ev := a.w, a.a.Event()
	if ev.End <= c.handled {
		w.fail("the application: request of client %d that ends at %d comes again", c.n, ev.End)
	}
	c.handled = ev.End
	if h, ok := c.role.(*simHTTP); ok {
		h.forwarded(ev.End, q)
	}
	n, _ := strconv.Atoi(strings.TrimPrefix(string(q.Query), "n="))
	r := simAsked{string(q.Path), n, bytes.Clone(q.Body)}
	w.tell("the application is asked %s by client %d", q.Path, c.n)
	w.point(ptEvent)
	a.asked = c
	if w.chance(w.plan.app.lazy) {
		a.later = append(a.later, simLater{q.Conn, r})
		return Response{Later: true}
	}
	resp := a.answer(c, &r)
	if w.chance(0.3) {
		_ = a.a.Respond(q.Conn, &resp)
		w.point(ptEvent)
	}
	return resp
}

func (a *simApplication) answer(c *simClient, r *simAsked) (resp Response) {
	switch r.path {
	case "/ws":
		return Response{UpgradeWebsocket: true, History: uint32(r.n), Tag: simTag(c.id)}
	case "/own":
		return Response{UpgradeWebsocket: true, Ring: NoRing, Tag: simTag(c.id)}
	case "/page":
		return Response{StaticBody: a.w.tiles[0].body}
	case "/empty":
		return Response{Status: 204}
	case "/echo":
		return a.bodyOf(c, r.body)
	case "/bytes":
		return a.bodyOf(c, simNoise[:r.n])
	}
	return Response{Status: 404}
}

func (a *simApplication) bodyOf(c *simClient, b []byte) (resp Response) {
	st := a.a.Stage()
	_, _ = st.Write(b)
	if err := st.Body(&resp); err != nil {
		c.busy = true
		return Response{Status: 503}
	}
	return resp
}

// settle notes whose answer there was no place for.
func (a *simApplication) settle() {
	if a.a != nil && a.a.lastErr != nil && a.a.corrupt == 0 {
		a.w.tell("the application: answer to client %d: %v", a.asked.n, a.a.lastErr)
		a.asked.busy, a.a.lastErr = true, nil
	}
}

// message is answered, mostly.
func (a *simApplication) message(c *simClient, op byte, data []byte) {
	w, ws, ev := a.w, c.role.(*simWs), a.a.Event()
	a.checkTag(ev)
	if ev.End <= c.handled {
		if a.again[ev.Conn.Tile()] != (simEvent{ev.Conn, ev.End}) {
			w.fail("client %d: its message that ends at %d is handed over again, after %d", c.n, ev.End, c.handled)
		}
		delete(a.again, ev.Conn.Tile())
		return
	}
	c.handled = ev.End
	ws.arrived(op, data)
	w.point(ptEvent)
	if w.chance(w.plan.reply) {
		a.send(ws, op, append([]byte{'r'}, data...))
	}
	w.point(ptEvent)
	if w.chance(0.003) && !w.calm {
		c.kicked = true
		_ = a.a.WsClose(ev.Conn, simAppCode, "enough")
	}
	if w.chance(0.001) && !w.calm {
		c.kicked = true
		_ = a.a.Close(ev.Conn)
	}
}

// send sends a message to one client. If the process dies meanwhile, the ring tells whether it was sent.
func (a *simApplication) send(ws *simWs, op byte, data []byte) {
	st := a.a.Stage()
	_, _ = st.Write(data)
	ws.replies = append(ws.replies, append([]byte{op}, data...))
	a.w.tell("the application sends client %d %d bytes: %s", ws.c.n, len(data), simBytes(data))
	a.sending, a.head = ws, st.r.hdr.head.Load()
	_, err := st.WsSend(ws.c.id, op)
	if a.sending = nil; err != nil {
		a.w.tell("the application: message to client %d: %v", ws.c.n, err)
		ws.replies = ws.replies[:len(ws.replies)-1]
	}
}

// act is what it does unasked: answers to what it put off, and messages.
func (a *simApplication) act() {
	w := a.w
	for i := 0; i < len(a.later); {
		if !w.calm && !w.chance(0.2) {
			i++
			continue
		}
		l := a.later[i]
		a.later = append(a.later[:i], a.later[i+1:]...)
		c := w.byID[l.id]
		a.asked = c
		w.tell("the application answers client %d at last", c.n)
		resp := a.answer(c, &l.simAsked)
		if err := a.a.Respond(l.id, &resp); err != nil {
			w.tell("%v", err)
			if errors.Is(err, ErrBusy) { // tried again
				a.later = append(a.later, l)
				return
			}
		}
	}
	if c := w.active[w.rnd.IntN(len(w.active))]; !w.calm && c != nil && a.life[c.id] == 2 && w.chance(0.2) {
		a.send(c.role.(*simWs), OpText, fmt.Appendf(nil, "unasked %d", w.steps))
	}
}

// forwarded: the application has the request that ends there.
func (h *simHTTP) forwarded(end uint64, q *Request) {
	w, at := h.c.w, uint64(len(h.c.preface))
	for i := range h.reqs {
		if at += uint64(len(h.reqs[i].text)); at == end {
			if r := h.reqs[i].text; !h.asks(r, q) {
				w.fail("client %d: sent %q, the application got %v %s with body %s", h.c.n, r, q.Method, q.Path, simBytes(q.Body))
			}
			return
		}
	}
	w.fail("client %d: the application got a request that ends at %d, where none does", h.c.n, end)
}
