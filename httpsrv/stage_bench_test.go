package httpsrv

import (
	"fmt"
	"testing"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

// benchServer is a server with a 4 MiB ring in a mapped region.
func benchServer(b *testing.B, clients uint32) *Server {
	b.Helper()
	p := rigParams()
	p.OutgoingBufferSz, p.RingDepth, p.MaxWsConnectionCnt = 4<<20, 65536, clients
	p.MaxConnectionCnt = 64
	size, err := Footprint(p)
	if err != nil {
		b.Fatal(err)
	}
	m := rigRegion(b, size)
	if err := New(m, p); err != nil {
		b.Fatal(err)
	}
	s, err := Join(m)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func benchStage(b *testing.B) *Stage {
	b.Helper()
	st, err := benchServer(b, 64).Produce(0, time.Second)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	return st
}

// Staging alone: each message is staged and dropped. copy is what it is held against: the bytes from one buffer into
// another that lies as warm as the ring.
func BenchmarkStage(b *testing.B) {
	for _, n := range []int{128, 256, 1024} {
		msg := make([]byte, n)
		ways := []struct {
			name string
			do   func(st *Stage)
		}{
			{"Write", func(st *Stage) { _, _ = st.Write(msg) }},
			{"Append", func(st *Stage) {
				copy(st.Append(n), msg)
				st.Commit(n)
			}},
			{"Printf", func(st *Stage) { st.Printf("%s", msg) }},
		}
		for _, w := range ways {
			b.Run(fmt.Sprintf("%s/%d", w.name, n), func(b *testing.B) {
				st := benchStage(b)
				b.ReportAllocs()
				b.SetBytes(int64(n))
				for b.Loop() {
					w.do(st)
					st.Unstage()
				}
			})
		}
		b.Run(fmt.Sprintf("copy/%d", n), func(b *testing.B) {
			dst := make([]byte, n)
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				copy(dst, msg)
			}
		})
	}
}

// BenchmarkPublish stages and publishes, with nobody to be woken. ring/copy is what it is held against: a copy
// that goes round a plain buffer as large as the ring.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{128, 256, 1024} {
		msg := make([]byte, n)
		b.Run(fmt.Sprintf("Append/%d", n), func(b *testing.B) {
			st := benchStage(b)
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				copy(st.Append(n), msg)
				st.Commit(n)
				if _, err := st.WsBroadcast(OpBinary); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("Printf/%d", n), func(b *testing.B) {
			st := benchStage(b)
			b.ReportAllocs()
			for b.Loop() {
				st.Printf("%s", msg)
				if _, err := st.WsBroadcast(OpText); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("ring-copy/%d", n), func(b *testing.B) {
			ring := make([]byte, 4<<20)
			at := 0
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				if at+n > len(ring) {
					at = 0
				}
				copy(ring[at:], msg)
				at += n + 4
			}
		})
	}
}

// BenchmarkClock is what a stamp costs: one is in every published message.
func BenchmarkClock(b *testing.B) {
	for b.Loop() {
		_ = shmem.Monotonic()
	}
}
