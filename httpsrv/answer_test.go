package httpsrv

import (
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// The tile's reading of an answer is that of the application's writing.
func TestAppAnswerEncoding(t *testing.T) {
	for _, a := range []appAnswer{
		{},
		{pos: 1<<64 - 64, tag: 1<<63 + 5, static: Static{off: 3 << 40, len: 7 << 33}, ring: NoRing, history: 1<<32 - 1, code: 4999, keep: true},
		{ring: 1023, code: 1},
	} {
		var b [answerSz]byte
		a.encode(b[:])
		var got appAnswer
		if got.decode(b[:]); got != a {
			t.Errorf("%+v came back as %+v", a, got)
		}
	}
}

// FuzzAppAnswer has an application write anything into its reply ring, answers
// and descriptors: the tile goes on, reads nothing outside, keeps its
// invariants, and serves others as before.
func FuzzAppAnswer(f *testing.F) {
	f.Add([]byte{0xfe, 0, 0, 40, 1, 2, 3, 0xfd, 1, 0, 60, 0xfc, 2, 0, 48, 0, 0, 0, 0})
	f.Add([]byte{0xfe, 0, 1, 255, 0xfe, 0, 2, 255, 0xfe, 1, 3, 255, 1, 2, 4, 9})
	f.Add([]byte("\xfc\x02\x00\x50\xfd\x00\x00\x50\xff\x01\x00\x10"))
	p := appParams()
	size, err := Footprint(p)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s := script{in}
		r := newRig(t, shmem.Heap(size, Align()), p, TileOptions{})
		a := &appRig{rig: r, dir: t.TempDir(), ends: map[ConnID]uint64{}}
		r.onRequest = func(q *Request) Response {
			if string(q.Path) == "/own" {
				return Response{UpgradeWebsocket: true}
			}
			return Response{Forward: true}
		}
		a.join()
		a.request = func(q *Request) Response {
			if string(q.Path) == "/ws" {
				return Response{UpgradeWebsocket: true}
			}
			return Response{Later: true}
		}
		good := a.dial(0).stream("/own")
		a.open(a.dial(0), "/ws")
		for range 3 {
			a.dial(0).send([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
			a.both()
		}
		for n := 0; len(s.b) > 0 && n < 40; n++ {
			op := s.next()
			to := a.opens[s.n(len(a.opens))]
			how, length := s.next(), 4*s.n(256)
			st := a.app.stage
			var ans appAnswer
			if c := &r.tile.conns[to.Slot()]; how&1 == 0 {
				ans.pos = c.tag
			}
			ans.code, ans.keep, ans.ring = uint16(length), how&2 != 0, int32(how%4)-2
			ans.static = Static{off: uint64(how) << 14, len: uint64(length) << (how & 31)}
			var b [answerSz]byte
			ans.encode(b[:])
			copy(b[:], s.bytes(int(how)%8)) // over the answer's start
			_, _ = st.Write(b[:])
			_, _ = st.Write(make([]byte, length))
			st.n = min(st.n, uint64(how)*3)
			off, all := st.prefix(nil)
			if _, err := st.publish(areaSide, off, all, uint64(to), op); err != nil {
				break // nobody takes anything over here any more
			}
			if how&4 != 0 { // the descriptor as well
				d := &st.r.descs[st.seq&st.r.mask]
				d.off += uint64(length) << (how >> 4)
				d.len ^= uint32(length) << (how >> 3)
			}
			r.poll()
			if err := r.tile.check(); err != nil {
				t.Fatal(err)
			}
		}
		if how := len(in); how%2 == 0 {
			for range 3 {
				r.forward(r.tile.opt.AppTimeout)
			}
		}
		alive := r.count("closed_ws_client_too_slow")+r.count("closed_application") == 0
		if alive && !good.eof {
			good.send(textFrame("still here"))
			r.quiet()
			if err := r.tile.check(); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range r.peers {
			p.close()
		}
		r.peers = nil
		r.quiet()
		r.forward(r.tile.opt.AppTimeout) // who left may have ended its side only: the answer is awaited
		r.until("all connections end", func() bool { n, _ := r.tile.Conns(); return n == 0 })
		if err := r.tile.check(); err != nil {
			t.Fatal(err)
		}
		if err := a.app.Release(); err != nil {
			t.Fatal(err)
		}
		r.tile.Release()
	})
}
