package httpsrv

import (
	"math/rand/v2"
	"testing"
)

// Against a naive model: nobody is looked at before his time is up or, at a
// steady beat, more than two ticks after it, as long as that is within a turn.
func TestWheelModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	now := int64(rng.Uint32()) * 1e6
	const slots = 50
	w := newWheel(slots, now)
	due := map[uint32]int64{}
	visit := func(s uint32) {
		d, ok := due[s]
		if !ok {
			t.Fatalf("slot %d was looked at and is not set", s)
		}
		if d > now {
			w.add(s, d) // as timedOut does
			return
		}
		delete(due, s)
	}
	for range 20000 {
		switch s := rng.Uint32N(slots); rng.IntN(4) {
		case 0, 1:
			d := now + rng.Int64N(40e9) // more than two turns
			if rng.IntN(2) == 0 {
				d = now + rng.Int64N(100e6)
			}
			due[s] = d
			w.add(s, d)
		case 2:
			w.remove(s)
			delete(due, s)
		default:
			if rng.IntN(100) == 0 {
				now += 100e9 // descheduled
			} else {
				now += rng.Int64N(wheelTick)
			}
			w.advance(now, visit)
			for s, d := range due {
				if d+2*wheelTick < now {
					t.Fatalf("slot %d was due %d ns ago", s, now-d)
				}
			}
		}
		if w.set != len(due) {
			t.Fatalf("%d in the wheel, %d set", w.set, len(due))
		}
		if len(due) == 0 {
			continue
		}
		ms := int64(w.wait(now, 1000))
		first := int64(1 << 62)
		for _, d := range due {
			first = min(first, d)
		}
		if ms < 1 || ms > 1000 || now+(ms-2)*1e6 > first+2*wheelTick {
			t.Fatalf("waits %d ms with %d ns to go", ms, first-now)
		}
	}
}

func TestWheelWait(t *testing.T) {
	w := newWheel(1, 0)
	if w.wait(0, 7) != 7 || w.wait(0, -1) != -1 {
		t.Error("an empty wheel shortens a wait")
	}
	w.add(0, 500e6)
	if ms := w.wait(0, 10); ms != 10 {
		t.Error("waits", ms)
	}
	for _, m := range []int{-1, 1 << 20} {
		if ms := w.wait(0, m); ms < 500 || ms > 540 {
			t.Error("waits", ms)
		}
	}
}

// A wheel made anew of the deadlines in the table finds each of them in time, as the old one does: never before it has
// passed, and within the tick after it.
func TestWheelRebuilt(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	const slots = 200
	now := int64(rng.Uint32()) * 1e6
	conns := make([]conn, slots)
	old := newWheel(slots, now)
	set := func(w *wheel, cs []conn, s uint32) {
		if d := cs[s].due(); d != 0 {
			w.sooner(s, d)
		}
	}
	pick := func() int64 {
		switch rng.IntN(3) {
		case 0:
			return 0
		case 1:
			return now + rng.Int64N(200e6)
		}
		return now + rng.Int64N(40e9)
	}
	// As timedOut does: those that are due are cleared, and noted with their tick.
	act := func(w *wheel, cs []conn, now int64, note func(s uint32, d int64)) {
		w.advance(now, func(s uint32) {
			c := &cs[s]
			for _, d := range []*int64{&c.deadline, &c.bound, &c.ping} {
				if *d != 0 && *d <= now {
					note(s, *d)
					*d = 0
				}
			}
			if c.state != stFree {
				set(w, cs, s)
			}
		})
	}
	for range 3000 { // some life
		s := uint32(rng.IntN(slots))
		conns[s] = conn{state: connState(rng.IntN(int(stLinger + 1))), deadline: pick(), bound: pick(), ping: pick()}
		if conns[s].state == stFree {
			old.remove(s)
		} else {
			set(&old, conns, s)
		}
		now += rng.Int64N(wheelTick)
		act(&old, conns, now, func(uint32, int64) {})
	}
	var fresh wheel
	fresh.rebuild(conns, now)
	copied := append([]conn(nil), conns...)
	acted := map[string]int{}
	for end := now + 41e9; now < end; now += wheelTick {
		for name, w := range map[string]struct {
			w  *wheel
			cs []conn
		}{"old": {&old, conns}, "new": {&fresh, copied}} {
			act(w.w, w.cs, now, func(s uint32, d int64) {
				acted[name]++
				if now-d >= 2*wheelTick {
					t.Errorf("the %s wheel finds slot %d %d ns late", name, s, now-d)
				}
			})
		}
	}
	if acted["old"] != acted["new"] || acted["new"] < slots/2 {
		t.Errorf("deadlines found: %v", acted)
	}
	for i := range conns {
		if conns[i].state != stFree && conns[i].due() != 0 {
			t.Errorf("slot %d was never looked at: %d", i, conns[i].due())
		}
	}
}
