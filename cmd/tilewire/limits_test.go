package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/spf13/cobra"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

// What a tile reads in shared memory is what the flags that people gave say.
func TestLimitsHandedOn(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		nil,
		{"--max-connections-per-ip=7", "--accept-rate=100", "--on-full=evict", "--on-lag=skip", "--header-timeout=1s", "--write-timeout=2s", "--ping-interval=0",
			"--pong-timeout=3s", "--allow-origin=https://a.example", "--allow-origin=*", "--body-timeout=4s", "--idle-timeout=5s", "--keep-alive",
			"--max-lag-bytes=6", "--max-lag=7s", "--proxy-protocol=v2", "--trusted-proxy=10.0.0.0/8", "--trusted-proxy=unix"},
	} {
		var l limits
		cmd := new(cobra.Command)
		l.flags(cmd)
		if err := cmd.ParseFlags(args); err != nil {
			t.Fatal(err)
		}
		js, err := json.Marshal(l.settings())
		if err != nil {
			t.Fatal(err)
		}
		var v instance.Settings
		if err := json.Unmarshal(js, &v); err != nil {
			t.Fatal(err)
		}
		var a, b httpsrv.TileOptions
		if err := errors.Join(l.options(&a), (&limits{v.Limits}).options(&b)); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%+v, handed on %+v", a, b)
		}
		if want := (httpsrv.TileOptions{
			MaxConnectionsPerIP: 7, AcceptRate: 100, OnFull: httpsrv.EvictSlowest, OnLag: httpsrv.SkipAhead, RequestTimeout: time.Second, WriteTimeout: 2 * time.Second,
			PingInterval: -1, PongTimeout: 3 * time.Second, AllowOrigins: []string{"https://a.example", "*"}, BodyTimeout: 4 * time.Second,
			IdleTimeout: 5 * time.Second, KeepAlive: true, MaxLagBytes: 6, MaxLag: 7 * time.Second,
			ProxyProtocol: httpsrv.ProxyV2, TrustedProxies: []string{"10.0.0.0/8", "unix"},
		}); args != nil && !reflect.DeepEqual(b, want) {
			t.Errorf("%+v, want %+v", b, want)
		}
	}
}

// A page of another origin gets 403, and people get the flag that would allow it;
// with that flag it gets in.
func TestAllowOrigin(t *testing.T) {
	dial := func(p *proc, origin string) (*websocket.Conn, *http.Response, error) {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		return websocket.Dial(ctx, p.url+"ws", &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
	}
	p := serve(t)
	if _, resp, err := dial(p, "https://app.example"); err == nil || resp == nil || resp.StatusCode != 403 {
		t.Fatalf("%v, %v", resp, err)
	}
	p.says(`"allow_it_with":"--allow-origin https://app.example"`)
	p.in.Close()
	p.exit(0)
	p = serve(t, "--allow-origin", "https://app.example")
	c, _, err := dial(p, "https://app.example")
	if err != nil {
		t.Fatal(err)
	}
	p.write("hello\n")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if _, b, err := c.Read(ctx); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	_ = c.CloseNow()
	p.in.Close()
	p.exit(0)
}

// However often a page tries, it gets few lines, and all tries are accounted for.
func TestRefusedOriginsAreFew(t *testing.T) {
	out := newOutput()
	r := newRefusedOrigins(slog.New(slog.NewJSONHandler(out, nil)))
	long := bytes.Repeat([]byte("x"), 5000)
	for range 10000 {
		r.refused([]byte("https://evil.example\n"), long)
	}
	begin := time.Now()
	for told := uint64(0); told+r.more.Load() < 10000; {
		if time.Since(begin) > limit {
			t.Fatalf("%d told, %d to be told", told, r.more.Load())
		}
		s := out.String()
		told = 0
		for _, l := range strings.Split(strings.TrimSpace(s), "\n") {
			var line struct {
				Origin, Host string
				More         uint64 `json:"refused_besides"`
			}
			if l == "" {
				continue
			}
			if err := json.Unmarshal([]byte(l), &line); err != nil {
				t.Fatal(err, l)
			}
			if line.Origin != "https://evil.example\n" || len(line.Host) != 256 {
				t.Errorf("%+v", line)
			}
			told += 1 + line.More
		}
		if n := strings.Count(s, "\n"); n > 5 {
			t.Fatalf("%d lines", n)
		}
		time.Sleep(time.Millisecond) // for the writing goroutine
	}
}

// The limits hold in the tile that pipe starts.
func TestLimitsHold(t *testing.T) {
	p := serve(t, "--max-connections-per-ip", "2", "--ping-interval", "100ms", "--max-connections", "8")
	a, b := p.dial(), p.dial()
	resp, err := http.Get(p.url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s", resp.Status)
	}
	in, err := instance.Join(p.name, shmem.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Leave()
	if n := in.Server.Params().MaxWsConnectionCnt; n != 8 {
		t.Errorf("memory for %d streams", n)
	}
	cnt, err := in.Server.Counters(0)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error, 2)
	for _, c := range []*client{a, b} { // which answers pings
		go func() { read <- c.closed(websocket.StatusGoingAway, "end of input") }()
	}
	pongs := cnt.Lookup("pongs")
	for begin := time.Now(); pongs.Load() < 6; time.Sleep(time.Millisecond) { // no event tells
		if time.Since(begin) > limit {
			t.Fatalf("%d pongs", pongs.Load())
		}
	}
	p.in.Close()
	for range 2 {
		if err := <-read; err != nil {
			t.Error(err)
		}
	}
	p.exit(0)
}
