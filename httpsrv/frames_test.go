package httpsrv

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

var frameSizes = []int{0, 1, 2, 3, 7, 124, 125, 126, 127, 128, 1000, 16383, 16384, 16385, 65534, 65535, 65536, 65537, 70000}

// Messages of all frame sizes come back as they were sent, with their type, cut
// into reads and fragments at random.
func TestEcho(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		seed := rand.Uint64()
		r.Logf("seed %d", seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		p := r.dial(0).stream("/ws")
		for i, n := range frameSizes {
			op := byte(OpText)
			msg := strings.Repeat("€uro", n/6+1)[:n]
			if i%2 == 1 || strings.ToValidUTF8(msg, "") != msg {
				op = OpBinary
			}
			var b []byte
			for part, rest := 0, msg; ; part++ {
				k := rng.IntN(len(rest) + 1)
				if part > 5 || rng.IntN(3) == 0 {
					k = len(rest)
				}
				o := op
				if part > 0 {
					o = ws.OpCont
				}
				last := k == len(rest)
				b = append(b, frame(o, last, rest[:k])...)
				if rest = rest[k:]; last {
					break
				}
				b = append(b, frame(ws.OpPong, true, "unasked")...)
			}
			for rest := b; len(rest) > 0; {
				k := 1 + rng.IntN(len(rest))
				p.send(rest[:k])
				rest = rest[k:]
				for range rng.IntN(3) {
					r.poll()
				}
			}
			p.want(op, msg)
			if err := r.tile.check(); err != nil {
				r.Fatal(err)
			}
		}
		if n := len(r.tile.recv.free) + len(r.tile.msg.free) + len(r.tile.head.free); n != int(r.tile.recv.cnt+r.tile.msg.cnt+r.tile.head.cnt) {
			r.Error("an idle client holds buffers")
		}
	})
}

// Three fragments in one write and one octet at a time are one message; ping and
// pong between them change nothing, and are answered between them.
func TestFragments(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		all := append(frame(OpText, false, "he"), frame(ws.OpPing, true, "in between")...)
		all = append(all, frame(ws.OpCont, false, "")...)
		all = append(all, frame(ws.OpPong, true, "in between")...)
		all = append(all, frame(ws.OpCont, true, "llo")...)
		p := r.dial(0).stream("/ws")
		p.send(all)
		op, s := p.next()
		if op == ws.OpPong { // the order of pong and message in one read is free
			p.want(OpText, "hello")
		} else if s != "hello" {
			r.Errorf("%#x %q", op, s)
		} else {
			p.want(ws.OpPong, "in between")
		}
		for _, b := range all {
			p.send([]byte{b})
			r.poll()
		}
		p.want(ws.OpPong, "in between")
		p.want(OpText, "hello")
	})
}

func TestBadFrames(t *testing.T) {
	big := strings.Repeat("x", 65536)
	for _, c := range []struct {
		name string
		in   []byte
		code uint16
		why  CloseReason
	}{
		{"no mask", []byte{0x81, 0x01, 'x'}, 1002, CloseWsBadMask},
		{"rsv", []byte{0xc1, 0x80, 0, 0, 0, 0}, 1002, CloseProtocol},
		{"opcode 3", []byte{0x83, 0x80, 0, 0, 0, 0}, 1002, CloseWsUnknownOpcode},
		{"opcode 11", []byte{0x8b, 0x80, 0, 0, 0, 0}, 1002, CloseWsUnknownOpcode},
		{"long ping", frame(ws.OpPing, true, big[:126]), 1002, CloseWsControlFrameTooLarge},
		{"cut ping", frame(ws.OpPing, false, "x"), 1002, CloseProtocol},
		{"nothing to continue", frame(ws.OpCont, true, "x"), 1002, CloseWsExpectedTextOpcode},
		{"new message within one", append(frame(OpText, false, "x"), frame(OpText, true, "y")...), 1002, CloseWsExpectedContOpcode},
		{"long form of a short length", []byte{0x81, 0xfe, 0, 1, 0, 0, 0, 0, 'x'}, 1002, CloseProtocol},
		{"length of 2^63", []byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 1002, CloseProtocol},
		{"length of 2^63-1", []byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, 1009, CloseWsOversizeFrame},
		{"one byte too much", frame(OpText, true, big+big[:4465]), 1009, CloseWsOversizeFrame},
		{"sum of fragments too large", append(frame(OpBinary, false, big), frame(ws.OpCont, true, big)...), 1009, CloseWsOversizeFrame},
		{"bad UTF-8", frame(OpText, true, "ab\xffcd"), 1007, CloseBadUTF8},
		{"bad UTF-8 in an unfinished message", frame(OpText, false, "ab\xff"), 1007, CloseBadUTF8},
		{"half a code point", frame(OpText, true, "\xe2\x82"), 1007, CloseBadUTF8},
		{"bad UTF-8 across fragments", append(frame(OpText, false, "\xe2\x82"), frame(ws.OpCont, true, "(")...), 1007, CloseBadUTF8},
		{"close of one octet", frame(ws.OpClose, true, "\x03"), 1002, CloseProtocol},
		{"close with 1005", closeFrame(1005, ""), 1002, CloseProtocol},
		{"close with bad UTF-8", closeFrame(1000, "\xff"), 1007, CloseBadUTF8},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
				for _, bytewise := range []bool{false, true} {
					if bytewise && len(c.in) > 1000 {
						continue
					}
					r.got = nil
					p := r.dial(0).stream("/ws")
					p.send(textFrame("before"))
					if bytewise {
						for i := range c.in {
							p.send(c.in[i : i+1])
							r.poll()
						}
					} else {
						p.send(c.in)
					}
					p.send(textFrame("after")) // counts no more, and does not turn the end into a reset
					p.want(OpText, "before")
					p.wantClose(c.code)
					if p.reset {
						r.Error("reset")
					}
					p.close()
					if fmt.Sprint(r.got) != "[before]" {
						r.Errorf("messages %q", r.got)
					}
					id := r.opens[len(r.opens)-1]
					r.until("WsClose", func() bool { return r.life[id] == 3 })
					if r.closes[id] != c.why {
						r.Errorf("closed as %q, want %q", r.closes[id], c.why)
					}
				}
			})
		})
	}
}

// The pong repeats the payload; of a burst the latest is answered.
func TestPong(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		p := r.dial(0).stream("/ws")
		for _, n := range []int{0, 1, 125} {
			s := strings.Repeat("p", n)
			p.send(frame(ws.OpPing, true, s))
			p.want(ws.OpPong, s)
		}
		var burst []byte
		for i := range 1000 {
			burst = append(burst, frame(ws.OpPing, true, fmt.Sprint(i))...)
		}
		p.send(burst)
		last := ""
		for n := 0; last != "999"; n++ {
			op, s := p.next()
			if op != ws.OpPong || n > 1000 {
				r.Fatalf("%#x %q", op, s)
			}
			last = s
		}
		r.quiet()
		if len(p.in) != 0 {
			r.Errorf("%q after the latest pong", p.in)
		}
	})
}

// A pong never splits a data frame that is half sent, and is the latest one; a
// ping that comes while a pong is half sent does not restart it.
func TestPongBetweenFrames(t *testing.T) {
	p := rigParams()
	p.OutgoingBufferSz = 1 << 21
	rigEach(t, p, TileOptions{SndBuf: 8192}, func(r *rig) {
		st := r.produce()
		p := r.dial(4096).stream("/ws")
		a, b := strings.Repeat("a", 300000), strings.Repeat("b", 100000)
		p.stall = true
		for _, s := range []string{a, b} {
			st.WriteString(s)
			if _, err := st.WsBroadcast(OpText); err != nil {
				r.Fatal(err)
			}
		}
		r.until("a part is sent", func() bool { return r.count("sends_partial") > 0 })
		for i := range 40 {
			p.send(frame(ws.OpPing, true, fmt.Sprint("ping ", i)))
			r.quiet()
		}
		p.stall = false
		var got []string
		for range 3 {
			op, s := p.next()
			got = append(got, fmt.Sprint(op, short(s)))
		}
		if want := fmt.Sprint([]string{fmt.Sprint(OpText, short(a)), fmt.Sprint(ws.OpPong, "ping 39"), fmt.Sprint(OpText, short(b))}); fmt.Sprint(got) != want {
			r.Errorf("got %v\nwant %v", got, want)
		}

		// Now the pongs alone fill the socket: all that come are whole, in order, the last one is there.
		p.stall = true
		last := ""
		for i := 0; r.count("sends_blocked")+r.count("sends_partial") < 20 && i < 3000; i++ {
			last = fmt.Sprint(strings.Repeat("z", 110), i)
			p.send(frame(ws.OpPing, true, last))
			r.poll()
		}
		r.quiet()
		for i := range 5 {
			last = fmt.Sprint(strings.Repeat("z", 110), "end", i)
			p.send(frame(ws.OpPing, true, last))
			r.quiet()
		}
		p.stall = false
		for {
			op, s := p.next()
			if op != ws.OpPong {
				r.Fatalf("%#x %q", op, short(s))
			}
			if s == last {
				break
			}
		}
		if err := st.Close(); err != nil {
			r.Error(err)
		}
	})
}

// A client that floods with requests and does not read the replies is not read
// from any more; it is neither evicted nor does it hold buffers that others need.
func TestFloodPausesReading(t *testing.T) {
	params := rigParams()
	params.ReplyBufferSz, params.ReplyDepth = 1<<24, 1<<14 // others' replies must not reclaim theirs
	rigEach(t, params, TileOptions{SndBuf: 8192}, func(r *rig) {
		var flood []*peer
		for range 5 {
			p := r.dial(4096).stream("/own")
			p.stall = true
			flood = append(flood, p)
		}
		msg := strings.Repeat("m", 1000)
		sent := make([]int, len(flood))
		rest := make([][]byte, len(flood))
		for stuck := 0; stuck < 50; stuck++ {
			for i, p := range flood {
				for range 50 {
					if len(rest[i]) == 0 {
						rest[i] = textFrame(fmt.Sprint(sent[i], msg))
						sent[i]++
					}
					n, e := sysWrite(p.fd, rest[i])
					rest[i] = rest[i][n:]
					if n > 0 {
						stuck = 0
					}
					if e != nil {
						break
					}
				}
			}
			r.poll()
		}
		if n := r.count("closed_ws_client_too_slow"); n != 0 {
			r.Fatalf("%d clients were evicted", n)
		}
		if n := len(r.got); n > 5*(pausePending+200) {
			r.Errorf("%d messages were taken", n)
		}
		r.dial(0).stream("/own").send(textFrame("me too")).want(OpText, "me too")
		for i, p := range flood {
			p.stall = false
			p.send(rest[i])
			for n := range sent[i] {
				p.want(OpText, fmt.Sprint(n, msg))
			}
		}
	})
}

// With all message buffers held, others wait for their turn and lose nothing.
func TestBuffersRunOut(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		var ps []*peer
		for range 12 {
			p := r.dial(0).stream("/own")
			p.send(frame(OpText, false, "be"))
			ps = append(ps, p)
		}
		r.quiet()
		if r.count("buffer_waits") == 0 {
			r.Error("nobody had to wait")
		}
		ps[10].close() // one of those who wait, and it is not read from
		p := r.dial(0).stream("/own")
		for _, p := range append(ps[:10:10], ps[11]) {
			p.send(frame(ws.OpCont, true, "gin"))
		}
		for _, p := range append(ps[:10:10], ps[11]) {
			p.want(OpText, "begin")
		}
		p.send(textFrame("new")).want(OpText, "new")
	})
}

// Those who hold buffers and go no further are closed after a while, once others
// wait for a buffer, and not before.
func TestHoldersAreBounded(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{RequestTimeout: 5 * time.Second}, func(r *rig) {
		var ps []*peer
		for range 12 {
			ps = append(ps, r.dial(0).stream("/own").send(frame(OpText, false, "never finished")))
			if len(ps) == 4 {
				r.quiet()
				r.forward(6 * time.Second)
				r.quiet()
				if n := r.count("closed_timeout"); n != 0 {
					r.Fatalf("%d were closed while nobody waited", n)
				}
			}
		}
		r.quiet()
		p := r.dial(0).stream("/own").send(textFrame("me too"))
		r.quiet()
		for range 4 {
			r.forward(6 * time.Second)
			r.quiet()
		}
		p.want(OpText, "me too")
		if n := r.count("closed_timeout"); n < 4 {
			r.Errorf("%d closed", n)
		}
		ps[0].wantClose(CodePolicy)
	})
}

// Who waits for a buffer that others hold is not taken for one of them, though it holds one of another kind meanwhile.
func TestWaitersAreNotHolders(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{RequestTimeout: 5 * time.Second}, func(r *rig) {
		for range r.tile.msg.cnt {
			r.dial(0).stream("/own").send(frame(OpText, false, "never finished"))
		}
		r.quiet()
		p := r.dial(0).stream("/own").send(textFrame("me too")) // in its receive buffer, and no place for it
		r.quiet()
		if p := len(r.tile.waiters); p != 1 {
			r.Fatalf("%d wait", p)
		}
		for range 3 {
			r.forward(5100 * time.Millisecond)
			r.quiet()
		}
		p.want(OpText, "me too")
		if n := r.count("closed_timeout"); n != uint64(r.tile.msg.cnt) {
			r.Errorf("%d were closed, %d held a buffer", n, r.tile.msg.cnt)
		}
	})
}
