package echo

import (
	"fmt"
	"strings"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// turn is what a client sends, and what must have come back before it goes on.
type turn struct {
	out  []byte
	cut  int // bytes a write; 0: all at once
	want []event
}

// tcase is one case under Autobahn's number. What each number tries is known from the suite's documentation; the bytes and outcomes
// here follow from RFC 6455. All outcomes are the strict ones.
type tcase struct {
	id    string
	turns []turn
	bad   int   // code that the server closes with by itself; 0: the client closes, with 1000
	last  event // instead of that: the answer to a close frame which the turns sent
}

// Cases are built by number. ok adds one that the client closes, bad one that the server closes with a code, and
// shut one in which the turns send a close frame and get this answer.
type cases struct{ all []tcase }

func (c *cases) ok(id string, ts ...turn) { c.all = append(c.all, tcase{id: id, turns: ts}) }
func (c *cases) bad(id string, code int, ts ...turn) {
	c.all = append(c.all, tcase{id: id, turns: ts, bad: code})
}
func (c *cases) shut(id string, e event, ts ...turn) {
	c.all = append(c.all, tcase{id: id, turns: ts, last: e})
}
func send(want []event, fs ...frame) turn           { return turn{out: wire(fs...), want: want} }
func chop(n int, want []event, fs ...frame) turn    { return turn{out: wire(fs...), cut: n, want: want} }
func number(format string, args ...any) (id string) { return fmt.Sprintf(format, args...) }
func bytewise(want []event, fs ...frame) turn       { return chop(1, want, fs...) }

// framewise sends each frame in a write of its own.
func framewise(want []event, fs ...frame) (ts []turn) {
	for _, f := range fs {
		ts = append(ts, send(nil, f))
	}
	ts[len(ts)-1].want = want
	return ts
}

const (
	txt  = fin | ws.OpText
	bin  = fin | ws.OpBinary
	cont = fin | ws.OpCont
	ping = fin | ws.OpPing
	pung = fin | ws.OpPong
	clos = fin | ws.OpClose
)

// basicCases are the sections 1 to 5, 7 and 10.
func basicCases() []tcase {
	var c cases
	framing(&c)
	pings(&c)
	reserved(&c)
	opcodes(&c)
	fragments(&c)
	closes(&c)
	var fs []frame
	rest, op := zero(65536), byte(ws.OpText)
	for ; len(rest) > 1300; rest, op = rest[1300:], ws.OpCont {
		fs = append(fs, fr(op, rest[:1300]))
	}
	c.ok("10.1.1", send(events(text(zero(65536))), append(fs, fr(cont, rest))...))
	return c.all
}

// Section 1: sizes of text and binary messages.
func framing(c *cases) {
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536} {
		c.ok(number("1.1.%d", i+1), send(events(text(zero(n))), fr(txt, zero(n))))
		c.ok(number("1.2.%d", i+1), send(events(binry(fe(n))), fr(bin, fe(n))))
	}
	c.ok("1.1.8", chop(997, events(text(zero(65536))), fr(txt, zero(65536))))
	c.ok("1.2.8", chop(997, events(binry(fe(65536))), fr(bin, fe(65536))))
}

// Section 2: pings and pongs.
func pings(c *cases) {
	const data = "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
	c.ok("2.1", send(events(pong("")), fr(ping, "")))
	c.ok("2.2", send(events(pong("Hello, world!")), fr(ping, "Hello, world!")))
	c.ok("2.3", send(events(pong(data)), fr(ping, data)))
	c.ok("2.4", send(events(pong(fe(125))), fr(ping, fe(125))))
	c.bad("2.5", 1002, send(nil, fr(ping, fe(126))))
	c.ok("2.6", bytewise(events(pong(fe(125))), fr(ping, fe(125))))
	c.ok("2.7", send(nil, fr(pung, "")))
	c.ok("2.8", send(nil, fr(pung, "unsolicited")))
	c.ok("2.9", send(events(pong("ping payload")), fr(pung, "unsolicited"), fr(ping, "ping payload")))
	var ps []frame
	var qs []event
	for i := range 10 {
		s := fmt.Sprintf("payload-%d", i)
		ps, qs = append(ps, fr(ping, s)), append(qs, pong(s))
	}
	c.ok("2.10", send(qs, ps...))
	c.ok("2.11", bytewise(qs, ps...))
}

// Section 3: reserved bits.
func reserved(c *cases) {
	hello := fr(txt, "Hello, world!")
	back := events(text("Hello, world!"))
	c.bad("3.1", 1002, send(nil, fr(txt|1<<4, "Hello, world!")))
	c.bad("3.2", 1002, send(back, hello, fr(txt|2<<4, "Hello, world!"), fr(ping, "")))
	c.bad("3.3", 1002, framewise(back, hello, fr(txt|3<<4, "Hello, world!"), fr(ping, ""))...)
	c.bad("3.4", 1002, bytewise(back, hello, fr(txt|4<<4, "Hello, world!"), fr(ping, "")))
	c.bad("3.5", 1002, send(nil, fr(bin|5<<4, data8)))
	c.bad("3.6", 1002, send(nil, fr(ping|6<<4, "Hello, world!")))
	c.bad("3.7", 1002, send(nil, fr(clos|7<<4, code(1000))))
}

const data8 = "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"

// Section 4: opcodes without a meaning.
func opcodes(c *cases) {
	hello := fr(txt, "Hello, world!")
	back := events(text("Hello, world!"))
	for i, base := range []byte{3, 11} {
		id := func(n int) string { return number("4.%d.%d", i+1, n) }
		c.bad(id(1), 1002, send(nil, fr(fin|base, "")))
		c.bad(id(2), 1002, send(nil, fr(fin|(base+1), "reserved opcode")))
		c.bad(id(3), 1002, framewise(back, hello, fr(fin|(base+2), ""), fr(ping, ""))...)
		c.bad(id(4), 1002, send(back, hello, fr(fin|(base+3), "reserved opcode"), fr(ping, "")))
		c.bad(id(5), 1002, bytewise(back, hello, fr(fin|(base+4), "reserved opcode"), fr(ping, "")))
	}
}

// Section 5: fragmentation.
func fragments(c *cases) {
	f1, f2 := fr(ws.OpText, "fragment1"), fr(cont, "fragment2")
	both := text("fragment1fragment2")
	c.bad("5.1", 1002, send(nil, fr(ws.OpPing, "fragment1"), fr(cont, "fragment2")))
	c.bad("5.2", 1002, send(nil, fr(ws.OpPong, "fragment1"), fr(cont, "fragment2")))
	c.ok("5.3", send(events(both), f1, f2))
	c.ok("5.4", framewise(events(both), f1, f2)...)
	c.ok("5.5", bytewise(events(both), f1, f2))
	p := fr(ping, "ping payload")
	back := events(pong("ping payload"), both)
	c.ok("5.6", send(back, f1, p, f2))
	c.ok("5.7", framewise(back, f1, p, f2)...)
	c.ok("5.8", bytewise(back, f1, p, f2))
	hello := fr(txt, "Hello, world!")
	for i, b0 := range []byte{cont, ws.OpCont} {
		lone := fr(b0, "non-continuation payload")
		c.bad(number("5.%d", 9+3*i), 1002, send(nil, lone, hello))
		c.bad(number("5.%d", 10+3*i), 1002, framewise(nil, lone, hello)...)
		c.bad(number("5.%d", 11+3*i), 1002, bytewise(nil, lone, hello))
	}
	c.bad("5.15", 1002, send(events(both), f1, f2, fr(cont, "fragment3"), fr(txt, "fragment4")))
	for i, b0 := range []byte{ws.OpCont, cont} {
		var fs []frame
		for range 2 {
			fs = append(fs, fr(b0, "fragment1"), fr(ws.OpText, "fragment2"), fr(cont, "fragment3"))
		}
		c.bad(number("5.%d", 16+i), 1002, send(nil, fs...))
	}
	c.bad("5.18", 1002, send(nil, f1, fr(txt, "fragment2")))
	part := func(b0 byte, n int) frame { return fr(b0, number("fragment%d", n)) }
	ping2 := func(n int) frame { return fr(ping, number("pongme %d!", n)) }
	pong2 := func(n int) event { return pong(number("pongme %d!", n)) }
	five := text("fragment1fragment2fragment3fragment4fragment5")
	c.ok("5.19", send(events(pong2(1)), part(ws.OpText, 1), part(ws.OpCont, 2), ping2(1)),
		send(events(pong2(2), five), part(ws.OpCont, 3), part(ws.OpCont, 4), ping2(2), part(cont, 5)))
	c.ok("5.20", send(events(pong2(1), pong2(2), five),
		part(ws.OpText, 1), part(ws.OpCont, 2), ping2(1), part(ws.OpCont, 3), part(ws.OpCont, 4), ping2(2), part(cont, 5)))
}

// Section 7: the closing handshake.
func closes(c *cases) {
	bye := fr(clos, code(1000))
	c.ok("7.1.1", send(events(text("Hello World!")), fr(txt, "Hello World!")))
	c.shut("7.1.2", closed(1000), send(nil, bye, bye))
	c.shut("7.1.3", closed(1000), send(nil, bye, fr(ping, "")))
	c.shut("7.1.4", closed(1000), send(nil, bye, fr(txt, "Hello World!")))
	c.shut("7.1.5", closed(1000), send(nil, fr(ws.OpText, "fragment1"), bye, fr(cont, "fragment2")))
	long := strings.Repeat("BAsd7&jh23", 26215)[:256<<10]
	c.shut("7.1.6", closed(1000), send(events(text(long), text("Hello World!")), fr(txt, long), fr(txt, "Hello World!"), bye, fr(ping, "")))
	c.shut("7.3.1", event{op: ws.OpClose}, send(nil, fr(clos, "")))
	c.bad("7.3.2", 1002, send(nil, fr(clos, "a")))
	c.shut("7.3.3", closed(1000), send(nil, bye))
	c.shut("7.3.4", closed(1000), send(nil, fr(clos, code(1000)+"Hello World!")))
	c.shut("7.3.5", closed(1000), send(nil, fr(clos, code(1000)+zero(123))))
	c.bad("7.3.6", 1002, send(nil, fr(clos, code(1000)+zero(124))))
	c.bad("7.5.1", 1007, send(nil, fr(clos, code(1000)+kosme+"\xed\xa0\x80edited")))
	for i, n := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		c.shut(number("7.7.%d", i+1), closed(n), send(nil, fr(clos, code(n))))
	}
	for i, n := range []int{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		c.bad(number("7.9.%d", i+1), 1002, send(nil, fr(clos, code(n))))
	}
	c.bad("7.13.1", 1002, send(nil, fr(clos, code(5000))))
	c.bad("7.13.2", 1002, send(nil, fr(clos, code(65535))))
}
