//go:build explore

package httpsrv

import (
	"errors"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"
)

// simApplication is an application in a process of its own: the real App, what it is asked and
// told (sim_application_calls_test.go), and what outlives its process, as on a disk.
type simApplication struct {
	simProcess
	a      *App
	up     bool
	downAt int // last step at which it was not up
	downs  []simDown

	life  map[ConnID]int // 1 open, 2 streams; of this process
	later []simLater     // requests that it has yet to answer; of this process
	asked *simClient     // whose request it answered last

	sending *simWs // in the middle of a send to this one
	head    uint64 // of the reply ring before it

	again map[int]simEvent // by tile, that a process died in the middle of: it may come again
}

// simDown is a time without a process: from, until (0: to this day), and the step at which it ended.
type simDown struct {
	from, until int64
	step        int
}

// simEvent names an event.
type simEvent struct {
	id  ConnID
	end uint64
}

type simLater struct {
	id ConnID
	simAsked
}

// simAppPlan is what kind of application a run has.
type simAppPlan struct {
	on     bool
	share  float64 // of the clients
	turn   int     // weight of its steps
	deaths float64 // in a step
	back   float64 // that another process comes, in a step
	lazy   float64 // that it puts a request off
	grace  int64
	within int64 // for its answer
}

// simAppPlanOf is chosen by chance of its own: the runs without an application stay what they are.
func simAppPlanOf(seed uint64, plan *simPlan) {
	r := rand.New(rand.NewPCG(seed, 7))
	if r.IntN(3) > 0 {
		return
	}
	some := func(v ...float64) float64 { return v[r.IntN(len(v))] }
	pick := func(v ...int) int { return v[r.IntN(len(v))] }
	plan.app = simAppPlan{
		on: true, share: some(0.5, 0.9, 1), turn: pick(2, 6, 12), deaths: some(0, 0, 0.01, 0.05), back: some(0.02, 0.2, 1), lazy: some(0, 0.2, 0.7),
		grace: int64(pick(1e8, 1e10)), within: int64(pick(int(plan.reqTime), 1e13)),
	}
	plan.p.AppCnt = 1
	plan.p.ReplyBufferSz = max(plan.p.ReplyBufferSz, 4096) // an answer's head takes more than 1 KiB while it is staged
	plan.keepAlive = plan.keepAlive || r.IntN(2) == 0
	if plan.survive = plan.survive || r.IntN(2) == 0; plan.survive {
		plan.deaths = some(0.002, 0.01, 0.05)
	}
}

func newSimApplication(w *simWorld) *simApplication {
	a := &simApplication{downs: []simDown{{from: w.now}}, again: map[int]simEvent{}}
	a.simProcess = simProcess{w: w, name: "the application", asleep: func() bool { return a.a.bell.Asleep() }, lieDown: a.checkSleep}
	return a
}

// step is a turn of its loop, or the next process comes.
func (a *simApplication) step() {
	w := a.w
	switch {
	case a.busy():
	case !a.up:
		if w.calm || w.chance(w.plan.app.back) {
			a.start()
		}
	default:
		if !w.calm && w.chance(w.plan.app.deaths) {
			a.doom = 1 + w.rnd.IntN(40)
		}
		timeout := 0
		if !w.calm && w.depth == 0 && w.chance(0.2) {
			timeout = []int{-1, 1, 30, 1000}[w.rnd.IntN(4)]
		}
		a.poll(timeout)
	}
}

// start starts the process; it may die, or meet a shortage, before it is up.
func (a *simApplication) start() {
	w := a.w
	a.life, a.later, a.asked, a.sending, a.doom = map[ConnID]int{}, nil, nil, nil, 0
	if !w.calm && w.chance(5*w.plan.app.deaths) {
		a.doom = 1 + w.rnd.IntN(12)
	}
	var err error
	if a.as(func() {
		a.a, err = w.srv.TakeApp(0, AppOptions{Callbacks: a.callbacks(), BellPath: simBellDir() + "/app"})
	}) {
		a.letGo(inTakingApp.a)
		return
	}
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENOMEM):
		w.tell("the application does not start: %v", err)
	case err != nil:
		w.fail("the application does not start: %v", err)
	default:
		a.a.stage.bound = 0 // it waits for nobody: that is an error at once
		a.up, a.downAt = true, w.steps
		d := &a.downs[len(a.downs)-1]
		d.until, d.step = w.now, w.steps
		w.tell("the application started")
	}
}

// die is a SIGKILL.
func (a *simApplication) die() {
	w := a.w
	a.up, a.downAt = false, w.steps
	a.downs = append(a.downs, simDown{from: w.now})
	if ev := &a.a.ev; ev.conn != 0 {
		if q := a.a.tiles[ConnID(ev.conn).Tile()].q; int64(q.hdr.tail.Load()-ev.pos) <= 0 {
			a.again[ConnID(ev.conn).Tile()] = simEvent{ConnID(ev.conn), ev.end}
		}
	}
	if s := a.sending; s != nil && a.a.stage.r.hdr.head.Load() == a.head { // it was not sent
		s.replies = s.replies[:len(s.replies)-1]
	}
	a.letGo(a.a)
}

// letGo frees what a process that is dead held.
func (a *simApplication) letGo(p *App) {
	if p == nil {
		return
	}
	if p.bell != nil {
		p.bell.Leave()
		p.bell = nil
	}
	if p.ep >= 0 {
		if f, ok := a.w.k.fds[p.ep]; ok {
			a.w.k.shut(p.ep, f)
		}
		p.ep = -1
	}
	if st := p.stage; st != nil {
		for i := range st.bells {
			st.bells[i].leave()
		}
		st.lock = nil
	}
	if p == inTakingApp.a {
		_ = inTakingApp.lock.Unlock()
		inTakingApp.a = nil
	}
}

func (a *simApplication) poll(timeout int) (work int) {
	w := a.w
	if a.as(func() {
		a.act()
		work = a.a.Poll(timeout)
		a.settle()
	}) {
		a.die()
		return work
	}
	for _, t := range w.tiles {
		if t.up && t.round && t.t.bell.Asleep() && t.t.roomCame() {
			w.fail("tile %d sleeps, and was not woken for room in the application's queue", t.id)
		}
	}
	if s := a.a.Stats(); s.Corrupt > 0 {
		w.fail("the application met what is no event: %v", s.Err)
	}
	return work
}

// checkSleep: it has said so, and left no event that was there when it looked.
func (a *simApplication) checkSleep() {
	if a.a.scanning {
		a.w.fail("the application sleeps before it knows who lives")
	}
}

// turn has it go on in the end.
func (a *simApplication) turn() int {
	if !a.up {
		a.start()
		return 1
	}
	return a.poll(0)
}

// end: it was told of everybody's end.
func (a *simApplication) end() {
	for a.turn() > 0 {
	}
	for id, state := range a.life {
		a.w.fail("the application was never told of the end of %v (state %d)", id, state)
	}
	a.as(func() {
		if err := a.a.Release(); err != nil {
			a.w.fail("%v", err)
		}
	})
	a.up = false
}

// checkRung: it does not sleep on an event, unless the tile that put it is not done yet.
func (a *simApplication) checkRung() {
	if !a.up || !a.a.bell.Asleep() {
		return
	}
	for i := range a.a.tiles {
		if q := a.a.tiles[i].q; q.hdr.head.Load() != q.tail && a.w.tiles[i].round && !a.w.tiles[i].busy() {
			a.w.fail("the application sleeps, and was not woken for an event of tile %d", i)
		}
	}
}

// goneFor reports whether it was gone for as long as d, at some time since the step.
func (a *simApplication) goneFor(d time.Duration, step int) bool {
	for i := range a.downs {
		x := &a.downs[i]
		until := x.until
		if until == 0 {
			until = a.w.now
		}
		if (x.until == 0 || x.step >= step) && until-x.from >= d.Nanoseconds() {
			return true
		}
	}
	return false
}

// excuses: the tile answered for it what was forwarded at the step.
func (a *simApplication) excuses(step int) bool { return !a.up || a.downAt >= step }
