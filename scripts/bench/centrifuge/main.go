// Command centrifuge is the benchmark's server on centrifugal/centrifuge: its own hub, queues and batching, with
// its protobuf protocol, which wraps each message (the load generator takes it off).
package main

import (
	"context"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/centrifugal/centrifuge"

	"github.com/tilewire/tilewire/scripts/bench/feed"
)

func main() {
	node, err := centrifuge.New(centrifuge.Config{ClientStaleCloseDelay: time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:   &centrifuge.Credentials{UserID: "bench"},
			Subscriptions: map[string]centrifuge.SubscribeOptions{"bench": {}},
		}, nil
	})
	if err := node.Run(); err != nil {
		log.Fatal(err)
	}
	h := centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		CheckOrigin:    func(*http.Request) bool { return true },
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: -1},
	})
	// The handler expects an authenticated request.
	handle := func(w http.ResponseWriter, r *http.Request) {
		ctx := centrifuge.SetCredentials(r.Context(), &centrifuge.Credentials{UserID: "bench"})
		h.ServeHTTP(w, r.WithContext(ctx))
	}
	feed.Main(func(ln net.Listener) func([]byte) {
		go func() { log.Fatal(http.Serve(ln, http.HandlerFunc(handle))) }()
		return func(p []byte) {
			if _, err := node.Publish("bench", p); err != nil {
				log.Fatal(err)
			}
		}
	})
}
