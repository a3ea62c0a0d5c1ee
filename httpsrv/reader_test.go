package httpsrv

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// The last N are exactly the last N, fewer when fewer are left, also in a ring
// that has wrapped, and for every N.
func TestHistory(t *testing.T) {
	eachStageRing(t, ringSizes(256, 256, 16), func(t *testing.T, sr *stageRing) {
		var all []string // as on the wire
		for i := range 60 {
			s := fmt.Sprint(i, strings.Repeat(".", i*7%40))
			sr.st.WriteString(s)
			if _, err := sr.st.WsBroadcast(OpText); err != nil {
				t.Fatal(err)
			}
			all = append(all, "\x81"+string(rune(len(s)))+s)
			sr.rd.walk(nil)
			for n := range uint64(len(all) + 3) {
				cur := sr.rd.history(n)
				if cur = sr.rd.skipGap(cur, sr.rd.end); n == 0 {
					if cur != sr.rd.end {
						t.Fatalf("history(0) is %d of %d", cur, sr.rd.end)
					}
					continue
				}
				if !sr.rd.pin(cur) {
					t.Fatalf("after %d: history(%d) is %d, below the limit", i, n, cur)
				}
				got := iovAll(sr.rd, cur)
				sr.rd.unpin()
				k := int(min(n, uint64(len(all))))
				for k > 1 && got != strings.Join(all[len(all)-k:], "") {
					k-- // as far as the ring holds them
				}
				if got != strings.Join(all[len(all)-k:], "") {
					t.Fatalf("after %d: history(%d) is %q", i, n, got)
				}
				// Fewer than asked for only when the next older one is gone.
				if k < int(n) && k < len(all) {
					var m message
					old := sr.rd.seen - uint64(k)
					if sr.rd.r.read(old, &m) && m.off >= sr.rd.r.hdr.limit[areaBroadcast].Load() && k < 15 {
						t.Fatalf("after %d: history(%d) gave %d, and %d is still there", i, n, k, old)
					}
				}
			}
		}
	})
}

// A boundary within a frame whose descriptor was reused is not guessed at.
func TestBoundaryOfReusedDescriptor(t *testing.T) {
	eachStageRing(t, ringSizes(1<<12, 1<<12, 8), func(t *testing.T, sr *stageRing) {
		sr.st.WriteString(strings.Repeat("a", 1000))
		sr.st.WsBroadcast(OpText) // 0 to 1004
		sr.rd.walk(nil)
		if b, ok := sr.rd.boundary(500); !ok || b != 1004 {
			t.Fatal(b, ok)
		}
		for range 8 {
			sr.st.WriteString("b")
			sr.st.WsBroadcast(OpText)
		}
		for _, walked := range []bool{false, true} { // the tile has not, or has, seen them
			if walked {
				sr.rd.walk(nil)
			}
			if b, ok := sr.rd.boundary(500); ok {
				t.Errorf("walked %v: %d is said to be a boundary", walked, b)
			}
			if b, ok := sr.rd.boundary(sr.rd.end); !ok || b != sr.rd.end {
				t.Error("the head is no boundary:", b, ok)
			}
		}
	})
}

// A tile that was lapped counts it, once, and goes on at the head.
func TestOverrun(t *testing.T) {
	eachStageRing(t, ringSizes(1<<12, 1<<12, 8), func(t *testing.T, sr *stageRing) {
		side := 0
		for range 20 {
			sr.st.WriteString("x")
			sr.st.WsSend(1, OpText)
		}
		if n := sr.rd.walk(func(*message) { side++ }); n != 20 || sr.rd.overruns != 1 || side != 0 || sr.rd.behind() {
			t.Errorf("walked %d, %d overruns, %d seen", n, sr.rd.overruns, side)
		}
		sr.st.WriteString("x")
		sr.st.WsSend(1, OpText)
		if n := sr.rd.walk(func(*message) { side++ }); n != 1 || sr.rd.overruns != 1 || side != 1 {
			t.Errorf("then %d, %d overruns, %d seen", n, sr.rd.overruns, side)
		}
	})
}

// Pins are seen by the producer, and taken off.
func TestPins(t *testing.T) {
	p := ringSizes(64, 64, 8)
	rigMems(t, mustFootprint(t, p), func(t *testing.T, m shmem.Mem) {
		sr := newStageRing(t, m, p, 0)
		line := sr.s.rings[0].pins[0]
		held := func() string { return fmt.Sprint(int64(line.pin[0].Load()), " ", int64(line.pin[1].Load())) }
		for i, f := range []func(){func() {}, func() { sr.rd.pin(0) }, func() { sr.rd.pinSide(7) }, func() { sr.rd.pin(3) }, sr.rd.unpin, sr.rd.unpin} {
			f()
			if want := []string{"-1 -1", "0 -1", "0 7", "3 7", "-1 -1", "-1 -1"}[i]; held() != want {
				t.Errorf("step %d: %s, want %s", i, held(), want)
			}
		}
	})
}
