package h1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func date() *[29]byte {
	d := new([29]byte)
	FormatDate(d, 784111777)
	return d
}

func TestAppendHead(t *testing.T) {
	for _, c := range []struct {
		name string
		r    RespHead
		want string
	}{
		{"least", RespHead{Status: 200}, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
		{"all", RespHead{Status: 302, Conn: ConnKeepAlive, ContentLength: 12, Date: date(), ContentType: "a/b", ContentEncoding: "gzip", CacheControl: "no-store",
			Location: "/x", Vary: "Origin", AllowOrigin: "*", AllowMethods: "GET", AllowHeaders: "X", MaxAge: 60, Allow: Methods(GET, HEAD), RetryAfter: 3,
			Extra: []Field{{"X-A", "1"}, {"x-b", ""}}},
			"HTTP/1.1 302 Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: a/b\r\nContent-Encoding: gzip\r\nCache-Control: no-store\r\nLocation: /x\r\n" +
				"Vary: Origin\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Methods: GET\r\nAccess-Control-Allow-Headers: X\r\nAccess-Control-Max-Age: 60\r\n" +
				"Allow: GET, HEAD\r\nRetry-After: 3\r\nX-A: 1\r\nx-b: \r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\n"},
		{"to the end", RespHead{Status: 200, Conn: ConnKeepAlive, ContentLength: -1}, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"},
		{"204", RespHead{Status: 204, Conn: ConnKeepAlive, ContentLength: 5}, "HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n"},
		{"304", RespHead{Status: 304, ContentLength: -1, Conn: ConnKeepAlive}, "HTTP/1.1 304 Not Modified\r\nConnection: keep-alive\r\n\r\n"},
		{"426", RespHead{Status: 426, WsVersion: true}, "HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nContent-Length: 0\r\nConnection: close, upgrade\r\n\r\n"},
		{"unknown", RespHead{Status: 799}, "HTTP/1.1 799 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			atEveryCap(t, c.want, func(dst []byte) ([]byte, bool) { return AppendHead(dst, &c.r) })
		})
	}
}

// atEveryCap checks an append function at every capacity: exactly want bytes are needed, fewer leave dst alone.
func atEveryCap(t *testing.T, want string, f func(dst []byte) ([]byte, bool)) {
	t.Helper()
	const before = "before"
	for room := range len(want) + 2 {
		buf := bytes.Repeat([]byte{'#'}, len(before)+room+8)
		copy(buf, before)
		got, ok := f(buf[: len(before) : len(before)+room])
		if ok != (room >= len(want)) {
			t.Fatalf("room %d of %d: %v", room, len(want), ok)
		}
		if !ok && string(got) != before || ok && string(got) != before+want {
			t.Fatalf("room %d: %q, want %q", room, got, want)
		}
		if ok && &got[0] != &buf[0] || string(buf[len(before)+room:]) != "########" {
			t.Fatalf("room %d: grew", room)
		}
	}
}

func TestRefused(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, bad := range []string{"a\r\nX: y", "a\nb", "a\x00b", "\r", "\x7f", "\x1b[0m"} {
		for i, r := range []RespHead{
			{ContentType: bad}, {ContentEncoding: bad}, {CacheControl: bad}, {Location: bad}, {Vary: bad}, {AllowOrigin: bad}, {AllowMethods: bad}, {AllowHeaders: bad},
			{Extra: []Field{{"X", bad}}}, {Extra: []Field{{bad, "x"}}},
		} {
			r.Status = 200
			if got, ok := AppendHead(buf, &r); ok || len(got) != 0 {
				t.Errorf("%q in %d: %q", bad, i, got)
			}
		}
		if _, ok := Append101(buf, new([28]byte), bad, nil); ok {
			t.Errorf("protocol %q", bad)
		}
	}
	for _, name := range []string{"", "a b", "a:", "\xc3\xa9", "Content-Length", "TRANSFER-ENCODING", "connection", "Upgrade"} {
		if _, ok := AppendHead(buf, &RespHead{Status: 200, Extra: []Field{{name, "x"}}}); ok {
			t.Errorf("field %q", name)
		}
	}
	for _, s := range []int{-1, 0, 100, 101, 199, 1000} {
		if _, ok := AppendHead(buf, &RespHead{Status: s}); ok {
			t.Errorf("status %d", s)
		}
	}
}

// TestReadable: net/http reads every standard error response, with and without a body, and finds the stream empty behind it.
func TestReadable(t *testing.T) {
	for status := 200; status < 600; status++ {
		if StatusText(status) == "" {
			continue
		}
		for _, head := range []bool{false, true} {
			r := RespHead{Status: status, Date: date(), Allow: Served, RetryAfter: 1, WsVersion: status == 426, ContentType: "x/y", ContentLength: 99}
			b, ok := AppendError(make([]byte, 0, 1024), &r, head)
			if !ok {
				t.Fatal(status)
			}
			req := &http.Request{Method: "GET"}
			if head {
				req.Method = "HEAD"
			}
			br := bufio.NewReader(bytes.NewReader(b))
			resp, err := http.ReadResponse(br, req)
			if err != nil {
				t.Fatalf("%d: %v", status, err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || br.Buffered() != 0 || resp.StatusCode != status || !resp.Close {
				t.Fatalf("%d: %v, %d left, %q", status, err, br.Buffered(), b)
			}
			_, length := resp.Header["Content-Length"]
			want := !head && !Bodyless(status)
			if length == Bodyless(status) || (len(body) > 0) != want || want && !strings.HasPrefix(string(body), resp.Status+"\n") {
				t.Fatalf("%d: %q", status, b)
			}
			if allow := resp.Header.Get("Allow"); allow != "GET, HEAD, POST, PUT, OPTIONS" {
				t.Fatalf("Allow: %q", allow)
			}
		}
	}
}

func TestStatusText(t *testing.T) {
	for s := -1; s < 700; s++ {
		want := http.StatusText(s)
		switch s { // where net/http has the older phrase
		case 413:
			want = "Content Too Large"
		case 414:
			want = "URI Too Long"
		case 416:
			want = "Range Not Satisfiable"
		case 422:
			want = "Unprocessable Content"
		}
		if got := StatusText(s); got != want {
			t.Errorf("%d: %q, net/http has %q", s, got, want)
		}
	}
}

func TestAppend101(t *testing.T) {
	accept := [28]byte([]byte("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
	want := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
	atEveryCap(t, want+"\r\n", func(dst []byte) ([]byte, bool) { return Append101(dst, &accept, "", nil) })
	atEveryCap(t, want+"Sec-WebSocket-Protocol: p\r\n\r\n", func(dst []byte) ([]byte, bool) { return Append101(dst, &accept, "p", nil) })
	atEveryCap(t, "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 14\r\nConnection: close\r\n\r\n404 Not Found\n",
		func(dst []byte) ([]byte, bool) { return AppendError(dst, &RespHead{Status: 404}, false) })
}

func TestFormatDate(t *testing.T) {
	var d [29]byte
	check := func(s int64) {
		FormatDate(&d, s)
		if want := time.Unix(s, 0).UTC().Format(http.TimeFormat); string(d[:]) != want {
			t.Fatalf("%d: %q, want %q", s, d, want)
		}
	}
	for s := int64(-62167219200); s < 253402300800; s += 86399 * 7 { // the years 0 to 9999
		check(s)
	}
	for s := int64(946684800 - 400*86400); s < 946684800+400*86400; s += 3599 {
		check(s)
	}
	for _, s := range []int64{0, -1, 1, 951782399, 951782400, 951868799, 951868800, 253402300799, -62167219200} {
		check(s)
	}
}

func TestResponseNoAllocation(t *testing.T) {
	buf := make([]byte, 0, 1024)
	d := date()
	extra := []Field{{"X-A", "b"}}
	var accept [28]byte
	if n := testing.AllocsPerRun(100, func() {
		FormatDate(d, 784111777)
		r := RespHead{Status: 200, Date: d, ContentType: "text/html", ContentLength: 12345, Allow: Served, Extra: extra}
		if _, ok := AppendHead(buf, &r); !ok {
			t.Fatal("refused")
		}
		AppendError(buf, &r, false)
		Append101(buf, &accept, "p", d)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppendHead(b *testing.B) {
	buf := make([]byte, 0, 1024)
	r := RespHead{Status: 200, Date: date(), ContentType: "text/html; charset=utf-8", CacheControl: "no-cache", ContentLength: 12345}
	b.ReportAllocs()
	for b.Loop() {
		AppendHead(buf, &r)
	}
}
