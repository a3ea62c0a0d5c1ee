//go:build explore

package httpsrv

import (
	"bytes"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// simMessage is a published message of the ring; its place in simWorld.log is
// its number from the sentinel on.
type simMessage struct {
	op   byte
	dest ConnID // 0: everybody
	data []byte
	sure bool // of one to one client: it streamed when this was published
}

// simStream is what a WebSocket client has got and may get: every byte is
// looked at when it comes, also of a frame that is not whole yet.
//
// at are the numbers of the messages that it may have got last. A client that
// joins with history may begin at any of some; each message that comes leaves
// those that it can follow. More than one is left where messages look the same.
type simStream struct {
	c       *simClient
	own     bool // follows no ring
	at      []int
	next    []int // scratch
	open    bool  // at are all from from on
	from    int   // the last message that was walked when it asked for the application, less the history
	join    int   // the last message published when it began to stream
	early   []int // messages to it alone that were published before: each may come, in this order
	replies [][]byte
	pings   [][]byte
	in      []byte
	ended   bool // by a close frame
	frames  int
}

// take looks at bytes.
func (st *simStream) take(b []byte) {
	st.in = append(st.in, b...)
	for len(st.in) > 0 {
		if st.ended {
			st.fail("%d bytes after the close frame: %s", len(st.in), simBytes(st.in))
		}
		var h ws.Header
		if !ws.ParseHeader(st.in, &h) {
			if op := st.in[0]; op != 0x80|OpText && op != 0x80|OpBinary && op != 0x80|ws.OpPong && op != 0x80|ws.OpPing && op != 0x80|ws.OpClose {
				st.fail("torn: a frame begins with %s", simBytes(st.in))
			}
			return
		}
		if !h.Fin || h.Rsv != 0 || h.Masked || h.HdrLen != ws.HeaderLen(h.Len) {
			st.fail("torn: frame header %+v of %s", h, simBytes(st.in))
		}
		body := st.in[h.HdrLen:]
		body = body[:min(uint64(len(body)), h.Len)]
		whole := uint64(len(body)) == h.Len
		st.frame(h.Op, body, int(h.Len), whole)
		if !whole {
			return
		}
		st.frames++
		st.in = st.in[:copy(st.in, st.in[h.HdrLen+len(body):])]
	}
}

func (st *simStream) fail(format string, args ...any) {
	w := st.c.w
	w.tell("client %d expects: messages after %v of %d, replies %d, pongs %d", st.c.n, st.at, len(w.log)-1, len(st.replies), len(st.pings))
	w.fail("client %d: "+format, append([]any{st.c.n}, args...)...)
}

// frame looks at the first bytes of a frame's payload, or all of it.
func (st *simStream) frame(op byte, body []byte, n int, whole bool) {
	switch op {
	case ws.OpPong: // the answer to any ping but those before one that was answered
		for i, p := range st.pings {
			if len(p) == n && bytes.HasPrefix(p, body) {
				if whole {
					st.pings = st.pings[i+1:]
				}
				return
			}
		}
		st.fail("pong %s answers none of %d pings", simBytes(body), len(st.pings))
	case ws.OpPing:
		if whole {
			st.c.out = append(st.c.out, st.c.role.(*simWs).frame(ws.OpPong, true, body)...)
		}
	case ws.OpClose:
		if whole {
			st.ended = true
			st.c.role.(*simWs).closedBy(body)
		}
	default:
		st.data(op, body, n, whole)
	}
}

// data: the next reply, or the next message of the ring.
func (st *simStream) data(op byte, body []byte, n int, whole bool) {
	if len(st.replies) > 0 && n > 0 {
		if r := st.replies[0]; r[0] == op && len(r)-1 == n && bytes.HasPrefix(r[1:], body) {
			if len(body) > 0 && whole {
				st.replies = st.replies[1:]
			}
			return
		}
	}
	for i, at := range st.early {
		if m := &st.c.w.log[at]; m.op == op && len(m.data) == n && bytes.HasPrefix(m.data, body) {
			if whole {
				st.early = st.early[i+1:]
			}
			return
		}
	}
	st.next = st.next[:0]
	st.opened()
	for _, last := range st.at {
		st.follow(last, func(at int) {
			m := &st.c.w.log[at]
			if m.op == op && len(m.data) == n && bytes.HasPrefix(m.data, body) && (len(st.next) == 0 || st.next[len(st.next)-1] < at) {
				st.next = append(st.next, at)
			}
		})
	}
	if len(st.next) == 0 {
		st.fail("frame %#x of %d bytes, %s, is neither the next message nor the next reply (torn, gap or out of order)", op, n, simBytes(body))
	}
	if whole {
		st.at, st.next, st.open = st.next, st.at, false
	}
}

// opened adds what was published meanwhile to where it may have begun.
func (st *simStream) opened() {
	for at := st.from; st.open && at < len(st.c.w.log); at++ {
		if at == st.from {
			st.at = st.at[:0]
		}
		st.at = append(st.at, at)
	}
}

// follow calls f for each message that may be the next one after last.
func (st *simStream) follow(last int, f func(at int)) {
	log := st.c.w.log
	for at := last + 1; at < len(log); at++ {
		m := &log[at]
		switch {
		case m.dest == 0 && !st.own:
			if f(at); !st.skips() {
				return
			}
		case m.dest == st.c.id && at > st.join:
			f(at)
			if m.sure {
				return
			}
		}
	}
}

// skips: it may miss messages.
func (st *simStream) skips() bool { return st.c.w.plan.onLag == SkipAhead && st.c.slow() }

// gone: the bytes of a message may be reclaimed, maybe for one that was dropped.
func (st *simStream) gone(at int) bool {
	var m message
	r := st.c.w.srv.rings[0]
	return !r.read(r.hdr.seq0+uint64(at), &m) || m.off < r.hdr.limit[areaBroadcast].Load()
}

// complete reports whether all has come that was published for it.
func (st *simStream) complete() bool {
	if len(st.in) > 0 || len(st.replies) > 0 || len(st.pings) > 0 {
		return false
	}
	st.opened()
	for _, last := range st.at {
		more := false
		st.follow(last, func(at int) {
			more = more || st.c.w.log[at].dest == 0 && !(st.skips() && st.gone(at)) || st.c.w.log[at].sure
		})
		if !more {
			return true
		}
	}
	return false
}
