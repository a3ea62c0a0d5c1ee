//go:build explore

package httpsrv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// scenario is what the actors do; the schedule decides when.
type scenario struct {
	name              string
	ring, side, depth uint64
	seq0              uint64
	lag               uint64 // MaxWsSendFrameCnt, 0: depth

	// Scripts, one for each process that takes the role; the next begins when
	// the one before is dead (a producer: or done). Words of a producer:
	//	12      broadcast 12 bytes
	//	12+9    the same, staged in two parts
	//	7>1     7 bytes to client 1
	//	20u     stage 20 bytes and unstage
	// Words of a tile: j0 client 0 joins, j0h2 joins with 2 messages of
	// history, w waits for something to deliver, d a delivery pass, o0 client 0 takes bytes again, p0 a ping of
	// client 0. At the end a tile goes on until all is delivered. At y either
	// lets the others go on.
	producer []string
	tiles    [2][]string

	clients []clientSpec
	busy    bool // the producer's patience may end
	deaths  int  // processes that may die
	mortal  string
}

// clientSpec is how a client takes bytes: so many, then nothing until the next
// o of the tile's script; without a limit at the end, or nothing more at all.
type clientSpec struct {
	window []int
	stalls bool
}

// client is a WebSocket client, and what it knows of what it must get.
type client struct {
	clientSpec
	w       *world
	n       int
	tile    *NetTile
	slot    uint32
	id      ConnID
	joinSeq uint64
	lastB   uint64 // last broadcast got, relative to seq0
	lastS   uint64 // last message of its own
	buf     []byte
	closed  bool // got a close frame
	gone    bool // its tile died
	joined  bool
}

// sent is a message that was or is being published.
type sent struct {
	len  int
	dest ConnID
	off  uint64 // in the side area; 0 while it is being published
}

// world is one run.
type world struct {
	sched
	sc      *scenario
	srv     *Server
	r       *ring
	st      *Stage
	log     []sent // by seq - seq0
	clients []*client
	prods   []*actor
	scratch []byte
	roles   []func() // release those taken
}

// field is the memory that runs use again and again.
var field = sync.OnceValue(func() map[string]*Server { return map[string]*Server{} })

func newWorld(sc *scenario, ch chooser, preempts int) *world {
	w := &world{sc: sc}
	w.ch, w.preempts, w.deaths = ch, preempts, sc.deaths
	key := fmt.Sprint(sc.ring, sc.side, sc.depth, sc.lag)
	if w.srv = field()[key]; w.srv == nil {
		p := Params{
			MaxConnectionCnt: 1, MaxWsConnectionCnt: 3, MaxRequestLen: 64, MaxWsRecvFrameLen: 64,
			OutgoingBufferSz: sc.ring, SideBufferSz: sc.side, RingDepth: sc.depth, MaxWsSendFrameCnt: sc.lag,
			ReplyBufferSz: 64, ReplyDepth: 4, HeadBufCnt: 8, RecvBufCnt: 2, MsgBufCnt: 1, PendingCnt: 16, StaticSz: 64,
			TileCnt: 2, RingCnt: 1,
		}
		size, err := Footprint(p)
		if err != nil {
			panic(err)
		}
		m := shmem.Heap(size, Align())
		if err := New(m, p); err != nil {
			panic(err)
		}
		if w.srv, err = Join(m); err != nil {
			panic(err)
		}
		field()[key] = w.srv
	}
	l := &w.srv.lay
	if err := l.eachRing(w.srv.params, w.srv.mem, func(m shmem.Mem, rp ringParams, id uint32) error {
		return ringNew(m, rp, id, 1, sc.seq0)
	}); err != nil {
		panic(err)
	}
	for _, cs := range w.srv.conns {
		clear(cs)
	}
	w.r = w.srv.rings[0]
	w.log = append(w.log, sent{})
	for i, cs := range sc.clients {
		cs.window = slices.Clone(cs.window)
		w.clients = append(w.clients, &client{clientSpec: cs, w: w, n: i})
	}
	w.check = w.invariants
	if sc.busy {
		w.timeout = func() { w.st.bound = 0 }
	}

	var prev *actor
	for i, script := range sc.producer {
		a := &actor{name: fmt.Sprintf("producer%d", i)}
		a.body = func() { w.produce(a, script) }
		if p := prev; p != nil {
			a.cond = func() bool { return p.done }
		}
		prev = a
		w.prods = append(w.prods, a)
		w.actors = append(w.actors, a)
	}
	for id, scripts := range sc.tiles {
		var prev *actor
		for i, script := range scripts {
			a := &actor{name: fmt.Sprintf("tile%d", id) + strings.Repeat("'", i)}
			a.body = func() { w.tile(a, id, script) }
			if p := prev; p != nil {
				a.cond = func() bool { return p.died }
			}
			prev = a
			w.actors = append(w.actors, a)
		}
	}
	return w
}

// run runs the world, and looks at what came of it.
func (w *world) run() {
	sys = tileSends{w: w}
	defer func() { sys = linux{} }()
	w.sched.run()
	if w.wrong == "" {
		w.complete()
	}
	for _, f := range w.roles { // free for the next run
		f()
	}
}

// invariants hold at every step.
func (w *world) invariants(p point) {
	if w.st == nil || p != ptLimitRaised {
		return
	}
	var m message
	if !w.r.read2(w.r.hdr.head.Load(), &m) {
		return
	}
	for a := range areaCnt {
		if l := w.r.hdr.limit[a].Load(); l > m.end[a] {
			w.fail("the limit of area %d is %d, above what is published (%d): nobody can be sent what comes next", a, l, m.end[a])
		}
	}
}

// read2 is read without steps.
func (r *ring) read2(seq uint64, m *message) bool {
	d := &r.descs[seq&r.mask]
	m.end = d.end
	return d.seq.Load() == seq
}

func pattern(seq uint64, i int) byte {
	if i == 0 {
		return byte(seq)
	}
	return byte(seq*37 + uint64(i)*11 + 5)
}

// produce is a producer process.
func (w *world) produce(a *actor, script string) {
	lock, err := w.srv.takeRole(w.srv.ringOff(0))
	if err != nil {
		w.fail("%s: %v", a.name, err)
		return
	}
	unlock := func() { _ = lock.Unlock() }
	w.roles = append(w.roles, unlock)
	if strings.HasPrefix(a.name, w.sc.mortal) && w.sc.mortal != "" {
		a.reap = unlock
	}
	st, err := newStage(w.r, areaBroadcast, 1<<62)
	if err != nil {
		w.fail("%s: %v", a.name, err)
		return
	}
	st.dead = make([]bool, len(w.r.pins))
	w.st = st
	for _, word := range strings.Fields(script) {
		if word == "y" {
			w.hook(ptYield)
			continue
		}
		for try := range 3 {
			err := w.publish(st, word)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrBusy) || w.timeout == nil {
				w.fail("%s: %s: %v", a.name, word, err)
			}
			if try < 2 {
				w.hook(ptYield)
			}
		}
	}
	w.st = nil
	unlock()
}

func (w *world) publish(st *Stage, word string) (err error) {
	w.say(" (%s)", word)
	st.bound = 1 << 62
	seq, n := st.seq+1, 0
	var to ConnID
	unstage := strings.HasSuffix(word, "u")
	word = strings.TrimSuffix(word, "u")
	if head, c, ok := strings.Cut(word, ">"); ok {
		word, to = head, 1<<56
		if cl := w.clients[c[0]-'0']; cl.joined {
			to = cl.id
		}
	}
	for _, part := range strings.Split(word, "+") {
		var k int
		fmt.Sscan(part, &k)
		if w.scratch = w.scratch[:0]; len(w.scratch) < k {
			for i := range k {
				w.scratch = append(w.scratch, pattern(seq, n+i))
			}
		}
		st.Write(w.scratch)
		n += k
	}
	if unstage {
		st.Unstage()
		return nil
	}
	at := seq - w.sc.seq0
	w.log = append(w.log[:at], sent{len: n, dest: to})
	if to != 0 {
		_, err = st.WsSend(to, OpBinary)
	} else {
		_, err = st.WsBroadcast(OpBinary)
	}
	if err != nil {
		w.log = w.log[:at]
	} else if to != 0 {
		w.log[at].off = st.end[areaSide] - uint64(n) - 2
	}
	return err
}

// tile is a network tile's process: the real one but for epoll.
func (w *world) tile(a *actor, id int, script string) {
	lock, err := w.srv.takeRole(w.srv.tileOff(id))
	if err != nil {
		w.fail("%s: %v", a.name, err)
		return
	}
	t := &NetTile{srv: w.srv, id: id, lock: lock, slot: w.srv.slot(id), ep: -1}
	w.roles = append(w.roles, func() { _ = lock.Unlock() })
	if w.sc.mortal == a.name {
		a.reap = func() {
			_ = lock.Unlock()
			for _, c := range w.clients {
				if c.tile == t {
					c.gone = true
				}
			}
		}
	}
	step(ptTakeover)
	if err := t.attach(); err != nil {
		w.fail("%s: %v", a.name, err)
		return
	}
	for _, word := range strings.Fields(script) {
		w.tileDoes(t, word)
	}
	for {
		w.tileDoes(t, "d")
		took := false
		for _, c := range w.clients {
			if c.tile == t && w.takes(c) {
				took = true
			}
		}
		if took || t.behind() {
			continue
		}
		if w.published() {
			return
		}
		w.wait(func() bool { return t.behind() || w.published() })
	}
}

func (w *world) published() bool {
	for _, a := range w.prods {
		if !a.done {
			return false
		}
	}
	return true
}

func (w *world) tileDoes(t *NetTile, word string) {
	over := t.rd[0].overruns
	blocked, evicted := uint64(0), uint64(0)
	var cursor [4]uint64
	for i := range t.conns {
		cursor[i] = t.conns[i].ringPos()
		if t.conns[i].state == stClosing {
			evicted |= 1 << i
		}
		if t.conns[i].flags&flBlocked != 0 {
			blocked |= 1 << i
		}
	}
	w.say(" (%s)", word)
	switch word {
	case "d":
		t.deliver()
	case "y":
		w.hook(ptYield)
	case "w":
		w.wait(func() bool { return t.behind() || w.published() })
	default:
		c := w.clients[word[1]-'0']
		switch word[0] {
		case 'j':
			hist := 0
			if len(word) > 3 {
				hist = int(word[3] - '0')
			}
			w.join(t, c, uint32(hist))
		case 'o':
			w.takes(c)
		case 'p':
			if cn := &t.conns[c.slot]; cn.state == stStream && c.tile == t {
				t.pong(c.slot, cn, []byte("pp"), 0)
			}
		}
		t.flush()
	}
	// Nobody is closed for being slow who was not.
	for _, c := range w.clients {
		if c.tile != t || !c.joined || c.gone {
			continue
		}
		cn := &t.conns[c.slot]
		if cn.gen.Load() != c.id.Gen() || cn.state != stClosing || cn.reason != CloseWsClientTooSlow || over != t.rd[0].overruns {
			continue
		}
		limit, own := &w.r.hdr.limit, false
		for at, m := range w.log {
			own = own || m.dest == c.id && uint64(at) > max(c.lastS, c.joinSeq) && m.off < limit[areaSide].Load()
		}
		switch {
		case own || evicted&(1<<c.slot) != 0:
		case cursor[c.slot] >= max(t.rd[0].end, limit[areaBroadcast].Load()):
			w.fail("client %d is evicted at %d, which is the head", c.n, cursor[c.slot])
		case blocked&(1<<c.slot) == 0 && cn.flags&flBlocked == 0 && cn.stop >= limit[areaBroadcast].Load():
			w.fail("client %d is evicted at %d, and stands in nobody's way (limit %d)", c.n, cn.stop, limit[areaBroadcast].Load())
		}
	}
}

// join makes c a client whose 101 was just sent.
func (w *world) join(t *NetTile, c *client, history uint32) {
	slot := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	cn := &t.conns[slot]
	gen := cn.gen.Load() + 1
	*cn = conn{fd: int32(-10 - c.n), ring: 0, history: history}
	cn.gen.Store(gen)
	cn.state, cn.slow = stUpgrade, slowState
	t.httpNow++
	*c = client{clientSpec: c.clientSpec, w: w, n: c.n, tile: t, slot: slot, id: connID(gen, t.id, slot), joined: true}
	c.joinSeq = t.rd[0].seen - w.sc.seq0
	t.upgraded(slot, cn)
	t.touch(slot)
}

// takes has a blocked client take bytes again, if it does.
func (w *world) takes(c *client) bool {
	if !c.joined || c.gone {
		return false
	}
	cn := &c.tile.conns[c.slot]
	if cn.state == stFree || cn.gen.Load() != c.id.Gen() || cn.flags&flBlocked == 0 || len(c.window) == 0 && c.stalls {
		return false
	}
	if len(c.window) > 0 {
		c.window = c.window[1:]
	}
	c.tile.event(&unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(c.slot), Pad: int32(c.id.Gen())})
	c.tile.flush()
	return true
}

// tileSends is the kernel whose sends are the world's.
type tileSends struct {
	linux
	w *world
}

func (k tileSends) sendv(fd int, v *shmem.Iovs) (int, unix.Errno) { return k.w.send(fd, v) }

// send is the kernel's: it takes what the client's window allows, and reads it
// from the ring in more than one step.
func (w *world) send(fd int, v *shmem.Iovs) (int, unix.Errno) {
	c := w.clients[-fd-10]
	n := v.Bytes()
	if len(c.window) > 0 {
		n = min(n, c.window[0])
	} else if c.stalls {
		n = 0
	}
	if n == 0 {
		return 0, unix.EAGAIN
	}
	if len(c.window) > 0 {
		if c.window[0] -= n; c.window[0] == 0 && n == v.Bytes() {
			c.window = c.window[1:]
		}
	}
	got, before := 0, len(c.buf)
	for i := range v.Len() {
		p := v.Piece(i)
		p = p[:min(len(p), n-got)]
		half := (len(p) + 1) / 2
		c.buf = append(c.buf, p[:half]...)
		if len(p) > half {
			step(ptSending)
			c.buf = append(c.buf, p[half:]...)
		}
		got += len(p)
		if got < n {
			step(ptSending)
		}
	}
	w.say(" [client %d takes %d of %d bytes, % x...]", c.n, n, v.Bytes(), c.buf[before:before+min(n, 4)])
	c.take()
	return n, 0
}

// take looks at the bytes a client has got: whole frames in their order, each
// byte right, also of the one that is not whole.
func (c *client) take() {
	for len(c.buf) >= 2 && c.w.wrong == "" {
		if c.closed {
			c.w.fail("client %d: %d bytes after the close frame", c.n, len(c.buf))
			return
		}
		op, n, hl := c.buf[0]&0xf, int(c.buf[1]), 2
		if n == 126 {
			if len(c.buf) < 4 {
				return
			}
			n, hl = int(binary.BigEndian.Uint16(c.buf[2:])), 4
		}
		switch {
		case c.buf[0] == 0x88 && n <= 125:
		case c.buf[0] == 0x8a && n == 2:
		case c.buf[0] == 0x82 && n <= 126+256:
		default:
			c.w.fail("client %d: torn: frame header % x", c.n, c.buf[:2])
			return
		}
		body := c.buf[hl:]
		body = body[:min(n, len(body))]
		if op == OpBinary && len(body) > 0 {
			if !c.message(body, n) {
				return
			}
		}
		if len(body) < n {
			return
		}
		switch {
		case op == 8:
			c.closed = true
		case op == 10 && string(body) != "pp":
			c.w.fail("client %d: torn: pong % x", c.n, body)
			return
		case op == OpBinary:
			c.got(body[0])
		}
		c.buf = c.buf[:copy(c.buf, c.buf[hl+n:])]
	}
}

// message checks the (first) bytes of a message of n bytes.
func (c *client) message(body []byte, n int) bool {
	w := c.w
	at, ok := c.which(body[0])
	if !ok {
		w.fail("client %d: message %d is not what comes after broadcast %d and own %d (torn, gap or out of order)",
			c.n, body[0]-byte(w.sc.seq0), c.lastB, c.lastS)
		return false
	}
	if w.log[at].len != n {
		w.fail("client %d: torn: message %d has length %d, was sent with %d", c.n, at, n, w.log[at].len)
		return false
	}
	for i, b := range body {
		if b != pattern(w.sc.seq0+at, i) {
			w.fail("client %d: torn: byte %d of message %d", c.n, i, at)
			return false
		}
	}
	return true
}

// which finds the message whose first byte is b, and whether it is the client's turn for it.
func (c *client) which(b byte) (at uint64, ok bool) {
	w := c.w
	for at = uint64(len(w.log)) - 1; at > 0 && byte(w.sc.seq0+at) != b; at-- {
	}
	if at == 0 {
		return 0, false
	}
	own := w.log[at].dest == c.id
	if !own && w.log[at].dest != 0 {
		return at, false
	}
	for q := at - 1; q > 0; q-- { // everything before it must have been got
		switch m := w.log[q]; {
		case m.dest == 0 && q <= c.lastB || m.dest == c.id && q <= c.lastS:
		case m.dest == 0 && c.lastB != 0:
			return at, false
		case m.dest == c.id && q > c.joinSeq:
			return at, false
		}
	}
	if own {
		return at, at > c.lastS
	}
	return at, at > c.lastB
}

func (c *client) got(b byte) {
	at, _ := c.which(b)
	if c.w.log[at].dest == 0 {
		c.lastB = at
	} else {
		c.lastS = at
	}
}

// complete: every client that is still there has got everything.
func (w *world) complete() {
	head := w.r.hdr.head.Load() - w.sc.seq0
	for _, c := range w.clients {
		if !c.joined || c.gone || c.stalls || c.closed {
			continue
		}
		cn := &c.tile.conns[c.slot]
		if cn.state != stStream || cn.gen.Load() != c.id.Gen() {
			continue
		}
		for q := head; q > c.joinSeq; q-- {
			m := w.log[q]
			if m.dest == 0 && q > c.lastB && (c.lastB != 0 || cn.flags&flFresh == 0) || m.dest == c.id && q > c.lastS {
				w.fail("client %d: message %d never came", c.n, q)
				return
			}
		}
	}
}
