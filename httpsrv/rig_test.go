package httpsrv

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

// rig is one server with one network tile, driven by the test itself: tile,
// producer and clients take turns on one goroutine, so that a test awaits
// events instead of sleeping, time can be put forward, and -race has nothing to
// mistake. What a Server promises to any client is checked at its end.
type rig struct {
	testing.TB
	s     *Server
	tile  *NetTile
	addr  string
	begun int64 // ns, where the tile's clock stands unless it is put forward
	skew  int64 // ns that it was put forward
	peers []*peer

	life   map[ConnID]int // 1 open, 2 streams, 3 closed
	closes map[ConnID]CloseReason
	opens  []ConnID // as they came
	got    []string // messages of clients, unless onMessage
	fds    []string

	onRequest func(r *Request) Response
	onMessage func(c ConnID, op byte, data []byte)
	onWsOpen  func(c ConnID)
	onClose   func(c ConnID, why CloseReason)
}

// rigParams are limits small enough to be met.
func rigParams() Params {
	return Params{
		MaxConnectionCnt: 8, MaxWsConnectionCnt: 16, MaxRequestLen: 4096, MaxWsRecvFrameLen: 70000,
		OutgoingBufferSz: 1 << 17, SideBufferSz: 1 << 17, RingDepth: 256, TileCnt: 1, RingCnt: 1,
		RecvBufCnt: 8, MsgBufCnt: 4, PendingCnt: 256,
	}
}

// rigMems runs f on heap memory and, unless the race detector is on, on a real
// region: the detector is blind there.
func rigMems(t *testing.T, size uint64, f func(t *testing.T, m shmem.Mem)) {
	t.Helper()
	t.Run("heap", func(t *testing.T) { f(t, shmem.Heap(size, Align())) })
	if !rigRace {
		t.Run("mapped", func(t *testing.T) { f(t, rigRegion(t, size)) })
	}
}

var rigRegions atomic.Uint32

func rigRegion(t testing.TB, size uint64) shmem.Mem {
	t.Helper()
	name := fmt.Sprintf("httpsrv-test-%d-%d", os.Getpid(), rigRegions.Add(1))
	r, err := shmem.Create(name, size, shmem.Options{Backing: shmem.BackingShm, MaxPageSize: shmem.PageNormal})
	if err != nil {
		t.Skip("no region to be had here:", err)
	}
	t.Cleanup(func() {
		if err := r.Leave(); err != nil {
			t.Error(err)
		}
		if err := shmem.Unlink(name, false); err != nil {
			t.Error(err)
		}
	})
	return r.Mem()
}

// rigEach runs f with a rig on each kind of memory.
func rigEach(t *testing.T, p Params, o TileOptions, f func(r *rig)) {
	t.Helper()
	size, err := Footprint(p)
	if err != nil {
		t.Fatal(err)
	}
	rigMems(t, size, func(t *testing.T, m shmem.Mem) {
		r := newRig(t, m, p, o)
		f(r)
		r.end()
	})
}

var pollerStarted sync.Once

// openFds names this process's descriptors.
func openFds(t testing.TB) []string {
	pollerStarted.Do(func() { // Go's own epoll is made with the first pipe
		r, w, err := os.Pipe()
		if err == nil {
			r.Close()
			w.Close()
		}
	})
	ents, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	var fds []string
	for _, e := range ents {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasSuffix(to, "/fd") {
			fds = append(fds, e.Name()+" "+to)
		}
	}
	return fds
}

func newRig(t testing.TB, m shmem.Mem, p Params, o TileOptions) *rig {
	t.Helper()
	if err := New(m, p); err != nil {
		t.Fatal(err)
	}
	return joinRig(t, m, o)
}

// joinRig is newRig for memory that holds a server.
func joinRig(t testing.TB, m shmem.Mem, o TileOptions) *rig {
	t.Helper()
	s, err := Join(m)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{TB: t, s: s, life: map[ConnID]int{}, closes: map[ConnID]CloseReason{}, fds: openFds(t)}
	if o.BellPath == "" {
		o.BellPath = t.TempDir() + "/bell"
	}
	if o.PingInterval == 0 { // tests put time forward; those of pings ask for them
		o.PingInterval = -1
	}
	o.Callbacks = r.callbacks()
	if r.tile, err = s.TakeTile(0, o); err != nil {
		t.Fatal(err)
	}
	r.begun = r.tile.now
	if r.addr, err = r.tile.Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	return r
}

// callbacks check their own order: each connection opens once, maybe turns into
// a stream once, and ends once, by the right one of Close and WsClose.
func (r *rig) callbacks() Callbacks {
	step := func(c ConnID, from, to int, what string) {
		if r.life[c] != from {
			r.Errorf("%s(%v) in state %d, want %d", what, c, r.life[c], from)
		}
		r.life[c] = to
	}
	end := func(c ConnID, from int, why CloseReason, what string) {
		step(c, from, 3, what)
		r.closes[c] = why
		if r.onClose != nil {
			r.onClose(c, why)
		}
	}
	return Callbacks{
		Request: func(q *Request) Response {
			if r.life[q.Conn] != 1 {
				r.Errorf("Request of %v in state %d", q.Conn, r.life[q.Conn])
			}
			if r.onRequest != nil {
				return r.onRequest(q)
			}
			return r.route(q)
		},
		Open: func(c ConnID) {
			step(c, 0, 1, "Open")
			r.opens = append(r.opens, c)
		},
		Close: func(c ConnID, why CloseReason) { end(c, 1, why, "Close") },
		WsOpen: func(c ConnID) {
			step(c, 1, 2, "WsOpen")
			if r.onWsOpen != nil {
				r.onWsOpen(c)
			}
		},
		WsMessage: func(c ConnID, op byte, data []byte) {
			if r.life[c] != 2 {
				r.Errorf("WsMessage of %v in state %d", c, r.life[c])
			}
			if r.onMessage != nil {
				r.onMessage(c, op, data)
				return
			}
			r.got = append(r.got, string(data))
			r.reply(c, op, data)
		},
		WsClose: func(c ConnID, why CloseReason) { end(c, 2, why, "WsClose") },
	}
}

// route is the application of most tests.
func (r *rig) route(q *Request) Response {
	switch string(q.Path) {
	case "/ws":
		n, _ := strconv.Atoi(strings.TrimPrefix(string(q.Query), "tail="))
		return Response{UpgradeWebsocket: true, History: uint32(n)}
	case "/own":
		return Response{UpgradeWebsocket: true, Ring: NoRing}
	case "/status":
		n, _ := strconv.Atoi(string(q.Query))
		return r.body(Response{Status: n, Location: "/elsewhere"}, "text of "+string(q.Query))
	case "/empty":
		return Response{}
	}
	switch q.Method {
	case MethodPost, MethodPut:
		return r.body(Response{ContentType: string(q.Headers.ContentType)}, string(q.Body))
	}
	return r.body(Response{ContentType: "text/plain"}, q.Method.String()+" "+string(q.Path))
}

// body stages text as the response's body.
func (r *rig) body(resp Response, text string) Response {
	if _, err := r.tile.Stage().WriteString(text); err != nil {
		r.Error(err)
	}
	if err := r.tile.Stage().Body(&resp); err != nil {
		r.Error(err)
	}
	return resp
}

// reply sends data back to the client alone.
func (r *rig) reply(c ConnID, op byte, data []byte) {
	if _, err := r.tile.Stage().Write(data); err != nil {
		r.Error(err)
	}
	if _, err := r.tile.Stage().WsSend(c, op); err != nil {
		r.Error(err)
	}
}

// poll lets the tile work once, and the clients read what has come.
func (r *rig) poll() int {
	n := r.tile.Poll(r.clock(), 0)
	for _, p := range r.peers {
		p.pump()
	}
	return n
}

// until polls until ok. Time passes only where nothing else has happened for a while, since what is awaited is a deadline then.
func (r *rig) until(what string, ok func() bool) {
	r.Helper()
	begin := time.Now()
	last, idle := begin, time.Duration(0)
	for !ok() {
		worked, now := r.poll() > 0, time.Now()
		step := min(now.Sub(last), time.Millisecond) // a test that was kept from the CPU has not looked meanwhile
		if idle, last = idle+step, now; worked {
			idle = 0
		}
		if idle > 50*time.Millisecond { // not much faster than the kernel's own timers, of a closed window for example (0.2 s)
			r.skew += 5 * step.Nanoseconds()
		}
		if now.Sub(begin) > 20*time.Second {
			r.dump()
			r.Fatalf("%s: not within 20 s", what)
		}
	}
}

// quiet polls until the tile had nothing to do for some time in a row.
func (r *rig) quiet() {
	for idle := 0; idle < 20; idle++ {
		if r.poll() > 0 {
			idle = 0
		}
	}
}

// clock is the tile's: it stands still while the test works, however long a busy machine lets that take.
func (r *rig) clock() int64 { return max(r.begun+r.skew, r.tile.now) }

// forward puts the tile's clock forward.
func (r *rig) forward(d time.Duration) {
	r.skew = r.clock() + d.Nanoseconds() - r.begun
	r.poll()
}

// produce takes the producer's role until the end of the test's rig.
func (r *rig) produce() *Stage {
	r.Helper()
	st, err := r.s.Produce(0, time.Second)
	if err != nil {
		r.Fatal(err)
	}
	return st
}

// count returns the counter called name.
func (r *rig) count(name string) uint64 {
	r.Helper()
	c := r.tile.cnt.Lookup(name)
	if c == nil {
		r.Fatalf("no counter %s", name)
	}
	return c.Load()
}

func (r *rig) dump() {
	r.Logf("ring %+v", r.s.Ring(0))
	for i := range r.tile.conns {
		if c := &r.tile.conns[i]; c.state != stFree {
			r.Logf("conn %d: state %d slow %x flags %x tx %+v rx %+v cursor %d stop %d ctl %v pend %d, %+v",
				i, c.state, c.slow, c.flags, c.pos(), c.rxNow(), c.cursor, c.stop, c.ctlLen, c.pendCnt, r.tile.local[i])
		}
	}
	for i, n := range r.tile.cnt.Names() {
		if v := r.tile.cnt.Cell(i).Load(); v != 0 {
			r.Log(n, v)
		}
	}
}

// end closes the clients, and checks what must hold once all are gone.
func (r *rig) end() {
	r.Helper()
	for _, p := range r.peers {
		p.close()
	}
	r.peers = nil
	r.until("all connections end", func() bool { n, _ := r.tile.Conns(); return n == 0 })
	if err := r.tile.check(); err != nil {
		r.Error(err)
	}
	var closed uint64
	for why := range closeReasonCnt {
		closed += r.count("closed_" + why.Name())
	}
	if a := r.count("accepted"); a != closed || r.count("conns_now") != 0 || r.count("ws_now") != 0 || r.count("blocked_now") != 0 {
		r.dump()
		r.Errorf("accepted %d, closed %d, or gauges not 0", a, closed)
	}
	for c, st := range r.life {
		if st != 3 {
			r.Errorf("connection %v never ended for the application: state %d", c, st)
		}
	}
	for _, p := range []*pool{&r.tile.req, &r.tile.head, &r.tile.recv, &r.tile.msg, &r.tile.pends} {
		if len(p.free) != int(p.cnt) {
			r.Errorf("pool of %d x %d: %d free at the end", p.cnt, p.size, len(p.free))
		}
	}
	r.tile.Release()
	if now := openFds(r); len(now) != len(r.fds) {
		r.Errorf("descriptors leaked:\nbefore %q\nafter  %q", r.fds, now)
	}
	r.s.Leave()
}

// check tests the invariants of a tile between two Polls.
func (t *NetTile) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	http, ws := 0, 0
	held := map[string]map[uint32]int{"req": {}, "head": {}, "recv": {}, "msg": {}, "pend": {}}
	hold := func(kind string, i uint32, slot int) {
		if i == 0 {
			return
		}
		if old, ok := held[kind][i]; ok {
			bad("%s buffer %d held by slots %d and %d", kind, i, old, slot)
		}
		held[kind][i] = slot
	}
	blocked, open := 0, 0
	for i := range t.conns {
		c, l := &t.conns[i], &t.local[i]
		if c.state == stFree {
			if c.rxNow().buf|c.headBuf|c.recvBuf|c.msgBuf|c.pendHead != 0 || l.list != listNone {
				bad("free slot %d holds buffers or is listed: %+v", i, *l)
			}
			continue
		}
		if c.open() {
			open++
		}
		if c.flags&flStreams != 0 {
			ws++
		} else {
			http++
		}
		hold("req", c.rxNow().buf, i)
		hold("head", c.headBuf, i)
		hold("recv", c.recvBuf, i)
		hold("msg", c.msgBuf, i)
		n, last := uint32(0), uint32(0)
		for e := c.pendHead; e != 0; e = t.pend[e-1].next {
			hold("pend", e, i)
			n, last = n+1, e
			if n > uint32(len(t.pend)) {
				bad("slot %d: pending entries run in a circle", i)
				break
			}
		}
		if n != c.pendCnt || last != c.pendTail {
			bad("slot %d: %d pending entries ending in %d, it says %d and %d", i, n, last, c.pendCnt, c.pendTail)
		}
		if l.list != listNone {
			if c.state != stStream || c.ring < 0 {
				bad("slot %d in state %d, ring %d, is in list %d", i, c.state, c.ring, l.list)
			} else if list := t.groups[c.ring].lists[l.list]; int(l.at) >= len(list) || list[l.at] != uint32(i) {
				bad("slot %d is not at %d of its list", i, l.at)
			}
		} else if c.state == stStream && c.ring >= 0 {
			bad("slot %d streams and is in no list", i)
		}
		if l.list == listBlocked {
			blocked++
		}
		if (c.state == stStream || c.state == stClosing) && c.ring >= 0 {
			rd := t.rd[c.ring]
			if cur := c.ringPos(); cur > rd.end {
				bad("slot %d: cursor %d beyond %d", i, cur, rd.end)
			}
		}
		if rx := c.rxNow(); rx.done > rx.end || c.recvBuf != 0 && (rx.base > rx.done || rx.end-rx.base > recvBufSz) {
			bad("slot %d: receive state %+v", i, *rx)
		}
		if c.state == stStream && c.flags&(flWaitBuf|flBlocked|flMore) == 0 && c.slow&^slowMid != 0 && !l.dirty {
			bad("slot %d has something to send, and nobody will: slow %x flags %x", i, c.slow, c.flags)
		}
		if holds := c.recvBuf|c.msgBuf != 0; (c.state != stStream || holds) != (c.deadline != 0) && c.flags&flWaitBuf == 0 {
			bad("slot %d in state %d has deadline %d", i, c.state, c.deadline)
		}
		if d := c.due(); d != 0 && (t.wheel.where[i] == 0 || t.wheel.tickAt(uint32(i)) > t.wheel.tickOf(d)) {
			bad("slot %d has deadlines %d, %d, %d, and the wheel looks later", i, c.deadline, c.bound, c.ping)
		}
	}
	replies, off := 0, uint64(0)
	for i := t.rep.oldest; i != 0; i = t.rep.link[i-1].newer {
		e, l := &t.pend[i-1], &t.rep.link[i-1]
		if held["pend"][i] != int(l.slot) || int(e.ring) != t.replyRing() || e.off < off {
			bad("reply %d of slot %d at %d, after %d: held by %d, ring %d", i, l.slot, e.off, off, held["pend"][i], e.ring)
		}
		off = e.off
		if replies++; replies > len(t.pend) {
			bad("the replies run in a circle")
			break
		}
	}
	if t.rep.link != nil {
		for i := range held["pend"] {
			if int(t.pend[i-1].ring) == t.replyRing() {
				replies--
			}
		}
		if replies != 0 || (t.rep.oldest == 0) != (t.rep.newest == 0) || t.rep.until != 0 && t.rep.oldest == 0 {
			bad("%d more replies in a row than are pending; %d to %d, until %d", replies, t.rep.oldest, t.rep.newest, t.rep.until)
		}
	}
	for i := range t.ports {
		errs = append(errs, t.checkPort(&t.ports[i]))
	}
	if http != int(t.httpNow) || ws != int(t.wsNow) || http+ws+len(t.free) != len(t.conns) {
		bad("%d + %d connections and %d free slots of %d; the tile says %d + %d", http, ws, len(t.free), len(t.conns), t.httpNow, t.wsNow)
	}
	if ws > int(t.srv.params.MaxWsConnectionCnt) || http > int(t.srv.params.MaxConnectionCnt) {
		bad("more connections than allowed: %d, %d streams", http, ws)
	}
	if c := t.cnt; int(c.Cell(cntConnsNow).Load()) != http+ws || int(c.Cell(cntWsNow).Load()) != ws || int(c.Cell(cntBlockedNow).Load()) != blocked {
		bad("gauges say %d, %d, %d, the table %d, %d, %d", c.Cell(cntConnsNow).Load(), c.Cell(cntWsNow).Load(), c.Cell(cntBlockedNow).Load(), http+ws, ws, blocked)
	}
	if d := &t.drain; d.on && d.left != open {
		bad("%d streams are open, the drain knows of %d", open, d.left)
	}
	for _, g := range t.groups {
		for _, l := range []uint8{listActive, listBlocked} {
			for at, slot := range g.lists[l] {
				if loc := t.local[slot]; loc.list != l || int(loc.at) != at {
					bad("slot %d is in list %d at %d, and says %+v", slot, l, at, loc)
				}
			}
		}
	}
	if t.opt.MaxConnectionsPerIP > 0 {
		if fresh := newAddrs(t.conns); !t.addrs.same(&fresh) {
			bad("the count by address differs from that of the table")
		}
	}
	for i := range t.conns {
		c := &t.conns[i]
		if c.state == stFree {
			continue
		}
		if want := t.opt.MaxConnectionsPerIP > 0 && !t.opt.trust.Has(&c.peer); want != (c.fwd&fwCounted != 0) {
			bad("slot %d, of %v: counted %v", i, netip.AddrFrom16(c.peer), !want)
		}
		if c.fwd&fwVia != 0 && (c.state == stRequest || c.flags&flStreams != 0) {
			bad("slot %d in state %d is at its proxy's client", i, c.state)
		}
	}
	for k, n := range []int{queueHTTP: http, queueWs: ws} {
		prev, found := uint32(0), 0
		for s := t.order.first[k]; s != 0 && found <= n; s = t.order.next[s-1] {
			if c := &t.conns[s-1]; c.state == stFree || c.queue() != k || t.order.prev[s-1] != prev {
				bad("queue %d holds slot %d in state %d, behind %d", k, s-1, c.state, t.order.prev[s-1])
			}
			prev = s
			found++
		}
		if found != n || t.order.last[k] != prev {
			bad("queue %d holds %d of %d", k, found, n)
		}
	}
	for kind, p := range map[string]*pool{"req": &t.req, "head": &t.head, "recv": &t.recv, "msg": &t.msg, "pend": &t.pends} {
		if len(p.free)+len(held[kind]) != int(p.cnt) {
			bad("%s pool: %d free, %d held, of %d", kind, len(p.free), len(held[kind]), p.cnt)
		}
		seen := slices.Sorted(slices.Values(p.free))
		if len(slices.Compact(seen)) != len(p.free) {
			bad("%s pool: a buffer is free twice", kind)
		}
		for _, i := range p.free {
			if slot, ok := held[kind][i]; ok {
				bad("%s buffer %d is free and held by slot %d", kind, i, slot)
			}
		}
	}
	return errors.Join(errs...)
}
