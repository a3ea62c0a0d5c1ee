package httpsrv

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/httpsrv/ws"
	"github.com/tilewire/tilewire/shmem"
)

// stageRing is one ring with its producer and a reader, without a tile.
type stageRing struct {
	t  testing.TB
	s  *Server
	st *Stage
	rd *reader
}

func ringSizes(size, side, depth uint64) Params {
	p := tinyParams()
	p.OutgoingBufferSz, p.SideBufferSz, p.RingDepth, p.ReplyBufferSz = size, side, depth, 8
	return p
}

func newStageRing(t testing.TB, m shmem.Mem, p Params, seq0 uint64) *stageRing {
	t.Helper()
	if err := newAt(m, p, seq0); err != nil {
		t.Fatal(err)
	}
	s, err := Join(m)
	if err != nil {
		t.Fatal(err)
	}
	st, err := s.Produce(0, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	return &stageRing{t, s, st, newReader(s.rings[0], 0)}
}

func eachStageRing(t *testing.T, p Params, f func(t *testing.T, sr *stageRing)) {
	t.Helper()
	rigMems(t, mustFootprint(t, p), func(t *testing.T, m shmem.Mem) {
		for _, seq0 := range []uint64{0, math.MaxUint64 - 5} {
			f(t, newStageRing(t, m, p, seq0))
			m = shmem.Heap(m.Len(), Align())
		}
	})
}

// Fact 1, ported: a ring of 8, staging at offset 6; "A", "B", "C" move the message
// to the ring's start. There the staged bytes are the payload alone; here room
// for a 4-byte header precedes them, so offset 6 is reached by a frame of 4+2
// bytes, one more than 2 bytes never fits before the end, and the payload lies
// at 4 of the next lap. 3 bytes and their header (2 on the wire) fit.
func TestFactMovesToStart(t *testing.T) {
	eachStageRing(t, ringSizes(8, 8, 8), func(t *testing.T, sr *stageRing) {
		st := sr.st
		st.Printf("xxxx") // on the wire 2 + 4
		if _, err := st.WsBroadcast(OpText); err != nil {
			t.Fatal(err)
		}
		if st.start != 6 || st.Len() != 0 {
			t.Fatalf("stands at %d", st.start)
		}
		for i, s := range []string{"A", "B", "C"} {
			st.Printf("%s", s)
			if st.start != 8 || st.Len() != i+1 || string(st.payload()) != "ABC"[:i+1] {
				t.Fatalf("after %q: at %d, %q", s, st.start, st.payload())
			}
		}
		if _, err := st.WsBroadcast(OpText); err != nil {
			t.Fatal(err)
		}
		if d := st.r.data[areaBroadcast]; string(d[:5]) != "\x81\x03ABC" {
			t.Errorf("on the wire %q", d)
		}
	})
}

// Fact 2: Unstage clears the staged length, and evicts nobody who had got all.
func TestFactUnstage(t *testing.T) {
	eachStageRing(t, ringSizes(64, 64, 8), func(t *testing.T, sr *stageRing) {
		st, rd := sr.st, sr.rd
		st.Printf("0123456789")
		st.WsBroadcast(OpText)
		rd.walk(nil)
		at := rd.end // a client that has got everything
		for _, spoil := range []func(){
			func() { st.Append(st.Max()) },                                    // takes the whole ring
			func() { st.WriteString(strings.Repeat("x", st.Max())) },          // moves to the next lap
			func() { st.Append(st.Max() + 1) },                                // too large
			func() { st.WriteString(strings.Repeat("x", 40)); st.Append(40) }, // too large, in parts
		} {
			spoil()
			st.Unstage()
			if st.Len() != 0 || st.Err() != nil {
				t.Fatal(st.Len(), st.Err())
			}
			st.Printf("next")
			if _, err := st.WsBroadcast(OpText); err != nil {
				t.Fatal(err)
			}
			rd.walk(nil)
			cur := at
			if cur == rd.prev {
				cur = rd.from
			}
			if !rd.pin(cur) {
				t.Fatalf("a client that had got everything at %d is below the limit %d", at, rd.r.hdr.limit[areaBroadcast].Load())
			}
			var v shmem.Iovs
			rd.slices(cur, rd.end, &v)
			rd.unpin()
			if got := iovString(&v); got != "\x81\x04next" {
				t.Fatalf("got %q", got)
			}
			at = rd.end
		}
	})
}

func iovString(v *shmem.Iovs) string {
	var b strings.Builder
	for i := range v.Len() {
		b.Write(v.Piece(i))
	}
	return b.String()
}

// Fact 3: bodies of 1-7 octets, 1024 times each: exact, contiguous, intact.
func TestFactSmallBodies(t *testing.T) {
	eachStageRing(t, ringSizes(64, 8, 8), func(t *testing.T, sr *stageRing) {
		st, err := newStage(sr.s.rings[0], areaSide, 0)
		if err != nil {
			t.Fatal(err)
		}
		st.room0 = 0
		st.Unstage()
		for n := 1; n <= 7; n++ {
			for i := range 1024 {
				want := strings.Repeat(string(rune('a'+i%26)), n)
				st.Printf("%s", want)
				var r Response
				if err := st.Body(&r); err != nil {
					t.Fatal(err)
				}
				at := st.r.phys(areaSide, r.bodyOff)
				if got := string(st.r.data[areaSide][at : at+uint64(r.bodyLen)]); got != want || !r.staged {
					t.Fatalf("%q, want %q", got, want)
				}
			}
		}
	})
}

// What is beyond the limit is refused as what is larger than the ring is, whatever it is staged by; the next message is not.
func TestStageLimit(t *testing.T) {
	eachStageRing(t, ringSizes(1<<18, 64, 8), func(t *testing.T, sr *stageRing) {
		st := sr.st
		whole := st.Max()
		for _, most := range []int{10, 65535, 100_000} {
			st.Limit(most)
			if st.Max() != most {
				t.Error("Max", st.Max())
			}
			for _, parts := range [][]int{{most}, {1, most - 1}, {most + 1}, {most, 1}, {1, most}} {
				n := 0
				for _, p := range parts {
					st.WriteString(strings.Repeat("x", p))
					n += p
				}
				if _, err := st.WsBroadcast(OpText); (n > most) != errors.Is(err, ErrTooLarge) || n <= most && err != nil {
					t.Errorf("limit %d, %v: %v", most, parts, err)
				}
			}
			if b := st.Append(most + 1); b != nil {
				t.Error("Append beyond the limit")
			}
			st.Unstage()
		}
		st.Limit(0)
		if st.Max() != whole {
			t.Error("Max without a limit", st.Max())
		}
	})
}

// Fact 4: what is larger than the ring fails at the send, then the error is clear.
func TestFactTooLarge(t *testing.T) {
	eachStageRing(t, ringSizes(64, 64, 8), func(t *testing.T, sr *stageRing) {
		st := sr.st
		if st.Max() != 60 {
			t.Error("Max", st.Max())
		}
		sends := map[string]func() error{
			"WsBroadcast": func() error { _, err := st.WsBroadcast(OpText); return err },
			"WsSend":      func() error { _, err := st.WsSend(1, OpText); return err },
		}
		n := uint64(0)
		for name, send := range sends {
			st.WriteString(strings.Repeat("x", 60)) // the largest that passes
			if err := send(); err != nil {
				t.Error(name, err)
			}
			head := sr.s.Ring(0).Head
			for _, parts := range [][]int{{61}, {60, 1}, {1, 60}, {30, 30, 30}, {1 << 20}} {
				var err error
				for _, p := range parts {
					_, err = st.WriteString(strings.Repeat("x", p))
				}
				if n++; !errors.Is(err, ErrTooLarge) || !errors.Is(st.Err(), ErrTooLarge) {
					t.Error("Write", parts, err)
				}
				st.Printf("%d", 1) // does nothing, like what follows
				st.Trunc(0)
				st.Trunc(-1)
				st.Commit(9)
				if st.Append(1) != nil || !errors.Is(st.Err(), ErrTooLarge) {
					t.Error("the first error was not kept:", st.Err())
				}
				if err := send(); !errors.Is(err, ErrTooLarge) {
					t.Error(name, parts, err)
				}
				if st.Err() != nil || st.Len() != 0 {
					t.Error("not clear after the send:", st.Err(), st.Len())
				}
			}
			if got := sr.s.Ring(0); got.TooLarge != n || got.Head != head {
				t.Errorf("%d counted, want %d; head %d, was %d", got.TooLarge, n, got.Head, head)
			}
			st.WriteString("fine")
			if err := send(); err != nil {
				t.Error(err)
			}
		}
	})
}

// Fact 5: a message that just fits before the end is not moved; one that does not, is.
func TestFactJustFits(t *testing.T) {
	eachStageRing(t, ringSizes(64, 64, 8), func(t *testing.T, sr *stageRing) {
		st := sr.st
		st.WriteString(strings.Repeat("a", 30))
		st.WsBroadcast(OpText) // to 32
		st.WriteString(strings.Repeat("b", 28))
		if st.start != 32 { // 4 + 28 end exactly at 64
			t.Errorf("moved to %d", st.start)
		}
		st.WriteString("b")
		if st.start != 64 || st.Len() != 29 || string(st.payload()) != strings.Repeat("b", 29) {
			t.Errorf("at %d, %q", st.start, st.payload())
		}
		st.WsBroadcast(OpText)
		sr.rd.walk(nil)
		if got := iovAll(sr.rd, 32); got != "\x81\x1d"+strings.Repeat("b", 29) {
			t.Errorf("%q", got)
		}
	})
}

func iovAll(rd *reader, from uint64) string {
	var v shmem.Iovs
	rd.slices(from, rd.end, &v)
	return iovString(&v)
}

func TestStageOperations(t *testing.T) {
	eachStageRing(t, ringSizes(1<<12, 1<<12, 64), func(t *testing.T, sr *stageRing) {
		st := sr.st
		last := func() string {
			sr.rd.walk(nil)
			return iovAll(sr.rd, sr.rd.from)
		}
		if err := json.NewEncoder(st).Encode(map[string]int{"a": 1}); err != nil {
			t.Error(err)
		}
		st.Trunc(st.Len() - 1) // the encoder's line feed
		fmt.Fprintf(st, " %d", 2)
		st.WriteString(" three ")
		b := st.Append(100)
		if len(b) != 100 || cap(b) != 100 {
			t.Fatal(len(b), cap(b))
		}
		st.Commit(copy(b, "four"))
		st.Printf("%s", "!")
		if seq, err := st.WsBroadcast(OpText); err != nil || seq != st.Seq() || seq != sr.s.Ring(0).Head {
			t.Error(seq, err)
		}
		if got, want := last(), `{"a":1} 2 three four!`; got != "\x81"+string(rune(len(want)))+want {
			t.Errorf("%q", got)
		}
		if _, err := st.WsBroadcast(OpBinary); err != nil { // empty
			t.Error(err)
		}
		if got := last(); got != "\x82\x00" {
			t.Errorf("%q", got)
		}
		for what, f := range map[string]struct {
			f    func()
			want error
		}{
			"Trunc beyond":  {func() { st.WriteString("x"); st.Trunc(2) }, ErrParams},
			"Trunc below":   {func() { st.Trunc(-1) }, ErrParams},
			"Commit beyond": {func() { st.Append(1); st.Commit(1 << 20) }, ErrParams},
			"Commit below":  {func() { st.Commit(-1) }, ErrParams},
			"huge Append":   {func() { st.Append(math.MaxInt) }, ErrTooLarge},
		} {
			f.f()
			if _, err := st.WsBroadcast(OpText); !errors.Is(err, f.want) || st.Err() != nil {
				t.Errorf("%s: %v, then %v", what, err, st.Err())
			}
		}
		for _, op := range []byte{0, 3, ws.OpClose, ws.OpPing, 0x81} {
			st.WriteString("x")
			if _, err := st.WsBroadcast(op); !errors.Is(err, ErrOpcode) || st.Len() != 0 {
				t.Errorf("opcode %#x: %v", op, err)
			}
		}
		st.WriteString("x")
		if _, err := st.WsSend(0, OpText); !errors.Is(err, ErrConn) || st.Len() != 0 {
			t.Error("WsSend to nobody:", err)
		}
		st.WriteString("x")
		if err := st.Body(new(Response)); !errors.Is(err, ErrNoArea) || st.Len() != 0 {
			t.Error("Body on a broadcast ring:", err)
		}
		reply, err := newStage(sr.s.reply[0], areaSide, 0)
		if err != nil {
			t.Fatal(err)
		}
		reply.WriteString("x")
		if _, err := reply.WsBroadcast(OpText); !errors.Is(err, ErrNoArea) || reply.Len() != 0 {
			t.Error("broadcast on a reply ring:", err)
		}
		if n := sr.s.Ring(0); n.TooLarge != 1 {
			t.Errorf("%+v", n)
		}
	})
}

// Every frame size around the changes of the header's length, staged at once and
// byte by byte around it, is on the wire as RFC 6455 says.
func TestStageFrameSizes(t *testing.T) {
	eachStageRing(t, ringSizes(1<<17, 1<<17, 8), func(t *testing.T, sr *stageRing) {
		st := sr.st
		if st.Max() != 1<<17-10 {
			t.Error("Max", st.Max())
		}
		for _, n := range append(frameSizes, st.Max()-1, st.Max()) {
			for _, split := range []int{0, 1, n / 2, n - 1} {
				if split < 0 || split > n {
					continue
				}
				msg := strings.Repeat("0123456789abcdef", n/16+1)[:n]
				st.WriteString(msg[:split])
				st.WriteString(msg[split:])
				if _, err := st.WsBroadcast(OpBinary); err != nil {
					t.Fatal(n, err)
				}
				sr.rd.walk(nil)
				got := iovAll(sr.rd, sr.rd.from)
				hdr := make([]byte, 10)
				if want := string(hdr[:ws.PutHeader(hdr, OpBinary, true, uint64(n))]) + msg; got != want {
					t.Fatalf("%d bytes: %q", n, short(got))
				}
			}
		}
		// Trunc back below a limit shortens the header again.
		st.WriteString(strings.Repeat("x", 70000))
		st.Trunc(5)
		st.WsBroadcast(OpText)
		sr.rd.walk(nil)
		if got := iovAll(sr.rd, sr.rd.from); got != "\x81\x05xxxxx" {
			t.Errorf("%q", short(got))
		}
	})
}

// Staging and publishing allocate nothing.
func TestStageAllocatesNothing(t *testing.T) {
	if rigRace {
		t.Skip("the race detector allocates")
	}
	m := shmem.Heap(mustFootprint(t, ringSizes(1<<14, 1<<14, 64)), Align())
	st := newStageRing(t, m, ringSizes(1<<14, 1<<14, 64), 0).st
	msg := []byte(strings.Repeat("x", 300))
	if n := testing.AllocsPerRun(2000, func() {
		st.Write(msg)
		st.WriteString("more")
		copy(st.Append(3), "abc")
		st.Commit(3)
		if _, err := st.WsBroadcast(OpText); err != nil {
			t.Fatal(err)
		}
		st.Write(msg)
		if _, err := st.WsSend(1, OpText); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
}

// A pin below what is needed stops the producer for its bound, nothing is
// overwritten, and a retry passes once it is gone. A pin of a dead tile counts nothing.
func TestStageWaitsForPins(t *testing.T) {
	p := ringSizes(64, 64, 8)
	rigMems(t, mustFootprint(t, p), func(t *testing.T, m shmem.Mem) {
		sr := newStageRing(t, m, p, 0)
		role, err := sr.s.takeRole(sr.s.tileOff(0))
		if err != nil {
			t.Fatal(err)
		}
		st, rd := sr.st, sr.rd
		first := strings.Repeat("a", 58)
		st.WriteString(first)
		st.WsBroadcast(OpText)
		rd.walk(nil)
		if !rd.pin(0) {
			t.Fatal("pin")
		}
		for range 2 {
			st.WriteString("b")
			if _, err := st.WsBroadcast(OpText); !errors.Is(err, ErrBusy) {
				t.Fatal("published over a pin:", err)
			}
		}
		if got := iovAll(rd, 0); got != "\x81\x3a"+first {
			t.Errorf("overwritten: %q", got)
		}
		if n := sr.s.Ring(0); n.Busy != 2 || n.Waits == 0 {
			t.Errorf("%+v", n)
		}
		rd.unpin()
		st.WriteString("b")
		if _, err := st.WsBroadcast(OpText); err != nil {
			t.Error(err)
		}
		rd.walk(nil)
		if rd.pin(0) {
			t.Error("what was reclaimed can be pinned")
		}
		if err := role.Unlock(); err != nil { // dies while it holds the pin
			t.Fatal(err)
		}
		for range 20 {
			st.WriteString("c")
			if _, err := st.WsBroadcast(OpText); err != nil {
				t.Fatal("a dead tile's pin holds up the producer:", err)
			}
		}
	})
}

// Random operations of a stage and a reader against a naive model: what the
// reader may read is what was published, whatever wrapped.
func TestStageModel(t *testing.T) {
	for _, shape := range [][3]uint64{{8, 8, 4}, {64, 8, 4}, {64, 64, 16}, {256, 32, 64}, {1 << 12, 1 << 10, 16}, {1 << 17, 1 << 10, 8}} {
		p := ringSizes(shape[0], shape[1], shape[2])
		rigMems(t, mustFootprint(t, p), func(t *testing.T, m shmem.Mem) {
			seed := rand.Uint64()
			t.Logf("seed %d, areas %d and %d, depth %d", seed, shape[0], shape[1], shape[2])
			rng := rand.New(rand.NewPCG(seed, 1))
			sr := newStageRing(t, m, p, math.MaxUint64-uint64(rng.IntN(50)))
			modelRun(t, sr, rng, 3000)
		})
	}
}

// modelRun: a client here is a cursor and what it has yet to get.
func modelRun(t *testing.T, sr *stageRing, rng *rand.Rand, steps int) {
	type client struct {
		cursor uint64
		due    []byte
	}
	st, rd := sr.st, sr.rd
	size := int(rd.r.size[areaBroadcast])
	var cs []*client
	var staged []byte
	tooLarge, got, lost := false, 0, 0
	bounds := map[uint64]bool{0: true} // where frames begin and end
	for i := range steps {
		switch k := rng.IntN(10); {
		case k < 4: // stage
			n := rng.IntN(1 + rng.IntN(size))
			b := make([]byte, n)
			for j := range b {
				b[j] = byte(rng.Uint32())
			}
			switch rng.IntN(3) {
			case 0:
				st.Write(b)
			case 1:
				st.Printf("%s", b)
			case 2:
				st.Commit(copy(st.Append(n), b))
			}
			if len(staged)+n > st.Max() {
				tooLarge = true
			}
			if tooLarge != (st.Err() != nil) {
				t.Fatalf("step %d: %d + %d bytes of %d: %v", i, len(staged), n, st.Max(), st.Err())
			}
			if !tooLarge {
				staged = append(staged, b...)
			}
		case k == 4:
			if n := rng.IntN(len(staged) + 1); !tooLarge {
				st.Trunc(n)
				staged = staged[:n]
			}
		case k == 5:
			st.Unstage()
			staged, tooLarge = nil, false
		case k < 8: // publish
			op := OpText + byte(rng.IntN(2))
			if k == 6 && uint64(len(staged)+roomShort) <= rd.r.size[areaSide] {
				if _, err := st.WsSend(1, op); tooLarge != (err != nil) {
					t.Fatalf("step %d: %v", i, err)
				}
				staged, tooLarge = nil, false
				break
			}
			if !tooLarge && string(st.payloadOrNil()) != string(staged) {
				t.Fatalf("step %d: staged %q, want %q", i, st.payload(), staged)
			}
			if _, err := st.WsBroadcast(op); tooLarge != (err != nil) {
				t.Fatalf("step %d: %v", i, err)
			}
			if !tooLarge {
				hdr := make([]byte, 10)
				f := append(hdr[:ws.PutHeader(hdr, op, true, uint64(len(staged)))], staged...)
				end := st.end[areaBroadcast]
				bounds[end], bounds[end-uint64(len(f))] = true, true
				for _, c := range cs {
					c.due = append(c.due, f...)
				}
			}
			staged, tooLarge = nil, false
		default: // read
			over := rd.overruns
			rd.walk(nil)
			if rd.overruns != over { // a tile closes them all
				cs = nil
			}
			if len(cs) < 4 {
				cs = append(cs, &client{cursor: rd.end})
				continue
			}
			at := rng.IntN(len(cs))
			c := cs[at]
			cur := rd.skipGap(c.cursor, rd.end)
			if cur == rd.end && len(c.due) == 0 {
				continue
			}
			if !rd.pin(cur) {
				lost++
				rd.unpin()
				cs = append(cs[:at], cs[at+1:]...)
				continue
			}
			var v shmem.Iovs
			rd.slices(cur, rd.end, &v)
			all := iovString(&v)
			rd.unpin()
			if all != string(c.due) {
				t.Fatalf("step %d: cursor %d of %d..%d reads %d bytes, want %d\n%q\n%q", i, c.cursor, rd.r.hdr.limit[0].Load(), rd.end, len(all), len(c.due), short(all), short(string(c.due)))
			}
			n := rng.IntN(len(all) + 1) // as much as a socket takes
			if rng.IntN(3) > 0 {
				n = len(all)
			}
			c.cursor = rd.advance(cur, rd.end, uint64(n))
			c.due = c.due[n:]
			got += n
			if b, ok := rd.boundary(c.cursor); ok && b >= rd.r.hdr.limit[areaBroadcast].Load() && !bounds[b] {
				t.Fatalf("step %d: %d is said to be a frame boundary after %d", i, b, c.cursor)
			}
		}
	}
	t.Logf("%d bytes read, %d clients lost, %d overruns, head %d", got, lost, rd.overruns, sr.s.Ring(0).Head)
}

// payloadOrNil is payload, also before anything was granted.
func (s *Stage) payloadOrNil() []byte {
	if s.n == 0 {
		return nil
	}
	return s.payload()
}

// A corked burst wakes a tile that sleeps before it can be lapped, whether by
// bytes or by descriptors, and once at the end.
func TestCork(t *testing.T) {
	p := Params{MaxConnectionCnt: 4, MaxWsConnectionCnt: 4, MaxRequestLen: 4096, MaxWsRecvFrameLen: 4096, OutgoingBufferSz: 1 << 20, RingDepth: 1024, TileCnt: 1, RingCnt: 1}
	fp, err := Footprint(p)
	if err != nil {
		t.Fatal(err)
	}
	mem := shmem.Heap(fp, Align())
	if err := New(mem, p); err != nil {
		t.Fatal(err)
	}
	s, err := Join(mem)
	if err != nil {
		t.Fatal(err)
	}
	tl, err := s.TakeTile(0, TileOptions{BellPath: t.TempDir() + "/bell"})
	if err != nil {
		t.Fatal(err)
	}
	defer tl.Release()
	st, err := s.Produce(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, c := range []struct {
		name string
		size int
		most int // messages before the bell
	}{{"bytes", 4096, 16}, {"descriptors", 1, 64}} {
		t.Run(c.name, func(t *testing.T) {
			tl.bell.Sleep()
			st.Cork()
			n := 0
			for ; tl.bell.Asleep() && n < 1000; n++ {
				st.Append(c.size)
				st.Commit(c.size)
				if _, err := st.WsBroadcast(OpText); err != nil {
					t.Fatal(err)
				}
			}
			if n < 2 || n > c.most+1 {
				t.Errorf("rung after %d messages, want 2 to %d", n, c.most+1)
			}
			st.Uncork()
			tl.bell.Sleep()
			st.Cork()
			st.Append(1)
			st.Commit(1)
			if _, err := st.WsBroadcast(OpText); err != nil || !tl.bell.Asleep() {
				t.Errorf("corked message: %v, asleep %t", err, tl.bell.Asleep())
			}
			if st.Uncork(); tl.bell.Asleep() {
				t.Error("Uncork did not ring")
			}
			tl.bell.Sleep()
			if st.Uncork(); !tl.bell.Asleep() {
				t.Error("Uncork rang for nothing")
			}
		})
	}
	tl.bell.Sleep()
	st.Cork()
	st.Append(1)
	st.Commit(1)
	if _, err := st.WsBroadcast(OpText); err != nil || !tl.bell.Asleep() {
		t.Errorf("corked message: %v, asleep %t", err, tl.bell.Asleep())
	}
	if st.Close(); tl.bell.Asleep() {
		t.Error("a producer that goes leaves the tile asleep on what it published")
	}
}
