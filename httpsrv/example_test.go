package httpsrv_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/coder/websocket"

	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

// A server in memory of the heap (a region of shmem in earnest), its network
// tile, a producer, and one client that asks for the last message as well.
func Example() {
	dir, err := os.MkdirTemp("", "httpsrv")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	// Once, by whoever owns the memory.
	params := httpsrv.Params{
		MaxConnectionCnt: 16, MaxWsConnectionCnt: 64, MaxRequestLen: 4096, MaxWsRecvFrameLen: 4096,
		OutgoingBufferSz: 1 << 16, TileCnt: 1, RingCnt: 1,
	}
	size, err := httpsrv.Footprint(params)
	if err != nil {
		panic(err)
	}
	mem := shmem.Heap(size, httpsrv.Align())
	if err := httpsrv.New(mem, params); err != nil {
		panic(err)
	}

	// The network tile, in earnest a process of its own on a CPU of its own.
	server, err := httpsrv.Join(mem)
	if err != nil {
		panic(err)
	}
	var reason httpsrv.CloseReason
	tile, err := server.TakeTile(0, httpsrv.TileOptions{
		BellPath: filepath.Join(dir, "bell"),
		Callbacks: httpsrv.Callbacks{
			Request: func(r *httpsrv.Request) httpsrv.Response {
				if string(r.Path) == "/ws" {
					return httpsrv.Response{UpgradeWebsocket: true, History: 1}
				}
				return httpsrv.Response{Status: 404}
			},
			WsClose: func(_ httpsrv.ConnID, why httpsrv.CloseReason) { reason = why },
		},
	})
	if err != nil {
		panic(err)
	}
	addr, err := tile.Listen("127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for draining := false; ; {
			select {
			case <-stop:
				stop, draining = nil, true
				tile.Drain(httpsrv.CodeGoingAway, "that is all", httpsrv.CloseShutdown, time.Second)
			default:
			}
			if n, _ := tile.Conns(); draining && n == 0 {
				tile.Release()
				return
			}
			tile.Poll(shmem.Monotonic(), 10)
		}
	}()

	// The producer.
	stage, err := server.Produce(0, time.Second)
	if err != nil {
		panic(err)
	}
	say := func(text string) {
		fmt.Fprint(stage, text)
		if _, err := stage.WsBroadcast(httpsrv.OpText); err != nil {
			panic(err)
		}
	}
	say("too early for anybody")
	say("the last one")

	// A client.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	client, _, err := websocket.Dial(ctx, "ws://"+addr+"/ws", nil)
	if err != nil {
		panic(err)
	}
	hear := func() {
		_, text, err := client.Read(ctx)
		if err != nil {
			fmt.Println(websocket.CloseStatus(err))
			return
		}
		fmt.Printf("%s\n", text)
	}
	hear()
	say("a live one")
	hear()
	close(stop)
	hear()
	<-stopped
	fmt.Println("closed:", reason)
	stage.Close()
	if err := httpsrv.Delete(server.Leave()); err != nil {
		panic(err)
	}
	// Output:
	// the last one
	// a live one
	// StatusGoingAway
	// closed: shutting down
}
