// Command gws is the benchmark's server on lxzan/gws with its own Broadcaster.
package main

import (
	"log"
	"net"
	"net/http"
	"sync"

	"github.com/lxzan/gws"

	"github.com/tilewire/tilewire/scripts/bench/feed"
)

type handler struct {
	gws.BuiltinEventHandler
	mu    sync.Mutex
	conns map[*gws.Conn]struct{}
}

func (h *handler) OnOpen(c *gws.Conn) {
	if _, busy := c.Session().Load("busy"); busy {
		h.mu.Lock()
		h.conns[c] = struct{}{}
		h.mu.Unlock()
	}
}

func (h *handler) OnClose(c *gws.Conn, err error) {
	h.mu.Lock()
	delete(h.conns, c)
	h.mu.Unlock()
}

func (h *handler) publish(p []byte) {
	b := gws.NewBroadcaster(gws.OpcodeBinary, p)
	h.mu.Lock()
	for c := range h.conns {
		b.Broadcast(c) // an error means a closed connection, which OnClose removes
	}
	h.mu.Unlock()
	b.Close()
}

func main() {
	h := &handler{conns: map[*gws.Conn]struct{}{}}
	up := gws.NewUpgrader(h, &gws.ServerOption{Authorize: func(r *http.Request, session gws.SessionStorage) bool {
		if r.URL.Path == "/ws" {
			session.Store("busy", true)
		}
		return true
	}})
	handle := func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r)
		if err != nil {
			return
		}
		go c.ReadLoop() // so that net/http's buffers of this handler can go
	}
	feed.Main(func(ln net.Listener) func([]byte) {
		go func() { log.Fatal(http.Serve(ln, http.HandlerFunc(handle))) }()
		return h.publish
	})
}
