// Command coder is the benchmark's server on coder/websocket: a queue per client, written by the
// handler's goroutine.
package main

import (
	"log"
	"net"
	"net/http"

	"github.com/coder/websocket"

	"github.com/tilewire/tilewire/scripts/bench/feed"
)

func main() {
	hub := feed.NewHub[[]byte]()
	handle := func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer c.CloseNow()
		ctx := c.CloseRead(r.Context())
		if r.URL.Path != "/ws" {
			<-ctx.Done()
			return
		}
		m := hub.Join()
		defer hub.Leave(m)
		for {
			select {
			case p, ok := <-m.Queue:
				if !ok || c.Write(ctx, websocket.MessageBinary, p) != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
	feed.Main(func(ln net.Listener) func([]byte) {
		go func() { log.Fatal(http.Serve(ln, http.HandlerFunc(handle))) }()
		return hub.Publish
	})
}
