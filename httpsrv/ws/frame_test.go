package ws

import (
	"bytes"
	"testing"
)

// naive reads a header as RFC 6455 5.2 draws it, octet by octet; ok is false while it is incomplete.
func naive(p []byte) (h Header, ok bool) {
	next := func() byte {
		if h.HdrLen >= len(p) {
			ok = false
			return 0
		}
		h.HdrLen++
		return p[h.HdrLen-1]
	}
	ok = true
	b := next()
	h.Fin, h.Rsv, h.Op = b>>7 == 1, b>>4&7, b&15
	b = next()
	h.Masked, h.lenBits = b>>7 == 1, b&127
	ext := 0
	switch h.lenBits {
	case 126:
		ext = 2
	case 127:
		ext = 8
	default:
		h.Len = uint64(h.lenBits)
	}
	for range ext {
		h.Len = h.Len<<8 | uint64(next())
	}
	if h.Masked {
		for i := range h.Mask {
			h.Mask[i] = next()
		}
	}
	return h, ok
}

// naiveCheck is RFC 6455 5.1-5.5 without regard to order: whether the frame is acceptable.
func naiveCheck(h Header, msgOp byte, got, maxFrame, maxMsg uint64) uint16 {
	control := h.Op&8 != 0
	known := h.Op <= 2 || h.Op >= 8 && h.Op <= 10
	shortest := HeaderLen(h.Len) == map[bool]int{true: h.HdrLen - 4, false: h.HdrLen}[h.Masked]
	if !known || h.Rsv != 0 || !h.Masked || !shortest || h.Len >= 1<<63 || control && (!h.Fin || h.Len > 125) || !control && (h.Op == 0) != (msgOp != 0) {
		return 1002
	}
	if !control && (h.Len > maxFrame || h.Len+got > maxMsg || h.Len+got < got) {
		return 1009
	}
	return 0
}

var frames = []struct {
	name  string
	in    []byte
	msgOp byte
	got   uint64
	want  Fault
}{
	{"text", []byte{0x81, 0x80, 1, 2, 3, 4}, 0, 0, FaultNone},
	{"binary, no fin", []byte{0x02, 0x85, 1, 2, 3, 4}, 0, 0, FaultNone},
	{"continuation", []byte{0x00, 0x85, 1, 2, 3, 4}, OpText, 10, FaultNone},
	{"last continuation", []byte{0x80, 0x85, 1, 2, 3, 4}, OpBinary, 995, FaultNone},
	{"ping between fragments", []byte{0x89, 0xfd, 1, 2, 3, 4}, OpText, 1000, FaultNone},
	{"pong", []byte{0x8a, 0x80, 1, 2, 3, 4}, 0, 0, FaultNone},
	{"close", []byte{0x88, 0x82, 1, 2, 3, 4}, OpText, 0, FaultNone},
	{"126", []byte{0x81, 0xfe, 0, 126, 1, 2, 3, 4}, 0, 0, FaultNone},
	{"largest", []byte{0x81, 0xfe, 0x03, 0xe8, 1, 2, 3, 4}, 0, 0, FaultNone},

	{"no mask", []byte{0x81, 0x05}, 0, 0, FaultBadMask},
	{"no mask, ping", []byte{0x89, 0x00}, 0, 0, FaultBadMask},
	{"rsv1", []byte{0xc1, 0x85, 1, 2, 3, 4}, 0, 0, FaultRsv},
	{"rsv2", []byte{0xa1, 0x85, 1, 2, 3, 4}, 0, 0, FaultRsv},
	{"rsv3 on a ping", []byte{0x99, 0x85, 1, 2, 3, 4}, OpText, 0, FaultRsv},
	{"opcode 3", []byte{0x83, 0x85, 1, 2, 3, 4}, 0, 0, FaultUnknownOpcode},
	{"opcode 7", []byte{0x87, 0x85, 1, 2, 3, 4}, OpText, 0, FaultUnknownOpcode},
	{"opcode 11", []byte{0x8b, 0x85, 1, 2, 3, 4}, 0, 0, FaultUnknownOpcode},
	{"opcode 15", []byte{0x8f, 0x85, 1, 2, 3, 4}, 0, 0, FaultUnknownOpcode},
	{"ping without fin", []byte{0x09, 0x80, 1, 2, 3, 4}, 0, 0, FaultControlFragmented},
	{"close of 126", []byte{0x88, 0xfe, 0, 126, 1, 2, 3, 4}, 0, 0, FaultControlTooLarge},
	{"ping with 64 bits", []byte{0x89, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4}, 0, 0, FaultControlTooLarge},
	{"text in text", []byte{0x81, 0x85, 1, 2, 3, 4}, OpText, 0, FaultExpectedCont},
	{"binary in text", []byte{0x02, 0x85, 1, 2, 3, 4}, OpText, 0, FaultExpectedCont},
	{"continuation of nothing", []byte{0x80, 0x85, 1, 2, 3, 4}, 0, 0, FaultExpectedText},
	{"16 bits for 125", []byte{0x81, 0xfe, 0, 125, 1, 2, 3, 4}, 0, 0, FaultBadLength},
	{"64 bits for 65535", []byte{0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4}, 0, 0, FaultBadLength},
	{"2^63", []byte{0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 0, 0, FaultBadLength},
	{"2^64-1", []byte{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, 0, 0, FaultBadLength},
	{"2^63-1", []byte{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, 0, 0, FaultOversize},
	{"2^63-1 more", []byte{0x80, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, OpText, 1<<64 - 1, FaultOversize},
	{"over the frame", []byte{0x81, 0xfe, 0x03, 0xe9, 1, 2, 3, 4}, 0, 0, FaultOversize},
	{"over the message", []byte{0x80, 0x85, 1, 2, 3, 4}, OpText, 996, FaultOversize},
}

const maxLen = 1000

func TestFrames(t *testing.T) {
	for _, c := range frames {
		var h Header
		for i := range c.in {
			if ParseHeader(c.in[:i], &h) {
				t.Errorf("%s: complete with %d of %d", c.name, i, len(c.in))
			}
		}
		if !ParseHeader(c.in, &h) || h.HdrLen != len(c.in) {
			t.Errorf("%s: %+v", c.name, h)
		}
		f := Check(&h, c.msgOp, c.got, maxLen, maxLen)
		if f != c.want || (f.CloseCode() == 0) != (f == FaultNone) || (f.String() == "") != (f == FaultNone) {
			t.Errorf("%s: %v, want %v", c.name, f, c.want)
		}
		if s := CheckStart(c.in[0], c.in[1], c.msgOp); s != c.want && c.want < FaultBadLength || s != FaultNone && s != c.want {
			t.Errorf("%s: after two octets %v, want %v", c.name, s, c.want)
		}
	}
}

func TestPutHeader(t *testing.T) {
	for _, n := range []uint64{0, 1, 125, 126, 127, 65535, 65536, 1 << 32, 1<<63 - 1} {
		for _, op := range []byte{OpCont, OpText, OpBinary, OpClose, OpPing, OpPong} {
			for _, fin := range []bool{false, true} {
				var b [MaxHeaderLen]byte
				var h Header
				w := PutHeader(b[:HeaderLen(n)], op, fin, n)
				if w != HeaderLen(n) || !ParseHeader(b[:w], &h) || h.Len != n || h.Op != op || h.Fin != fin || h.Masked || h.Rsv != 0 || h.HdrLen != w {
					t.Fatalf("%d %d %v: %d %+v", n, op, fin, w, h)
				}
				key := [4]byte{1, 2, 3, 4}
				w = PutClientHeader(b[:HeaderLen(n)+4], op, fin, n, key)
				if w != HeaderLen(n)+4 || !ParseHeader(b[:w], &h) || h.Len != n || h.Op != op || h.Fin != fin || h.Mask != key || h.HdrLen != w {
					t.Fatalf("masked %d %d %v: %d %+v", n, op, fin, w, h)
				}
			}
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, c := range frames {
		f.Add(c.in, c.msgOp, c.got)
	}
	f.Fuzz(func(t *testing.T, in []byte, msgOp byte, got uint64) {
		msgOp %= 3
		want, ok := naive(in)
		var h Header
		if ParseHeader(in, &h) != ok {
			t.Fatalf("%x: complete %v", in, ok)
		}
		if !ok {
			return
		}
		if h != want {
			t.Fatalf("%x: %+v, want %+v", in, h, want)
		}
		fault := Check(&h, msgOp, got, maxLen, 2*maxLen)
		if code := naiveCheck(want, msgOp, got, maxLen, 2*maxLen); fault.CloseCode() != code {
			t.Fatalf("%x in %d after %d: %v, want %d", in, msgOp, got, fault, code)
		}
		if s := CheckStart(in[0], in[1], msgOp); s != FaultNone && s != fault {
			t.Fatalf("%x: first %v, then %v", in, s, fault)
		}
		if fault == FaultNone {
			var b [MaxHeaderLen]byte
			if w := PutClientHeader(b[:], h.Op, h.Fin, h.Len, h.Mask); !bytes.Equal(b[:w], in[:h.HdrLen]) {
				t.Fatalf("%x written as %x", in[:h.HdrLen], b[:w])
			}
		}
	})
}
