package httpsrv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// newEvq returns both sides of a queue of size bytes that begins at pos.
func newEvq(t testing.TB, m shmem.Mem, size, pos uint64) (w, r *evq) {
	t.Helper()
	if err := evqNew(m, size, pos); err != nil {
		t.Fatal(err)
	}
	for _, q := range []**evq{&w, &r} {
		var err error
		if *q, err = evqJoin(m, size); err != nil {
			t.Fatal(err)
		}
	}
	return w, r
}

// Random puts and takes against a plain list, from a place near the end of the
// range of offsets: order, payloads, pads at the wrap, what is kept free.
func TestEventQueueAgainstList(t *testing.T) {
	const size = 1024
	rigMems(t, evqHdr0+size, func(t *testing.T, m shmem.Mem) {
		w, r := newEvq(t, m, size, ^uint64(0)-3*size+1)
		rnd := rand.New(rand.NewPCG(5, 5))
		type put struct {
			e    event
			data []byte
		}
		var list []put
		var full, pads, took int
		for i := range 20000 {
			if rnd.IntN(2) == 0 {
				data := make([]byte, rnd.IntN(300))
				binary.Append(data[:0], binary.LittleEndian, rnd.Uint64())
				e := event{kind: evMessage, op: byte(i), conn: uint64(i), end: rnd.Uint64(), tag: rnd.Uint64()}
				keep := uint64(rnd.IntN(4)) * evSz
				n := evLen(len(data))
				used := w.head - r.tail
				pad := uint64(0)
				if at := w.head % size; at+n > size {
					pad = size - at
				}
				ok := w.put(&e, data, keep)
				if want := used+pad+n+keep <= size; ok != want {
					t.Fatalf("put of %d bytes, keeping %d, with %d used and a pad of %d: %v", n, keep, used, pad, ok)
				}
				if !ok {
					full++
					continue
				}
				if pad > 0 {
					pads++
				}
				list = append(list, put{e, data})
				continue
			}
			var e event
			data, ok, err := r.next(&e)
			if err != nil || ok != (len(list) > 0) {
				t.Fatalf("next: %v, %v, with %d in the list", ok, err, len(list))
			}
			if ok {
				if e != list[0].e || !bytes.Equal(data, list[0].data) {
					t.Fatalf("got %+v, want %+v", e, list[0].e)
				}
				r.done(evLen(len(data)))
				list = list[1:]
				took++
			}
		}
		if full == 0 || pads == 0 || took < 5000 || w.head > 1<<63 {
			t.Errorf("full %d, pads %d, took %d, head %#x: not what was to be tested", full, pads, took, w.head)
		}
	})
}

// What is kept for heads without payload can be used to the last byte, wherever
// the area ends.
func TestEventQueueKeepsRoom(t *testing.T) {
	const size = 1024
	for at := uint64(0); at < size; at += evSz {
		w, _ := newEvq(t, shmem.Heap(evqHdr0+size, 128), size, at)
		const kept = 5
		for w.put(&event{kind: evMessage}, make([]byte, 100), kept*evSz) {
		}
		for w.put(&event{kind: evMessage}, nil, kept*evSz) {
		}
		for i := range kept {
			if !w.put(&event{kind: evClose}, nil, uint64(kept-1-i)*evSz) {
				t.Fatalf("from %d: only %d of %d that room was kept for", at, i, kept)
			}
		}
		if w.put(&event{kind: evClose}, nil, 0) {
			t.Fatalf("from %d: a full queue took one more", at)
		}
	}
}

// The tail is the application's word: it may be anything, and never lets the
// tile overwrite what it has no right to, nor wedges it.
func TestEventQueueTailIsChecked(t *testing.T) {
	const size = 1024
	w, r := newEvq(t, shmem.Heap(evqHdr0+size, 128), size, 0)
	for w.put(&event{kind: evMessage}, nil, 0) {
	}
	for _, bad := range []uint64{1, 63, ^uint64(0) - 63, size + evSz, 1 << 63, ^uint64(0) - size} {
		w.hdr.tail.Store(bad)
		if w.put(&event{kind: evMessage}, nil, 0) {
			t.Errorf("tail %d made room", bad)
		}
	}
	r.done(evSz)
	if !w.put(&event{kind: evMessage}, nil, 0) {
		t.Error("a good tail after bad ones made no room")
	}
	w.hdr.tail.Store(0) // back
	if w.fits(evSz, 0) {
		t.Error("room after the tail went back")
	}
}

// FuzzEventQueue alters bytes of a queue that holds events: the reader ends,
// reads nothing outside, and goes on with what is put afterwards.
func FuzzEventQueue(f *testing.F) {
	f.Add([]byte{0, 0, 1, 200, 32, 255, 255, 255, 255})
	f.Add([]byte{128, 1, 1, 1})
	f.Add([]byte("\x00\x20\xff\x00\x24\x00\x00\x40\x07"))
	f.Fuzz(func(t *testing.T, script []byte) {
		const size = 1024
		m := shmem.Heap(evqHdr0+size, 128)
		w, r := newEvq(t, m, size, 0)
		for i := range 40 { // some way round, so that there is a wrap and a pad
			w.put(&event{kind: evMessage, conn: uint64(i)}, make([]byte, i*7%150), 0)
			if i%3 != 0 {
				var e event
				if p, ok, _ := r.next(&e); ok {
					r.done(evLen(len(p)))
				}
			}
		}
		b := m.Bytes()
		for ; len(script) >= 3; script = script[3:] {
			at := int(binary.LittleEndian.Uint16(script)) % len(b)
			if at < 128 || at >= 256 && at < evqHdr0 { // constants, and what the reader writes itself
				continue
			}
			b[at] ^= script[2]
		}
		var e event
		for n := 0; ; n++ {
			p, ok, err := r.next(&e)
			if err != nil && !errors.Is(err, ErrCorrupt) || n > size/evSz {
				t.Fatalf("%v after %d events of a queue for %d", err, n, size/evSz)
			}
			if !ok {
				break
			}
			for _, c := range p {
				_ = c
			}
			r.done(evLen(len(p)))
		}
		w.hdr.head.Store(w.head)
		if p, ok, err := r.next(&e); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(p, ok, err)
		}
		r.done(w.head - r.tail)
		if !w.put(&event{kind: evMessage, conn: 77}, []byte("good"), 0) {
			t.Fatal("no room after everything was given back")
		}
		if p, ok, err := r.next(&e); !ok || err != nil || e.conn != 77 || string(p) != "good" {
			t.Fatalf("after the damage: %q %v %v", p, ok, err)
		}
	})
}
