//go:build explore

package httpsrv

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// simWorld is one run of the simulation (docs/simulation.md): a server with one
// or two tiles and a producer, its clients, the kernel and the network between
// them, and the clock. One goroutine runs it all: at each step one of them acts,
// and in the middle of a tile's system call the others may. All chance comes from
// the seed.
type simWorld struct {
	seed    uint64
	rnd     *rand.Rand
	plan    simPlan
	k       simKernel
	now     int64
	srv     *Server
	tiles   []*simTile
	app     *simApplication // nil: none
	prod    *simProducer
	clients []*simClient // all there ever were
	active  []*simClient // those that may act
	byID    map[ConnID]*simClient
	log     []simMessage // what was published, by number from the sentinel on
	socks   []*simSocket // that may have something to carry

	running   []*simProcess // in a system call or about to make one, innermost last
	depth     int
	producing bool // the producer acts
	ending    bool // all are being closed
	calm      bool // no more mishaps, everybody reads and finishes
	jumped    int64
	steps     int

	wrong string
	story *simStory // nil: not told
}

// simPlan is what kind of run it is.
type simPlan struct {
	p       Params
	steps   int
	clients int
	seq0    uint64

	weather float64 // shortages, in a call
	short   float64 // a send takes less than there is room for
	between float64 // others act in a call
	deaths  float64 // of a tile, in a step
	cuts    float64 // of a connection by the network, in a step
	jumps   float64 // of the clock, in a step

	sndCap, rcvCap  int
	reqTime, clTime int64   // ns
	produce, turn   int     // weights of the producer's steps and the tiles'
	http            float64 // share of HTTP clients
	rude            float64
	stall           float64
	reply           float64
	keepAlive       bool
	bursts          bool  // clients write, and the network carries, all at once
	pings           int64 // ns between them; negative: none
	replyWait       int64
	onFull          OnFull
	rate            int  // of accepting
	survive         bool // connections outlive the death of their tile
	proxy           bool // and come by a proxy
	app             simAppPlan
	urgent          float64 // that the last byte of what a client writes is an urgent one
	talk            int     // bytes that a WebSocket client may have yet to write
	onLag           OnLag
}

type (
	simFailure struct{ what string }
	simDeath   struct{}
)

func simPlanOf(r *rand.Rand) simPlan {
	pick := func(v ...int) int { return v[r.IntN(len(v))] }
	some := func(v ...float64) float64 { return v[r.IntN(len(v))] }
	u := func(v ...int) uint32 { return uint32(pick(v...)) }
	p := Params{
		MaxConnectionCnt: u(2, 4, 8), MaxWsConnectionCnt: u(2, 4, 8), MaxRequestLen: 400, MaxWsRecvFrameLen: u(400, 1000, 9000),
		OutgoingBufferSz: uint64(pick(256, 1024, 4096, 16384)), SideBufferSz: uint64(pick(256, 1024, 4096)),
		RingDepth: uint64(pick(8, 16, 64)), TileCnt: u(1, 1, 2), RingCnt: 1,
		HeadBufCnt: u(2, 4, 16), RecvBufCnt: u(2, 2, 4), MsgBufCnt: u(1, 2, 4), PendingCnt: u(8, 32, 128), StaticSz: 2048,
		ReplyDepth: uint64(pick(16, 64, 256)),
	}
	p.ReplyBufferSz = 1024
	for p.ReplyBufferSz < 2*uint64(p.MaxWsRecvFrameLen) {
		p.ReplyBufferSz *= 2
	}
	p.ReplyBufferSz *= uint64(pick(1, 1, 4))
	if r.IntN(3) == 0 {
		p.MaxWsSendFrameCnt = uint64(pick(4, 8))
	}
	plan := simPlan{
		p: p, steps: pick(300, 1000, 3000), clients: pick(2, 6, 14), seq0: uint64(r.IntN(2)) * (^uint64(0) - 20),
		weather: some(0, 0, 0.002, 0.05), short: some(0, 0.05, 0.5), between: some(0, 0.02, 0.2),
		deaths: some(0, 0, 0, 0.002), cuts: some(0, 0, 0.0005, 0.004), jumps: some(0, 0.01, 0.05),
		sndCap: pick(40, 200, 1000, 5000, 1<<16), rcvCap: pick(50, 300, 2000, 1<<16),
		reqTime: int64(pick(2e8, 1e9, 1e10)), clTime: int64(pick(5e7, 1e9)),
		produce: pick(2, 6, 20), turn: pick(3, 12, 12), http: some(0.4, 0.4, 0.95), rude: some(0, 0.1, 0.5), stall: some(0, 0.02, 0.1), reply: some(0.2, 1), keepAlive: r.IntN(2) == 0, bursts: r.IntN(3) == 0,
		pings: int64(pick(-1, -1, 1e7, 3e8)), replyWait: int64(pick(0, 0, 1e8)), onFull: []OnFull{RefuseNewcomer, RefuseNewcomer, EvictSlowest}[r.IntN(3)], rate: pick(0, 0, 200),
	}
	if plan.talk = 4000; r.IntN(4) == 0 { // more at once than a receive buffer holds
		plan.talk, plan.rcvCap, plan.sndCap, plan.steps = 40000, 1<<16, max(plan.sndCap, 1000), 300
	}
	if plan.survive = r.IntN(2) == 0; plan.survive {
		plan.deaths = some(0.002, 0.01, 0.05)
	}
	plan.proxy = r.IntN(3) == 0
	return plan
}

// simRun runs the world of a seed. story: what to tell it to, or nil.
func simRun(seed uint64, story *simStory) (w *simWorld) {
	w = &simWorld{seed: seed, rnd: rand.New(rand.NewPCG(seed, 5)), story: story, now: 1e12, byID: map[ConnID]*simClient{}}
	w.plan = simPlanOf(w.rnd)
	simAppPlanOf(seed, &w.plan)
	if r := rand.New(rand.NewPCG(seed, 8)); r.IntN(8) == 0 {
		w.plan.urgent = 0.1
	}
	if r := rand.New(rand.NewPCG(seed, 9)); r.IntN(4) == 0 {
		w.plan.onLag = SkipAhead
	}
	w.k = simKernel{w: w, fds: map[int]any{}, next: 1 << 20}
	sys, stepHook = &w.k, w.point
	defer func() {
		e := recover()
		sys, stepHook = linux{}, nil
		for _, t := range w.tiles { // free for the next run
			letGo(t.t)
			letGo(inTaking[t.id])
		}
		if w.app != nil {
			w.app.letGo(inTakingApp.a)
		}
		if w.prod != nil && w.prod.st.lock != nil {
			_ = w.prod.st.Close()
		}
		switch e := e.(type) {
		case nil:
		case simFailure:
			w.wrong = e.what
		default:
			w.wrong = fmt.Sprint("panic: ", e)
			w.tell("%s", debug.Stack())
		}
	}()
	w.begin()
	for w.steps < w.plan.steps {
		w.step()
	}
	w.end()
	return w
}

func (w *simWorld) fail(format string, args ...any) {
	panic(simFailure{fmt.Sprintf(format, args...)})
}

func (w *simWorld) chance(p float64) bool { return p > 0 && w.rnd.Float64() < p }

// simField is the memory that runs use again and again.
var simField = map[uint64]shmem.Mem{}

func (w *simWorld) begin() {
	size, err := Footprint(w.plan.p)
	if err != nil {
		w.fail("%v", err)
	}
	m, ok := simField[size]
	if !ok {
		m = shmem.Heap(size, Align())
		simField[size] = m
	}
	b := m.Bytes() // nobody may count on zeros
	for n := copy(b, "poison"); n < len(b); n *= 2 {
		copy(b[n:], b[:n])
	}
	if err := newAt(m, w.plan.p, w.plan.seq0); err != nil {
		w.fail("%v", err)
	}
	if w.srv, err = Join(m); err != nil {
		w.fail("%v", err)
	}
	for _, r := range append(w.srv.rings, w.srv.reply...) {
		r.hdr.epoch = w.seed // as every other number of the run
	}
	w.tell("plan %+v", w.plan)
	for i := range int(w.plan.p.TileCnt) {
		t := newSimTile(w, i)
		w.tiles = append(w.tiles, t)
		t.start()
	}
	w.prod = newSimProducer(w)
	w.active = make([]*simClient, w.plan.clients)
	if w.plan.app.on {
		w.app = newSimApplication(w)
		w.app.start()
	}
}

// meanwhile lets others act in the middle of a tile's doing.
func (w *simWorld) meanwhile() {
	if w.calm || w.prod == nil || w.depth > 2 || !w.chance(w.plan.between) {
		return
	}
	w.depth++
	for range 1 + w.rnd.IntN(4) {
		w.step()
	}
	w.depth--
}

// point is a place between two accesses to shared memory: while a tile stands
// there the producer, for one, may act.
func (w *simWorld) point(point) {
	if n := len(w.running); n > 0 && !w.producing {
		w.meanwhile()
		if p := w.running[n-1]; w.plan.survive || p.tile == nil {
			p.age()
		}
	}
}

// step lets one of all act.
func (w *simWorld) step() {
	w.steps++
	w.now += int64(w.rnd.IntN(200_000))
	p := &w.plan
	if w.chance(p.jumps) {
		w.jump()
	}
	if len(w.socks) > 0 && w.chance(p.cuts) {
		s := w.socks[w.rnd.IntN(len(w.socks))]
		w.tell("the network cuts client %d off", s.cl.n)
		s.cut([]unix.Errno{unix.ETIMEDOUT, unix.ECONNRESET, unix.EHOSTUNREACH}[w.rnd.IntN(3)])
	}
	switch n := w.rnd.IntN(28 + p.turn + p.produce + p.app.turn); {
	case n < p.produce:
		w.producing = true
		w.prod.step()
		w.producing = false
	case n < p.produce+p.turn:
		w.tiles[w.rnd.IntN(len(w.tiles))].step()
	case n < p.produce+p.turn+14:
		w.carry()
	case n >= 28+p.turn+p.produce:
		w.app.step()
	default:
		w.client()
	}
}

func (w *simWorld) jump() {
	d := int64(w.rnd.IntN(20e6))
	if w.chance(0.1) {
		d = int64(w.rnd.IntN(2e9))
	}
	if w.chance(0.01) {
		d = 20e9
	}
	w.tell("%d ms pass", d/1e6)
	w.now += d
	w.jumped += d
}

// carry has the network carry something of one connection.
func (w *simWorld) carry() {
	if len(w.socks) == 0 {
		return
	}
	i := w.rnd.IntN(len(w.socks))
	s := w.socks[i]
	s.move(false)
	if s.over() {
		w.socks[i] = w.socks[len(w.socks)-1]
		w.socks = w.socks[:len(w.socks)-1]
	}
}

// over: nothing can come of the connection any more.
func (s *simSocket) over() bool { return s.closed && (s.dead || s.finOut && s.peerFin) }

// client has one client act, or a new one come.
func (w *simWorld) client() {
	at := &w.active[w.rnd.IntN(len(w.active))]
	switch {
	case *at != nil && !(*at).gone():
		(*at).step()
	case w.chance(0.2):
		if c := newSimClient(w, len(w.clients)); c != nil {
			*at, w.clients = c, append(w.clients, c)
		}
	}
}

// tell adds a line to the story.
func (w *simWorld) tell(format string, args ...any) {
	if w.story != nil {
		w.story.add(fmt.Sprintf("%6d %10.3f ms %s", w.steps, float64(w.now-1e12)/1e6, strings.Repeat("    ", w.depth)+fmt.Sprintf(format, args...)))
	}
}

// simStory is the last lines of a run.
type simStory struct {
	whole bool // all lines
	lines []string
	at    int
}

const simLines = 100

func (s *simStory) add(l string) {
	if s.whole || len(s.lines) < simLines {
		s.lines = append(s.lines, l)
		return
	}
	s.lines[s.at%simLines] = l
	s.at++
}

func (s *simStory) String() string {
	at := s.at % simLines
	return strings.Join(s.lines[at:], "\n") + "\n" + strings.Join(s.lines[:at], "\n")
}

// simBytes are bytes to be shown.
type simBytes []byte

func (b simBytes) String() string {
	if len(b) > 24 {
		return fmt.Sprintf("%q...", []byte(b[:24]))
	}
	return fmt.Sprintf("%q", []byte(b))
}
