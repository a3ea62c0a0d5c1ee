package httpsrv_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

// An application that answers in the place of a tile's own callbacks. In earnest
// each of the two is a process: both join the server in a region (shmem.Open).
func ExampleServer_TakeApp() {
	dir, err := os.MkdirTemp("", "httpsrv")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	params := httpsrv.Params{
		MaxConnectionCnt: 16, MaxWsConnectionCnt: 16, MaxRequestLen: 4096, MaxWsRecvFrameLen: 4096,
		OutgoingBufferSz: 1 << 16, TileCnt: 1, RingCnt: 1, AppCnt: 1,
	}
	size, err := httpsrv.Footprint(params)
	if err != nil {
		panic(err)
	}
	mem := shmem.Heap(size, httpsrv.Align())
	if err := httpsrv.New(mem, params); err != nil {
		panic(err)
	}
	server, err := httpsrv.Join(mem)
	if err != nil {
		panic(err)
	}

	// The tile forwards everything. While no application has joined the client gets 503.
	tile, err := server.TakeTile(0, httpsrv.TileOptions{
		BellPath: filepath.Join(dir, "tile.bell"),
		Callbacks: httpsrv.Callbacks{
			Request: func(*httpsrv.Request) httpsrv.Response { return httpsrv.Response{Forward: true} },
		},
	})
	if err != nil {
		panic(err)
	}
	addr, err := tile.Listen("127.0.0.1:0")
	if err != nil {
		panic(err)
	}

	// The application.
	var app *httpsrv.App
	app, err = server.TakeApp(0, httpsrv.AppOptions{
		BellPath: filepath.Join(dir, "app.bell"),
		Callbacks: httpsrv.Callbacks{
			Request: func(r *httpsrv.Request) httpsrv.Response {
				resp := httpsrv.Response{ContentType: "text/plain"}
				fmt.Fprintf(app.Stage(), "%s %s: %s", r.Method, r.Path, strings.ToUpper(string(r.Body)))
				if err := app.Stage().Body(&resp); err != nil {
					return httpsrv.Response{Status: 500}
				}
				return resp
			},
		},
	})
	if err != nil {
		panic(err)
	}

	stop, stopped := make(chan bool), make(chan bool)
	go func() { // two loops in earnest
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				tile.Poll(shmem.Monotonic(), 1)
				app.Poll(0)
			}
		}
	}()
	resp, err := http.Post("http://"+addr+"/shout", "text/plain", strings.NewReader("hello"))
	if err != nil {
		panic(err)
	}
	body, _ := io.ReadAll(resp.Body)
	fmt.Printf("%s\n", body)
	close(stop)
	<-stopped
	tile.Release()
	app.Release()
	// Output: POST /shout: HELLO
}
