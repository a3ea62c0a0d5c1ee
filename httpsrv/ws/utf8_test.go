package ws

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// canGoOn reports by trial whether some text starts with p: it is valid, or becomes so with up to three octets more.
func canGoOn(p []byte) bool {
	if utf8.Valid(p) {
		return true
	}
	try := append(append(make([]byte, 0, len(p)+3), p...), 0, 0, 0)
	// The first octet after E0, ED, F0 and F4 is restricted; these four values reach into every range.
	for _, a := range []byte{0x80, 0x90, 0xa0, 0xbf} {
		for n := 1; n <= 3; n++ {
			for i := range n {
				try[len(p)+i] = 0x80
			}
			try[len(p)] = a
			if utf8.Valid(try[:len(p)+n]) {
				return true
			}
		}
	}
	return false
}

var texts = []string{
	"", "a", "Hello, world", strings.Repeat("ascii text, long enough for the words. ", 9), "Hello-µ@ßöäüàá-UTF-8!!", "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5",
	"日本語のテキスト", "𝄞😀", "\u0000", "\u007f\u0080\u07ff\u0800\uffff\ud7ff\ue000\ufffd\ufdd0", "\U00010000\U0010ffff\U0001fffe",
	"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2a", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xe0\xa0", "\xed\xa0\x80", "\xed\xbf\xbf", "\xef\xbf", "\xf0\x80\x80\x80",
	"\xf0\x8f\xbf\xbf", "\xf0\x90\x80", "\xf4\x90\x80\x80", "\xf4\x8f\xbf\xbf", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xfe", "\xff",
	"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80\x65\x64\x69\x74\x65\x64", // Autobahn 6.4.1
	"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80\x65\x64\x69\x74\x65\x64",     // 6.3.1
}

// TestUTF8Octets: octet by octet it fails exactly where no text can go on, and Done tells the valid ones.
func TestUTF8Octets(t *testing.T) {
	for _, s := range texts {
		for _, lead := range []int{0, 1, 5, 8, 13, 40, 63, 64, 65, 71, 72, 73, 80, 137, 200} {
			p := []byte(strings.Repeat("x", lead) + s)
			var u UTF8
			if u.Write(p) != canGoOn(p) || u.Done() != utf8.Valid(p) {
				t.Errorf("%q at once: %+v", p, u)
			}
			u.Reset()
			for i := range p {
				if got, want := u.Write(p[i:i+1]), canGoOn(p[:i+1]); got != want || u.Done() != utf8.Valid(p[:i+1]) {
					t.Fatalf("%q after %d: %v, want %v", p, i+1, got, want)
				}
			}
		}
	}
}

// TestUTF8Complete: every sequence of one to three octets and every four-octet sequence of the edges, against unicode/utf8.
func TestUTF8Complete(t *testing.T) {
	check := func(p []byte) bool {
		var u UTF8
		ok := u.Write(p)
		if ok != canGoOn(p) || u.Done() != utf8.Valid(p) {
			t.Fatalf("%x: %v %v", p, ok, u.Done())
		}
		return ok && !u.Done()
	}
	edges := []byte{0, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xf4, 0xff}
	for a := range 256 {
		if !check([]byte{byte(a)}) {
			continue
		}
		for b := range 256 {
			if !check([]byte{byte(a), byte(b)}) {
				continue
			}
			for c := range 256 {
				if !check([]byte{byte(a), byte(b), byte(c)}) {
					continue
				}
				for _, d := range edges {
					check([]byte{byte(a), byte(b), byte(c), d})
				}
			}
		}
	}
}

// TestUTF8Sticky: once invalid, and with a state that nobody wrote, it stays invalid until Reset.
func TestUTF8Sticky(t *testing.T) {
	var u UTF8
	u.Write([]byte("\xff"))
	if u.Write([]byte("ok")) || u.Write(nil) || u.Done() {
		t.Errorf("%+v", u)
	}
	if u.Reset(); !u.Write([]byte("ok")) || !u.Done() {
		t.Errorf("%+v", u)
	}
	for s := range uint32(100) {
		u.State = s
		u.Write([]byte("abc"))
		if s >= u8End || s%6 != 0 {
			if u.Done() || u.Write(nil) {
				t.Errorf("state %d", s)
			}
		}
	}
}

func FuzzUTF8(f *testing.F) {
	for i, s := range texts {
		f.Add([]byte(s), uint16(i), uint16(i*7))
	}
	f.Fuzz(func(t *testing.T, p []byte, a, b uint16) {
		var u UTF8
		i := int(a) % (len(p) + 1)
		j := i + int(b)%(len(p)-i+1)
		ok := true
		for _, part := range [][]byte{p[:i], p[i:j], p[j:]} {
			ok = u.Write(part)
		}
		if u.Done() != utf8.Valid(p) || ok != canGoOn(p) {
			t.Fatalf("%q cut at %d and %d: %v, %v", p, i, j, ok, u.Done())
		}
	})
}

func BenchmarkUTF8(b *testing.B) {
	for _, c := range []struct{ name, unit string }{
		{"ascii", `{"seq":12345,"text":"plain"},`}, {"mixed", `{"seq":12345,"text":"größer"},`}, {"japanese", "日本語のテキスト"},
	} {
		for _, n := range []int{128, 65536} {
			p := []byte(strings.Repeat(c.unit, n/len(c.unit)+1))
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				b.SetBytes(int64(len(p)))
				b.ReportAllocs()
				for b.Loop() {
					var u UTF8
					if !u.Write(p) {
						b.Fatal()
					}
				}
			})
			b.Run(fmt.Sprintf("std/%s/%d", c.name, n), func(b *testing.B) {
				b.SetBytes(int64(len(p)))
				for b.Loop() {
					if !utf8.Valid(p) {
						b.Fatal()
					}
				}
			})
		}
	}
}
