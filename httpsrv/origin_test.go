package httpsrv

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

var originCases = []struct {
	origin, host string
	allow        []string
	ok           bool
	secure       bool // by TLS, as is known
}{
	{"", "h:1", nil, true, false}, // no browser
	{"http://h:1", "h:1", nil, true, false},
	{"https://H", "h", nil, true, false},
	{"http://h", "h:80", nil, true, false},
	{"https://h", "h:443", nil, true, false},
	{"https://h", "h:80", nil, false, false},
	{"http://h:2", "h:1", nil, false, false},
	{"http://h.evil", "h", nil, false, false},
	{"http://evil", "h", nil, false, false},
	{"null", "h", nil, false, false},
	{"null", "h", []string{"null"}, true, false},
	{"http://", "", nil, false, false},
	{"h", "h", nil, false, false},
	{"http://evil", "h", []string{"*"}, true, false},
	{"https://app.example", "h", []string{"http://other", "https://APP.example"}, true, false},
	{"http://app.example", "h", []string{"https://app.example"}, false, false},
	{"https://app.example:8443", "h", []string{"https://app.example"}, false, false},
	{"http://h", "h", []string{"https://app.example"}, true, false}, // same origin besides the list
	{"https://h", "h", nil, true, true},
	{"http://h", "h", nil, false, true},
	{"http://h", "h:80", nil, false, true},
	{"http://h", "h", []string{"http://h"}, true, true},
	{"", "h", nil, true, true},
}

func TestOriginAllowed(t *testing.T) {
	for _, c := range originCases {
		var o []byte
		if c.origin != "" {
			o = []byte(c.origin)
		}
		if ok := originAllowed(c.allow, o, []byte(c.host), c.secure); ok != c.ok {
			t.Errorf("%q at %q with %q: %v", c.origin, c.host, c.allow, ok)
		}
	}
	allow, o, h := []string{"https://app.example"}, []byte("https://app.exampl3"), []byte("h")
	if n := testing.AllocsPerRun(100, func() { originAllowed(allow, o, h, true) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestCheckOrigins(t *testing.T) {
	if err := CheckOrigins([]string{"*", "null", "https://a.example", "http://[::1]:8080", "chrome-extension://abc"}); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "a.example", "https://", "https://a/", "https://a/x", "https://a?x", "https://u@a", "https://a b"} {
		if err := CheckOrigins([]string{bad}); !errors.Is(err, ErrParams) || !strings.Contains(err.Error(), fmt.Sprintf("%q", bad)) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// A page of another origin gets 403, is counted, and told of; others are served.
func TestOriginRefused(t *testing.T) {
	var told []string
	o := TileOptions{
		AllowOrigins:    []string{"https://app.example"},
		OnRefusedOrigin: func(origin, host []byte) { told = append(told, string(origin)+" "+string(host)) },
	}
	rigEach(t, rigParams(), o, func(r *rig) {
		told = nil
		hello := func(origin string) string {
			return strings.Replace(handshake("/ws"), "Host: x\r\n", "Host: x\r\nOrigin: "+origin+"\r\n", 1)
		}
		for _, bad := range []string{"https://evil.example", "null", "http://x.evil"} {
			p := r.dial(0).send([]byte(hello(bad)))
			if a := p.answered(); a.status != 403 {
				r.Errorf("%q", a.head)
			}
			p.close()
		}
		r.until("counted", func() bool { return r.count("closed_origin") == 3 })
		if want := "[https://evil.example x null x http://x.evil x]"; fmt.Sprint(told) != want {
			r.Errorf("told %v", told)
		}
		for _, good := range []string{"https://app.example", "http://x"} {
			p := r.dial(0).send([]byte(hello(good)))
			r.until("101", func() bool { return strings.HasPrefix(string(p.in), "HTTP/1.1 101 ") })
		}
		// It is of upgrades only.
		if a := r.dial(0).send([]byte(req("GET", "/", "Origin: https://evil.example\r\n"))).answered(); a.status != 200 {
			r.Errorf("%q", a.head)
		}
	})
}
