package httpsrv

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/h1"
	"github.com/tilewire/tilewire/shmem"
)

// TestSeed walks the functions and types of the model, fd_http_server, in the
// order of its header: what each is called here (doc.go has the list) and that
// it does what its header says. It is meant to be read; corner cases are in the
// tests beside each object.
func TestSeed(t *testing.T) {
	// fd_http_server_align, footprint, new, join, leave, delete
	t.Run("lifecycle", func(t *testing.T) {
		size, err := Footprint(rigParams())
		if err != nil || size%Align() != 0 {
			t.Fatal(size, err)
		}
		mem := shmem.Heap(size, Align()) // the caller's
		if _, err := Join(mem); !errors.Is(err, ErrMagic) {
			t.Error("joined what was never formatted:", err)
		}
		if err := New(mem, rigParams()); err != nil {
			t.Fatal(err)
		}
		s, err := Join(mem)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Leave(); got.Len() != mem.Len() {
			t.Error("Leave gives the memory back")
		}
		if err := Delete(mem); err != nil {
			t.Error(err)
		}
		if _, err := Join(mem); !errors.Is(err, ErrMagic) {
			t.Error("joined what was deleted:", err)
		}
	})

	// fd_http_server_params
	t.Run("params", func(t *testing.T) {
		for name, spoil := range map[string]func(p *Params){
			"MaxConnectionCnt":   func(p *Params) { p.MaxConnectionCnt = 0 },
			"MaxWsConnectionCnt": func(p *Params) { p.MaxWsConnectionCnt = 1<<20 + 1 },
			"MaxRequestLen":      func(p *Params) { p.MaxRequestLen = 1 },
			"MaxWsRecvFrameLen":  func(p *Params) { p.MaxWsRecvFrameLen = p.MaxRequestLen - 1 }, // must not be less
			"MaxWsSendFrameCnt":  func(p *Params) { p.MaxWsSendFrameCnt = 1<<32 + 1 },
			"OutgoingBufferSz":   func(p *Params) { p.OutgoingBufferSz = 1000 }, // no power of two
		} {
			p := rigParams()
			spoil(&p)
			if _, err := Footprint(p); !errors.Is(err, ErrParams) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})

	// fd_http_server_callbacks: request, open, close, ws_open, ws_message, ws_close; callback_ctx is what a closure captures
	t.Run("callbacks", func(t *testing.T) {
		seed(t, TileOptions{}, func(r *rig) {
			var log []string
			say := func(what string) { log = append(log, what) }
			r.tile.cb = Callbacks{
				Request: func(q *Request) Response {
					say("request " + string(q.Path))
					return Response{UpgradeWebsocket: q.Headers.UpgradeWebsocket}
				},
				Open:      func(ConnID) { say("open") },
				Close:     func(_ ConnID, why CloseReason) { say("close " + why.Name()) },
				WsOpen:    func(ConnID) { say("ws_open") },
				WsMessage: func(_ ConnID, _ byte, data []byte) { say("ws_message " + string(data)) },
				WsClose:   func(_ ConnID, why CloseReason) { say("ws_close " + why.Name()) },
			}
			p := r.dial(0).send([]byte(req("GET", "/a", "")))
			p.answered()
			p.close()
			r.until("close", func() bool { return len(log) == 3 })
			r.dial(0).stream("/ws").send(textFrame("hi"), closeFrame(CodeNormal, "")).wantClose(CodeNormal)
			r.peers[1].close()
			r.until("ws_close", func() bool { return len(log) == 8 })
			want := []string{"open", "request /a", "close ok", "open", "request /ws", "ws_open", "ws_message hi", "ws_close ok"}
			if !slices.Equal(log, want) {
				r.Errorf("%q\nwant %q", log, want)
			}
		})
	})

	// fd_http_server_fd, listen
	t.Run("fd and listen", func(t *testing.T) {
		seed(t, TileOptions{}, func(r *rig) {
			at, err := r.tile.Listen("127.0.0.1:0")
			if err != nil {
				r.Fatal(err)
			}
			if a := r.dialTo(at, 0).send([]byte(req("GET", "/", ""))).answered(); a.status != 200 {
				r.Error(a.head)
			}
			if _, err := r.tile.Listen(at); !errors.Is(err, unix.EADDRINUSE) { // the model ends the process
				r.Error("a taken port:", err)
			}
			r.quiet()
			r.dialTo(at, 0) // somebody to be accepted: Fd, in a poll loop of the caller's, says so
			if !readable(r, r.tile.Fd()) {
				r.Error("Fd is not readable")
			}
		})
	})

	// fd_http_server_poll
	t.Run("poll", func(t *testing.T) {
		seed(t, TileOptions{}, func(r *rig) {
			r.quiet()
			if n := r.tile.Poll(shmem.Monotonic(), 0); n != 0 {
				r.Errorf("%d with nothing to do", n)
			}
			r.dial(0)
			if n := r.tile.Poll(shmem.Monotonic(), 1000); n == 0 {
				r.Error("0 with somebody to be accepted")
			}
		})
	})

	// fd_http_server_close, ws_close, with a reason that the callback gets
	t.Run("close and ws_close", func(t *testing.T) {
		seed(t, TileOptions{}, func(r *rig) {
			p := r.dial(0)
			r.until("open", func() bool { return len(r.opens) == 1 })
			if err := r.tile.Close(r.opens[0], CloseOperator); err != nil {
				r.Error(err)
			}
			p.closed()
			w := r.dial(0).stream("/ws")
			if err := r.tile.WsClose(r.opens[1], CloseDrain); err != nil {
				r.Error(err)
			}
			w.wantClose(CodeRestart)
			r.until("the callbacks", func() bool { return len(r.closes) == 2 })
			if r.closes[r.opens[0]] != CloseOperator || r.closes[r.opens[1]] != CloseDrain {
				r.Error(r.closes)
			}
			if err := r.tile.Close(r.opens[0], CloseOperator); !errors.Is(err, ErrConn) { // an id is never used again
				r.Error(err)
			}
		})
	})

	// fd_http_server_printf, memcpy, stage_trunc, stage_len, unstage, ws_broadcast, ws_send
	t.Run("staging and sending", func(t *testing.T) {
		seed(t, TileOptions{}, func(r *rig) {
			a, b := r.dial(0).stream("/ws"), r.dial(0).stream("/ws")
			st := r.produce()
			defer st.Close()
			st.Printf("%d%s", 12, "3")
			if _, err := st.Write([]byte("45")); err != nil || st.Len() != 5 { // any io.Writer's user works
				r.Error(st.Len(), err)
			}
			st.Trunc(4)
			copy(st.Append(3), "xyz") // in place
			st.Commit(1)
			if _, err := st.WsBroadcast(OpText); err != nil || st.Len() != 0 {
				r.Error(err)
			}
			st.Printf("never sent")
			st.Unstage()
			if err := json.NewEncoder(st).Encode([]int{1, 2}); err != nil {
				r.Error(err)
			}
			if _, err := st.WsSend(r.opens[1], OpBinary); err != nil {
				r.Error(err)
			}
			st.Write(make([]byte, st.Max()+1)) // larger than the ring: the error stays until the next send reports it
			st.Printf("more")
			if _, err := st.WsBroadcast(OpText); !errors.Is(err, ErrTooLarge) {
				r.Error(err)
			}
			st.Printf("fine again")
			if _, err := st.WsBroadcast(OpText); err != nil {
				r.Error(err)
			}
			a.want(OpText, "1234x", "fine again")
			b.want(OpText, "1234x")
			b.want(OpBinary, "[1,2]\n")
			b.want(OpText, "fine again")
		})
	})

	// fd_http_server_request: method, path, headers, post body
	t.Run("request", func(t *testing.T) {
		seed(t, TileOptions{}, func(r *rig) {
			asked := ""
			r.onRequest = func(q *Request) Response {
				asked = fmt.Sprintf("%v %s %s %s %v %q", q.Method, q.Path, q.Headers.ContentType, q.Headers.AcceptEncoding, q.Headers.UpgradeWebsocket, q.Body)
				if q.Conn != r.opens[0] {
					r.Error(q.Conn)
				}
				return Response{}
			}
			r.dial(0).send([]byte(req("POST", "/rpc", "Content-Type: a/b\r\nAccept-Encoding: zstd\r\nContent-Length: 4\r\n") + "body")).answered()
			if want := `POST /rpc a/b zstd false "body"`; asked != want {
				r.Errorf("%s, want %s", asked, want)
			}
		})
	})

	// fd_http_server_response, stage_body: a row for each field
	t.Run("response", func(t *testing.T) {
		seed(t, TileOptions{}, func(r *rig) {
			static, err := r.s.AddStatic("page", []byte("<html>"))
			if err != nil {
				r.Fatal(err)
			}
			for _, c := range []struct {
				name   string
				resp   func() Response
				method string
				status string // the whole line
				fields map[string]string
				body   string
			}{
				{"the zero value", func() Response { return Response{} }, "GET", "200 OK", map[string]string{"content-length": "0", "connection": "close"}, ""},
				{"staged body", func() Response { return r.body(Response{ContentType: "text/plain"}, "staged") }, "GET", "200 OK", map[string]string{"content-type": "text/plain", "content-length": "6"}, "staged"},
				{"static body", func() Response { return Response{StaticBody: static} }, "GET", "200 OK", map[string]string{"content-length": "6"}, "<html>"},
				{"HEAD", func() Response { return Response{StaticBody: static} }, "HEAD", "200 OK", map[string]string{"content-length": "6"}, ""},
				{"created", func() Response { return Response{Status: 201, Location: "/new"} }, "GET", "201 Created", map[string]string{"location": "/new"}, ""},
				{"no content", func() Response { return r.body(Response{Status: 204}, "dropped") }, "GET", "204 No Content", map[string]string{"content-length": "", "content-type": ""}, ""},
				{"reset content", func() Response { return r.body(Response{Status: 205}, "dropped") }, "GET", "205 Reset Content", map[string]string{"content-length": "0"}, ""},
				{"not modified", func() Response { return Response{Status: 304, StaticBody: static} }, "GET", "304 Not Modified", map[string]string{"content-length": ""}, ""},
				{"redirect", func() Response { return Response{Status: 302, Location: "/there"} }, "GET", "302 Found", map[string]string{"location": "/there"}, ""},
				{"an error of the application", func() Response { return r.body(Response{Status: 418}, "short and stout") }, "GET", "418 I'm a teapot", nil, "short and stout"},
				{"a status without phrase", func() Response { return Response{Status: 299} }, "GET", "299 ", nil, ""},
				{"no interim status", func() Response { return Response{Status: 103} }, "GET", "500 Internal Server Error", nil, "500 Internal Server Error\n"},
				{"cache, encoding", func() Response { return Response{CacheControl: "max-age=9", ContentEncoding: "zstd"} }, "GET", "200 OK", map[string]string{"cache-control": "max-age=9", "content-encoding": "zstd"}, ""},
				{"CORS", func() Response {
					return Response{Status: 204, AllowOrigin: "*", AllowMethods: "GET, POST", AllowHeaders: "X-A", MaxAge: 600}
				}, "OPTIONS", "204 No Content", map[string]string{
					"access-control-allow-origin": "*", "access-control-allow-methods": "GET, POST", "access-control-allow-headers": "X-A", "access-control-max-age": "600",
				}, ""},
				{"extra fields", func() Response {
					return Response{RetryAfter: 7, Extra: []h1.Field{{Name: "Vary", Value: "Origin"}, {Name: "X-A", Value: "1"}}}
				}, "GET", "200 OK", map[string]string{"retry-after": "7", "vary": "Origin", "x-a": "1"}, ""},
				{"fields that the server owns", func() Response { return Response{Extra: []h1.Field{{Name: "Content-Length", Value: "9"}}} }, "GET", "500 Internal Server Error", nil, "500 Internal Server Error\n"},
			} {
				r.onRequest = func(*Request) Response { return c.resp() }
				p := r.dial(0).send([]byte(req(c.method, "/", "")))
				a := p.answered()
				p.close()
				line, _, _ := strings.Cut(a.head, "\r\n")
				if line != "HTTP/1.1 "+c.status || a.body != c.body {
					r.Errorf("%s: %q %q", c.name, line, a.body)
				}
				for k, v := range c.fields {
					if a.field[k] != v {
						r.Errorf("%s: %s: %q, want %q", c.name, k, a.field[k], v)
					}
				}
				if at, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", a.field["date"]); err != nil || time.Since(at).Abs() > time.Minute {
					r.Errorf("%s: Date: %q", c.name, a.field["date"])
				}
			}
			r.onRequest = func(*Request) Response { return Response{UpgradeWebsocket: true} } // upgrade_websocket
			r.dial(0).stream("/")
		})
	})

	// fd_http_server_method_str, connection_close_reason_str
	t.Run("strings", func(t *testing.T) {
		if MethodGet.String() != "GET" || MethodOptions.String() != "OPTIONS" || Method(99).String() != "unknown" {
			t.Error(MethodGet, MethodOptions, Method(99))
		}
		seen := map[string]CloseReason{}
		for why := range closeReasonCnt {
			for _, s := range []string{why.String(), why.Name()} {
				if other, ok := seen[s]; ok || s == "" || s == "unknown" {
					t.Errorf("reason %d: %q, which %d has too", why, s, other)
				}
				seen[s] = why
			}
			if !slices.Contains(CounterNames(), "closed_"+why.Name()) {
				t.Errorf("%v has no counter", why)
			}
		}
		if CloseReason(200).String() != "unknown" {
			t.Error(CloseReason(200))
		}
	})

	// connection_id
	t.Run("connection ids", func(t *testing.T) {
		seed(t, TileOptions{}, func(r *rig) {
			for range 3 {
				p := r.dial(0).send([]byte(req("GET", "/", "")))
				p.answered()
				p.close()
				r.until("its end", func() bool { n, _ := r.tile.Conns(); return n == 0 })
			}
			for i, id := range r.opens { // one slot, three connections
				if id.Tile() != 0 || id.Slot() != r.opens[0].Slot() || i > 0 && id.Gen() == r.opens[i-1].Gen() {
					r.Error(r.opens)
				}
			}
		})
	})
}

// seed runs f with a server on heap memory, driven by the test.
func seed(t *testing.T, o TileOptions, f func(r *rig)) {
	t.Helper()
	p := rigParams()
	r := newRig(t, shmem.Heap(mustFootprint(t, p), Align()), p, o)
	f(r)
	r.end()
}
