//go:build explore

package httpsrv

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"time"
)

// This is the scheduler of the exploring test (docs/reclaim.md tells how to run
// it). Actors are coroutines that run the server's own code; at every step()
// one of them stops and the scheduler decides who goes on, or who dies there.
// A schedule is the list of these decisions: the same list gives the same run.

// actor is a process of the model: a producer or a network tile.
type actor struct {
	name  string
	body  func()
	next  func() (point, bool)
	stop  func()
	yield func(point) bool
	cond  func() bool // nil, or what it waits for
	at    point
	done  bool
	died  bool
	reap  func() // what the kernel does when the process dies
	spins int
}

// Points of the model besides those of the code.
const (
	ptWaits point = 200 + iota // waits until cond
	ptYield                    // has nothing better to do: another may go on at no cost
)

func init() { pointNames[ptWaits], pointNames[ptYield], pointNames[0] = "waits", "yields", "start" }

var errDeath = errors.New("death")

// chooser decides; of n possibilities the last deaths are deaths.
type chooser interface{ choose(n, deaths int) int }

// sched runs actors one at a time.
type sched struct {
	ch       chooser
	actors   []*actor
	cur      *actor
	preempts int // left
	deaths   int // left
	steps    int
	wrong    string // the violation, or ""
	trace    *strings.Builder
	timeout  func() // has the producer's patience end; nil: it never does
	check    func(p point)
}

const stepMax = 6000

// hook is what step() calls.
func (s *sched) hook(p point) {
	a := s.cur
	if a == nil {
		return // setting up
	}
	if s.steps++; s.steps > stepMax {
		s.fail("livelock: %d steps", s.steps)
	}
	if s.check != nil {
		s.check(p)
	}
	if s.wrong != "" || !a.yield(p) {
		panic(errDeath)
	}
}

func (s *sched) fail(format string, args ...any) {
	if s.wrong == "" {
		s.wrong = fmt.Sprintf(format, args...)
	}
}

// wait has the current actor go on only when cond holds.
func (s *sched) wait(cond func() bool) {
	s.cur.cond = cond
	s.hook(ptWaits)
}

func (s *sched) start(a *actor) {
	a.next, a.stop = iter.Pull(func(yield func(point) bool) {
		a.yield = yield
		defer func() {
			if e := recover(); e != nil && e != errDeath {
				s.fail("%s panics at %s: %v", a.name, pointNames[a.at], e)
			}
		}()
		a.body()
	})
}

func (s *sched) kill(a *actor) {
	a.done, a.died = true, true
	if a.stop != nil {
		a.stop()
	}
	if a.reap != nil {
		a.reap()
	}
}

// run runs the actors until all are done or something is wrong.
func (s *sched) run() {
	stepHook = s.hook
	defer func() {
		stepHook = nil
		for _, a := range s.actors {
			if a.stop != nil {
				s.cur = a
				a.stop()
			}
		}
		s.cur = nil
	}()
	var ready []*actor
	for s.wrong == "" {
		ready = ready[:0]
		cur := s.cur
		for _, a := range s.actors {
			if !a.done && a != cur && (a.cond == nil || a.cond()) {
				ready = append(ready, a)
			}
		}
		// The possibilities, in order: go on; the timeout; the others; deaths.
		goOn := cur != nil && !cur.done && (cur.cond == nil || cur.cond())
		free := !goOn || cur.at == ptPinWait || cur.at == ptYield || cur.at == ptWaits
		if cur != nil && cur.at == ptPinWait && cur.spins > 0 && len(ready) > 0 {
			goOn = false // it has looked once; nothing changes by itself
		}
		others := len(ready)
		if !free && s.preempts == 0 {
			others = 0
		}
		n := others
		if goOn {
			n++
		}
		timeout := cur != nil && !cur.done && cur.at == ptPinWait && s.timeout != nil && cur.spins == 0
		if timeout {
			n++
		}
		deaths := 0
		var mortal [4]*actor
		if s.deaths > 0 && cur != nil {
			for _, a := range s.actors {
				if a.reap != nil && !a.done && a.at != 0 && (a == cur || cur.at == ptPinWait) {
					mortal[deaths] = a
					deaths++
				}
			}
		}
		n += deaths
		if n == 0 {
			for _, a := range s.actors {
				if !a.done && a.cond != nil && !a.cond() && a.at != 0 {
					s.fail("deadlock: %s waits for ever", a.name)
				}
			}
			return
		}
		k := 0
		if n > 1 {
			k = s.ch.choose(n, deaths)
		}
		if k >= n-deaths {
			a := mortal[k-(n-deaths)]
			s.deaths--
			s.say("\n  %s dies at %s", a.name, pointNames[a.at])
			s.cur = a // it unwinds
			s.kill(a)
			continue
		}
		switch {
		case goOn && k == 0:
			if cur.at == ptPinWait {
				if cur.spins++; cur.spins > 300 {
					s.fail("%s waits for a pin that nobody alive holds", cur.name)
					return
				}
			}
			s.resume(cur)
			continue
		case goOn:
			k--
		}
		if timeout {
			if k == 0 {
				s.say(" timeout")
				s.timeout()
				s.resume(cur)
				continue
			}
			k--
		}
		if !free {
			s.preempts--
		}
		s.resume(ready[k])
	}
}

// resume lets a run to its next step.
func (s *sched) resume(a *actor) {
	if s.cur != a {
		s.say("\n  %s:", a.name)
	}
	s.cur, a.cond = a, nil
	if a.next == nil {
		s.start(a)
	}
	p, ok := a.next()
	if !ok {
		a.done = true
		s.say(" done")
		return
	}
	if a.at = p; p != ptPinWait {
		a.spins = 0
	}
	s.say(" %s", pointNames[p])
}

func (s *sched) say(format string, args ...any) {
	if s.trace != nil && s.trace.Len() < 8000 {
		fmt.Fprintf(s.trace, format, args...)
	}
}

// depthFirst walks all schedules: it repeats the decisions in at, takes the
// first possibility from there on, and next makes it go another way.
type depthFirst struct {
	at []decision
	n  int
}

type decision struct{ pick, of int32 }

func (d *depthFirst) choose(n, _ int) int {
	if d.n == len(d.at) {
		d.at = append(d.at, decision{0, int32(n)})
	}
	c := &d.at[d.n]
	if c.of != int32(n) {
		panic(fmt.Sprintf("not deterministic: decision %d had %d possibilities, now %d", d.n, c.of, n))
	}
	d.n++
	return int(c.pick)
}

// next goes to the next schedule; false after the last.
func (d *depthFirst) next() bool {
	d.at, d.n = d.at[:d.n], 0
	for len(d.at) > 0 {
		c := &d.at[len(d.at)-1]
		if c.pick++; c.pick < c.of {
			return true
		}
		d.at = d.at[:len(d.at)-1]
	}
	return false
}

// randomWalk goes on more often than not, and seldom dies.
type randomWalk struct {
	rnd  *rand.Rand
	stay float64
	made []decision
}

func (r *randomWalk) choose(n, deaths int) int {
	k := 0
	switch {
	case deaths > 0 && r.rnd.IntN(40) == 0:
		k = n - deaths + r.rnd.IntN(deaths)
	case n-deaths > 1 && r.rnd.Float64() > r.stay:
		k = r.rnd.IntN(n - deaths)
	case n == deaths:
		k = r.rnd.IntN(n)
	}
	r.made = append(r.made, decision{int32(k), int32(n)})
	return k
}

// found is a violation and how it came about.
type found struct {
	what     string
	schedule string
	preempts int
	runs     int
}

func (f *found) String() string {
	return fmt.Sprintf("%s\n(run %d, %d preemptions)%s", f.what, f.runs, f.preempts, f.schedule)
}

// outcome of an exploration.
type outcome struct {
	runs, steps int
	whole       int // the greatest number of preemptions of which all schedules were run; -1: none
	found       *found
}

// search runs all schedules of sc with 0, 1, ... up to max preemptions, until
// something is wrong or the time is over.
func search(sc *scenario, max int, until time.Time) (o outcome) {
	o.whole = -1
	for p := 0; p <= max; p++ {
		d := &depthFirst{}
		for more := true; more; more = d.next() {
			w := newWorld(sc, d, p)
			w.run()
			o.runs++
			o.steps += w.steps
			if w.wrong != "" {
				o.found = replay(sc, d.at[:d.n], p, o.runs)
				return o
			}
			if o.runs%64 == 0 && time.Now().After(until) {
				return o
			}
		}
		o.whole = p
	}
	return o
}

// wander runs random schedules of sc.
func wander(sc *scenario, seed uint64, until time.Time) (o outcome) {
	o.whole = -1
	for i := uint64(0); ; i++ {
		r := &randomWalk{rnd: rand.New(rand.NewPCG(seed, i))}
		r.stay = []float64{0.5, 0.8, 0.95}[i%3]
		w := newWorld(sc, r, 1<<30)
		w.run()
		o.runs++
		o.steps += w.steps
		if w.wrong != "" {
			o.found = replay(sc, r.made, 1<<30, o.runs)
			return o
		}
		if o.runs%64 == 0 && time.Now().After(until) {
			return o
		}
	}
}

// replay runs a schedule again to tell its story.
func replay(sc *scenario, at []decision, preempts, runs int) *found {
	w := newWorld(sc, &depthFirst{at: at}, preempts)
	w.trace = &strings.Builder{}
	w.run()
	return &found{what: w.wrong, schedule: w.trace.String(), preempts: preempts - w.preempts, runs: runs}
}
