package swarm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// timeout bounds each run; none comes near it.
func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// stream sends messages 1 to n of size bytes, then close.
func stream(c net.Conn, n, size int, tail ...byte) {
	var p []byte
	for seq := 1; seq <= n; seq++ {
		if p = append(p, frame(uint64(seq), size)...); len(p) > 5000 || seq == n {
			if seq == n {
				p = append(p, tail...)
			}
			if _, err := c.Write(p); err != nil {
				return
			}
			p = p[:0]
		}
	}
}

func TestRunUntilSeq(t *testing.T) {
	for _, where := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(where, func(t *testing.T) {
			s := serve(t, "tcp", where, func(n int, c *net.TCPConn, r *bufio.Reader, path string) {
				stream(c, 500, 200)
				untilEOF(r)
			})
			var calls []string
			var progress []uint64
			note := func(s string) { calls = append(calls, s) }
			r, err := Run(bounded(t), Options{
				Addr: s.addr, Clients: 50, Size: 200, UntilSeq: 500, ConnectPending: 8, CloseWait: 50 * time.Millisecond,
				OnReady:    func(n int) { note(fmt.Sprint("ready ", n)) },
				OnWindow:   func() { note("window") },
				OnEnd:      func() { note("end") },
				OnProgress: func(m uint64) { progress = append(progress, m) },
			})
			if err != nil {
				t.Fatal(err)
			}
			if !r.Lossless || r.Connected != 50 || r.MinSeq != 500 || r.MaxSeq != 500 || len(r.Ends) != 0 {
				t.Fatalf("%+v", r)
			}
			if got := strings.Join(calls, ","); got != "ready 50,window,end" {
				t.Fatal(got)
			}
			for i := 1; i < len(progress); i++ {
				if progress[i] <= progress[i-1] {
					t.Fatalf("progress %v", progress)
				}
			}
			if progress[len(progress)-1] != 500 {
				t.Fatalf("progress ends at %d", progress[len(progress)-1])
			}
			if _, err := json.Marshal(r); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestRunPingAndClose(t *testing.T) {
	pong := make(chan string, 100)
	s := serve(t, "tcp", "127.0.0.1:0", func(n int, c *net.TCPConn, r *bufio.Reader, path string) {
		c.Write(appendServerFrame(nil, 0x89, []byte("hello")))
		c.Write(frame(7, 64))
		p := make([]byte, 2+4+5)
		for i := range p {
			p[i], _ = r.ReadByte()
		}
		text := ""
		for i, b := range p[6:] {
			text += string(b ^ p[2+i&3])
		}
		pong <- fmt.Sprintf("%x %s", p[:2], text)
		c.Write(closeFrame(1001, "end of input"))
		b0, _ := r.ReadByte()
		pong <- fmt.Sprintf("%x", b0)
	})
	r, err := Run(bounded(t), Options{Addr: s.addr, Clients: 3})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.EndGroups) != 1 || r.EndGroups[0] != (EndGroup{Healthy, EndClosed, 1001, "end of input", 3}) {
		t.Fatalf("%+v", r.EndGroups)
	}
	if r.Lossless || r.HealthyEnded != 3 || r.Pings != 3 || r.Faults.Total() != 0 || r.Ends[0].LastSeq != 7 {
		t.Fatalf("%+v", r)
	}
	var pongs, closes int
	for range 6 {
		switch got := <-pong; got {
		case "8a85 hello":
			pongs++
		case "88":
			closes++
		default:
			t.Fatal(got)
		}
	}
	if pongs != 3 || closes != 3 {
		t.Fatal(pongs, closes)
	}
}

func TestRunEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		path string
		f    func(c *net.TCPConn)
		want End
	}{
		{"eof", "", func(c *net.TCPConn) { c.Write(frame(1, 64)) }, End{Kind: EndOfStream, LastSeq: 1}},
		{"eof in a frame", "", func(c *net.TCPConn) { c.Write(frame(1, 64)[:30]) }, End{Kind: EndOfStream, MidFrame: true}},
		{"reset", "", func(c *net.TCPConn) { c.SetLinger(0) }, End{Kind: EndReset, Reason: "connection reset by peer"}},
		{"no code", "", func(c *net.TCPConn) { c.Write([]byte{0x88, 0}) }, End{Kind: EndClosed, Code: 1005}},
		{"torn", "", func(c *net.TCPConn) { c.Write([]byte{0xff, 0}) }, End{Kind: EndProtocol, Reason: "reserved bit set", MidFrame: true}},
		{"refused", "/no", nil, End{Kind: EndRefused, Code: 503, Reason: "503 Service Unavailable"}},
		{"bad accept", "/bad", nil, End{Kind: EndRefused, Code: 101}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, "tcp", "127.0.0.1:0", func(n int, conn *net.TCPConn, r *bufio.Reader, path string) {
				if c.f != nil {
					c.f(conn)
				}
			})
			r, err := Run(bounded(t), Options{Addr: s.addr, Path: c.path, Clients: 2})
			if refused := c.path != ""; errors.Is(err, ErrNobody) != refused || err != nil && !refused {
				t.Fatal(err)
			}
			if len(r.Ends) != 2 {
				t.Fatalf("%+v", r.Ends)
			}
			e := r.Ends[0]
			if e.Kind != c.want.Kind || e.Code != c.want.Code || e.LastSeq != c.want.LastSeq || e.MidFrame != c.want.MidFrame ||
				c.want.Reason != "" && e.Reason != c.want.Reason {
				t.Fatalf("%+v, want %+v", e, c.want)
			}
		})
	}
}

func TestRunNobodyListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	r, err := Run(bounded(t), Options{Addr: addr, Clients: 3})
	if !errors.Is(err, ErrNobody) || len(r.Ends) != 3 || r.Ends[0].Kind != EndConnect {
		t.Fatalf("%v %+v", err, r)
	}
	// A server that accepts and says nothing.
	ln, err = net.Listen("tcp", addr)
	if err != nil {
		t.Skip(err)
	}
	defer ln.Close()
	r, err = Run(bounded(t), Options{Addr: addr, Clients: 3, ConnectPending: 1, ConnectTimeout: 30 * time.Millisecond})
	if !errors.Is(err, ErrNobody) || len(r.Ends) != 3 || r.Ends[2].Kind != EndTimeout {
		t.Fatalf("%v %+v", err, r)
	}
}

// TestRunStalling has clients that stop reading; the server sends until one write has waited too
// long, then says why and closes.
func TestRunStalling(t *testing.T) {
	s := serve(t, "tcp", "127.0.0.1:0", func(n int, c *net.TCPConn, r *bufio.Reader, path string) {
		c.SetWriteBuffer(32 << 10)
		if path == "/idle" {
			untilEOF(r)
			return
		}
		for seq := uint64(1); seq <= 400; seq++ {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			if _, err := c.Write(frame(seq, 4096)); err != nil {
				c.SetLinger(0)
				return
			}
		}
		untilEOF(r)
	})
	var tick Tick
	r, err := Run(bounded(t), Options{
		Addr: s.addr, Clients: 20, Size: 4096, UntilSeq: 400, RecvBuf: 64 << 10,
		StallClients: 3, StallAfter: 5, StallWait: 10 * time.Second,
		Idle: 5, IdlePath: "/idle", TickEvery: time.Millisecond, OnTick: func(t Tick) { tick = t },
	})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Lossless || r.StallingOpen != 0 || r.Connected != 25 || len(r.Ends) != 3 {
		t.Fatalf("%+v", r)
	}
	for _, e := range r.Ends {
		if e.Role != Stalling || e.Kind != EndReset || e.LastSeq < 5 || e.LastSeq >= 400 {
			t.Fatalf("%+v", e)
		}
	}
	if tick.Open == 0 || tick.Min == 0 {
		t.Fatalf("%+v", tick)
	}
}

func TestRunStallingReadsTheReason(t *testing.T) {
	s := serve(t, "tcp", "127.0.0.1:0", func(n int, c *net.TCPConn, r *bufio.Reader, path string) {
		stream(c, 30, 64, closeFrame(4001, "lagged")...)
	})
	for _, after := range []uint64{0, 1, 10} {
		r, err := Run(bounded(t), Options{Addr: s.addr, Clients: 2, StallClients: 2, StallAfter: after})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.EndGroups) != 1 || r.EndGroups[0] != (EndGroup{Stalling, EndClosed, 4001, "lagged", 2}) || !r.Lossless || r.OtherDeliveries != 60 {
			t.Fatalf("after %d: %+v", after, r)
		}
	}
}

func TestRunSlow(t *testing.T) {
	gate := make(chan struct{})
	s := serve(t, "tcp", "127.0.0.1:0", func(n int, c *net.TCPConn, r *bufio.Reader, path string) {
		<-gate
		stream(c, 20, 1000, closeFrame(1000, "")...)
	})
	r, err := Run(bounded(t), Options{Addr: s.addr, Clients: 4, SlowClients: 2, SlowBytes: 2000, SlowInterval: time.Millisecond,
		OnReady: func(int) { close(gate) }})
	if err != nil {
		t.Fatal(err)
	}
	if r.Faults.Total() != 0 || len(r.Ends) != 4 || r.OtherDeliveries != 40 || r.Deliveries != 40 || r.Latency.Count != 40 {
		t.Fatalf("%+v", r)
	}
	for _, e := range r.Ends {
		if e.Code != 1000 || e.Role == Slow && e.Seconds < 0.009 { // 20 frames of 1,004 bytes, 2,000 per ms
			t.Fatalf("%+v", e)
		}
	}
}

func TestRunDurationAndContext(t *testing.T) {
	s := serve(t, "tcp", "127.0.0.1:0", func(n int, c *net.TCPConn, r *bufio.Reader, path string) {
		c.Write(frame(1, 64))
		untilEOF(r)
	})
	r, err := Run(bounded(t), Options{Addr: s.addr, Clients: 2, Warmup: 20 * time.Millisecond, Duration: 30 * time.Millisecond, Source: 3})
	if err != nil {
		t.Fatal(err)
	}
	if r.WindowSeconds < .03 || r.WindowSeconds > 5 || r.Deliveries != 0 || r.MinSeq != 1 || r.Saturated {
		t.Fatalf("%+v", r)
	}
	gate := make(chan struct{})
	s = serve(t, "tcp", "127.0.0.1:0", func(n int, c *net.TCPConn, r *bufio.Reader, path string) {
		<-gate
		c.Write(frame(1, 64))
		untilEOF(r)
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, err = Run(ctx, Options{Addr: s.addr, Clients: 2, OnReady: func(int) { close(gate) }, OnProgress: func(uint64) { cancel() }})
	if err != nil || r.Deliveries != 2 || !r.Lossless {
		t.Fatalf("%v %+v", err, r)
	}
}

func TestRunBadOptions(t *testing.T) {
	for _, o := range []Options{
		{Addr: "localhost:80", Clients: 1}, {Addr: "127.0.0.1", Clients: 1}, {Addr: "127.0.0.1:1"},
		{Addr: "127.0.0.1:1", Clients: 2, StallClients: 3}, {Addr: "127.0.0.1:1", Clients: 2, StallClients: 1, SlowClients: 2, SlowBytes: 1},
		{Addr: "127.0.0.1:1", Clients: 2, SlowClients: 1}, {Addr: "127.0.0.1:1", Clients: 1, Size: 15},
		{Addr: "127.0.0.1:1", Clients: 1, Mode: 2}, {Addr: "[::1]:1", Clients: 1, Source: 1}, {Addr: "127.0.0.1:1", Clients: 1, Source: 254},
	} {
		if _, err := Run(t.Context(), o); !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := Run(t.Context(), Options{Addr: "127.0.0.1:1", Clients: 1 << 20}); !errors.Is(err, ErrDescriptors) && !errors.Is(err, ErrOptions) {
		t.Error(err)
	}
}

// TestRunSteadyState counts the allocations of the whole process between two points of a stream.
func TestRunSteadyState(t *testing.T) {
	const total = 3000
	gate := make(chan struct{})
	var p []byte
	for seq := uint64(1); seq <= total; seq++ {
		p = append(p, frame(seq, 150)...)
	}
	s := serve(t, "tcp", "127.0.0.1:0", func(n int, c *net.TCPConn, r *bufio.Reader, path string) {
		<-gate
		for q := p; len(q) > 0; {
			k := min(len(q), 1777)
			if _, err := c.Write(q[:k]); err != nil {
				return
			}
			q = q[k:]
		}
		untilEOF(r)
	})
	var before, after runtime.MemStats
	r, err := Run(bounded(t), Options{
		Addr: s.addr, Clients: 10, Size: 150, UntilSeq: total,
		OnReady: func(int) { close(gate) },
		OnProgress: func(m uint64) {
			if m > total/2 && before.Mallocs == 0 {
				runtime.ReadMemStats(&before)
			}
		},
		OnEnd: func() { runtime.ReadMemStats(&after) },
	})
	if err != nil || !r.Lossless {
		t.Fatalf("%v %+v", err, r)
	}
	if n := after.Mallocs - before.Mallocs; before.Mallocs != 0 && n > 20 { // of the test's server and the runtime
		t.Fatalf("%d allocations in half a run of %d deliveries", n, r.Deliveries)
	}
}

func TestBottleneck(t *testing.T) {
	for _, c := range []struct {
		own    bool
		server float64
		want   string
	}{{true, .5, "load generator"}, {false, .99, "server"}, {true, 1, "both"}, {false, .1, "neither"}} {
		r := Report{Saturated: c.own}
		if got := r.Bottleneck(c.server); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// TestRunHello has a server that subscribes a client only after its hello, and a while later: ready must
// come after all of that.
func TestRunHello(t *testing.T) {
	gate := make(chan struct{})
	s := serve(t, "tcp", "127.0.0.1:0", func(n int, c *net.TCPConn, r *bufio.Reader, path string) {
		if path == "/idle" {
			untilEOF(r)
			return
		}
		b0, _ := r.ReadByte()
		b1, _ := r.ReadByte()
		r.Discard(4 + 3)
		c.Write(appendServerFrame(nil, 0x8a, []byte{b0, b1}))
		<-gate
		c.Write(frame(1, 64))
		untilEOF(r)
	})
	ready := 0
	r, err := Run(bounded(t), Options{Addr: s.addr, Clients: 4, Idle: 2, IdlePath: "/idle", Hello: []byte("abc"), UntilSeq: 1,
		OnReady: func(n int) { ready = n; close(gate) }})
	if err != nil || !r.Lossless || ready != 6 || r.Deliveries != 4 {
		t.Fatalf("%v ready %d %+v", err, ready, r)
	}
}
