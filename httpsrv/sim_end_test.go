//go:build explore

package httpsrv

import "time"

const simDrainCode = CodeGoingAway

// end brings a run to its end: everybody reads and finishes, and has got all
// that was published; then all are closed, and nothing is left.
func (w *simWorld) end() {
	w.tell("the end begins: no mishaps any more")
	w.calm = true
	w.prod.st.Unstage()
	w.prod.st.Uncork()
	for _, t := range w.tiles {
		t.doom = 0
	}
	if w.app != nil {
		w.app.doom = 0
	}
	for _, c := range w.clients {
		c.stalled = false
		if !c.gone() {
			c.role.finish()
		}
	}
	w.settle()
	for _, c := range w.clients {
		if c.s.fd == 0 && !c.gone() { // a listener waits after a shortage
			w.now += acceptRetry
			w.settle()
			break
		}
	}
	if w.app != nil { // the tiles look whether it is there
		for range 3 {
			w.now += appLook
			w.settle()
		}
	}
	for _, c := range w.clients {
		w.checkServed(c)
	}
	for _, t := range w.tiles {
		t.check()
	}
	w.ending = true
	how := w.rnd.IntN(4)
	w.tell("all are closed, way %d", how)
	for _, t := range w.tiles {
		if how == 0 {
			w.running = append(w.running, &t.simProcess)
			t.t.Drain(simDrainCode, "the end", CloseShutdown, 1e9)
			w.running = w.running[:0]
		}
		if how == 3 { // one after the other; those who are left in the end go by themselves meanwhile
			w.running = append(w.running, &t.simProcess)
			t.t.DrainOver(Drainage{
				Code: simDrainCode, Text: "the end", Why: CloseShutdown, Within: time.Second,
				From: w.now + w.rnd.Int64N(2e9), Over: time.Duration(w.rnd.Int64N(20e9)),
			})
			w.running = w.running[:0]
		}
	}
	if how == 3 {
		for range w.rnd.IntN(12) {
			w.now += 1e9
			w.settle()
		}
	}
	if how == 1 {
		for _, c := range w.clients {
			if ws, ok := c.role.(*simWs); ok && ws.streams && !ws.closing && !c.fin {
				ws.close(1000)
			}
		}
	}
	w.settle()
	for _, c := range w.clients {
		if !c.fin && !c.rst {
			c.end("ends")
		}
	}
	w.settle()
	if w.app != nil { // and what it had no place to answer
		w.now += w.plan.app.within
	}
	for range 40 {
		w.now += 1e9
		w.settle()
	}
	w.checkNothingLeft()
}

// settle lets everybody go on until nothing happens.
func (w *simWorld) settle() {
	for idle := 0; idle < 4; {
		idle++
		for _, c := range w.clients {
			if !c.gone() {
				if len(c.out) > 0 {
					idle = 0
				}
				c.write(true)
				if c.gotFin && !c.fin {
					c.end("closes after the server did")
				}
			}
		}
		for _, s := range w.socks {
			if s.move(true) {
				idle = 0
			}
		}
		for _, t := range w.tiles {
			if t.poll(0) > 0 {
				idle = 0
			}
		}
		if w.app != nil && w.app.turn() > 0 {
			idle = 0
		}
		w.now += 1e5
		if w.steps++; w.steps > w.plan.steps+100000 {
			w.fail("it never comes to rest")
		}
	}
}

// checkServed: who is still there has got everything, and who is innocent is still there.
func (w *simWorld) checkServed(c *simClient) {
	if c.gotFin || c.gotRst || c.rst {
		return // what it had got, and why, was looked at then
	}
	if c.fin || c.lost || c.s.brokenByNet {
		return
	}
	if c.turnedAway() || c.s.fd == 0 {
		w.fail("client %d was turned away (or not accepted), and told nothing", c.n)
	}
	if !c.role.served() {
		if ws, ok := c.role.(*simWs); ok {
			w.tell("client %d: 101 %v, after %v of %d, half a frame %s, %d replies and %d pongs yet to come, %d messages yet to arrive, close: sent %v got %v",
				c.n, ws.streams, ws.at, len(w.log)-1, simBytes(ws.in), len(ws.replies), len(ws.pings), len(ws.sent), ws.closing, ws.ended)
		}
		c.tile.tellTable()
		w.fail("client %d (%v) waits in vain", c.n, c.role)
	}
}

// checkNothingLeft: connections, buffers, pins, roles and descriptors are all given back.
func (w *simWorld) checkNothingLeft() {
	for _, t := range w.tiles {
		if n, _ := t.t.Conns(); n != 0 {
			w.fail("tile %d: %d connections never end", t.id, n)
		}
		t.check()
		for _, p := range []*pool{&t.t.req, &t.t.head, &t.t.recv, &t.t.msg, &t.t.pends} {
			if len(p.free) != int(p.cnt) {
				w.fail("tile %d: pool of %d x %d: %d free at the end", t.id, p.cnt, p.size, len(p.free))
			}
		}
		if n := t.t.cnt.Cell(cntBlockedNow).Load(); n != 0 {
			w.fail("tile %d: %d blocked clients at the end", t.id, n)
		}
		w.running = append(w.running, &t.simProcess)
		t.up = false
		t.t.Release()
		w.running = w.running[:0]
		if w.srv.TileHeld(t.id) {
			w.fail("tile %d: its role is held after Release", t.id)
		}
	}
	if w.app != nil {
		w.app.end()
	}
	if err := w.prod.st.Close(); err != nil {
		w.fail("%v", err)
	}
	if fds := w.k.openFds(nil); len(fds) != 0 {
		w.fail("%d descriptors are open at the end, the first a %T", len(fds), w.k.fds[fds[0]])
	}
	for _, r := range append(w.srv.rings, w.srv.reply...) {
		for t, l := range r.pins {
			if a, b := l.pin[areaBroadcast].Load(), l.pin[areaSide].Load(); a != noPin || b != noPin {
				w.fail("tile %d left pins %d, %d", t, a, b)
			}
		}
	}
	for _, c := range w.clients {
		if c.id != 0 && c.ends == 0 && !c.lost {
			w.fail("client %d: the application was never told of its end", c.n)
		}
	}
}
