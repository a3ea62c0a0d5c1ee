package httpsrv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/proxy"
)

// v2Header is a binary header for a client's IPv4 address (port: that of the proxy's listener), with so many bytes of TLVs.
func v2Header(cmd, family byte, src string, tlvs int) string {
	a := netip.MustParseAddr(src).As4()
	body := append(a[:], 192, 0, 2, 1, 0x12, 0x34, 1, 187)
	if family == 0 {
		body = nil
	}
	body = append(body, make([]byte, tlvs)...)
	return string(binary.BigEndian.AppendUint16([]byte{
		'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n', 0x20 | cmd, family,
	}, uint16(len(body)))) + string(body)
}

func v1Header(src string) string { return "PROXY TCP4 " + src + " 192.0.2.1 4660 443\r\n" }

// peerOf is who the tile takes a connection's peer for.
func (r *rig) peerOf(id ConnID) string {
	r.Helper()
	c, ok := r.s.Client(id)
	if !ok {
		r.Fatalf("no connection %v", id)
	}
	return c.Peer.String()
}

// asked has the rig note who asks.
func (r *rig) asked() *[]string {
	var who []string
	r.onRequest = func(q *Request) Response {
		who = append(who, r.peerOf(q.Conn))
		return r.route(q)
	}
	return &who
}

var loopback = []string{"127.0.0.1"}

// Cut at each byte the header tells the client, and the request behind it is answered.
func TestProxyHeaderCut(t *testing.T) {
	get := req("GET", "/", "")
	for _, c := range []struct {
		p          ProxyProtocol
		head, want string
	}{
		{ProxyV1, v1Header("203.0.113.7"), "203.0.113.7:4660"},
		{ProxyAny, "PROXY TCP6 2001:db8::7 2001:db8::1 5 6\r\n", "[2001:db8::7]:5"},
		{ProxyV1, "PROXY UNKNOWN\r\n", "127.0.0.1"},
		{ProxyV2, v2Header(1, 0x11, "203.0.113.7", 40), "203.0.113.7:4660"},
		{ProxyAny, v2Header(0, 0, "203.0.113.7", 3), "127.0.0.1"}, // LOCAL
	} {
		rigEach(t, rigParams(), TileOptions{ProxyProtocol: c.p, TrustedProxies: loopback}, func(r *rig) {
			who := r.asked()
			in := c.head + get
			for cut := range len(in) {
				p := r.dial(0)
				p.send([]byte(in[:cut]))
				r.quiet()
				if p.total > 0 || p.eof {
					r.Fatalf("cut at %d: %q, end %v", cut, p.in, p.eof)
				}
				p.send([]byte(in[cut:]))
				if a := p.answered(); a.status != 200 || a.body != "GET /" {
					r.Fatalf("cut at %d: %q", cut, a.head)
				}
				p.close()
			}
			for _, w := range *who {
				if w != c.want && !(!strings.Contains(c.want, ":") && strings.HasPrefix(w, c.want+":")) {
					r.Errorf("asked by %s, want %s", w, c.want)
				}
			}
			if len(*who) != len(in) || r.count("closed_proxy_header") != 0 {
				r.Errorf("%d requests of %d", len(*who), len(in))
			}
			p := r.dial(0) // octet by octet
			for i := range len(in) {
				p.send([]byte(in[i : i+1]))
				r.poll()
			}
			if a := p.answered(); a.status != 200 {
				r.Errorf("octet by octet: %q", a.head)
			}
		})
	}
}

// Who must send a header and sends something else is closed without a word, and counted.
func TestProxyHeaderRefused(t *testing.T) {
	for p, ins := range map[ProxyProtocol][]string{
		ProxyV1:  {req("GET", "/", ""), v2Header(0, 0, "1.2.3.4", 0), "PROXY TCP4 1.2.3.4 1.2.3.4 1 x\r\n", "PROXY " + strings.Repeat("x", 200), "\x16\x03\x01"},
		ProxyV2:  {req("GET", "/", ""), v1Header("1.2.3.4"), v2Header(3, 0x11, "1.2.3.4", 0), v2Header(1, 0x11, "1.2.3.4", 0)[:14] + "\xff\xff", "\r\n\r\nGET"},
		ProxyAny: {req("GET", "/", ""), handshake("/ws"), "x"},
	} {
		rigEach(t, rigParams(), TileOptions{ProxyProtocol: p, TrustedProxies: loopback}, func(r *rig) {
			for i, in := range ins {
				c := r.dial(0).send([]byte(in))
				c.closed()
				if c.total != 0 || r.count("closed_proxy_header") != uint64(i+1) {
					r.Errorf("%v: %q is answered %q, %d counted", p, in, c.in, r.count("closed_proxy_header"))
				}
				c.close()
			}
		})
	}
}

// One who is not trusted is a plain client: served without a header, closed without a word with one, and not believed.
func TestProxyUntrusted(t *testing.T) {
	o := TileOptions{ProxyProtocol: ProxyAny, TrustedProxies: []string{"10.0.0.0/8", "::1"}, KeepAlive: true}
	rigEach(t, rigParams(), o, func(r *rig) {
		who := r.asked()
		if a := r.dial(0).send([]byte(req("GET", "/", "X-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n"))).answered(); a.status != 200 {
			r.Errorf("%q", a.head)
		}
		for i, in := range []string{v1Header("203.0.113.7"), v2Header(1, 0x11, "203.0.113.7", 9)} {
			p := r.dial(0).send([]byte(in), []byte(req("GET", "/", "")))
			p.closed()
			if p.total != 0 || r.count("closed_proxy_header") != uint64(i+1) {
				r.Errorf("%q is answered %q", in, p.in)
			}
		}
		if len(*who) != 1 || !strings.HasPrefix((*who)[0], "127.0.0.1:") {
			r.Errorf("asked by %q", *who)
		}
	})
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) { // without the option they are no more than bad requests
		if a := r.dial(0).send([]byte(v1Header("203.0.113.7")), []byte(req("GET", "/", ""))).answered(); a.status != 400 {
			r.Errorf("%q", a.head)
		}
	})
}

// The header has the time of the request's head, both together; nobody is answered before it is there.
func TestProxyHeaderTime(t *testing.T) {
	o := TileOptions{ProxyProtocol: ProxyAny, TrustedProxies: loopback, RequestTimeout: 10 * time.Second}
	rigEach(t, rigParams(), o, func(r *rig) {
		head := v1Header("203.0.113.7")
		half, whole, begun := r.dial(0).send([]byte(head[:20])), r.dial(0).send([]byte(head)), r.dial(0).send([]byte(head))
		r.quiet()
		r.forward(6 * time.Second)
		half.send([]byte(head[20:30]))
		begun.send([]byte("GET / HT"))
		r.quiet()
		if half.eof || whole.eof || begun.eof {
			r.Fatal("closed early")
		}
		r.forward(5 * time.Second)
		for what, p := range map[string]*peer{"half a header": half, "a header": whole} {
			if p.closed(); p.total != 0 {
				r.Errorf("%s is answered %q", what, p.in)
			}
		}
		if a := begun.answered(); a.status != 408 {
			r.Errorf("%q", a.head)
		}
		r.until("counted", func() bool { return r.count("closed_timeout") == 3 })
		gone := r.dial(0).send([]byte(head[:30]))
		gone.shut()
		gone.closed()
		probe := r.dial(0).send([]byte(v2Header(0, 0, "1.2.3.4", 0))) // a health check of the connection
		probe.shut()
		probe.closed()
		r.until("counted", func() bool { return r.count("closed_expected_eof") == 1 && r.count("closed_ok") == 1 })
	})
}

// Limits by address are about the address in the header, from it on; the proxy itself may have any number.
func TestProxyLimits(t *testing.T) {
	o := TileOptions{ProxyProtocol: ProxyAny, TrustedProxies: loopback, MaxConnectionsPerIP: 2}
	rigEach(t, rigParams(), o, func(r *rig) {
		a, b := v1Header("203.0.113.7"), v2Header(1, 0x11, "203.0.113.8", 0)
		for range 4 { // have yet to say who they are
			r.dial(0)
		}
		ws := r.dial(0).send([]byte(a)).stream("/ws")
		get := r.dial(0).send([]byte(a), []byte("GET "))
		r.quiet()
		if c := r.dial(0).send([]byte(a), []byte(req("GET", "/", ""))).answered(); c.status != 429 || c.field["retry-after"] == "" {
			r.Errorf("the third is answered %q", c.head)
		}
		if c := r.dial(0).send([]byte(b), []byte(req("GET", "/", ""))).answered(); c.status != 200 {
			r.Errorf("another address is answered %q", c.head)
		}
		if err := r.tile.check(); err != nil {
			r.Error(err)
		}
		if n := r.count("rejected_address"); n != 1 {
			r.Errorf("%d rejected", n)
		}
		ws.close()
		r.until("gone", func() bool { _, n := r.tile.Conns(); return n == 0 })
		if c := r.dial(0).send([]byte(a), []byte(req("GET", "/", ""))).answered(); c.status != 200 {
			r.Errorf("with a place free: %q", c.head)
		}
		get.close()
	})
}

// X-Forwarded-For counts as long as the request, and whatever streams from it, is there; a kept connection serves several clients.
func TestForwardedFor(t *testing.T) {
	p := rigParams()
	p.MaxConnectionCnt = 32
	o := TileOptions{TrustedProxies: []string{"127.0.0.1", "10.0.0.0/8"}, MaxConnectionsPerIP: 1, KeepAlive: true}
	rigEach(t, p, o, func(r *rig) {
		who := r.asked()
		from := func(list string) []byte { return []byte(req("GET", "/", "X-Forwarded-For: "+list+"\r\n")) }
		k, l := r.dial(0), r.dial(0)
		for i, c := range []struct{ list, want string }{
			{"203.0.113.7", "203.0.113.7:0"}, {"203.0.113.8", "203.0.113.8:0"}, {"203.0.113.7, 10.1.1.1", "203.0.113.7:0"},
			{"198.51.100.1, 203.0.113.7:81", "203.0.113.7:0"}, {"198.51.100.1\r\nX-Forwarded-For: 2001:db8::1\r\nx-forwarded-for: 10.0.0.1", "[2001:db8::1]:0"},
			{"10.9.9.9", "10.9.9.9:0"}, {"nonsense", "127.0.0.1:0"}, {"203.0.113.7, nonsense", "127.0.0.1:0"},
		} {
			for _, p := range []*peer{k, l} { // the one before has its answer, and does not count
				if a := p.send(from(c.list)).nextAnswer(false); a.status != 200 || a.field["connection"] != "keep-alive" {
					r.Fatalf("%s: %q", c.list, a.head)
				}
				if got := (*who)[len(*who)-1]; got != c.want {
					r.Errorf("%d: %q is %s, want %s", i, c.list, got, c.want)
				}
			}
		}
		if a := k.send([]byte(req("GET", "/", ""))).nextAnswer(false); a.status != 200 || (*who)[len(*who)-1] != "127.0.0.1:0" {
			r.Errorf("without the field: %q, by %s", a.head, (*who)[len(*who)-1])
		}
		// A stream counts on.
		hello := strings.Replace(handshake("/ws"), "Host: x\r\n", "Host: x\r\nX-Forwarded-For: 203.0.113.7\r\n", 1)
		s := r.dial(0).send([]byte(hello))
		r.until("101", func() bool { return strings.HasPrefix(string(s.in), "HTTP/1.1 101 ") })
		if a := k.send(from("203.0.113.7")).nextAnswer(false); a.status != 429 || a.field["connection"] != "close" {
			r.Errorf("%q", a.head)
		}
		if a := l.send(from("203.0.113.8")).nextAnswer(false); a.status != 200 {
			r.Errorf("%q", a.head)
		}
		if err := r.tile.check(); err != nil {
			r.Error(err)
		}
		s.close()
		r.until("gone", func() bool { _, n := r.tile.Conns(); return n == 0 })
		if a := l.send(from("203.0.113.7")).nextAnswer(false); a.status != 200 {
			r.Errorf("%q", a.head)
		}
		// A list that is new is obeyed by who is there already.
		o.TrustedProxies = nil
		if err := r.tile.SetOptions(o); err != nil {
			r.Fatal(err)
		}
		if a := l.send(from("203.0.113.9")).nextAnswer(false); a.status != 200 || !strings.HasPrefix((*who)[len(*who)-1], "127.0.0.1:") {
			r.Errorf("no longer trusted: %q, by %s", a.head, (*who)[len(*who)-1])
		}
		if err := r.tile.check(); err != nil {
			r.Error(err)
		}
	})
}

// A header may tell of another proxy that is trusted, and that one of its client; a client that it tells of is not believed.
func TestForwardedBehindHeader(t *testing.T) {
	o := TileOptions{ProxyProtocol: ProxyV1, TrustedProxies: []string{"127.0.0.1", "10.0.0.0/8"}}
	rigEach(t, rigParams(), o, func(r *rig) {
		who := r.asked()
		for _, c := range []struct{ src, want string }{{"10.0.0.1", "203.0.113.7:0"}, {"203.0.113.1", "203.0.113.1:4660"}} {
			if a := r.dial(0).send([]byte(v1Header(c.src)), []byte(req("GET", "/", "X-Forwarded-For: 203.0.113.7\r\n"))).answered(); a.status != 200 {
				r.Errorf("%q", a.head)
			}
			if got := (*who)[len(*who)-1]; got != c.want {
				r.Errorf("behind %s: %s, want %s", c.src, got, c.want)
			}
		}
	})
}

// By a unix socket the proxy has no address: "unix" trusts it.
func TestProxyUnix(t *testing.T) {
	for _, trust := range []string{"unix", "0.0.0.0/0"} {
		rigEach(t, rigParams(), TileOptions{TrustedProxies: []string{trust}, MaxConnectionsPerIP: 5}, func(r *rig) {
			who := r.asked()
			addr, err := r.tile.Listen("unix:" + r.TempDir() + "/s")
			if err != nil {
				r.Fatal(err)
			}
			r.dialTo(addr, 0).send([]byte(req("GET", "/", "X-Forwarded-For: 203.0.113.7\r\n"))).answered()
			want := map[string]string{"unix": "203.0.113.7:0", "0.0.0.0/0": "invalid AddrPort"}[trust]
			if (*who)[0] != want {
				r.Errorf("with %s trusted: %s, want %s", trust, (*who)[0], want)
			}
		})
	}
}

// What a trusted proxy says the client asked for is what a page's origin is compared with; what others say is not.
func TestForwardedOrigin(t *testing.T) {
	for _, c := range []struct {
		fields string
		trust  []string
		ok     bool
	}{
		{"Origin: https://example.org\r\nX-Forwarded-Host: example.org\r\n", loopback, true},
		{"Origin: https://example.org\r\nX-Forwarded-Host: example.org\r\n", nil, false},
		{"Origin: https://example.org\r\nX-Forwarded-Host: example.org, inner\r\nX-Forwarded-Proto: https, http\r\n", loopback, true},
		{"Origin: https://example.org\r\nX-Forwarded-Host: example.org:443\r\nX-Forwarded-Proto: wss\r\n", loopback, true},
		{"Origin: https://evil.example\r\nX-Forwarded-Host: example.org\r\n", loopback, false},
		{"Origin: http://example.org\r\nX-Forwarded-Host: example.org\r\nX-Forwarded-Proto: https\r\n", loopback, false},
		{"Origin: https://x\r\n", loopback, true},
		{"Origin: https://x\r\nX-Forwarded-Proto: https\r\n", loopback, true},
		{"Origin: http://x\r\nX-Forwarded-Proto: https\r\n", loopback, false},
		{"Origin: http://x\r\nX-Forwarded-Proto: https\r\n", nil, true},      // not believed
		{"Origin: https://x\r\nX-Forwarded-Proto: http\r\n", loopback, true}, // TLS ended at a proxy before that one
		{"Origin: http://x\r\nX-Forwarded-Host: example.org\r\n", loopback, false},
		{"Origin: https://x\r\nX-Forwarded-Host: \r\n", loopback, true},
	} {
		rigEach(t, rigParams(), TileOptions{TrustedProxies: c.trust}, func(r *rig) {
			p := r.dial(0).send([]byte(strings.Replace(handshake("/ws"), "Host: x\r\n", "Host: x\r\n"+c.fields, 1)))
			r.until("an answer", func() bool { return strings.Contains(string(p.in), "\r\n\r\n") })
			if ok := strings.HasPrefix(string(p.in), "HTTP/1.1 101 "); ok != c.ok {
				r.Errorf("%q with %q trusted: %.12q", c.fields, c.trust, p.in)
			}
		})
	}
}

// A header that fills the request buffer leaves room for the request all the same.
func TestProxyHeaderLong(t *testing.T) {
	for _, size := range []int{4096, 4095, 4000, 232} {
		p := rigParams()
		p.MaxRequestLen = 4096
		rigEach(t, p, TileOptions{ProxyProtocol: ProxyV2, TrustedProxies: loopback}, func(r *rig) {
			head, body := v2Header(1, 0x11, "203.0.113.7", size-28), strings.Repeat("b", 3900)
			post := req("POST", "/", fmt.Sprintf("Content-Length: %d\r\n", len(body))) + body
			if a := r.dial(0).send([]byte(head), []byte(post)).answered(); len(head) != size || a.status != 200 || a.body != body {
				r.Errorf("behind %d bytes: %q", len(head), a.head)
			}
		})
	}
}

func TestProxyOptions(t *testing.T) {
	p := rigParams()
	for what, o := range map[string]TileOptions{
		"without a trusted proxy": {ProxyProtocol: ProxyV1},
		`"nobody"`:                {TrustedProxies: []string{"nobody"}},
		"ProxyProtocol is 4":      {ProxyProtocol: 4, TrustedProxies: loopback},
	} {
		if err := o.complete(&p); !errors.Is(err, ErrParams) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		if err := CheckProxies(o.ProxyProtocol, o.TrustedProxies); !errors.Is(err, ErrParams) {
			t.Errorf("%s: %v", what, err)
		}
	}
	p.MaxRequestLen = proxy.MinRoom - 1
	if err := (&TileOptions{ProxyProtocol: ProxyAny, TrustedProxies: loopback}).complete(&p); !errors.Is(err, ErrParams) {
		t.Error("a header would not fit:", err)
	}
	for i, n := range proxyNames {
		if p, err := ParseProxyProtocol(n); err != nil || p != ProxyProtocol(i) || p.String() != n {
			t.Error(n, p, err)
		}
	}
	if _, err := ParseProxyProtocol("v3"); !errors.Is(err, ErrParams) || ProxyProtocol(9).String() != "unknown" {
		t.Error(err)
	}
}

// Neither the header nor the field allocates anything.
func TestProxiedAllocatesNothing(t *testing.T) {
	if rigRace {
		t.Skip("the race detector allocates")
	}
	o := TileOptions{TrustedProxies: []string{"127.0.0.1", "10.0.0.0/8"}, MaxConnectionsPerIP: 3, KeepAlive: true}
	rigEach(t, rigParams(), o, func(r *rig) {
		r.tile.cb = Callbacks{Request: func(*Request) Response { return Response{Status: 204} }}
		p := r.dial(0)
		get := []byte(req("GET", "/", "X-Forwarded-For: 203.0.113.7, 10.0.0.1\r\n"))
		var buf [4096]byte
		once := func() {
			_, _ = sysWrite(p.fd, get)
			for n := 0; n <= 0; n, _ = unix.Read(p.fd, buf[:]) {
				r.tile.Poll(r.tile.now, 0)
			}
		}
		for range 100 {
			once()
		}
		if n := testing.AllocsPerRun(500, once); n != 0 {
			t.Errorf("%v allocations a request", n)
		}
		if n := r.count("requests"); n < 600 {
			t.Errorf("%d requests", n)
		}
	})
}
