package httpsrv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tilewire/tilewire/httpsrv/ws"
	"github.com/tilewire/tilewire/shmem"
)

// Facts about WebSockets that the tests of the server's model assert, by the number under which they were noted down.

// Fact 18: a key of 24 'A' is 18 octets, and no key. Fact 19: octets after the upgrade's head are a bad request, not frames.
func TestFacts18and19(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		for _, c := range []struct {
			in  string
			why CloseReason
		}{
			{strings.Replace(handshake("/ws"), goodKey, strings.Repeat("A", 24), 1), CloseWsBadKey},
			{handshake("/ws") + "x", CloseBadRequest},
			{handshake("/ws") + string(textFrame("early")), CloseBadRequest},
		} {
			p := r.dial(0).send([]byte(c.in))
			if a := p.answered(); a.status != 400 || a.field["connection"] != "close" {
				r.Errorf("%+v", a)
			}
			id := r.opens[len(r.opens)-1]
			p.close()
			r.until("Close", func() bool { return r.life[id] == 3 })
			if r.closes[id] != c.why {
				r.Errorf("closed as %q, want %q", r.closes[id], c.why)
			}
		}
		if len(r.got) != 0 {
			r.Errorf("messages %q", r.got)
		}
	})
}

// Fact 20: WsOpen is called once the 101 is with the kernel: the client has it by then.
func TestFact20(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		p := r.dial(0)
		opened := 0
		r.onWsOpen = func(ConnID) {
			opened++
			if p.pump(); !bytes.HasPrefix(p.in, []byte("HTTP/1.1 101 ")) || !bytes.HasSuffix(p.in, []byte("\r\n\r\n")) {
				r.Errorf("WsOpen while the client had %q", p.in)
			}
		}
		p.stream("/ws")
		if r.until("WsOpen", func() bool { return opened > 0 }); opened != 1 {
			r.Errorf("WsOpen %d times", opened)
		}
		p.send([]byte(textFrame("x"))).want(OpText, "x")
	})
}

// Facts 21 and 22: three fragments in one write, and one octet at a time, are one message. Fact 23: so they are with a ping and a pong
// between them, and the ping is answered.
func TestFacts21to23(t *testing.T) {
	plain := bytes.Join([][]byte{frame(OpText, false, "one "), frame(ws.OpCont, false, "two "), frame(ws.OpCont, true, "three")}, nil)
	mixed := bytes.Join([][]byte{
		frame(OpText, false, "one "), frame(ws.OpPing, true, "ping"), frame(ws.OpCont, false, "two "), frame(ws.OpPong, true, "pong"), frame(ws.OpCont, true, "three"),
	}, nil)
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		for _, in := range [][]byte{plain, mixed} {
			for _, step := range []int{len(in), 1} {
				r.got = nil
				p := r.dial(0).stream("/ws")
				for rest := in; len(rest) > 0; rest = rest[step:] {
					p.send(rest[:step])
					r.poll()
				}
				if len(in) == len(mixed) {
					p.want(ws.OpPong, "ping")
				}
				p.want(OpText, "one two three")
				r.quiet()
				if len(p.in) != 0 || fmt.Sprint(r.got) != "[one two three]" {
					r.Errorf("by %d octets: messages %q, then %q", step, r.got, p.in)
				}
				p.close()
			}
		}
	})
}

// Fact 26: 4+4 slots and limits of 2,048 octets survive callbacks that at any time send, broadcast, stage or close, answer with
// any status and any field. What FuzzConn looks for, with scripts by chance.
func TestFact26(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 26))
	p := tinyParams()
	p.TileCnt, p.RingCnt, p.AppCnt = 1, 1, 0
	m := shmem.Heap(mustFootprint(t, p), Align())
	bell := t.TempDir() + "/bell"
	for n := range 200 {
		in := make([]byte, rng.IntN(4096))
		for i := range in {
			in[i] = byte(rng.Uint32())
			if rng.IntN(3) == 0 { // small numbers choose more
				in[i] %= 14
			}
		}
		fuzzConn(t, m, p, TileOptions{BellPath: bell, SndBuf: 4096, KeepAlive: n%2 == 1}, &script{in})
	}
}

// All pings of a burst are answered while the client takes the answers, though they come in one read.
func TestPongsOfABurst(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		p := r.dial(0).stream("/ws")
		for _, n := range []int{0, 9, 60, 125} {
			var in []byte
			for i := range 100 {
				in = append(in, frame(ws.OpPing, true, strings.Repeat(string(rune('0'+i%10)), n))...)
			}
			p.send(in)
			for i := range 100 {
				p.want(ws.OpPong, strings.Repeat(string(rune('0'+i%10)), n))
			}
		}
	})
}

// A subprotocol that was not offered is never sent, whatever the application says (13 of the list).
func TestProtocolIsOffered(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		r.onRequest = func(*Request) Response { return Response{UpgradeWebsocket: true, Ring: NoRing, Protocol: "v1.json"} }
		for offer, status := range map[string]int{"": 500, "v1.bin": 500, "V1.JSON": 500, "v1.bin, v1.json": 101} {
			in := handshake("/")
			if offer != "" {
				in = strings.Replace(in, "Host: x", "Host: x\r\nSec-WebSocket-Protocol: "+offer, 1)
			}
			p := r.dial(0).send([]byte(in))
			r.until("an answer", func() bool { return bytes.HasSuffix(p.in, []byte("\n")) && bytes.Contains(p.in, []byte("\r\n\r\n")) })
			a, err := parseAnswer(p.in)
			if err != nil || a.status != status || (a.field["sec-websocket-protocol"] == "v1.json") != (status == 101) {
				r.Errorf("offered %q: %d %v %v", offer, a.status, a.field, err)
			}
			p.close()
		}
	})
}
