package echo

import (
	"strings"
	"unicode/utf8"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

const kosme = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5" // "κόσμε"

// utf8Cases are section 6.
func utf8Cases() []tcase {
	var c cases
	split := func(s string, at ...int) (fs []frame) { // in fragments that begin at these offsets
		op, from := byte(ws.OpText), 0
		for _, i := range append(at, len(s)) {
			fs = append(fs, fr(op, s[from:i]))
			op, from = ws.OpCont, i
		}
		fs[len(fs)-1].b0 |= fin
		return fs
	}
	every := func(s string) (fs []frame) { // in fragments of an octet
		var at []int
		for i := 1; i < len(s); i++ {
			at = append(at, i)
		}
		return split(s, at...)
	}

	c.ok("6.1.1", send(events(text("")), fr(txt, "")))
	c.ok("6.1.2", send(events(text("")), split("", 0, 0)...))
	c.ok("6.1.3", send(events(text("middle frame payload")), split("middle frame payload", 0, 20)...))

	const umlauts = "Hello-\u00b5@\u00df\u00f6\u00e4\u00fc\u00e0\u00e1-UTF-8!!"
	c.ok("6.2.1", send(events(text(umlauts)), fr(txt, umlauts)))
	c.ok("6.2.2", send(events(text(umlauts)), split(umlauts, strings.Index(umlauts, "\u00f6"))...))
	c.ok("6.2.3", send(events(text(umlauts)), every(umlauts)...))
	c.ok("6.2.4", send(events(text(kosme)), every(kosme)...))

	const surrogate = kosme + "\xed\xa0\x80edited"
	c.bad("6.3.1", 1007, send(nil, fr(txt, surrogate)))
	c.bad("6.3.2", 1007, send(nil, every(surrogate)...))

	// Fail fast: the server closes before the rest of a message that can't become valid.
	beyond := kosme + "\xf4\x90\x80\x80edited"
	refused := events(closed(1007), end())
	k := len(kosme)
	fs := split(beyond, k, k+4)
	c.bad("6.4.1", 1007, send(nil, fs[0]), send(refused, fs[1]))
	fs = split(beyond, k+1, k+2)
	c.bad("6.4.2", 1007, send(nil, fs[0]), send(refused, fs[1]))
	raw := fr(txt, beyond).bytes()
	body := len(raw) - len(beyond)
	c.bad("6.4.3", 1007, turn{out: raw[:body+k]}, turn{out: raw[body+k : body+k+4], want: refused})
	c.bad("6.4.4", 1007, turn{out: raw[:body+k+1]}, turn{out: raw[body+k+1 : body+k+2], want: refused})

	for i, group := range utf8Sequences() {
		for j, s := range group.list {
			id := number("6.%d.%d", i+5, j+1)
			if valid := utf8.ValidString(s); valid != group.valid(j) {
				panic(id + " is not what its group says") // a slip in the tables
			}
			if group.valid(j) {
				c.ok(id, send(events(text(s)), fr(txt, s)))
			} else {
				c.bad(id, 1007, send(nil, fr(txt, s)))
			}
		}
	}
	return c.all
}

// sequences are the payloads of 6.5 to 6.23, after Markus Kuhn's stress test for UTF-8 decoders.
type sequences struct {
	what  string
	valid func(j int) bool
	list  []string
}

func utf8Sequences() []sequences {
	yes, no := func(int) bool { return true }, func(int) bool { return false }
	var prefixes, specials, beyondPlanes []string
	for i := 1; i <= len(kosme); i++ {
		prefixes = append(prefixes, kosme[:i])
	}
	whole := func(j int) bool { return utf8.ValidString(kosme[:j+1]) }
	for p := rune(0); p <= 16; p++ {
		beyondPlanes = append(beyondPlanes, string(p<<16|0xfffe), string(p<<16|0xffff))
	}
	for r := rune(0xfff9); r <= 0xffff; r++ {
		specials = append(specials, string(r))
	}
	lone := func(from, to byte) (s string) {
		for b := int(from); b <= int(to); b++ {
			s += string([]byte{byte(b), ' '})
		}
		return s
	}
	conts := ""
	for b := 0x80; b <= 0xbf; b++ {
		conts += string([]byte{byte(b)})
	}
	cut := []string{
		"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
		"\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf",
	}
	return []sequences{
		{"6.5 valid text", yes, []string{"hello$world", "hello\u00a2world", "hello\u20acworld", "hello\U00024b62world", kosme}},
		{"6.6 all prefixes of a valid text", whole, prefixes},
		{"6.7 first of each length", yes, []string{"\x00", "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"}},
		{"6.8 first of 5 and 6 octets", no, []string{"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80"}},
		{"6.9 last of each length", yes, []string{"\x7f", "\xdf\xbf", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf"}},
		{"6.10 last of 4 to 6 octets", no, []string{"\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf"}},
		{"6.11 other boundaries", func(j int) bool { return j < 4 }, []string{
			"\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbd", "\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80",
		}},
		{"6.12 unexpected continuation octets", no, []string{
			"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", "\x80\xbf\x80\xbf\x80", "\x80\xbf\x80\xbf\x80\xbf", conts,
		}},
		{"6.13 lonely start octets", no, []string{lone(0xc0, 0xdf), lone(0xe0, 0xef), lone(0xf0, 0xf7), lone(0xf8, 0xfb), lone(0xfc, 0xfd)}},
		{"6.14 last octet missing", no, cut},
		{"6.15 these in a row", no, []string{strings.Join(cut, "")}},
		{"6.16 impossible octets", no, []string{"\xfe", "\xff", "\xfe\xfe\xff\xff"}},
		{"6.17 overlong slash", no, []string{"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf"}},
		{"6.18 greatest overlong", no, []string{"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf"}},
		{"6.19 overlong NUL", no, []string{"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80"}},
		{"6.20 single surrogates", no, []string{
			"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf",
		}},
		{"6.21 paired surrogates", no, []string{
			"\xed\xa0\x80\xed\xb0\x80", "\xed\xa0\x80\xed\xbf\xbf", "\xed\xad\xbf\xed\xb0\x80", "\xed\xad\xbf\xed\xbf\xbf",
			"\xed\xae\x80\xed\xb0\x80", "\xed\xae\x80\xed\xbf\xbf", "\xed\xaf\xbf\xed\xb0\x80", "\xed\xaf\xbf\xed\xbf\xbf",
		}},
		{"6.22 code points that are no characters", yes, beyondPlanes},
		{"6.23 specials", yes, specials},
	}
}
