package httpsrv

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"reflect"
	"structs"
	"sync/atomic"
	"time"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

const (
	serverMagic   = 0x7470_6572_6977_6c74 // "tlwirept"
	layoutVersion = 4
)

// serverHdr is the head of a server's memory. writer: New and Delete
type serverHdr struct {
	_       structs.HostLayout
	magic   atomic.Uint64 // written last, cleared first
	version uint32
	_       uint32
	hash    uint64 // of the layout of every shared struct
	size    uint64
	created int64  // Unix ns
	life    uint64 // lock byte: New and Delete hold it
	params  Params
}

// tileSlot is the head of a tile's part. The byte at its offset 0 bears the
// tile's role lock. writer: the tile
type tileSlot struct {
	_    structs.HostLayout
	role uint64
	pid  atomic.Uint64 // for messages to people; locks decide
	runs atomic.Uint64 // times the role was taken

	// What a callback is handling now, and what one was handling when the tile's last processes died, and how many of them
	// in a row: a request or message that kills whoever handles it is not handed on for ever.
	busy    atomic.Uint64 // ConnID, 0: nothing
	suspect uint64
	deaths  uint64
	_       [80]byte
}

// appSlot is the head of an application's part; its role lock is that of its
// reply ring. writer: the application
type appSlot struct {
	_    structs.HostLayout
	pid  atomic.Uint64 // for messages to people; locks decide
	runs atomic.Uint64 // times the role was taken
	_    [112]byte
}

const (
	tileSlotSz = 1024
	appSlotSz  = 1024
	bellOff    = 512 // in the tile's part, and in the application's
)

// Server is a process's join of a server in shared memory.
type Server struct {
	mem    shmem.Mem
	hdr    *serverHdr
	params Params
	lay    layout
	rings  []*ring // producers' rings
	reply  []*ring // tiles', then applications'
	conns  [][]conn
}

// layoutHash condenses the offsets of every shared struct, so that programs
// built from different sources don't join each other's memory.
func layoutHash() uint64 {
	h := fnv.New64a()
	for _, v := range []any{serverHdr{}, tileSlot{}, ringHdr{}, pinLine{}, desc{}, conn{}, pending{}, staticEntry{}, appSlot{}, evqHdr{}, event{}, closedHdr{}, closedRec{}} {
		t := reflect.TypeOf(v)
		fmt.Fprintf(h, "%s %d;", t.Name(), t.Size())
		for i := range t.NumField() {
			f := t.Field(i)
			fmt.Fprintf(h, "%s %s %d;", f.Name, f.Type, f.Offset)
		}
	}
	for _, n := range CounterNames() {
		fmt.Fprint(h, n, ";")
	}
	return h.Sum64()
}

// LayoutName names the layout of shared memory that this build writes and
// joins: version and hash.
func LayoutName() string { return fmt.Sprintf("%d-%016x", layoutVersion, layoutHash()) }

// New formats a server with the given limits in mem, which the caller owns, and
// which is aligned to Align and at least Footprint bytes long. Nobody may be
// joined. Errors: ErrParams, ErrAlign, ErrSize, ErrReadOnly, and shmem.ErrLocked
// while another process formats or deletes it.
func New(mem shmem.Mem, p Params) error { return newAt(mem, p, 0) }

// newAt is New with the sequence number of the rings' sentinel, and of the event
// queues' first, which tests set near the end of the range.
func newAt(mem shmem.Mem, p Params, seq0 uint64) error {
	p, err := p.complete()
	if err != nil {
		return err
	}
	l, err := p.layout()
	if err != nil {
		return err
	}
	if err := checkMem(mem, l.total); err != nil {
		return err
	}
	h, err := shmem.At[serverHdr](mem, 0)
	if err != nil {
		return err
	}
	lock, err := mem.Lock(offLife())
	if err != nil {
		return fmt.Errorf("httpsrv: New: %w", err)
	}
	defer lock.Unlock()
	h.magic.Store(0)
	h.version, h.hash, h.size, h.params = layoutVersion, layoutHash(), l.total, p
	h.created = time.Now().UnixNano()
	var e [8]byte
	_, _ = rand.Read(e[:]) // never fails (crypto/rand)
	epoch := binary.LittleEndian.Uint64(e[:])

	if err := l.eachRing(p, mem, func(m shmem.Mem, rp ringParams, id uint32) error {
		return ringNew(m, rp, id, epoch, seq0)
	}); err != nil {
		return err
	}
	for i := range p.TileCnt {
		m, err := mem.Slice(l.tile0+uint64(i)*l.tileSz, l.tileSz)
		if err != nil {
			return err
		}
		cm, err := m.Slice(l.counters, l.closed-l.counters)
		if err != nil {
			return err
		}
		if err := tile.CountersNew(cm, CounterNames()); err != nil {
			return err
		}
		clear(m.Bytes()[l.closed:l.conns])
		clear(m.Bytes()[l.conns : l.conns+uint64(l.connCnt)*connSz])
		for j := range uint64(p.AppCnt) {
			qm, err := m.Slice(l.evq0+j*l.evqSz, l.evqSz)
			if err != nil {
				return err
			}
			if err := evqNew(qm, p.EventBufferSz, seq0*evSz); err != nil {
				return err
			}
		}
	}
	clear(mem.Bytes()[l.static : l.static+staticMax*staticEntrySz])
	h.magic.Store(serverMagic)
	return nil
}

// eachRing calls f for every ring's memory: the producers', the tiles' reply
// rings, the applications'.
func (l *layout) eachRing(p Params, mem shmem.Mem, f func(m shmem.Mem, rp ringParams, id uint32) error) error {
	id := uint32(0)
	for _, r := range l.rings {
		m, err := mem.Slice(r.off, r.sz)
		if err != nil {
			return err
		}
		if err := f(m, r.ringParams, id); err != nil {
			return err
		}
		id++
	}
	for i := range uint64(p.TileCnt + p.AppCnt) {
		m, err := mem.Slice(l.reply0+i*l.replySz, l.replySz)
		if err != nil {
			return err
		}
		if err := f(m, l.reply, id); err != nil {
			return err
		}
		id++
	}
	return nil
}

func offLife() uint64 {
	f, _ := reflect.TypeFor[serverHdr]().FieldByName("life")
	return uint64(f.Offset)
}

func checkMem(mem shmem.Mem, need uint64) error {
	if !mem.Aligned(Align()) {
		return fmt.Errorf("%w to %d bytes", ErrAlign, Align())
	}
	if mem.Len() < need {
		return fmt.Errorf("%w: %d bytes given, %d needed", ErrSize, mem.Len(), need)
	}
	if mem.ReadOnly() {
		return ErrReadOnly
	}
	return nil
}

// Join returns a handle on the server in mem, after it has checked alignment,
// magic, layout, size and every bound. mem may be read-only: then roles can't be
// taken. Errors: ErrAlign, ErrMagic, ErrLayout, ErrSize, ErrCorrupt.
func Join(mem shmem.Mem) (*Server, error) {
	if !mem.Aligned(Align()) {
		return nil, fmt.Errorf("%w to %d bytes", ErrAlign, Align())
	}
	h, err := shmem.At[serverHdr](mem, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %d bytes can't hold a header", ErrSize, mem.Len())
	}
	if m := h.magic.Load(); m != serverMagic {
		return nil, fmt.Errorf("%w: magic is %#x, want %#x", ErrMagic, m, uint64(serverMagic))
	}
	if h.version != layoutVersion || h.hash != layoutHash() {
		return nil, fmt.Errorf("%w: memory has version %d hash %016x, this program %d %016x",
			ErrLayout, h.version, h.hash, layoutVersion, layoutHash())
	}
	p := h.params // read once: the memory may change under us
	if c, err := p.complete(); err != nil || c != p {
		return nil, fmt.Errorf("%w: parameters: %v", ErrCorrupt, err)
	}
	l, err := p.layout()
	if err != nil {
		return nil, err
	}
	if size := h.size; size != l.total {
		return nil, fmt.Errorf("%w: header says %d bytes, its parameters need %d", ErrCorrupt, size, l.total)
	}
	if mem.Len() < l.total {
		return nil, fmt.Errorf("%w: %d bytes given, the server has %d", ErrSize, mem.Len(), l.total)
	}
	s := &Server{mem: mem, hdr: h, params: p, lay: l}
	roles := make([]roleProbe, p.TileCnt)
	for i := range p.TileCnt {
		roles[i] = roleProbe{mem, s.tileOff(int(i))}
		cs, err := shmem.SliceAt[conn](mem, s.tileOff(int(i))+l.conns, uint64(l.connCnt))
		if err != nil {
			return nil, err
		}
		s.conns = append(s.conns, cs)
	}
	if err := l.eachRing(p, mem, func(m shmem.Mem, rp ringParams, id uint32) error {
		r, err := ringJoin(m, rp)
		if err != nil {
			return err
		}
		r.roles = roles
		if id < p.RingCnt {
			s.rings = append(s.rings, r)
		} else {
			s.reply = append(s.reply, r)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return s, nil
}

// Params returns the server's limits, defaults filled in.
func (s *Server) Params() Params { return s.params }

// Leave ends the join; the memory is the caller's again. Roles taken through
// this handle must have been released.
func (s *Server) Leave() shmem.Mem {
	m := s.mem
	*s = Server{}
	return m
}

// Delete unformats the server in mem. It refuses (ErrJoined, naming the role
// and its process) while a tile or a producer holds a role.
func Delete(mem shmem.Mem) error {
	s, err := Join(mem)
	if err != nil {
		return err
	}
	if mem.ReadOnly() {
		return ErrReadOnly
	}
	lock, err := mem.Lock(offLife())
	if err != nil {
		return fmt.Errorf("httpsrv: Delete: %w", err)
	}
	defer lock.Unlock()
	for i := range s.params.TileCnt {
		if s.TileHeld(int(i)) {
			return fmt.Errorf("%w: tile %d by process %d", ErrJoined, i, s.slot(int(i)).pid.Load())
		}
	}
	for i := range s.rings {
		if pid, ok := s.Producer(i); ok {
			return fmt.Errorf("%w: producer of ring %d by process %d", ErrJoined, i, pid)
		}
	}
	for i := range int(s.params.AppCnt) {
		if s.AppHeld(i) {
			return fmt.Errorf("%w: application %d by process %d", ErrJoined, i, s.appSlot(i).pid.Load())
		}
	}
	s.hdr.magic.Store(0)
	return nil
}

func (s *Server) tileOff(i int) uint64 { return s.lay.tile0 + uint64(i)*s.lay.tileSz }

func (s *Server) slot(i int) *tileSlot { return shmem.MustAt[tileSlot](s.mem, s.tileOff(i)) }

// TileHeld reports whether tile i's role is held now, by any process.
func (s *Server) TileHeld(i int) bool { return s.mem.Locked(s.tileOff(i)) }

// TilePid returns the process that took tile i's role last, for messages to people.
func (s *Server) TilePid(i int) int { return int(s.slot(i).pid.Load()) }

// Producer returns the process that holds the producer's role of a ring, and
// whether anybody does.
func (s *Server) Producer(ring int) (pid int, held bool) {
	if !s.mem.Locked(s.ringOff(ring)) {
		return 0, false
	}
	return int(s.rings[ring].hdr.pid.Load()), true
}

func (s *Server) ringOff(i int) uint64 { return s.lay.rings[i].off }

// Counters returns the counters of tile i (CounterNames), which may be read at any time.
func (s *Server) Counters(i int) (*tile.Counters, error) {
	m, err := s.mem.Slice(s.tileOff(i)+s.lay.counters, s.lay.closed-s.lay.counters)
	if err != nil {
		return nil, err
	}
	return tile.CountersJoin(m)
}

func (s *Server) bellMem(i int) (shmem.Mem, error) {
	return s.mem.Slice(s.tileOff(i)+bellOff, tileSlotSz-bellOff)
}

// replyOff is where application i's reply ring begins; the byte bears its role lock.
func (s *Server) replyOff(i int) uint64 {
	return s.lay.reply0 + (uint64(s.params.TileCnt)+uint64(i))*s.lay.replySz
}

func (s *Server) appOff(i int) uint64 { return s.lay.app0 + uint64(i)*appSlotSz }

func (s *Server) appSlot(i int) *appSlot { return shmem.MustAt[appSlot](s.mem, s.appOff(i)) }

func (s *Server) appBellMem(i int) (shmem.Mem, error) {
	return s.mem.Slice(s.appOff(i)+bellOff, appSlotSz-bellOff)
}

// AppHeld reports whether application i's role is held now, by any process.
func (s *Server) AppHeld(i int) bool { return s.mem.Locked(s.replyOff(i)) }

// AppPid returns the process that took application i's role last, for messages to people.
func (s *Server) AppPid(i int) int { return int(s.appSlot(i).pid.Load()) }

// queue joins the event queue between a tile and an application.
func (s *Server) queue(tile, app int) (*evq, error) {
	m, err := s.mem.Slice(s.tileOff(tile)+s.lay.evq0+uint64(app)*s.lay.evqSz, s.lay.evqSz)
	if err != nil {
		return nil, err
	}
	return evqJoin(m, s.params.EventBufferSz)
}

// Produce takes the producer's role of a ring and goes on where the last
// producer stopped. bound is how long a send in progress is waited for when its
// bytes are to be reused; 0 makes that an error at once (ErrBusy). Errors:
// ErrRole with the holder, ErrReadOnly, ErrParams.
func (s *Server) Produce(ring int, bound time.Duration) (*Stage, error) {
	if ring < 0 || ring >= len(s.rings) {
		return nil, fmt.Errorf("%w: ring %d of %d", ErrParams, ring, len(s.rings))
	}
	lock, err := s.takeRole(s.ringOff(ring))
	if err != nil {
		return nil, fmt.Errorf("producer of ring %d, held by process %d: %w", ring, s.rings[ring].hdr.pid.Load(), err)
	}
	st, err := newStage(s.rings[ring], areaBroadcast, bound.Nanoseconds())
	if err != nil {
		_ = lock.Unlock()
		return nil, err
	}
	st.lock = lock
	s.rings[ring].hdr.pid.Store(uint64(os.Getpid()))
	if st.bells, err = s.bells(); err != nil {
		_ = lock.Unlock()
		return nil, err
	}
	return st, nil
}

func (s *Server) takeRole(off uint64) (*shmem.Lock, error) {
	if s.mem.ReadOnly() {
		return nil, ErrReadOnly
	}
	l, err := s.mem.Lock(off)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRole, err)
	}
	return l, nil
}

// RingState is what a reader may know of a ring without a role.
type RingState struct {
	Epoch     uint64 // changes when the ring is formatted anew
	Head      Seq    // of the last published message; the ring's start when there is none
	Start     Seq
	Bytes     uint64 // payload bytes published
	Waits     uint64 // times the producer waited for a send to end
	TooLarge  uint64 // messages refused as larger than the ring
	Busy      uint64 // messages refused because a send took longer than the bound
	BufferSz  uint64
	Depth     uint64
	Limit     uint64 // broadcast bytes reclaimed
	Offset    uint64 // broadcast bytes published, gaps included
	LastPubAt int64  // CLOCK_MONOTONIC ns of the last message, 0: none
}

// Ring returns the state of a producers' ring.
func (s *Server) Ring(i int) RingState {
	r := s.rings[i]
	st := RingState{
		Epoch: r.hdr.epoch, Start: Seq(r.hdr.seq0), Bytes: r.hdr.bytes.Load(), Waits: r.hdr.waits.Load(),
		TooLarge: r.hdr.errTotal[stageErrTooLarge].Load(), Busy: r.hdr.errTotal[stageErrBusy].Load(),
		BufferSz: r.size[areaBroadcast], Depth: r.mask + 1, Limit: r.hdr.limit[areaBroadcast].Load(),
	}
	var m message
	for range 100 { // a reader without a pin may be lapped while it reads
		head := r.hdr.head.Load()
		st.Head = Seq(head)
		if r.read(head, &m) {
			st.Offset, st.LastPubAt = m.end[areaBroadcast], m.time
			break
		}
	}
	return st
}

// Walked returns the last message of a producers' ring that a tile has walked, and the ring's offset behind it (RingState.Offset;
// 0: its descriptor was reused, the tile is a ring behind). Of a tile that is dead it is where that stood.
func (s *Server) Walked(tile, ring int) (seq Seq, offset uint64) {
	r := s.rings[ring]
	seen := r.pins[tile].seen // a plain store of the tile's: this one, or the one before
	var m message
	if r.read(seen, &m) {
		offset = m.end[areaBroadcast]
	}
	return Seq(seen), offset
}
