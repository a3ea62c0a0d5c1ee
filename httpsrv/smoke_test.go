package httpsrv

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tilewire/tilewire/shmem"
)

func TestSmoke(t *testing.T) {
	p := Params{MaxConnectionCnt: 16, MaxWsConnectionCnt: 64, MaxRequestLen: 4096, MaxWsRecvFrameLen: 65536, OutgoingBufferSz: 1 << 16, TileCnt: 1, RingCnt: 1}
	fp, err := Footprint(p)
	if err != nil {
		t.Fatal(err)
	}
	mem := shmem.Heap(fp, Align())
	if err := New(mem, p); err != nil {
		t.Fatal(err)
	}
	s, err := Join(mem)
	if err != nil {
		t.Fatal(err)
	}
	var tl *NetTile
	tl, err = s.TakeTile(0, TileOptions{BellPath: t.TempDir() + "/bell", Callbacks: Callbacks{
		Request: func(r *Request) Response {
			if string(r.Path) == "/ws" {
				return Response{UpgradeWebsocket: true}
			}
			tl.Stage().Printf("hello %s\n", r.Path)
			var resp Response
			if err := tl.Stage().Body(&resp); err != nil {
				return Response{Status: 500}
			}
			return resp
		},
		WsMessage: func(c ConnID, op byte, data []byte) {
			tl.Stage().Write(data)
			if _, err := tl.Stage().WsSend(c, op); err != nil {
				t.Error(err)
			}
		},
		WsClose: func(c ConnID, why CloseReason) { t.Log("closed", c, why) },
	}})
	if err != nil {
		t.Fatal(err)
	}
	addr, err := tl.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				tl.Drain(1001, "bye", CloseShutdown, time.Second)
				for n, _ := tl.Conns(); n > 0; n, _ = tl.Conns() {
					tl.Poll(shmem.Monotonic(), 10)
				}
				tl.Release()
				return
			default:
				tl.Poll(shmem.Monotonic(), 10)
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(ctx, websocket.MessageText, []byte("echo me")); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(ctx); err != nil || string(b) != "echo me" {
		t.Fatal(string(b), err)
	}
	st, err := s.Produce(0, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		want := fmt.Sprintf("message %d", i)
		for len(want) < i%300 {
			want += "."
		}
		st.Printf("%s", want)
		if _, err := st.WsBroadcast(OpText); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(ctx); err != nil || string(b) != want {
			dump(t, s, tl); t.Fatal(i, string(b), err)
		}
	}
	close(stop)
	_, _, err = c.Read(ctx)
	t.Log(err)
	<-done
}
