package tile

import (
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

func TestFseq(t *testing.T) {
	overBoth(t, FseqFootprint, func(t *testing.T, m shmem.Mem) {
		start := ^Seq(0) - 1 // so that it wraps
		if err := FseqNew(m, start); err != nil {
			t.Fatal(err)
		}
		w, r := must[*Fseq](t)(FseqJoin(m)), must[*Fseq](t)(FseqJoin(m))
		for i := range Seq(5) {
			w.Update(start + i)
			w.App(FseqApp - 1).Add(1)
			if got := r.Seq(); got != start+i || got.Diff(r.Seq0()) != int64(i) {
				t.Fatalf("seq %d, want %d", got, start+i)
			}
		}
		if r.App(FseqApp-1).Load() != 5 || r.Seq0() != start {
			t.Error("app or seq0 is wrong")
		}
		if m := w.Leave(); m.Len() != FseqFootprint {
			t.Error("leave")
		}
	})
}

func TestSeqOrder(t *testing.T) {
	for _, c := range []struct {
		a, b   Seq
		lt, le bool
		diff   int64
	}{
		{0, 0, false, true, 0}, {0, 1, true, true, -1}, {1, 0, false, false, 1},
		{^Seq(0), 0, true, true, -1}, {0, ^Seq(0), false, false, 1}, {^Seq(0) - 5, 4, true, true, -10},
	} {
		if c.a.Lt(c.b) != c.lt || c.a.Le(c.b) != c.le || c.a.Diff(c.b) != c.diff {
			t.Errorf("%d against %d", c.a, c.b)
		}
	}
}
