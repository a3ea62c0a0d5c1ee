package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

const limit = 20 * time.Second

// made is an instance whose network tile, which the test plays, has so many clients that connected one after the other.
func made(t *testing.T, clients int) (*instance.Instance, []string) {
	t.Helper()
	shm, err := os.MkdirTemp("/dev/shm", "tilewire-test-")
	if err != nil {
		shm = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(shm) })
	t.Setenv("TILEWIRE_SHM_DIR", shm)
	t.Setenv("TILEWIRE_RUN_DIR", filepath.Join(t.TempDir(), "run"))
	p := httpsrv.Params{
		MaxConnectionCnt: 8, MaxWsConnectionCnt: 2, MaxRequestLen: 1024, MaxWsRecvFrameLen: 1024, OutgoingBufferSz: 1 << 12,
		RingDepth: 64, ReplyDepth: 64, TileCnt: 1, RingCnt: 1, RecvBufCnt: 2, MsgBufCnt: 1, PendingCnt: 4, StaticSz: 64,
	}
	in, err := instance.Create(instance.Info{Name: "answers", Started: time.Now().UnixNano()}, p, []instance.Tile{{Kind: "net"}}, shmem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tile, err := in.Server.TakeTile(0, httpsrv.TileOptions{BellPath: in.Bell(0), RequestTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tile.Release()
		if err := in.Remove(); err != nil {
			t.Error(err)
		}
	})
	addr, err := tile.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var peers []string
	for i := range clients {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		for end := time.Now().Add(limit); ; {
			tile.Poll(shmem.Monotonic(), 10)
			if all, _ := tile.Conns(); all == i+1 {
				break
			}
			if time.Now().After(end) {
				t.Fatal("not accepted")
			}
		}
		peers = append(peers, c.LocalAddr().String())
	}
	return in, peers
}

// The first of an order are kept, however many there are.
func TestClientsOrder(t *testing.T) {
	in, peers := made(t, 6)
	for n := 1; n <= 8; n++ {
		l, err := Clients(in, Query{Sort: "age", State: "open", Limit: n})
		if err != nil || l.Total != 6 || len(l.Clients) != min(n, 6) {
			t.Fatalf("limit %d: %v, %+v", n, err, l)
		}
		for i, c := range l.Clients {
			if c.Peer != peers[i] || c.State != "request" || c.Transport != "http" || c.Topic != "" || !c.TileHeld || c.RTTSeconds != nil {
				t.Errorf("limit %d, row %d: %+v, want %s", n, i, c, peers[i])
			}
		}
	}
	// Of equals those of lower slots: the first tile's free list hands them out in ascending order.
	l, err := Clients(in, Query{Sort: "lag", State: "open", Limit: 3})
	if err != nil || len(l.Clients) != 3 || l.Clients[0].Peer != peers[0] || l.Clients[2].Peer != peers[2] {
		t.Errorf("%v, %+v", err, l)
	}
	var b strings.Builder
	l.Text(&b)
	if lines := strings.Count(b.String(), "\n"); lines != 5 || !strings.HasSuffix(b.String(), "\n3 more\n") {
		t.Errorf("%s", b.String())
	}
}

func TestQuery(t *testing.T) {
	for query, want := range map[string]Query{
		"": DefaultQuery, "sort=age&limit=7": {"age", "open", 7}, "sort=bytes&state=open&limit=10000": {"bytes", "open", MaxLimit}, "sort=&limit=": DefaultQuery,
	} {
		v, _ := url.ParseQuery(query)
		if q, err := parseQuery(v); err != nil || q != want {
			t.Errorf("%q: %+v, %v", query, q, err)
		}
	}
	for query, want := range map[string]error{
		"sort=x": ErrQuery, "state=x": ErrQuery, "limit=0": ErrQuery, "limit=10001": ErrQuery, "limit=-1": ErrQuery, "limit=1e3": ErrQuery,
	} {
		v, _ := url.ParseQuery(query)
		if _, err := parseQuery(v); !errors.Is(err, want) {
			t.Errorf("%q: %v", query, err)
		}
	}
}

// What is secret by its name is not shown, wherever it stands.
func TestRedact(t *testing.T) {
	var v map[string]any
	if err := json.Unmarshal([]byte(`{"auth":{"Token_file":"x","list":[{"password":1},2]},"keep_alive":true,"client_secret":{"a":"b"}}`), &v); err != nil {
		t.Fatal(err)
	}
	redact(v)
	want := map[string]any{
		"auth":       map[string]any{"Token_file": "(redacted)", "list": []any{map[string]any{"password": "(redacted)"}, 2.0}},
		"keep_alive": true, "client_secret": "(redacted)",
	}
	if !reflect.DeepEqual(v, want) {
		t.Errorf("%v", v)
	}
}

func TestOwnHost(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1:7998": true, "[::1]:80": true, "[::1]": true, "localhost:1": true, "localhost": true, "10.0.0.1": true,
		"example.org": false, "localhost.example:80": false, "": false, "127.0.0.1.example": false,
	} {
		if ownHost(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

// serve runs a server on a port of its own, and returns its address and what ends it.
func serve(t *testing.T, in *instance.Instance) (addr string, stop func() error) {
	t.Helper()
	s, err := New(in, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	return l.Addr().String(), func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(limit):
			t.Fatal("it does not end")
			return nil
		}
	}
}

// Some who connect and say nothing, or do not read what they asked for, hold up neither others nor the end.
func TestSlowOperators(t *testing.T) {
	in, _ := made(t, 1)
	addr, stop := serve(t, in)
	for i := range maxConns - 1 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			_, _ = io.WriteString(c, strings.Repeat("GET /tilez HTTP/1.1\r\nHost: localhost\r\n\r\n", 50))
		}
	}
	c := &http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true}}
	for range 5 { // each needs the last place
		resp, err := c.Get("http://" + addr + "/clientz")
		if err != nil {
			t.Fatal(err)
		}
		var l List
		if err := json.NewDecoder(resp.Body).Decode(&l); err != nil || l.Total != 1 {
			t.Errorf("%v, %+v", err, l)
		}
		resp.Body.Close()
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("it still listens")
	}
}

// No more than its places are taken; one that is given back is taken by who waited.
func TestLimited(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lim := newLimited(l, 2)
	got := make(chan net.Conn)
	over := make(chan error)
	go func() {
		for {
			c, err := lim.Accept()
			if err != nil {
				over <- err
				return
			}
			got <- c
		}
	}()
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, second := <-got, <-got
	if len(lim.places) != 2 {
		t.Errorf("%d places taken", len(lim.places))
	}
	select {
	case <-got:
		t.Error("a third was accepted")
	default:
	}
	_ = first.Close()
	_ = first.Close() // gives back one place, not two
	third := <-got
	if len(lim.places) != 2 {
		t.Errorf("%d places taken", len(lim.places))
	}
	_ = lim.Close() // also while Accept waits for a place
	if err := <-over; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	_, _ = second.Close(), third.Close()
}

// Its documents have stable keys.
func TestKeys(t *testing.T) {
	in, _ := made(t, 1)
	addr, stop := serve(t, in)
	defer stop()
	for path, want := range map[string]string{
		"healthz": "live ready state state_seconds verdict why",
		"statusz": "clients connections listen live memory name ready started state state_seconds steering supervisor_pid uptime_seconds verdict version why",
		"tilez":   "tiles verdict why",
		"ringz":   "rings",
		"clientz": "clients sort state total",
		"configz": "listen name run_dir settings settings_generation shape topics",
	} {
		resp, err := http.Get("http://" + addr + "/" + path)
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		resp.Body.Close()
		if got := fmt.Sprint(slices.Sorted(maps.Keys(v))); got != "["+want+"]" {
			t.Errorf("%s: %s", path, got)
		}
	}
}
