// Command gorilla is the benchmark's server on gorilla/websocket: prepared messages, a queue and a
// writing goroutine per client.
package main

import (
	"log"
	"net"
	"net/http"

	"github.com/gorilla/websocket"

	"github.com/tilewire/tilewire/scripts/bench/feed"
)

func main() {
	hub := feed.NewHub[*websocket.PreparedMessage]()
	up := websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024}
	handle := func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		if r.URL.Path == "/ws" {
			m := hub.Join()
			defer hub.Leave(m)
			go func() {
				defer c.Close()
				for p := range m.Queue {
					if c.WritePreparedMessage(p) != nil {
						return
					}
				}
			}()
		}
		for {
			if _, _, err := c.NextReader(); err != nil {
				return
			}
		}
	}
	feed.Main(func(ln net.Listener) func([]byte) {
		go func() { log.Fatal(http.Serve(ln, http.HandlerFunc(handle))) }()
		return func(p []byte) {
			m, err := websocket.NewPreparedMessage(websocket.BinaryMessage, p)
			if err != nil {
				log.Fatal(err)
			}
			hub.Publish(m)
		}
	})
}
