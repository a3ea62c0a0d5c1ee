package httpsrv

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/tilewire/tilewire/httpsrv/h1"
	"github.com/tilewire/tilewire/httpsrv/proxy"
)

// ProxyProtocol is which header of the PROXY protocol a trusted proxy puts in front of a connection's first request.
type ProxyProtocol uint8

// The choices.
const (
	ProxyOff ProxyProtocol = iota
	ProxyV1
	ProxyV2
	ProxyAny
)

var proxyNames = words{"off", "v1", "v2", "any"}

// String is the choice's word, as ParseProxyProtocol takes it; 'unknown' for anything else.
func (p ProxyProtocol) String() string { return proxyNames.of(int(p)) }

// ParseProxyProtocol returns the choice called s: "off", "v1", "v2" or "any". ErrParams for anything else.
func ParseProxyProtocol(s string) (ProxyProtocol, error) {
	i, err := proxyNames.index("PROXY protocol", s)
	return ProxyProtocol(i), err
}

// CheckProxies returns ErrParams unless list is one of trusted proxies as TileOptions.TrustedProxies takes it, which p needs one of.
func CheckProxies(p ProxyProtocol, list []string) error {
	_, err := trustOf(p, list)
	return err
}

func trustOf(p ProxyProtocol, list []string) (proxy.Trust, error) {
	t, err := proxy.ParseTrust(list)
	switch {
	case err != nil:
		return t, fmt.Errorf("%w: %w", ErrParams, err)
	case p > ProxyAny:
		return t, fmt.Errorf("%w: ProxyProtocol is %d, must be 0 to %d", ErrParams, p, ProxyAny)
	case p != ProxyOff && t.Empty():
		return t, fmt.Errorf("%w: PROXY protocol %v without a trusted proxy: nobody's header would be believed", ErrParams, p)
	}
	return t, nil
}

// fwd: what a connection owes to a proxy. Whether its header is still to come follows from rxPos: done is then 0, and moves behind the
// header by the same store that has a successor go on with the request.
const (
	fwHeader  = 1 << iota // accepted from a trusted proxy that must send a header first
	fwTrusted             // what its requests say of clients is believed
	fwVia                 // peer is the client of the request in progress, via the proxy
	fwCounted             // peer is in NetTile.addrs; of this process, made anew by the next
)

func (c *conn) awaitsHeader() bool { return c.fwd&fwHeader != 0 && c.rxNow().done == 0 }

// via is where the proxy's address is kept while peer is its client's (fwVia): in fields that only streams use.
func (c *conn) via() (a [16]byte) {
	binary.BigEndian.PutUint64(a[:], c.stop)
	binary.BigEndian.PutUint64(a[8:], c.insert)
	return a
}

// meet decides what is believed of a connection that was just accepted.
func (t *NetTile) meet(c *conn) {
	if t.opt.trust.Empty() || !t.opt.trust.Has(&c.peer) {
		return
	}
	c.fwd = fwTrusted
	if t.opt.ProxyProtocol != ProxyOff {
		c.fwd |= fwHeader
	}
}

// full reports whether an address has all the connections that it may have. Trusted proxies may have any number.
func (t *NetTile) full(peer *[16]byte) bool {
	limit := t.opt.MaxConnectionsPerIP
	return limit > 0 && t.addrs.count(peer) >= limit && !t.opt.trust.Has(peer)
}

// count has the connection count for its peer's address, unless that is a trusted proxy's.
func (t *NetTile) count(c *conn) {
	if t.opt.MaxConnectionsPerIP > 0 && !t.opt.trust.Has(&c.peer) {
		t.addrs.add(&c.peer)
		c.fwd |= fwCounted
	}
}

func (t *NetTile) uncount(c *conn) {
	if c.fwd&fwCounted != 0 && t.opt.MaxConnectionsPerIP > 0 {
		t.addrs.remove(&c.peer)
	}
	c.fwd &^= fwCounted
}

// recount judges all connections anew: those of a predecessor, or after the list of proxies or the limit changed.
func (t *NetTile) recount() {
	for i := range t.conns {
		c := &t.conns[i]
		switch c.state {
		case stFree:
			continue
		case stRequest:
			c.goBack() // its request is looked at again
		case stAwait, stRespond, stLinger:
		default:
			c.fwd &^= fwVia
		}
		who := c.peer
		if c.fwd&fwVia != 0 {
			who = c.via()
		}
		if c.fwd &^= fwTrusted | fwCounted; t.opt.trust.Has(&who) {
			c.fwd |= fwTrusted
		}
		if t.opt.MaxConnectionsPerIP > 0 && !t.opt.trust.Has(&c.peer) {
			c.fwd |= fwCounted
		}
	}
	t.addrs = addrs{}
	if t.opt.MaxConnectionsPerIP > 0 {
		t.addrs = newAddrs(t.conns)
	}
}

// readHeader reads the proxy's header, which may have come in part. false: more must come, or the connection is closed.
func (t *NetTile) readHeader(slot uint32, c *conn) bool {
	accept := proxy.Versions(t.opt.ProxyProtocol)
	if accept == 0 { // turned off meanwhile
		accept = proxy.Any
	}
	rx := *c.rxNow()
	raw := t.req.buf(rx.buf)[:rx.end-rx.base]
	var h proxy.Header
	switch proxy.Parse(raw, accept, int(min(proxy.MaxLen, t.srv.params.MaxRequestLen)), &h) {
	case proxy.Incomplete:
		c.rxNow().scan = 1 // wants
		return false
	case proxy.Malformed:
		t.drop(slot, CloseProxyHeader)
		return false
	}
	switch {
	case h.Own:
	case t.full(&h.Src):
		t.tooMany(slot)
		return false
	default:
		t.uncount(c)
		c.peer, c.peerPort = h.Src, h.Port // before the header counts as read: a successor in doubt reads it again
		if c.fwd &^= fwTrusted; t.opt.trust.Has(&c.peer) {
			c.fwd |= fwTrusted
		}
		t.count(c)
	}
	step(ptAnswered)
	rx.done, rx.scan = uint64(h.Len), 0
	c.rxCommit(&rx)
	step(ptAnswered)
	return rx.end > rx.done
}

func (t *NetTile) tooMany(slot uint32) {
	t.cnt.Cell(cntRejectedAddr).Inc()
	t.refuse(slot, 429, CloseLimit)
}

// clientOf has a request of a trusted proxy's connection count for the client that it says it is for, until it is answered: the next one
// may be another's. false: that address has too many.
func (t *NetTile) clientOf(slot uint32, c *conn, h *h1.Head, raw []byte) bool {
	if h.XForwardedFor == nil {
		return true
	}
	var hops proxy.Hops
	for off := 0; ; {
		name, value, next := h.Next(raw, off)
		if next == 0 {
			break
		}
		if len(name) == len("X-Forwarded-For") && bytes.EqualFold(name, xForwardedFor) {
			hops.Add(value)
		}
		off = next
	}
	addr, ok := hops.Client(&t.opt.trust)
	if !ok || addr == c.peer {
		return true
	}
	if t.full(&addr) {
		t.tooMany(slot)
		return false
	}
	t.uncount(c)
	c.stop, c.insert = binary.BigEndian.Uint64(c.peer[:]), binary.BigEndian.Uint64(c.peer[8:])
	step(ptAnswered)
	c.fwd |= fwVia
	step(ptAnswered)
	c.peer, c.peerPort = addr, 0
	t.count(c)
	return true
}

var xForwardedFor = []byte("X-Forwarded-For")

// goBack makes the proxy the peer again, between two requests.
func (c *conn) goBack() {
	if c.fwd&fwVia != 0 {
		c.peer, c.peerPort = c.via(), 0
		c.fwd &^= fwVia
	}
}

// askedHost returns the host that the client asked for and whether it did so by TLS, as far as that is known: what a trusted proxy
// says counts, for it may have put a Host of its own.
func (c *conn) askedHost(h *h1.Head, raw []byte) (host []byte, secure bool) {
	if c.fwd&fwTrusted == 0 {
		return h.Host, false
	}
	host = h.Host
	if v := firstOf(h.Lookup(raw, "X-Forwarded-Host")); len(v) > 0 {
		host = v
	}
	proto := firstOf(h.Lookup(raw, "X-Forwarded-Proto"))
	return host, bytes.EqualFold(proto, https) || bytes.EqualFold(proto, wss)
}

var https, wss = []byte("https"), []byte("wss")

// firstOf returns the first element of a list: the one that the proxy next to the client wrote.
func firstOf(list []byte) []byte {
	v, _, _ := bytes.Cut(list, comma)
	return bytes.TrimSpace(v)
}

var comma = []byte(",")
