package h1_test

import (
	"fmt"

	"github.com/tilewire/tilewire/httpsrv/h1"
)

// A connection's bytes arrive in pieces; only the offset is kept between the calls.
func ExampleParse() {
	stream := []byte("GET /live?tail=10 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	limits := h1.Limits{MaxRequest: 8192}
	var h h1.Head
	from := 0
	for _, received := range []int{10, 30, len(stream)} {
		next, v := h1.Parse(stream[:received], from, &limits, &h)
		if v.Incomplete() {
			from = next
			continue
		}
		fmt.Println(v.OK(), h.Method, string(h.Path), string(h.Query), string(h.Host))
	}
	// Output: true GET /live tail=10 localhost
}

func ExampleAppendError() {
	var h h1.Head
	_, v := h1.Parse([]byte("GET / HTTP/1.1\r\nHost : a\r\n"), 0, new(h1.Limits), &h)
	fmt.Println(v.Why)
	b, _ := h1.AppendError(make([]byte, 0, 512), &h1.RespHead{Status: int(v.Status)}, false)
	fmt.Printf("%q\n", b)
	// Output:
	// malformed field name
	// "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 16\r\nConnection: close\r\n\r\n400 Bad Request\n"
}
