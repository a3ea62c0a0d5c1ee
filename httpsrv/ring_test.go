package httpsrv

import (
	"math"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// Sequence numbers keep their order across the end of their range.
func TestSeq(t *testing.T) {
	for _, c := range []struct {
		a, b Seq
		d    int64
	}{{1, 2, -1}, {2, 2, 0}, {math.MaxUint64, 0, -1}, {math.MaxUint64 - 5, 4, -10}, {3, math.MaxUint64, 4}} {
		if c.a.Diff(c.b) != c.d || c.a.Lt(c.b) != (c.d < 0) || c.a.Le(c.b) != (c.d <= 0) {
			t.Errorf("%d and %d: %d %v %v", c.a, c.b, c.a.Diff(c.b), c.a.Lt(c.b), c.a.Le(c.b))
		}
	}
}

func TestConnIDParts(t *testing.T) {
	id := connID(0x7fffffff, 254, 0xfffffe)
	if id.Gen() != 0x7fffffff || id.Tile() != 254 || id.Slot() != 0xfffffe || id.String() != "254.16777214.2147483647" {
		t.Errorf("%v: %d %d %d", id, id.Gen(), id.Tile(), id.Slot())
	}
}

func TestReasonStrings(t *testing.T) {
	seen := map[string]bool{}
	for r := range closeReasonCnt {
		if r.String() == "" || r.Name() == "" || r.String() == "unknown" || seen[r.Name()] {
			t.Errorf("reason %d: %q %q", r, r.Name(), r.String())
		}
		seen[r.Name()] = true
		if len(r.String()) > 123 {
			t.Errorf("%s does not fit a close frame", r.Name())
		}
		if c := r.code(); c < 1000 || c > 4999 {
			t.Errorf("%s: code %d", r.Name(), c)
		}
	}
	if closeReasonCnt.String() != "unknown" || CloseReason(255).Name() != "unknown" {
		t.Error("a reason out of range has a name")
	}
	names := CounterNames()
	if len(names) != cntCnt {
		t.Errorf("%d names for %d counters", len(names), cntCnt)
	}
}

// A descriptor that is being rewritten, or was, is not read.
func TestDescriptorReuse(t *testing.T) {
	p := ringSizes(1<<12, 1<<12, 8)
	rigMems(t, mustFootprint(t, p), func(t *testing.T, m shmem.Mem) {
		seq0 := uint64(math.MaxUint64 - 3)
		sr := newStageRing(t, m, p, seq0)
		r := sr.s.rings[0]
		var d message
		if !r.read(seq0, &d) || r.read(seq0+1, &d) || r.oldest(seq0) != seq0 {
			t.Error("a fresh ring holds more, or less, than its sentinel")
		}
		for i := range uint64(40) {
			sr.st.WriteString("x")
			seq, err := sr.st.WsBroadcast(OpText)
			if err != nil || uint64(seq) != seq0+1+i {
				t.Fatal(seq, err)
			}
			for back := range uint64(12) {
				s := uint64(seq) - back
				want := back < 8 && back <= i+1
				if got := r.read(s, &d); got != want || got && d.seq != s {
					t.Fatalf("message %d, %d back: %v %+v", i, back, got, d)
				}
			}
			if n := uint64(seq) - r.oldest(uint64(seq)); n != min(i+1, 7) {
				t.Fatalf("oldest is %d back after %d", n, i+1)
			}
			if l := r.hdr.limit[areaBroadcast].Load(); i >= 8 && l < 3*(i-7) {
				t.Fatalf("descriptor reused below limit %d at message %d", l, i)
			}
		}
	})
}
