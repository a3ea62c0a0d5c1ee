package httpsrv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/ws"
	"github.com/tilewire/tilewire/shmem"
)

// streamResult is what becomes of a client's bytes: the messages that reach the application, and the frames that go back.
type streamResult struct {
	messages []string // opcode and payload
	frames   []string // pongs, then the close frame
}

func (o streamResult) String() string {
	return fmt.Sprintf("messages %q, frames %q", o.messages, o.frames)
}

// naiveStream is RFC 6455 section 5 read octet by octet, with all bytes at hand: the reference for the tile, which gets them in pieces.
func naiveStream(in []byte, most uint64) (o streamResult) {
	fail := func(code uint16) streamResult {
		o.frames = append(o.frames, fmt.Sprintf("8 %x", binary.BigEndian.AppendUint16(nil, code)))
		return o
	}
	var msg []byte
	msgOp := byte(0)
	for len(in) > 0 {
		b0, b1 := in[0], byte(128)
		if len(in) > 1 {
			b1 = in[1]
		}
		isFin, op, control := b0 >= 128, b0&15, b0&8 != 0
		switch {
		case b0&0x70 != 0, op > 10, op > 2 && op < 8, b1 < 128,
			control && (!isFin || b1&127 > 125), !control && (op == 0) != (msgOp != 0):
			return fail(1002)
		}
		size, n := uint64(b1&127), map[byte]int{126: 2, 127: 8}[b1&127]
		if len(in) < 2+n+4 {
			return o
		}
		if n > 0 {
			size = 0
			for _, b := range in[2 : 2+n] {
				size = size<<8 | uint64(b)
			}
			if size < 126 || n == 8 && (size < 65536 || size >= 1<<63) {
				return fail(1002)
			}
		}
		if !control && uint64(len(msg))+size > most {
			return fail(1009)
		}
		key, rest := in[2+n:2+n+4], in[2+n+4:]
		whole := uint64(len(rest)) >= size
		p := bytes.Clone(rest[:min(size, uint64(len(rest)))])
		for i := range p {
			p[i] ^= key[i%4]
		}
		in = rest[len(p):]
		if control {
			if !whole {
				return o
			}
			switch op {
			case 9:
				o.frames = append(o.frames, fmt.Sprintf("10 %x", p))
			case 8:
				code := 1005
				if len(p) > 1 {
					code = int(p[0])<<8 | int(p[1])
				}
				valid := code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
				switch {
				case len(p) == 0:
					o.frames = append(o.frames, "8 ")
				case len(p) == 1 || !valid:
					return fail(1002)
				case !utf8.Valid(p[2:]):
					return fail(1007)
				default:
					return fail(uint16(code)) // is answered with itself
				}
				return o
			}
			continue
		}
		if op != 0 {
			msgOp = op
		}
		msg = append(msg, p...)
		if msgOp == 1 && !mayGoOn(msg) {
			return fail(1007)
		}
		if !whole {
			return o
		}
		if isFin {
			if msgOp == 1 && !utf8.Valid(msg) {
				return fail(1007)
			}
			o.messages = append(o.messages, fmt.Sprintf("%d %x", msgOp, msg))
			msg, msgOp = nil, 0
		}
	}
	return o
}

// mayGoOn reports whether p begins a text: valid, or cut within a code point.
func mayGoOn(p []byte) bool {
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		if r == utf8.RuneError && n == 1 {
			return !utf8.FullRune(p)
		}
		p = p[n:]
	}
	return true
}

// FuzzStream has a tile and the naive reference read the same bytes of a WebSocket client, at once and cut anywhere; they agree on
// every message, pong and close code.
func FuzzStream(f *testing.F) {
	p := tinyParams()
	p.TileCnt, p.RingCnt, p.AppCnt = 1, 1, 0
	m := shmem.Heap(mustFootprint(f, p), Align())
	bell := fmt.Sprintf("%s/tilewire-fuzz-stream-%d", os.TempDir(), os.Getpid())
	f.Cleanup(func() { os.Remove(bell) })
	join := func(fs ...[]byte) []byte { return slices.Concat(fs...) }
	long := strings.Repeat("Größe ", 290)
	for i, in := range [][]byte{
		textFrame("hello"),
		frame(OpBinary, true, long),
		join(frame(OpText, false, "a\xe2"), frame(ws.OpPing, true, "ping"), frame(ws.OpCont, false, "\x82"), frame(ws.OpCont, true, "\xac")),
		join(frame(OpText, false, "a\xe2"), frame(ws.OpCont, true, "(")),
		join(textFrame("x"), frame(ws.OpPing, true, "1"), frame(ws.OpPing, true, strings.Repeat("2", 125)), frame(ws.OpPong, true, "3"), closeFrame(3000, "bye"), textFrame("y")),
		join(textFrame(long[:1000]), closeFrame(1005, "")),
		closeFrame(1000, "\xff"),
		frame(ws.OpClose, true, ""),
		join(frame(OpBinary, false, long), frame(ws.OpCont, true, long)),
		{0x81, 0xfe, 0, 5, 1, 2, 3, 4},
		{0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4},
		{0xc1, 0x80}, {0x83, 0x80}, {0x81, 0x00}, {0x80, 0x80}, {0x09, 0x80},
		textFrame("\xf4\x90"), frame(OpText, false, "\xf4\x90")[:8],
	} {
		f.Add(in, uint64(i))
	}
	f.Fuzz(func(t *testing.T, in []byte, cuts uint64) {
		if len(in) > 8192 {
			return
		}
		want := naiveStream(in, uint64(p.MaxWsRecvFrameLen))
		rng := rand.New(rand.NewPCG(cuts, 1))
		for _, cut := range []func(n int) int{
			func(n int) int { return n },
			func(n int) int { return 1 + rng.IntN(n) },
			func(n int) int { return 1 + rng.IntN(min(n, 4)) },
		} {
			if got := tileStream(t, m, p, bell, in, cut); got.String() != want.String() {
				t.Fatalf("%x:\ngot  %v\nwant %v", in, got, want)
			}
		}
	})
}

// tileStream has a tile read the bytes in pieces of the lengths that cut chooses.
func tileStream(t *testing.T, m shmem.Mem, p Params, bell string, in []byte, cut func(n int) int) (o streamResult) {
	if err := New(m, p); err != nil {
		t.Fatal(err)
	}
	s, err := Join(m)
	if err != nil {
		t.Fatal(err)
	}
	tl, err := s.TakeTile(0, TileOptions{BellPath: bell, Callbacks: Callbacks{
		Request:   func(*Request) Response { return Response{UpgradeWebsocket: true, Ring: NoRing} },
		WsMessage: func(_ ConnID, op byte, data []byte) { o.messages = append(o.messages, fmt.Sprintf("%d %x", op, data)) },
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer tl.Release()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	tl.admit(fds[1])
	peer := fuzzPeer{fd: fds[0]}
	poll := func() {
		for idle := 0; idle < 3; idle++ {
			if tl.Poll(tl.now, 0) > 0 {
				idle = 0
			}
			peer.drain()
		}
		if err := tl.check(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sysWrite(peer.fd, []byte(handshake("/"))); err != nil {
		t.Fatal(err)
	}
	poll()
	for len(in) > 0 {
		n, err := sysWrite(peer.fd, in[:cut(len(in))])
		if err != nil && err != unix.EAGAIN { // closed by the tile, and its linger ended
			break
		}
		in = in[n:]
		poll()
	}
	_, rest, ok := bytes.Cut(peer.out, []byte("\r\n\r\n"))
	if !ok {
		t.Fatalf("no 101 but %q", peer.out)
	}
	for len(rest) > 0 {
		var h ws.Header
		if !ws.ParseHeader(rest, &h) || uint64(len(rest)-h.HdrLen) < h.Len {
			t.Fatalf("torn frame %x", rest)
		}
		o.frames = append(o.frames, fmt.Sprintf("%d %x", h.Op, rest[h.HdrLen:h.HdrLen+int(h.Len)]))
		rest = rest[h.HdrLen+int(h.Len):]
	}
	return o
}
