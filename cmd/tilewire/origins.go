package main

import (
	"log/slog"
	"sync/atomic"
	"time"
)

// refusedOrigins tells people of pages that were refused for their origin, with
// the flag that would allow them. A page may try as often as it likes: one line a
// second at most, and the tile never waits for the log.
type refusedOrigins struct {
	lines chan refusedOrigin
	more  atomic.Uint64 // that got no line
}

type refusedOrigin struct{ origin, host string }

func newRefusedOrigins(log *slog.Logger) *refusedOrigins {
	r := &refusedOrigins{lines: make(chan refusedOrigin, 1)}
	go func() {
		for l := range r.lines {
			attrs := []any{"origin", l.origin, "host", l.host, "allow_it_with", "--allow-origin " + l.origin}
			if n := r.more.Swap(0); n > 0 {
				attrs = append(attrs, "refused_besides", n)
			}
			log.Warn("websocket refused: origin not allowed", attrs...)
			time.Sleep(time.Second)
		}
	}()
	return r
}

// refused is called on the tile's thread.
func (r *refusedOrigins) refused(origin, host []byte) {
	if len(r.lines) == cap(r.lines) {
		r.more.Add(1)
		return
	}
	const most = 256 // a Host or Origin of any length may come
	select {
	case r.lines <- refusedOrigin{string(origin[:min(len(origin), most)]), string(host[:min(len(host), most)])}:
	default:
		r.more.Add(1)
	}
}
