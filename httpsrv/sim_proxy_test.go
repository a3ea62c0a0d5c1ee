//go:build explore

package httpsrv

import (
	"fmt"
	"net/netip"
	"strings"
)

// Behind a proxy each client's connection begins with a header of the PROXY protocol. It tells the client, or another proxy that
// is trusted, whose requests tell their clients themselves, or nothing: then the address of the connection counts.

// simTrusted are the proxies: the address that the simulated kernel tells of all, and some that headers may tell.
var simTrusted = []string{"0.0.0.0", "10.0.0.0/8"}

// proxied has c begin with a header.
func (c *simClient) proxied() {
	r := c.w.rnd
	src := fmt.Sprintf("203.0.113.%d", r.IntN(6))
	if c.hops = r.IntN(2) == 0; c.hops {
		src = fmt.Sprintf("10.0.0.%d", r.IntN(6))
	}
	head := ""
	switch r.IntN(4) {
	case 0:
		head = fmt.Sprintf("PROXY TCP4 %s 192.0.2.1 %d 443\r\n", src, c.n)
	case 1:
		head, src, c.hops = "PROXY UNKNOWN\r\n", "0.0.0.0", true
	case 2:
		head = v2Header(1, 0x11, src, r.IntN(150))
	default:
		head, src, c.hops = v2Header(0, 0, src, r.IntN(50)), "0.0.0.0", true
	}
	c.real = netip.MustParseAddr(src)
	c.w.tell("client %d comes by a proxy: %q", c.n, head[:min(len(head), 40)])
	c.out = append(c.out, head...)
}

// hop adds to a request the client that it is for, if what it says is believed or not.
func (c *simClient) hop(request string, client int) string {
	if !c.w.plan.proxy {
		return request
	}
	return strings.Replace(request, "Host: x\r\n", fmt.Sprintf("Host: x\r\nX-Forwarded-For: 198.51.100.1, 203.0.113.%d, 10.0.0.9\r\n", 100+client), 1)
}

// checkClient: the application is asked by the n-th client of the connection.
func (c *simClient) checkClient(client int) {
	if !c.w.plan.proxy {
		return
	}
	want := c.real
	if c.hops {
		want = netip.AddrFrom4([4]byte{203, 0, 113, byte(100 + client)})
	}
	if got := netip.AddrFrom16(c.tile.t.conns[c.id.Slot()].peer).Unmap(); got != want {
		c.w.fail("client %d asks as %v, want %v", c.n, got, want)
	}
}
