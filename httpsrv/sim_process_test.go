//go:build explore

package httpsrv

// simProcess is a process of the server's: what the simulated kernel has to know of it.
type simProcess struct {
	w       *simWorld
	name    string
	tile    *simTile    // nil: an application's
	bell    *simItem    // nil until the doorbell is watched
	doom    int         // system calls, and places between two stores, left to live; 0: no end in sight
	shield  func() bool // no death while it says so: what a callback did would be done twice
	asleep  func() bool // by its doorbell
	lieDown func()      // looks at what it leaves to do before it sleeps
}

// age brings the end nearer.
func (p *simProcess) age() {
	if p.doom == 0 || p.shield != nil && p.shield() {
		return
	}
	p.shield = nil
	if p.doom--; p.doom == 0 {
		p.w.tell("%s dies", p.name)
		panic(simDeath{})
	}
}

// busy: it stands in the middle of something, and others act.
func (p *simProcess) busy() bool {
	for _, r := range p.w.running {
		if r == p {
			return true
		}
	}
	return false
}

// as has f run as the process, up to its end or the process's. It reports whether it died.
func (p *simProcess) as(f func()) (died bool) {
	w := p.w
	depth, running := w.depth, len(w.running)
	w.running = append(w.running, p)
	died = true
	defer func() {
		w.running = w.running[:running]
		if !died {
			return
		}
		if e := recover(); e != (simDeath{}) {
			panic(e)
		}
		w.depth = depth
	}()
	f()
	return false
}
