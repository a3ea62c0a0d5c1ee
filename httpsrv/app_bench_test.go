package httpsrv

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/tilewire/tilewire/httpsrv/ws"
	"github.com/tilewire/tilewire/shmem"
)

// The same service as callbacks of the tile and as an application of its own,
// tile and application each on a thread of their own over mapped memory: one
// message or request at a time (latency), and 64 messages on the way (rate).
func BenchmarkApp(b *testing.B) {
	msg := bytes.Repeat([]byte("m"), 128)
	for _, where := range []string{"tile", "app"} {
		for _, c := range []struct {
			name   string
			window int
		}{{"message", 1}, {"messages", 64}} {
			b.Run(c.name+"/"+where, func(b *testing.B) {
				nc := benchApp(b, where)
				_, _ = io.WriteString(nc, handshake("/ws"))
				head := make([]byte, 129)
				if _, err := io.ReadFull(nc, head); err != nil || !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
					b.Fatalf("%v %q", err, head)
				}
				out := bytes.Repeat(frame(OpBinary, true, string(msg)), c.window)
				in := make([]byte, c.window*(ws.HeaderLen(uint64(len(msg)))+len(msg)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := nc.Write(out); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(nc, in); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(c.window*b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
		b.Run("request/"+where, func(b *testing.B) {
			nc := benchApp(b, where)
			out := []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			in := make([]byte, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := nc.Write(out); err != nil {
					b.Fatal(err)
				}
				for n := 0; !bytes.HasSuffix(in[:n], []byte("\r\n\r\nbody")); {
					got, err := nc.Read(in[n:])
					if n += got; err != nil {
						b.Fatalf("%v %q", err, in[:n])
					}
				}
			}
		})
	}
}

// benchApp starts a tile, and an application if where says so, and connects to it.
func benchApp(b *testing.B, where string) net.Conn {
	b.Helper()
	p := appParams()
	p.ReplyBufferSz, p.ReplyDepth = 1<<20, 4096
	size, err := Footprint(p)
	if err != nil {
		b.Fatal(err)
	}
	m := rigRegion(b, size)
	if err := New(m, p); err != nil {
		b.Fatal(err)
	}
	s, err := Join(m)
	if err != nil {
		b.Fatal(err)
	}
	service := func(st func() *Stage) Callbacks {
		return Callbacks{
			Request: func(q *Request) (r Response) {
				if q.Headers.UpgradeWebsocket {
					return Response{UpgradeWebsocket: true, Ring: NoRing}
				}
				_, _ = st().WriteString("body")
				_ = st().Body(&r)
				return r
			},
			WsMessage: func(c ConnID, op byte, data []byte) {
				_, _ = st().Write(data)
				_, _ = st().WsSend(c, op)
			},
		}
	}
	var stop atomic.Bool
	ended := make(chan struct{}, 2)
	var t *NetTile
	var a *App
	o := TileOptions{BellPath: b.TempDir() + "/tile", KeepAlive: true, Callbacks: service(func() *Stage { return t.Stage() })}
	if where == "app" {
		o.Callbacks = Callbacks{Request: func(*Request) Response { return Response{Forward: true} }}
		if a, err = s.TakeApp(0, AppOptions{BellPath: b.TempDir() + "/app", Callbacks: service(func() *Stage { return a.Stage() })}); err != nil {
			b.Fatal(err)
		}
		go func() {
			runtime.LockOSThread()
			for !stop.Load() {
				a.Poll(20)
			}
			ended <- struct{}{}
		}()
	}
	if t, err = s.TakeTile(0, o); err != nil {
		b.Fatal(err)
	}
	addr, err := t.Listen("127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		runtime.LockOSThread()
		for !stop.Load() {
			t.Poll(shmem.Monotonic(), 20)
		}
		ended <- struct{}{}
	}()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		nc.Close()
		stop.Store(true)
		<-ended
		if a != nil {
			<-ended
			_ = a.Release()
		}
		t.Release()
		s.Leave()
	})
	return nc
}
