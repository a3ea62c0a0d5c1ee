package httpsrv

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/h1"
	"github.com/tilewire/tilewire/tile"
)

// AppOptions are a process's own part of an application.
type AppOptions struct {
	Callbacks Callbacks
	BellPath  string // of the FIFO that wakes the application (tile.Bell); made if it is not there

	// Bound is how long staging an answer waits for a tile: for a send in
	// progress, and for a live tile to take over answers whose place in the reply
	// ring is to be used again. Then it is ErrBusy. 0: 1 s.
	Bound time.Duration
}

// App is the role of an application in a process of its own. Network tiles
// forward requests to it (Response.Forward) and from then on the events of
// those connections; it answers through its reply ring. It belongs to one
// goroutine; its callbacks run in Poll.
//
// The Callbacks are a tile's own. Open is called before a connection's first
// request here. Request returns the answer, or Response.Later, and Respond
// gives it then. Data is valid until the callback returns.
//
// An event is handled once its callback has returned. When the process dies in
// the middle of one, that event comes again, to its successor: the application
// tells it by Event (connection, end offset), if what it does is not to be done
// twice. A successor first gets WsOpen (Event.Again) for each connection that
// lives; requests that its predecessor left unanswered are answered 503 by the
// tile and don't come again.
type App struct {
	srv   *Server
	id    int
	cb    Callbacks
	stage *Stage
	slot  *appSlot

	ep     int
	bell   *tile.Bell
	events [4]unix.EpollEvent

	tiles    []appTile
	scanning bool
	ev       event
	now      Event
	dateField

	req     []byte  // the request being answered: the process's own copy
	reqHead h1.Head // fields, so that none is allocated
	reqNow  Request
	answer  appAnswer
	out     [respRoom]byte

	corrupt uint64
	repeats uint64
	lastErr error
}

// Event is what a callback of an application is about.
type Event struct {
	Conn  ConnID
	End   uint64 // bytes received from the client up to the end of the request or message: with Conn it names the event
	Tag   uint64 // of the response that upgraded the connection
	Again bool   // WsOpen: it streamed already when this process took over
}

// appTile is an application's side of one tile.
type appTile struct {
	q     *evq
	from  uint64 // head at the takeover
	bell  *tileBell
	conns []conn    // the tile's table; read only
	known []appConn // by slot
	scan  int       // slots looked at for those that live
}

// appConn is what the application knows of the latest connection in a slot. A
// connection streams only once a process has handled its request, and with it
// all events of those before it in the slot: so one that is found living in the
// table never meets an older one's events in the queue.
type appConn struct {
	id    ConnID
	end   uint64 // of the last request or message handled
	pos   uint64 // of the request that awaits its answer
	state uint8
	head  bool // it is a HEAD
	keep  bool // the connection may live on after it
}

// States of an appConn.
const (
	apUnknown = iota
	apIdle    // no request awaits an answer
	apAwaits  // one does
	apStreams
	apClosed // what comes of it now came before
)

// appTurn bounds the events of one tile, and scanTurn the slots, that one Poll handles.
const (
	appTurn  = 256
	scanTurn = 4096
)

// TakeApp takes the role of application id (0 to AppCnt-1), and goes on where
// the last process that had it stopped. Errors: ErrRole with the holder,
// ErrParams, ErrReadOnly, or that of the system.
func (s *Server) TakeApp(id int, o AppOptions) (*App, error) {
	if id < 0 || id >= int(s.params.AppCnt) {
		return nil, fmt.Errorf("%w: application %d of %d", ErrParams, id, s.params.AppCnt)
	}
	if o.Bound == 0 {
		o.Bound = time.Second
	}
	lock, err := s.takeRole(s.replyOff(id))
	if err != nil {
		return nil, fmt.Errorf("application %d, held by process %d: %w", id, s.AppPid(id), err)
	}
	a := &App{srv: s, id: id, cb: o.Callbacks, slot: s.appSlot(id), ep: -1, scanning: true, req: make([]byte, s.params.MaxRequestLen)}
	takingApp(a, lock)
	if a.stage, err = newStage(s.reply[int(s.params.TileCnt)+id], areaSide, o.Bound.Nanoseconds()); err != nil {
		_ = lock.Unlock()
		return nil, err
	}
	a.stage.lock = lock
	if err = a.open(o.BellPath); err != nil {
		_ = a.Release()
		return nil, err
	}
	return a, nil
}

// open takes up the doorbell and the queues. That the role was taken over is
// told last: from then on the tiles forward to this process.
func (a *App) open(bellPath string) error {
	s, st := a.srv, a.stage
	var err error
	if st.answers, err = s.walkedWords(a.id); err != nil {
		return err
	}
	if st.bells, err = s.bells(); err != nil {
		return err
	}
	if a.ep, err = sys.epoll(); err != nil {
		return fmt.Errorf("httpsrv: epoll: %w", err)
	}
	if err := a.openBell(bellPath); err != nil {
		return err
	}
	a.slot.pid.Store(uint64(os.Getpid()))
	a.slot.runs.Add(1)
	a.tiles = make([]appTile, s.params.TileCnt)
	for i := range a.tiles {
		q, err := s.queue(i, a.id)
		if err != nil {
			return err
		}
		from := q.hdr.head.Load()
		if tail := q.hdr.tail.Load(); from-tail > q.size || tail%evSz != 0 { // what the predecessor wrote
			q.hdr.tail.Store(from)
		}
		q.tail = q.hdr.tail.Load()
		a.tiles[i] = appTile{q: q, from: from, conns: s.conns[i], known: make([]appConn, s.lay.connCnt), bell: &st.bells[i]}
		q.hdr.from.Store(from)
		step(ptEvent)
		q.hdr.run.Add(1)
		step(ptEvent)
	}
	return nil
}

func (a *App) openBell(path string) error {
	m, err := a.srv.appBellMem(a.id)
	if err != nil {
		return err
	}
	if a.bell, err = openBell(m, path); err != nil {
		return err
	}
	fd, err := a.bell.Open()
	if err != nil {
		return err
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
	if err := sys.watch(a.ep, fd, &ev); err != nil {
		return fmt.Errorf("httpsrv: epoll: %w", err)
	}
	return nil
}

// Release gives the role back. Connections stay for AppGrace; requests that
// await an answer get 503.
func (a *App) Release() error {
	if a.bell != nil {
		a.bell.Leave()
		a.bell = nil
	}
	if a.ep >= 0 {
		sys.close(a.ep)
		a.ep = -1
	}
	a.slot.pid.Store(0)
	return a.stage.Close()
}

// Fd returns the epoll descriptor, which is readable when Poll has something to
// do, provided that the last Poll waited.
func (a *App) Fd() int { return a.ep }

// Stage returns the stage of the application's reply ring: response bodies, and
// messages to single clients of any tile (WsSend). A body is staged last, right
// before its response is returned or given to Respond.
func (a *App) Stage() *Stage { return a.stage }

// Event tells what the callback in progress is about.
func (a *App) Event() Event { return a.now }

// AppStats count what an application's process has met.
type AppStats struct {
	Repeats uint64 // events that came twice and were dropped
	Corrupt uint64 // events that were none
	Err     error  // the last answer that could not be staged, or what was corrupt
}

// Stats returns what this process has met since it took the role.
func (a *App) Stats() AppStats { return AppStats{a.repeats, a.corrupt, a.lastErr} }

// Poll handles the events that there are, a bounded number, and returns how many;
// with none it waits up to timeoutMs for one (-1: as long as it takes), woken by
// the tiles (doorbell).
func (a *App) Poll(timeoutMs int) int {
	work := a.turn()
	if work > 0 || timeoutMs == 0 {
		return work
	}
	a.bell.Sleep()
	if !a.behind() {
		if n, _ := sys.wait(a.ep, a.events[:], timeoutMs); n > 0 {
			a.bell.Drain()
		}
	}
	a.bell.Awake()
	return a.turn()
}

func (a *App) behind() bool {
	for i := range a.tiles {
		q := a.tiles[i].q
		if used := q.hdr.head.Load() - q.tail; used != 0 && used <= q.size {
			return true
		}
	}
	return a.scanning
}

// turn handles a bounded number of events of each tile. The tiles are woken once
// for all its answers.
func (a *App) turn() (work int) {
	a.stage.Cork()
	if a.scanning {
		work += a.scan()
	}
	for i := 0; i < len(a.tiles) && !a.scanning; i++ {
		t := &a.tiles[i]
		n := 0
		for ; n < appTurn && a.next(t); n++ {
		}
		if work += n; n > 0 && t.q.hdr.want.Load() != 0 {
			t.bell.ring()
		}
	}
	a.stage.Uncork()
	return work
}

// next handles one event of t.
func (a *App) next(t *appTile) bool {
	e := &a.ev
	payload, ok, err := t.q.next(e)
	if err != nil {
		a.corrupt++
		a.lastErr = err
		return false
	}
	if !ok {
		return false
	}
	a.handle(t, e, payload)
	step(ptEvent)
	t.q.done(evLen(len(payload)))
	return true
}

// scan calls WsOpen for the connections that were this application's when it
// took over: those whose open event a predecessor handled. An open that is still
// in the queue is a repeat when its turn comes.
func (a *App) scan() (work int) {
	for i := range a.tiles {
		t := &a.tiles[i]
		for ; t.scan < len(t.conns); t.scan++ {
			if work >= scanTurn {
				return work
			}
			work++
			if k, tag, ok := t.living(t.scan, i, a.id); ok {
				t.known[t.scan] = k
				a.opened(&t.known[t.scan], tag, true)
			}
		}
	}
	a.scanning = false
	return work
}

// living looks at a slot of a tile's table. The tile may be changing it: what is
// read counts if the slot had the same connection before and afterwards, which
// has not ended for the application. If it has ended by then, its close event is
// in the queue.
func (t *appTile) living(slot, tile, app int) (k appConn, tag uint64, ok bool) {
	c := &t.conns[slot]
	gen := c.gen.Load()
	state, bound, flags := c.state, c.app, c.evFlags
	tag = c.tag
	if state != stStream || int(bound) != app+1 || flags&evClosed != 0 || c.gen.Load() != gen {
		return appConn{}, 0, false
	}
	return appConn{id: connID(gen, tile, uint32(slot)), state: apStreams}, tag, true
}
