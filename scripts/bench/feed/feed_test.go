package feed

import (
	"encoding/binary"
	"os"
	"testing"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
)

// TestRun publishes exactly what the credits allow.
func TestRun(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = w // not closed: run never ends, its goroutine stays in the read
	got := make(chan uint64)
	go run(Options{Size: 64, Fill: true}, r, func(p []byte) {
		seq, _ := swarm.ReadStamp(p)
		got <- seq
	})
	give := func(values ...uint64) {
		var b []byte
		for _, v := range values {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	want := uint64(1)
	for _, c := range [][]uint64{{2}, {3, 5}, {5}, {9}} {
		give(c...)
		for ; want <= c[len(c)-1]; want++ {
			if seq := <-got; seq != want {
				t.Fatalf("%d, want %d", seq, want)
			}
		}
		select {
		case seq := <-got:
			t.Fatalf("%d without credit", seq)
		default:
		}
	}
}
