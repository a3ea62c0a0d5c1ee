package httpsrv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

func tinyParams() Params {
	return Params{
		MaxConnectionCnt: 4, MaxWsConnectionCnt: 4, MaxRequestLen: 2048, MaxWsRecvFrameLen: 2048, OutgoingBufferSz: 4096, SideBufferSz: 4096,
		RingDepth: 64, ReplyBufferSz: 4096, ReplyDepth: 64, TileCnt: 2, RingCnt: 2, AppCnt: 1, RecvBufCnt: 2, MsgBufCnt: 2, PendingCnt: 16, StaticSz: 4096,
	}
}

func mustFootprint(t testing.TB, p Params) uint64 {
	t.Helper()
	n, err := Footprint(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func fieldOff(t testing.TB, name string) uint64 {
	f, ok := reflect.TypeFor[serverHdr]().FieldByName(name)
	if !ok {
		t.Fatal("no field", name)
	}
	return uint64(f.Offset)
}

func TestLifecycle(t *testing.T) {
	p := tinyParams()
	rigMems(t, mustFootprint(t, p), func(t *testing.T, m shmem.Mem) {
		if _, err := Join(m); !errors.Is(err, ErrMagic) {
			t.Error("Join before New:", err)
		}
		if err := Delete(m); !errors.Is(err, ErrMagic) {
			t.Error("Delete before New:", err)
		}
		for range 2 { // formatted memory may be formatted again
			if err := New(m, p); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Join(m)
		if err != nil {
			t.Fatal(err)
		}
		if full, _ := p.complete(); s.Params() != full {
			t.Errorf("params %+v", s.Params())
		}
		q, err := Join(m) // as often as wanted
		if err != nil {
			t.Fatal(err)
		}
		me := fmt.Sprint("process ", os.Getpid())

		st, err := s.Produce(1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if pid, held := q.Producer(1); !held || pid != os.Getpid() {
			t.Error("Producer:", pid, held)
		}
		if _, err := q.Produce(1, 0); !errors.Is(err, ErrRole) || !strings.Contains(err.Error(), me) {
			t.Error("second producer:", err)
		}
		if err := Delete(m); !errors.Is(err, ErrJoined) || !strings.Contains(err.Error(), "producer of ring 1 by "+me) {
			t.Error("Delete while a producer works:", err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
		if err := st.Close(); !errors.Is(err, ErrClosed) {
			t.Error("closed twice:", err)
		}
		st.WriteString("late")
		if _, err := st.WsBroadcast(OpText); !errors.Is(err, ErrClosed) {
			t.Error("published without the role:", err)
		}
		if q.Ring(1).Head != q.Ring(1).Start {
			t.Error("published without the role")
		}

		tl, err := s.TakeTile(1, TileOptions{BellPath: t.TempDir() + "/bell"})
		if err != nil {
			t.Fatal(err)
		}
		if !q.TileHeld(1) || q.TileHeld(0) || q.TilePid(1) != os.Getpid() {
			t.Error("TileHeld", q.TileHeld(1), q.TileHeld(0), q.TilePid(1))
		}
		if _, err := q.TakeTile(1, TileOptions{BellPath: t.TempDir() + "/bell"}); !errors.Is(err, ErrRole) || !strings.Contains(err.Error(), "tile 1, held by "+me) {
			t.Error("second tile:", err)
		}
		if err := Delete(m); !errors.Is(err, ErrJoined) || !strings.Contains(err.Error(), "tile 1 by "+me) {
			t.Error("Delete while a tile works:", err)
		}
		tl.Release()
		for _, i := range []int{-1, 2} {
			if _, err := s.TakeTile(i, TileOptions{}); !errors.Is(err, ErrParams) {
				t.Error("TakeTile", i, err)
			}
			if _, err := s.Produce(i, 0); !errors.Is(err, ErrParams) {
				t.Error("Produce", i, err)
			}
		}
		if _, err := s.TakeTile(0, TileOptions{BellPath: t.TempDir() + "/no/such/dir/bell"}); err == nil || s.TileHeld(0) {
			t.Error("a tile without a bell:", err, s.TileHeld(0))
		}

		ro, err := Join(m.AsReadOnly())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ro.Produce(0, 0); !errors.Is(err, ErrReadOnly) {
			t.Error("read-only producer:", err)
		}
		if _, err := ro.TakeTile(0, TileOptions{}); !errors.Is(err, ErrReadOnly) {
			t.Error("read-only tile:", err)
		}
		if _, err := ro.AddStatic("x", []byte("y")); !errors.Is(err, ErrReadOnly) {
			t.Error("read-only static:", err)
		}
		if err := Delete(m.AsReadOnly()); !errors.Is(err, ErrReadOnly) {
			t.Error("read-only Delete:", err)
		}
		if err := New(m.AsReadOnly(), p); !errors.Is(err, ErrReadOnly) {
			t.Error("read-only New:", err)
		}

		if back := s.Leave(); back.Len() != m.Len() || !back.SameSpace(m) {
			t.Error("Leave gave other memory")
		}
		if err := Delete(m); err != nil {
			t.Error(err)
		}
		if _, err := Join(m); !errors.Is(err, ErrMagic) {
			t.Error("Join after Delete:", err)
		}
	})
}

func TestNewAndJoinRefuse(t *testing.T) {
	p := tinyParams()
	n := mustFootprint(t, p)
	rigMems(t, n+4096, func(t *testing.T, big shmem.Mem) {
		m, err := big.Slice(0, n)
		if err != nil {
			t.Fatal(err)
		}
		cut := func(off, n uint64) shmem.Mem {
			s, err := big.Slice(off, n)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		bad := p
		bad.TileCnt = 0
		for what, c := range map[string]struct{ got, want error }{
			"params": {New(m, bad), ErrParams},
			"align":  {New(cut(64, n), p), ErrAlign},
			"size":   {New(cut(0, n-1), p), ErrSize},
			"empty":  {New(cut(0, 0), p), ErrSize},
		} {
			if !errors.Is(c.got, c.want) {
				t.Errorf("New, %s: %v", what, c.got)
			}
		}
		if err := New(m, p); err != nil {
			t.Fatal(err)
		}
		join := func(m shmem.Mem) error { _, err := Join(m); return err }
		for what, c := range map[string]struct{ got, want error }{
			"align": {join(cut(64, n)), ErrAlign},
			"size":  {join(cut(0, n-1)), ErrSize},
			"page":  {join(cut(0, 4096)), ErrSize},
			"empty": {join(cut(0, 0)), ErrSize},
			"zero":  {join(shmem.Mem{}), ErrAlign},
		} {
			if !errors.Is(c.got, c.want) && !errors.Is(c.got, ErrSize) {
				t.Errorf("Join, %s: %v", what, c.got)
			}
		}
		for _, c := range []struct {
			name string
			off  uint64
			want error
		}{
			{"magic", fieldOff(t, "magic"), ErrMagic},
			{"version", fieldOff(t, "version"), ErrLayout},
			{"hash", fieldOff(t, "hash"), ErrLayout},
			{"size", fieldOff(t, "size"), ErrCorrupt},
			{"params", fieldOff(t, "params"), ErrCorrupt},
			{"ring depth", mustLayout(t, p).ring0 + 8, ErrCorrupt},
			{"ring size", mustLayout(t, p).ring0 + 16, ErrCorrupt},
			{"reply ring's tiles", mustLayout(t, p).reply0 + 48, ErrCorrupt},
		} {
			b := m.Bytes()[c.off:]
			old := b[0]
			b[0] ^= 0x55
			if err := join(m); !errors.Is(err, c.want) {
				t.Errorf("%s changed: %v, want %v", c.name, err, c.want)
			}
			if err := Delete(m); !errors.Is(err, c.want) {
				t.Errorf("%s changed: Delete: %v, want %v", c.name, err, c.want)
			}
			b[0] = old
		}
		if err := join(m); err != nil {
			t.Error(err)
		}
	})
}

func mustLayout(t testing.TB, p Params) layout {
	p, err := p.complete()
	if err != nil {
		t.Fatal(err)
	}
	l, err := p.layout()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A ring's state counts what was published; its epoch tells it from one formatted anew.
func TestRingState(t *testing.T) {
	p := tinyParams()
	rigMems(t, mustFootprint(t, p), func(t *testing.T, m shmem.Mem) {
		var epochs []uint64
		for range 2 {
			if err := New(m, p); err != nil {
				t.Fatal(err)
			}
			s, _ := Join(m)
			if r := s.Ring(0); r.Head != r.Start || r.Bytes != 0 || r.LastPubAt != 0 || r.BufferSz != 4096 || r.Depth != 64 {
				t.Errorf("fresh ring %+v", r)
			}
			st, err := s.Produce(0, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			begin := shmem.Monotonic()
			for range 3 {
				st.WriteString("seven..")
				if _, err := st.WsBroadcast(OpBinary); err != nil {
					t.Fatal(err)
				}
			}
			r := s.Ring(0)
			if r.Head.Diff(r.Start) != 3 || r.Bytes != 21 || r.Offset != 27 || r.LastPubAt < begin || s.Ring(1).Bytes != 0 {
				t.Errorf("ring %+v", r)
			}
			epochs = append(epochs, r.Epoch)
			st.Close()
		}
		if epochs[0] == epochs[1] {
			t.Error("the epoch is the same")
		}
	})
}

// Who looks is told how far a tile has walked each ring.
func TestWalked(t *testing.T) {
	p := rigParams()
	p.RingCnt = 2
	rigEach(t, p, TileOptions{}, func(r *rig) {
		st, err := r.s.Produce(1, 0)
		if err != nil {
			r.Fatal(err)
		}
		start := r.s.Ring(1).Start
		walked := func(seq Seq, off uint64) {
			r.Helper()
			if s, o := r.s.Walked(0, 1); s != seq || o != off {
				r.Errorf("walked %d, offset %d; want %d, %d", s, o, seq, off)
			}
		}
		walked(start, 0)
		r.broadcast(st, "seven..")
		walked(start, 0)
		r.poll()
		walked(start+1, 9)
		for range 300 { // more than the ring's depth
			r.broadcast(st, "seven..")
		}
		walked(start+1, 0)
		r.poll()
		walked(start+301, 301*9)
		if s, o := r.s.Walked(0, 0); s != r.s.Ring(0).Start || o != 0 {
			r.Error("the other ring", s, o)
		}
		st.Close()
	})
}

// Join never crashes on memory with any bytes changed, and what it accepts has
// the shape that its parameters say.
func FuzzJoin(f *testing.F) {
	p := tinyParams()
	n := mustFootprint(f, p)
	pristine := shmem.Heap(n, Align())
	if err := New(pristine, p); err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(0), uint64(0), uint64(n))
	l := mustLayout(f, p)
	for off := uint64(0); off < 256; off += 4 {
		f.Add(off, uint64(1)<<40+1, n)
	}
	f.Add(l.ring0+8, uint64(1)<<63, n)
	f.Add(l.tile0, ^uint64(0), n-4096)
	m := shmem.Heap(n, Align())
	f.Fuzz(func(t *testing.T, off, v, size uint64) {
		copy(m.Bytes(), pristine.Bytes())
		rng := rand.New(rand.NewPCG(off, v))
		at := off % (n - 8)
		binary.LittleEndian.PutUint64(m.Bytes()[at:], v)
		for range v % 4 { // and some of the header
			m.Bytes()[rng.Uint64N(256)] = byte(rng.Uint32())
		}
		cut, err := m.Slice(0, size%(n+1))
		if err != nil {
			t.Fatal(err)
		}
		s, err := Join(cut)
		if err != nil {
			return
		}
		for i := range s.rings {
			_ = s.Ring(i)
			if st, err := s.Produce(i, 0); err == nil {
				st.WriteString("x")
				_, _ = st.WsBroadcast(OpText)
				st.Close()
			}
		}
		for i := range int(s.params.TileCnt) {
			_, _ = s.Counters(i)
			_ = s.TileHeld(i)
			_ = s.WakeTile(i)
		}
		_, _ = s.AddStatic("a", []byte("body"))
		if err := Delete(cut); err != nil && !errors.Is(err, ErrJoined) {
			t.Error(err)
		}
	})
}
