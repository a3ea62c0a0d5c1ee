package proxy

import (
	"net/netip"
	"strings"
	"testing"
)

// Against net/netip: every address it takes, and no other.
func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{
		"0.0.0.0", "255.255.255.255", "1.2.3", "1.2.3.4.5", "1.2.3.", ".1.2.3", "1..2.3", "01.2.3.4", "256.1.1.1", "", ":", "::", ":::", "1::", "::1",
		"1::2", "1::2::3", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "1:2:3:4::5:6:7:8", "1:2:3:4:5:6:7", "12345::", "g::",
		"::ffff:1.2.3.4", "::1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:7:1.2.3.4", "::1.2.3.4:5", "::01.2.3.4", "fe80::1%eth0", "1:", ":1", "1:2:3:4:5:6:7:8:", "FFFF::Ab",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := ParseAddr([]byte(s))
		want, err := netip.ParseAddr(s)
		if ok != (err == nil && want.Zone() == "") || ok && netip.AddrFrom16(a).Unmap() != want.Unmap() {
			t.Errorf("%q: %v, %v; want %v, %v", s, netip.AddrFrom16(a), ok, want, err)
		}
	})
}

func TestTrust(t *testing.T) {
	tr, err := ParseTrust([]string{"10.1.2.3/8", "192.0.2.1", "2001:db8::/32", "::ffff:198.51.100.0/120", "::1"})
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[string]bool{
		"10.255.0.1": true, "11.0.0.1": false, "192.0.2.1": true, "192.0.2.2": false, "2001:db8:5::1": true, "2001:db9::1": false, "198.51.100.9": true,
		"198.51.101.9": false, "::1": true, "::2": false,
	} {
		a := netip.MustParseAddr(s).As16()
		if tr.Has(&a) != want {
			t.Errorf("%s: %v", s, !want)
		}
	}
	var nobody Trust
	all, err := ParseTrust([]string{"::/0", "unix"})
	if err != nil {
		t.Fatal(err)
	}
	v4, unix := netip.MustParseAddr("1.2.3.4").As16(), [16]byte{}
	if all.Has(&v4) || !all.Has(&unix) || tr.Has(&unix) || nobody.Has(&v4) || nobody.Has(&unix) || !nobody.Empty() || all.Empty() || tr.Empty() {
		t.Error("unix, or a network of the other family")
	}
	for _, bad := range []string{"", "10.0.0.0/33", "10.0.0/8", "fe80::1%eth0", "fe80::%eth0/64", "example.org", "::ffff:10.0.0.0/8", "unix:/run/x", "10.0.0.1-10.0.0.9"} {
		if _, err := ParseTrust([]string{"10.0.0.1", bad}); err == nil || !strings.Contains(err.Error(), `"`+bad+`"`) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := ParseTrust(make([]string, TrustMax+1)); err == nil {
		t.Error("a list of any length is taken")
	}
}

func TestHops(t *testing.T) {
	tr, err := ParseTrust([]string{"10.0.0.0/8", "2001:db8::/32"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ lines, want string }{
		{"203.0.113.7", "203.0.113.7"},
		{"198.51.100.1, 203.0.113.7", "203.0.113.7"}, // what a client claims stands before what a proxy added
		{"198.51.100.1, 203.0.113.7, 10.0.0.1, 2001:db8::5", "203.0.113.7"},
		{"198.51.100.1|203.0.113.7, 10.0.0.1|10.0.0.2", "203.0.113.7"},
		{"203.0.113.7|10.0.0.1", "203.0.113.7"},
		{"10.0.0.3,10.0.0.4 ,\t10.0.0.5", "10.0.0.3"},
		{"garbage, 203.0.113.7:5000", "203.0.113.7"},
		{"[2001:db9::1]:5000", "2001:db9::1"},
		{"[2001:db9::1], 10.0.0.1:80", "2001:db9::1"},
		{"2001:db9::1", "2001:db9::1"},
		{"garbage", ""},
		{"garbage, 10.0.0.1", ""},
		{"203.0.113.7, garbage", ""},
		{"203.0.113.7, ", ""},
		{"", ""},
		{",", ""},
		{"unknown", ""},
		{"::", ""},
		{"203.0.113.7:", ""},
		{"203.0.113.7:x", ""},
		{"[203.0.113.7]", ""},
		{"[2001:db9::1]5", ""},
		{"[2001:db9::1", ""},
		{`"203.0.113.7"`, ""},
		{"203.0.113.7" + strings.Repeat(", 10.0.0.1", maxHops-1), "203.0.113.7"},
		{"203.0.113.7" + strings.Repeat(", 10.0.0.1", maxHops), ""},
		{"203.0.113.7" + strings.Repeat("|10.0.0.1", maxLines-1), "203.0.113.7"},
		{"203.0.113.7" + strings.Repeat("|10.0.0.1", maxLines), ""},
	} {
		var h Hops
		for _, l := range strings.Split(c.lines, "|") {
			h.Add([]byte(l))
		}
		a, ok := h.Client(&tr)
		got := ""
		if ok {
			got = netip.AddrFrom16(a).Unmap().String()
		}
		if got != c.want {
			t.Errorf("%.60q: %q, want %q", c.lines, got, c.want)
		}
	}
	var none Hops
	if _, ok := none.Client(&tr); ok {
		t.Error("a client without a line")
	}
}
