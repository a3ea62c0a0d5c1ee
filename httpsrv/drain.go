package httpsrv

import "time"

// Drainage is how a tile sends its clients away.
type Drainage struct {
	Code   uint16 // of the close frames
	Text   string // of them, at most 123 bytes
	Why    CloseReason
	Within time.Duration // how long a client may take for what it has yet to get, besides CloseTimeout for its answer

	// From is when the first client is closed (shmem.Monotonic, ns). Until then requests are answered, so that who asks
	// hears that this server is going; upgrades get 503. Then listening ends.
	From int64
	// Requests: who has yet to send a request, or the rest of one, still may, within Within, and is answered. Else such connections
	// are closed when listening ends.
	Requests bool

	// Over is the time from the first close to the last: they are spread over it evenly, by count. 0: all at once.
	Over time.Duration
}

// drainage is a Drainage that is being carried out.
type drainage struct {
	Drainage
	on    bool
	until int64
	next  int64  // when the next client is closed
	left  int    // streams that were not told yet
	at    uint32 // slot after the one that was told last
}

const (
	drainBatch = 256   // closes in one Poll, at most
	drainLate  = 250e6 // ns: what a tile that was descheduled for longer has missed is spread over the rest
)

// DrainOver sends all clients away as Drain does, but one after the other, and returns at once: Poll sees to it. Drained
// tells when it is over; it is at once if nobody streams. Called again it plans anew for those who are left, with
// a shorter time for example.
//
// How many go at a time follows from those who are left and the time that is left, so that it stays even as clients leave by
// themselves.
func (t *NetTile) DrainOver(d Drainage) {
	t.draining = true
	t.closeWithin = d.Within
	p := &t.drain
	*p = drainage{Drainage: d, on: true, until: d.From + max(d.Over.Nanoseconds(), 0), next: d.From, at: p.at}
	for i := range t.conns {
		if t.conns[i].open() {
			p.left++
		}
	}
	t.drainDue()
}

// Drained reports whether everybody was told who is to go: by Drain, or by DrainOver, which takes its time.
func (t *NetTile) Drained() bool { return t.draining && !t.drain.on }

// open reports whether the connection streams, or is about to, and nobody has closed it.
func (c *conn) open() bool { return c.state == stStream || c.state == stUpgrade }

// drainDue closes those whose time has come.
func (t *NetTile) drainDue() {
	d := &t.drain
	if d.left <= 0 || t.now >= d.until {
		d.on = false
		t.drainAll(d.Code, d.Text, d.Why, d.Within, d.Requests) // whoever is left, and those who do not stream
		return
	}
	if t.now < d.next {
		return
	}
	t.StopListening()
	d.next = max(d.next, t.now-drainLate)
	for n := 0; n < drainBatch && d.next <= t.now && d.left > 0; n++ {
		d.next += (d.until - d.next) / int64(d.left)
		t.drainOne()
	}
}

// drainOne closes the next one. There is one: left says so.
func (t *NetTile) drainOne() {
	d := &t.drain
	for range t.conns {
		slot := d.at
		if d.at++; d.at >= uint32(len(t.conns)) {
			d.at = 0
		}
		if slot < uint32(len(t.conns)) && t.conns[slot].open() {
			t.sendAway(slot, d.Code, d.Text, d.Why)
			return
		}
	}
	d.left = 0
}

// sendAway closes a stream after what has been published so far. Its frame is sent at once if the socket takes it: the
// buffer that it lies in is needed for the next one.
func (t *NetTile) sendAway(slot uint32, code uint16, text string, why CloseReason) {
	stop := uint64(0)
	if c := &t.conns[slot]; c.ring >= 0 {
		stop = t.rd[c.ring].end
	}
	t.beginClose(slot, code, text, why, stop)
	if t.conns[slot].state != stFree {
		t.send(slot)
	}
}
