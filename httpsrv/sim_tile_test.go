//go:build explore

package httpsrv

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// simTile is a network tile's process: the real NetTile with an application in its
// callbacks (sim_app_test.go), and what is checked of it (sim_check_test.go).
type simTile struct {
	simProcess
	id    int
	t     *NetTile
	fd    int  // of the listener
	up    bool // it is started, and lives
	fresh bool // it has taken over, and not come round yet
	round bool // it has come round

	body Static
	life map[ConnID]int // 1 open, 2 streams; of this process

	lifeAgain map[ConnID]int // of the process before one that did not come to live

	accepted int // by the kernel, for all processes of the tile
	deaths   int
	starts   int

	fatals    uint64 // connections that the next successor is not to carry on
	sideSeen  uint64 // end of the side area when the last poll that is over began
	shortages uint64
	shortAt   int // step at which it last may have closed anybody for want of something
}

func newSimTile(w *simWorld, id int) *simTile {
	t := &simTile{id: id, shortAt: -1}
	t.simProcess = simProcess{w: w, name: fmt.Sprint("tile ", id), tile: t, asleep: func() bool { return t.t.bell.Asleep() }, lieDown: t.checkAsleep}
	return t
}

// simBellDir holds the tiles' doorbells: real FIFOs, used by all runs.
var simBellDir = sync.OnceValue(func() string {
	d, err := os.MkdirTemp("", "httpsrv-sim-")
	if err != nil {
		panic(err)
	}
	return d
})

// start starts the process; it may take more than one.
func (t *simTile) start() {
	for n := 0; !t.tryStart(); n++ {
		if n > 200 {
			t.w.fail("tile %d never starts", t.id)
		}
	}
}

func (t *simTile) tryStart() bool {
	w := t.w
	before := t.left()
	t.life, t.bell, t.doom, t.up, t.round, t.shield = map[ConnID]int{}, nil, 0, false, false, nil
	t.starts++
	if t.starts > 20 {
		calm := w.calm
		w.calm = true
		defer func() { w.calm = calm }()
	}
	running, depth := len(w.running), w.depth
	w.running = append(w.running, &t.simProcess)
	inTaking[t.id] = nil
	up, told := false, before.life
	defer func() {
		w.running, w.depth = w.running[:running], depth
		if up || !w.plan.survive {
			return
		}
		switch e := recover(); e {
		case nil, simDeath{}: // in the middle of taking over
			t.lifeAgain = told
			letGo(inTaking[t.id])
			w.k.exitKept(t)
		default:
			panic(e)
		}
	}()
	if w.plan.survive && !w.calm && w.chance(0.3) {
		t.doom = 1 + w.rnd.IntN(60)
	}
	o := TileOptions{
		Callbacks: t.callbacks(), BellPath: fmt.Sprintf("%s/%d", simBellDir(), t.id),
		RequestTimeout: time.Duration(w.plan.reqTime), CloseTimeout: time.Duration(w.plan.clTime), IdleTimeout: time.Duration(w.plan.reqTime),
		BodyTimeout: time.Duration(w.plan.reqTime), WriteTimeout: time.Duration(w.plan.reqTime),
		PongTimeout: time.Duration(w.plan.reqTime), PingInterval: time.Duration(w.plan.pings),
		AppTimeout: time.Duration(w.plan.app.within), AppGrace: time.Duration(w.plan.app.grace),
		KeepAlive: w.plan.keepAlive, Survive: w.plan.survive, OnFull: w.plan.onFull, OnLag: w.plan.onLag, ReplyWait: time.Duration(w.plan.replyWait), AcceptRate: w.plan.rate,
	}
	if w.plan.proxy {
		o.ProxyProtocol, o.TrustedProxies, o.MaxConnectionsPerIP = ProxyAny, simTrusted, 1000 // counted, and not met
	}
	nt, err := w.srv.TakeTile(t.id, o)
	if err == nil {
		t.t = nt
		t.carried(before)
		told = t.life // with those that it admits before it lives
		if _, ok := w.k.fds[t.fd]; ok {
			err = nt.ListenFd(t.fd)
		} else if _, err = nt.Listen("127.0.0.1:0"); err != nil {
			nt.Release()
		}
	}
	if err != nil {
		w.tell("tile %d does not start: %v", t.id, err)
		if len(w.k.openFds(t)) > 0 && !w.plan.survive {
			w.fail("descriptors left by a tile that did not start (%v)", err)
		}
		return false
	}
	t.fd = nt.listeners[0].fd
	if t.body, err = w.srv.AddStatic("page", simNoise[:1500]); err != nil {
		w.fail("%v", err)
	}
	t.up, up, t.fresh = true, true, w.plan.survive
	w.tell("tile %d started", t.id)
	return true
}

// simLeft is what a process left to the one that carries on.
type simLeft struct {
	life           map[ConnID]int
	lost, internal uint64 // closed for this reason before
	dead           uint64 // connections that nobody could carry on
}

func (t *simTile) left() (l simLeft) {
	l.life = t.lifeAgain
	if t.lifeAgain = nil; l.life == nil {
		l.life = t.life
	}
	cnt, err := t.w.srv.Counters(t.id)
	if err != nil {
		t.w.fail("%v", err)
	}
	l.lost, l.internal = cnt.Cell(cntClosed0+int(CloseTileLost)).Load(), cnt.Cell(cntClosed0+int(CloseInternal)).Load()
	for id := range l.life {
		if s := t.w.byID[id].s; s.dead || s.closed {
			l.dead++
		}
	}
	return l
}

// carried: every connection whose socket lived is carried on.
func (t *simTile) carried(before simLeft) {
	if !t.w.plan.survive {
		return
	}
	t.t.Each(func(id ConnID, ws bool) {
		if t.life[id] = 1; ws {
			t.life[id] = 2
		}
	})
	for i := range t.t.conns {
		if c := t.w.byID[t.t.connID(uint32(i))]; c != nil && c.app && t.t.conns[i].state == stUpgrade {
			c.had101 = true
		}
	}
	for id := range before.life {
		if c := t.w.byID[id]; t.life[id] == 0 {
			if c.lost = true; c.s.refused && c.s.closed {
				before.dead++ // the epoll had no room for it
			}
		}
	}
	cnt := func(why CloseReason) uint64 { return t.t.cnt.Cell(cntClosed0 + int(why)).Load() }
	if n := cnt(CloseInternal) - before.internal; n > t.fatals {
		t.w.fail("tile %d: %d connections made no sense to the successor", t.id, n)
	}
	if n := cnt(CloseTileLost) - before.lost; n > before.dead {
		t.w.fail("tile %d: the successor lost %d connections, of which %d were dead", t.id, n, before.dead)
	}
	t.fatals = 0
	t.w.tell("tile %d carries %d connections on", t.id, len(t.life))
	t.tellTable()
}

// letGo frees what a run that ended anywhere still holds.
func letGo(t *NetTile) {
	if t != nil && t.lock != nil {
		if t.bell != nil {
			t.bell.Leave()
		}
		for i := range t.ports {
			t.ports[i].bell.leave()
		}
		_ = t.lock.Unlock()
		t.lock = nil
	}
}

// step is a turn of the tile's loop, or what its process does besides.
func (t *simTile) step() {
	w := t.w
	if t.busy() {
		return
	}
	if !w.calm && w.chance(w.plan.deaths) {
		t.doom = 1 + w.rnd.IntN(30)
	}
	timeout := 0
	if !w.calm && w.depth == 0 && w.chance(0.2) {
		timeout = []int{-1, 1, 5, 30, 1000}[w.rnd.IntN(5)]
	}
	t.poll(timeout)
}

func (t *simTile) poll(timeout int) (work int) {
	w := t.w
	published := w.prod.st.end[areaSide]
	if t.as(func() {
		if !w.calm && w.chance(0.01) {
			t.kick()
		}
		work = t.t.Poll(w.now, timeout)
	}) {
		t.die()
		return work
	}
	for _, c := range w.clients { // they join now only
		if c.had101 && c.tile == t && t.t.conns[c.id.Slot()].state == stStream {
			if c.had101 = false; c.role.(*simWs).joined {
				c.role.(*simWs).begun()
			}
		}
	}
	t.fresh, t.round, t.sideSeen = false, true, published
	t.runsShort()
	if w.app != nil {
		w.app.checkRung()
	}
	t.checkPins()
	if w.rnd.IntN(16) == 0 {
		t.check()
	}
	return work
}

// die is a SIGKILL in a system call; another process takes the role.
func (t *simTile) die() {
	w := t.w
	t.deaths++
	t.up = false
	letGo(t.t)
	if w.plan.survive {
		for _, c := range w.clients { // answered, and in no entry: they are let go
			c.lost = c.lost || c.s.tile == t && c.s.fd != 0 && c.id == 0 && c.s.taken > 0
		}
		if s := w.srv.slot(t.id); s.busy.Load() == s.suspect && s.deaths+1 >= fatalMost { // the third in its callback
			if c := w.byID[ConnID(s.suspect)]; c != nil {
				c.lost = true
			}
			t.fatals++
		}
		w.k.exitKept(t)
		t.start()
		return
	}
	for id := range t.life {
		w.byID[id].lost = true
	}
	for _, c := range w.clients {
		if c.s.tile == t || c.tile == t && c.s.fd == 0 {
			c.lost = true
		}
	}
	w.k.exit(t)
	t.start()
}
