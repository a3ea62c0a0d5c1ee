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
	w    *simWorld
	id   int
	t    *NetTile
	fd   int      // of the listener
	bell *simItem // nil until the doorbell is watched
	up   bool     // it is started, and lives
	doom int      // system calls left to live; 0: no end in sight

	body     Static
	life     map[ConnID]int // 1 open, 2 streams; of this process
	accepted int            // by the kernel, for all processes of the tile
	deaths   int
	starts   int

	sideSeen  uint64 // end of the side area when the last poll that is over began
	shortages uint64
	shortAt   int // step at which it last may have closed anybody for want of something
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
	for !t.tryStart() {
	}
}

func (t *simTile) tryStart() bool {
	w := t.w
	t.life, t.bell, t.doom, t.up = map[ConnID]int{}, nil, 0, false
	t.starts++
	if t.starts > 20 {
		calm := w.calm
		w.calm = true
		defer func() { w.calm = calm }()
	}
	w.running = append(w.running, t)
	defer func() { w.running = w.running[:len(w.running)-1] }()
	nt, err := w.srv.TakeTile(t.id, TileOptions{
		Callbacks: t.callbacks(), BellPath: fmt.Sprintf("%s/%d", simBellDir(), t.id),
		RequestTimeout: time.Duration(w.plan.reqTime), CloseTimeout: time.Duration(w.plan.clTime), IdleTimeout: time.Duration(w.plan.reqTime),
		BodyTimeout: time.Duration(w.plan.reqTime), WriteTimeout: time.Duration(w.plan.reqTime),
		PongTimeout: time.Duration(w.plan.reqTime), PingInterval: time.Duration(w.plan.pings),
		KeepAlive: w.plan.keepAlive, OnFull: w.plan.onFull, ReplyWait: time.Duration(w.plan.replyWait), AcceptRate: w.plan.rate,
	})
	if err == nil {
		t.t = nt
		if _, err = nt.Listen("127.0.0.1:0"); err != nil {
			nt.Release()
		}
	}
	if err != nil {
		w.tell("tile %d does not start: %v", t.id, err)
		if len(w.k.openFds(t)) > 0 {
			w.fail("descriptors left by a tile that did not start (%v)", err)
		}
		return false
	}
	t.fd = nt.listeners[0].fd
	if t.body, err = w.srv.AddStatic("page", simNoise[:1500]); err != nil {
		w.fail("%v", err)
	}
	t.up = true
	w.tell("tile %d started", t.id)
	return true
}

// letGo frees what a run that ended anywhere still holds.
func (t *simTile) letGo() {
	if t.t != nil && t.t.lock != nil {
		if t.t.bell != nil {
			t.t.bell.Leave()
		}
		_ = t.t.lock.Unlock()
		t.t.lock = nil
	}
}

func (t *simTile) busy() bool {
	for _, r := range t.w.running {
		if r == t {
			return true
		}
	}
	return false
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
	died := true
	depth, running := w.depth, len(w.running)
	w.running = append(w.running, t)
	defer func() {
		w.running = w.running[:running]
		if !died {
			return
		}
		if e := recover(); e != (simDeath{}) {
			panic(e)
		}
		w.depth = depth
		t.die()
	}()
	published := w.prod.st.end[areaSide]
	if !w.calm && w.chance(0.01) {
		t.kick()
	}
	work = t.t.Poll(w.now, timeout)
	died, t.sideSeen = false, published
	w.running = w.running[:running]
	t.runsShort()
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
	t.t.bell.Leave()
	_ = t.t.lock.Unlock()
	t.t.lock = nil
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
