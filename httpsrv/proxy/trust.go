package proxy

import (
	"fmt"
	"net/netip"
	"strings"
)

// TrustMax bounds a Trust: it is walked for each connection.
const TrustMax = 256

// Trust is the set of those who are believed. The zero value is nobody.
type Trust struct {
	nets []netip.Prefix
	unix bool
}

// ParseTrust reads a list of addresses ("10.0.0.1", "::1"), networks ("10.0.0.0/8", "2001:db8::/32"; bits beyond the prefix are
// ignored) and "unix", who is connected by a unix socket. The error names the first entry that is none.
func ParseTrust(list []string) (t Trust, err error) {
	if len(list) > TrustMax {
		return t, fmt.Errorf("%d trusted proxies, %d at most", len(list), TrustMax)
	}
	for _, s := range list {
		if s == "unix" {
			t.unix = true
			continue
		}
		p, ok := parseNet(s)
		if !ok {
			return Trust{}, fmt.Errorf("trusted proxy %q: want an address, a network (10.0.0.0/8, 2001:db8::/32) or unix", s)
		}
		t.nets = append(t.nets, p)
	}
	return t, nil
}

func parseNet(s string) (netip.Prefix, bool) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, false
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, false
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return p, false // would be IPv6 and IPv4 at once
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p.Masked(), true
}

// Empty reports whether nobody is believed.
func (t *Trust) Empty() bool { return !t.unix && len(t.nets) == 0 }

// Has reports whether addr is believed. A network of IPv6 never has an IPv4 address.
func (t *Trust) Has(addr *[16]byte) bool {
	if *addr == ([16]byte{}) {
		return t.unix
	}
	a := netip.AddrFrom16(*addr).Unmap()
	for i := range t.nets {
		if t.nets[i].Contains(a) {
			return true
		}
	}
	return false
}
