package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// With slow_client.policy = "skip" a client that reads a third of what is published stays, misses messages and gets the last one; run's log
// sums it up. After a reload to evict it is closed.
func TestSkipPolicy(t *testing.T) {
	t.Parallel()
	p, write := reloadable(t, "skip", "[slow_client]\npolicy = \"skip\"\n", nil)
	small := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		_ = c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10) })
		return err
	}}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, p.url+"ws", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{DialContext: small.DialContext}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ws.CloseNow() }()
	c := &client{t, ws}
	const rounds, each = 30, 300
	pad := strings.Repeat(".", 1000)
	publish := func(round int) {
		var b strings.Builder
		for i := range each {
			fmt.Fprintln(&b, round*each+i, pad)
		}
		feed := start(t, "publish", "--name", "skip")
		feed.write(b.String())
		feed.in.Close()
		feed.exit(0)
	}
	last, got := -1, 0
	read := func() {
		s, err := c.next()
		if err != nil {
			t.Fatal(err, last)
		}
		var n int
		if _, err := fmt.Sscan(strings.TrimSuffix(s, pad), &n); err != nil || n <= last {
			t.Fatalf("%d after %d: %v", n, last, err)
		}
		last = n
		got++
	}
	for round := range rounds {
		publish(round)
		for i := 0; i < each/3 && last != (round+1)*each-1; i++ {
			read()
		}
	}
	for last != rounds*each-1 {
		read()
	}
	if got > rounds*each*2/3 {
		t.Errorf("%d of %d came to a slow client", got, rounds*each)
	}
	p.says(`"msg":"clients skipped ahead","tile":"net:0","times":\d+,"messages_missed":\d+`)
	write("[slow_client]\npolicy = \"evict\"\n")
	if out, _ := verb(t, 0, "reload", "--name", "skip"); !strings.Contains(out, "slow_client.policy") {
		t.Errorf("reload says %q", out)
	}
	for round := range 20 {
		publish(round)
	}
	p.says(`"msg":"clients evicted","tile":"net:0","clients":1`)
	p.signal(unix.SIGTERM)
	p.exit(0)
}
