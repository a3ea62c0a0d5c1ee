package ws

import "testing"

// TestAccept has the example of RFC 6455 1.3.
func TestAccept(t *testing.T) {
	var dst [28]byte
	Accept([]byte("dGhlIHNhbXBsZSBub25jZQ=="), &dst)
	if got := string(dst[:]); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Error(got)
	}
	Accept(nil, &dst)
	Accept(make([]byte, 1000), &dst)
}

func TestNoAllocation(t *testing.T) {
	var dst [28]byte
	var u UTF8
	var h Header
	key := []byte("dGhlIHNhbXBsZSBub25jZQ==")
	in := []byte("\x81\x85\x01\x02\x03\x04Hello, wörld")
	out, big := make([]byte, 127), make([]byte, 4096)
	if n := testing.AllocsPerRun(100, func() {
		Accept(key, &dst)
		ParseHeader(in, &h)
		Check(&h, 0, 0, 1000, 1000)
		UnmaskCopy(out, in, h.Mask, 0)
		UnmaskCopy(big, big, h.Mask, 3)
		u.Write(in[6:])
		PutHeader(out, OpText, true, 5)
		PutClose(out, CodeGoingAway, "bye")
		ParseClose(out[2:7])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAccept(b *testing.B) {
	var dst [28]byte
	key := []byte("dGhlIHNhbXBsZSBub25jZQ==")
	b.ReportAllocs()
	for b.Loop() {
		Accept(key, &dst)
	}
}

func TestOffers(t *testing.T) {
	for _, c := range []struct {
		list, protocol string
		want           bool
	}{
		{"chat", "chat", true}, {"a, chat", "chat", true}, {"a ,\tchat ", "chat", true}, {",,chat", "chat", true},
		{"", "chat", false}, {"chats", "chat", false}, {"Chat", "chat", false}, {"a b", "a", false}, {", ,", "", false},
	} {
		if got := Offers([]byte(c.list), c.protocol); got != c.want {
			t.Errorf("%q of %q: %v", c.protocol, c.list, got)
		}
	}
}
