// Command gobwas is the benchmark's server on gobwas/ws: frames compiled once, a queue and a writing
// goroutine per client.
package main

import (
	"log"
	"net"

	"github.com/gobwas/ws"

	"github.com/tilewire/tilewire/scripts/bench/feed"
)

func main() {
	hub := feed.NewHub[[]byte]()
	feed.Main(func(ln net.Listener) func([]byte) {
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					log.Fatal(err)
				}
				go serve(hub, c)
			}
		}()
		return func(p []byte) { hub.Publish(ws.MustCompileFrame(ws.NewBinaryFrame(p))) }
	})
}

func serve(hub *feed.Hub[[]byte], c net.Conn) {
	defer c.Close()
	busy := false
	up := ws.Upgrader{OnRequest: func(uri []byte) error { busy = string(uri) == "/ws"; return nil }}
	if _, err := up.Upgrade(c); err != nil {
		return
	}
	if busy {
		m := hub.Join()
		defer hub.Leave(m)
		go func() {
			defer c.Close()
			for p := range m.Queue {
				if _, err := c.Write(p); err != nil {
					return
				}
			}
		}()
	}
	for {
		f, err := ws.ReadFrame(c)
		if err != nil || f.Header.OpCode == ws.OpClose {
			return
		}
	}
}
