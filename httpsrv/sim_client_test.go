//go:build explore

package httpsrv

import "net/netip"

// simClient is a client: a socket, and a role that says what it sends and looks
// at every byte that it gets.
type simClient struct {
	w     *simWorld
	n     int
	tile  *simTile
	s     *simSocket
	role  simRole
	born  int64
	step0 int // at its birth

	id     ConnID // 0: the application was not told of it
	opened int64
	why    CloseReason
	ends   int // times the application was told of its end

	out     []byte     // to be written
	real    netip.Addr // behind its proxy
	hops    bool       // its proxy is asked who the client is
	stalled bool       // takes nothing in
	fin     bool       // has ended its side
	rst     bool       // by a reset
	gotFin  bool
	gotRst  bool

	app     bool   // the application in another process answers it
	preface []byte // what comes before its first request
	handled uint64 // end of what the application got last

	// What excuses the server from serving it.
	rude   bool // broke the protocol
	kicked bool // was closed on request
	lost   bool // its tile died
	busy   bool // the application had no room for its answer
	had101 bool // maybe, from a tile that died before it noticed
}

type simRole interface {
	step()               // sends something, maybe
	take(b []byte)       // gets bytes
	over(reset bool)     // the server's side ended
	finish()             // says what is left to say
	served() bool        // has got all that it is entitled to
	late(age int64) bool // one of the server's bounds of time may have passed for it
}

// newSimClient connects a client to a tile, or returns nil.
func newSimClient(w *simWorld, n int) *simClient {
	t := w.tiles[w.rnd.IntN(len(w.tiles))]
	l, ok := w.k.fds[t.fd].(*simListener)
	if !ok || !l.listens || l.item == nil {
		return nil // refused: the tile is being started
	}
	c := &simClient{w: w, n: n, tile: t, born: w.now, step0: w.steps}
	if t.busy() { // it may be accepted at the time that this turn began
		c.born = t.t.now
	}
	c.s = &simSocket{w: w, cl: c, sndCap: w.plan.sndCap, rcvCap: w.plan.rcvCap}
	if w.plan.proxy {
		c.proxied()
	}
	c.preface = c.out[:len(c.out):len(c.out)]
	c.app = w.plan.app.on && w.chance(w.plan.app.share)
	if !w.chance(w.plan.http) {
		c.role = newSimWs(c)
	} else {
		c.role = newSimHTTP(c)
	}
	w.tell("client %d connects: %T %v", n, c.role, c.role)
	l.queue = append(l.queue, c.s)
	l.item.wake(1) // EPOLLIN
	w.socks = append(w.socks, c.s)
	return c
}

// gone: it will do nothing any more.
func (c *simClient) gone() bool { return c.gotRst || c.rst || c.fin && c.gotFin }

func (c *simClient) step() {
	w := c.w
	c.write(w.plan.bursts)
	switch {
	case c.stalled:
		c.stalled = !w.chance(0.1)
	case w.chance(w.plan.stall):
		w.tell("client %d stalls", c.n)
		c.stalled = true
	case c.gotFin && !c.fin:
		c.end("closes after the server did")
	case !c.fin && w.chance(w.plan.rude*0.03):
		c.leave()
	case !c.fin:
		c.role.step()
	}
}

// write puts what it has to say into its socket.
func (c *simClient) write(all bool) {
	if c.fin || c.rst || c.s.dead {
		c.out = nil
		return
	}
	n := min(len(c.out), 1<<17-len(c.s.up))
	if n > 0 && !all {
		n = 1 + c.w.rnd.IntN(n)
	}
	c.s.up = append(c.s.up, c.out[:n]...)
	if c.s.wrote += n; n > 0 && c.w.chance(c.w.plan.urgent) {
		c.w.tell("client %d writes its byte %d as an urgent one", c.n, c.s.wrote-1)
		c.s.urgents = append(c.s.urgents, c.s.wrote-1)
	}
	c.out = c.out[:copy(c.out, c.out[n:])]
}

// end ends its side; what it has not written yet stays unsaid.
func (c *simClient) end(how string) {
	c.w.tell("client %d %s", c.n, how)
	c.fin, c.s.upFin = true, !c.s.dead
}

// leave ends it without good manners: by FIN, by RST, or as its process ends.
func (c *simClient) leave() {
	switch c.w.rnd.IntN(3) {
	case 0:
		c.end("ends its side")
	case 1:
		c.w.tell("client %d resets", c.n)
		c.rst, c.s.clientGone = true, true
		c.s.upRst = !c.s.dead
	default:
		c.end("is killed")
		c.s.clientGone = true
	}
}

// take gets bytes from the network.
func (c *simClient) take(b []byte) {
	if c.gotFin {
		c.w.fail("client %d: %d bytes after the server's FIN", c.n, len(b))
	}
	if !c.rst {
		c.role.take(b)
	}
}

// ended: the server's FIN, or an RST.
func (c *simClient) ended(reset bool) {
	if reset {
		c.w.tell("client %d is reset", c.n)
		c.gotRst = true
	} else {
		c.gotFin = true
	}
	c.role.over(reset)
}

// closed: the application is told of its end.
func (c *simClient) closed(why CloseReason) {
	c.w.tell("client %d is closed: %s", c.n, why.Name())
	if c.ends++; c.ends > 1 {
		c.w.fail("client %d: its end is told twice", c.n)
	}
	c.why = why
}

func (c *simClient) late() bool { return c.role.late(c.w.now - c.born) }

// slow: the kernel once took less for it than there was, or its tile ran out of
// something while it was there.
func (c *simClient) slow() bool {
	c.tile.runsShort()
	return c.s.refused || c.tile.shortAt >= c.step0
}

// undelivered: what the kernel took last may have waited too long for the client.
func (c *simClient) undelivered() bool { return c.s.taken > 0 && c.w.now-c.s.sentAt >= c.w.plan.clTime }

// excused: the server may end the connection at any byte.
func (c *simClient) excused() bool {
	return c.evicted() || c.fin || c.rst || c.kicked || c.lost || c.s.brokenByNet || c.slow() || c.late() || c.turnedAway() || c.w.ending
}

// evicted: it may have had to make room for a newcomer.
func (c *simClient) evicted() bool { return c.w.plan.onFull == EvictSlowest }

// turnedAway: the kernel gave the connection, and the tile had no place for it.
func (c *simClient) turnedAway() bool { return c.s.fd != 0 && c.id == 0 }
