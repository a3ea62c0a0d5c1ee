//go:build explore

package httpsrv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// simWs is a WebSocket client. It follows the ring or not, sends fragmented
// messages that the application answers, pings, closes, and breaks rules.
type simWs struct {
	simStream
	target  string
	history int
	asked   bool
	head    []byte // the answer to its handshake, until that is whole
	streams bool   // got 101

	sent    [][]byte // opcode and data of messages that the application has yet to get
	rest    []byte   // of the message in progress, yet to be sent
	inMsg   bool
	pingCnt int
	closing bool   // sent its close frame
	code    uint16 // of that; 0: none in it
	endCode []byte // of the server's
	joined  bool
}

func newSimWs(c *simClient) *simWs {
	r := c.w.rnd
	s := &simWs{simStream: simStream{c: c}, target: "/ws"}
	switch r.IntN(4) {
	case 0:
		s.target, s.own = "/own", true
	case 1:
		s.history = 1 + r.IntN(10)
		s.target = fmt.Sprintf("/ws?n=%d", s.history)
	}
	return s
}

func (s *simWs) String() string { return s.target }

// begins: the connection streams; join is the last message that its tile has walked.
func (s *simWs) begins(join uint64) {
	s.joined, s.join = true, int(join)
	for at, m := range s.c.w.log[:join+1] {
		if m.dest == s.c.id {
			s.early = append(s.early, at)
		}
	}
	for at := max(0, int(join)-s.history); at <= int(join); at++ {
		s.at = append(s.at, at)
	}
	s.c.w.tell("client %d streams after %v", s.c.n, s.at)
}

// begun: the connection streams, and where it began is not told: its first message will.
func (s *simWs) begun() {
	again := s.joined
	s.joined, s.open, s.join, s.early = true, true, len(s.c.w.log)-1, nil
	for at, m := range s.c.w.log {
		if m.dest == s.c.id {
			s.early = append(s.early, at)
		}
	}
	if !again {
		s.from = max(0, s.from-s.history)
	}
}

// frame is a client's frame, masked at random.
func (s *simWs) frame(op byte, fin bool, payload []byte) []byte {
	b := make([]byte, ws.MaxHeaderLen+len(payload))
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], s.c.w.rnd.Uint32())
	n := ws.PutClientHeader(b, op, fin, uint64(len(payload)), key)
	ws.UnmaskCopy(b[n:n+len(payload)], payload, key, 0)
	return b[:n+len(payload)]
}

func (s *simWs) step() {
	c, r := s.c, s.c.w.rnd
	switch {
	case !s.asked:
		s.asked = true
		c.out = append(c.out, c.hop(handshake(s.target), 0)...)
	case !s.streams || s.closing || c.rude || s.ended || len(c.out) > c.w.plan.talk:
	case r.IntN(100) < 40 || c.w.plan.talk > 4000:
		s.say()
		for c.w.plan.talk > 4000 && len(c.out) < c.w.plan.talk/2 {
			s.say()
		}
	case r.IntN(100) < 30:
		s.ping()
	case r.IntN(100) < 10:
		c.out = append(c.out, s.frame(ws.OpPong, true, []byte("unasked"))...)
	case r.IntN(100) < 4:
		s.close([]uint16{0, 1000, 1001, 3000, 4999}[r.IntN(5)])
	case c.w.chance(c.w.plan.rude * 0.1):
		s.breakRule()
	}
}

// say sends a fragment of a message, or all that is left of it.
func (s *simWs) say() {
	c, r := s.c, s.c.w.rnd
	op := ws.OpCont
	if !s.inMsg {
		n := r.IntN(20)
		if r.IntN(4) == 0 {
			n = r.IntN(int(c.w.plan.p.MaxWsRecvFrameLen))
		}
		op = []byte{OpText, OpBinary}[r.IntN(2)]
		s.rest, s.inMsg = simNoise[r.IntN(1000):][:n], true
		s.sent = append(s.sent, append([]byte{op}, s.rest...))
	}
	n := len(s.rest)
	if r.IntN(3) == 0 {
		n = r.IntN(n + 1)
	}
	s.inMsg = n < len(s.rest) || r.IntN(8) == 0 // the last fragment may be empty
	c.out = append(c.out, s.frame(op, !s.inMsg, s.rest[:n])...)
	s.rest = s.rest[n:]
}

func (s *simWs) ping() {
	s.pingCnt++
	p := fmt.Appendf(nil, "ping %d %s", s.pingCnt, simNoise[:s.c.w.rnd.IntN(100)])
	s.pings = append(s.pings, p)
	s.c.out = append(s.c.out, s.frame(ws.OpPing, true, p)...)
}

func (s *simWs) close(code uint16) {
	s.c.w.tell("client %d closes with %d", s.c.n, code)
	s.closing, s.code = true, code
	var p []byte
	if code != 0 {
		p = append(binary.BigEndian.AppendUint16(nil, code), "bye"...)
	}
	s.c.out = append(s.c.out, s.frame(ws.OpClose, true, p)...)
}

func (s *simWs) breakRule() {
	c := s.c
	bad := [][]byte{
		{0x81, 0x01, 'x'}, {0xc1, 0x80, 0, 0, 0, 0}, {0x83, 0x80, 0, 0, 0, 0}, {0x89, 0xfe, 0, 126, 0, 0, 0, 0}, {0x09, 0x80, 0, 0, 0, 0},
		{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, {0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		s.frame(OpText, true, []byte("ab\xffcd")), s.frame(ws.OpClose, true, []byte{3}), closeFrame(1005, ""), closeFrame(1000, "\xff"),
		s.frame(ws.OpCont, !s.inMsg, make([]byte, c.w.plan.p.MaxWsRecvFrameLen+1)),
	}
	c.rude = true
	c.w.tell("client %d breaks a rule", c.n)
	c.out = append(c.out, bad[c.w.rnd.IntN(len(bad))]...)
}

// arrived: the application got a message.
func (s *simWs) arrived(op byte, data []byte) {
	if len(s.sent) == 0 || s.sent[0][0] != op || !bytes.Equal(s.sent[0][1:], data) {
		s.fail("the application got %#x %s, which is not the next of %d messages sent", op, simBytes(data), len(s.sent))
	}
	s.sent = s.sent[1:]
}

func (s *simWs) take(b []byte) {
	if s.streams {
		s.simStream.take(b)
		return
	}
	s.head = append(s.head, b...)
	head, rest, ok := bytes.Cut(s.head, []byte("\r\n\r\n"))
	if !bytes.HasPrefix([]byte("HTTP/1.1 "), s.head[:min(9, len(s.head))]) {
		s.fail("handshake answered %s", simBytes(s.head))
	}
	if !ok || !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
		return
	}
	if !bytes.Contains(head, []byte("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) {
		s.fail("handshake answered %q", head)
	}
	s.streams = true
	if s.c.app {
		s.begun()
	}
	s.simStream.take(rest)
}

// closedBy looks at the server's close frame.
func (s *simWs) closedBy(p []byte) {
	c, code := s.c, uint16(0)
	if len(p) >= 2 {
		code = binary.BigEndian.Uint16(p)
	}
	c.w.tell("client %d gets close %d %q", c.n, code, p[min(2, len(p)):])
	switch {
	case s.closing && code == s.code: // the answer
	case c.rude && (code == 1002 || code == 1003 || code == 1007 || code == 1009):
	case code == CodeLagged && c.slow():
	case code == CodeNoPong && c.w.plan.pings > 0 && c.late(), code == CodeOverloaded && c.w.plan.onFull == EvictSlowest:
	case code == CodePolicy && (c.late() || c.kicked), code == CodeKicked && c.kicked:
	case code == simDrainCode && c.w.ending:
	case c.app && code == simAppCode && c.kicked:
	case code == CodeOverloaded && s.appGone():
	default:
		s.fail("closed with %d %q for no reason (it sent close: %v, %d)", code, p[min(2, len(p)):], s.closing, s.code)
	}
	s.endCode = append([]byte(nil), p[:min(2, len(p))]...)
	if c.w.calm || c.w.chance(0.8) {
		s.answerClose()
	}
}

// appGone: its application was gone for longer than it is waited for.
func (s *simWs) appGone() bool {
	c := s.c
	return c.app && c.w.app.goneFor(time.Duration(c.w.plan.app.grace), c.step0)
}

func (s *simWs) answerClose() {
	if !s.closing && !s.c.fin {
		s.closing = true
		s.c.out = append(s.c.out, s.frame(ws.OpClose, true, s.endCode)...)
	}
}

// over: the end must have been announced.
func (s *simWs) over(reset bool) {
	c := s.c
	switch {
	case c.excused():
	case s.appGone() && c.undelivered():
	case !s.streams && !reset && s.refusal():
	case s.ended && !reset:
	case s.ended && c.rude: // what it sent after its fault is answered by RST
	default:
		s.fail("its stream ends without a word (reset %v, 101 %v, close frame %v, told as %s)", reset, s.streams, s.ended, c.why.Name())
	}
	if !reset && s.streams && !s.ended && !(c.evicted() || c.fin || c.rst || c.kicked || c.lost || c.s.brokenByNet) {
		s.fail("FIN without a close frame (told as %s)", c.why.Name())
	}
}

// refusal: the handshake was answered by a whole response that refuses it.
func (s *simWs) refusal() bool {
	a, err := parseAnswer(s.head)
	return err == nil && (a.status == 503 || s.c.app && a.status == 500 && s.c.busy || a.status == 408 && s.c.late()) && fmt.Sprint(len(a.body)) == a.field["content-length"]
}

func (s *simWs) late(age int64) bool {
	p := &s.c.w.plan
	bounded := !s.joined || p.pings > 0 || s.c.tile.t.cnt.Cell(cntBufWaits).Load() > 0 // or others waited for what it held
	return bounded && age >= p.reqTime || (s.closing || s.ended || s.c.rude) && age >= p.clTime
}

func (s *simWs) finish() {
	c := s.c
	if s.ended {
		s.answerClose()
	}
	if s.streams && s.inMsg && !s.closing && !c.rude && !c.fin {
		c.out = append(c.out, s.frame(ws.OpCont, true, s.rest)...)
		s.inMsg = false
	}
}

func (s *simWs) served() bool {
	switch {
	case !s.asked, s.c.gotFin, s.c.gotRst, s.ended:
		return true // over saw to it, or closedBy
	case s.closing || s.c.rude:
		return false
	case s.c.app && (s.c.busy || s.c.w.app.life[s.c.id] != 2):
		return s.c.busy
	}
	return s.streams && len(s.sent) == 0 && s.complete()
}
