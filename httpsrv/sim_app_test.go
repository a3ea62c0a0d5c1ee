//go:build explore

package httpsrv

import (
	"strconv"
	"strings"
)

// callbacks are the application of a tile: it answers, and checks that it is told of
// everything once and in order.
func (t *simTile) callbacks() Callbacks {
	w := t.w
	of := func(id ConnID) *simClient {
		if c := w.byID[id]; c != nil {
			return c
		}
		w.fail("a callback for connection %v, which was never opened", id)
		return nil
	}
	turn := func(id ConnID, from, to int, what string) {
		if t.life[id] != from {
			w.fail("%s(%v) in state %d, want %d", what, id, t.life[id], from)
		}
		if t.life[id] = to; to == 0 {
			delete(t.life, id)
		}
	}
	return Callbacks{
		Open: func(id ConnID) {
			turn(id, 0, 1, "Open")
			if w.byID[id] != nil {
				w.fail("connection %v is opened twice", id)
			}
			c := w.clients[t.t.conns[id.Slot()].peerPort]
			w.byID[id], c.id, c.opened = c, id, w.now
		},
		Close: func(id ConnID, why CloseReason) {
			turn(id, 1, 0, "Close")
			of(id).closed(why)
		},
		WsOpen: func(id ConnID) {
			turn(id, 1, 2, "WsOpen")
			of(id).role.(*simWs).begins(t.t.rd[0].seen - w.plan.seq0)
		},
		WsMessage: func(id ConnID, op byte, data []byte) {
			if t.life[id] != 2 {
				w.fail("WsMessage of %v in state %d", id, t.life[id])
			}
			t.message(id, of(id), op, data)
		},
		WsClose: func(id ConnID, why CloseReason) {
			turn(id, 2, 0, "WsClose")
			of(id).closed(why)
		},
		Request: func(q *Request) Response {
			if t.life[q.Conn] != 1 {
				w.fail("Request of %v in state %d", q.Conn, t.life[q.Conn])
			}
			return t.request(of(q.Conn), q)
		},
	}
}

// request is the application's answer.
func (t *simTile) request(c *simClient, q *Request) (resp Response) {
	if h, ok := c.role.(*simHTTP); ok {
		h.reached(q)
	} else {
		c.checkClient(0)
	}
	if c.app {
		if ws, ok := c.role.(*simWs); ok {
			ws.from = int(t.t.rd[0].seen - t.w.plan.seq0)
		}
		resp = Response{Forward: true}
		if h, ok := c.role.(*simHTTP); ok {
			h.reqs[h.calls-1].forwarded = t.w.steps
			if c.n%3 == 0 {
				resp.Status = 404 // as long as nobody is there
			}
		}
		return resp
	}
	n, _ := strconv.Atoi(strings.TrimPrefix(string(q.Query), "n="))
	switch string(q.Path) {
	case "/ws":
		return Response{UpgradeWebsocket: true, History: uint32(n)}
	case "/own":
		return Response{UpgradeWebsocket: true, Ring: NoRing}
	case "/page":
		return Response{StaticBody: t.body}
	case "/empty":
		return Response{Status: 204}
	case "/echo":
		return t.bodyOf(c, q.Body)
	case "/bytes":
		return t.bodyOf(c, simNoise[:n])
	}
	return Response{Status: 404}
}

func (t *simTile) bodyOf(c *simClient, b []byte) (resp Response) {
	st := t.t.Stage()
	_, _ = st.Write(b)
	if err := st.Body(&resp); err != nil {
		c.busy = true
		return Response{Status: 503}
	}
	return resp
}

// message is the application's answer to a message: mostly the same.
func (t *simTile) message(id ConnID, c *simClient, op byte, data []byte) {
	w, ws := t.w, c.role.(*simWs)
	ws.arrived(op, data)
	c.checkClient(0) // still
	nc := &t.t.conns[id.Slot()]
	done := nc.rxNow().done
	t.shield = func() bool { return nc.rxNow().done == done && nc.state == stStream }
	if w.chance(w.plan.reply) {
		st := t.t.Stage()
		if w.chance(0.5) {
			_, _ = st.WriteString("r")
			_, _ = st.Write(data)
		} else {
			st.Printf("r%s", data)
		}
		ws.replies = append(ws.replies, append([]byte{op, 'r'}, data...))
		if _, err := st.WsSend(id, op); err != nil {
			w.tell("reply to client %d: %v", c.n, err)
			ws.replies = ws.replies[:len(ws.replies)-1]
		}
	}
	if w.chance(0.003) && !w.calm {
		c.kicked = true
		_ = t.t.WsClose(id, CloseApplication)
	}
	if w.chance(0.001) && !w.calm {
		c.kicked = true
		_ = t.t.Close(id, CloseApplication)
	}
}

// kick closes somebody for the operator.
func (t *simTile) kick() {
	for _, c := range t.w.active {
		if c != nil && c.id != 0 && c.tile == t && t.life[c.id] == 2 {
			c.kicked = true
			t.w.tell("the operator kicks client %d", c.n)
			if t.w.chance(0.5) {
				_ = t.t.Close(c.id, CloseOperator)
			} else {
				_ = t.t.WsClose(c.id, CloseOperator) // it may be closing
			}
			return
		}
	}
}
