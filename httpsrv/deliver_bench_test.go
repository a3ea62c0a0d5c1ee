//go:build !explore

package httpsrv

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// benchRig is a tile with n streaming clients on loopback sockets, whose own ends nobody reads but the benchmark.
func benchRig(b *testing.B, n int, target string) *rig {
	b.Helper()
	p := rigParams()
	p.OutgoingBufferSz, p.RingDepth, p.MaxWsConnectionCnt, p.HeadBufCnt = 4<<20, 65536, 8192, 8192
	size, err := Footprint(p)
	if err != nil {
		b.Fatal(err)
	}
	r := newRig(b, rigRegion(b, size), p, TileOptions{})
	for range n {
		c := r.dial(0)
		c.stream(target)
	}
	r.quiet()
	return r
}

// discard takes everything that has arrived at fd.
func discard(fd int, buf []byte) {
	for {
		if n, errno := shmem.Recv(fd, buf); errno != 0 || n == 0 {
			return
		}
	}
}

// BenchmarkPoll is a turn of the loop with nothing to do: what an idle connection costs the others.
func BenchmarkPoll(b *testing.B) {
	for _, n := range []int{0, 1000} {
		b.Run(fmt.Sprintf("idle/conns=%d", n), func(b *testing.B) {
			r := benchRig(b, n, "/ws")
			b.ReportAllocs()
			now := shmem.Monotonic()
			for b.Loop() {
				if now += 100; r.tile.Poll(now, 0) != 0 {
					b.Fatal("there was something to do")
				}
			}
			b.StopTimer()
			r.end()
		})
	}
}

// BenchmarkDeliver is a burst published and brought to n clients over loopback: one send each. ns/op has the
// clients' reading in it; ns/send is the tile's part alone, most of it the kernel's send.
func BenchmarkDeliver(b *testing.B) {
	for _, c := range []struct{ clients, burst, size int }{{100, 1, 128}, {100, 32, 128}, {1000, 32, 128}, {1000, 32, 1024}} {
		b.Run(fmt.Sprintf("clients=%d/burst=%d/%dB", c.clients, c.burst, c.size), func(b *testing.B) {
			r := benchRig(b, c.clients, "/ws")
			st := r.produce()
			msg := bytes.Repeat([]byte{'x'}, c.size)
			buf := make([]byte, 1<<20)
			sends, delivered := r.count("sends"), r.count("delivered")
			var spent int64
			b.ReportAllocs()
			for b.Loop() {
				for range c.burst {
					copy(st.Append(c.size), msg)
					st.Commit(c.size)
					if _, err := st.WsBroadcast(OpBinary); err != nil {
						b.Fatal(err)
					}
				}
				t0 := shmem.Monotonic()
				r.tile.Poll(t0, 0)
				spent += shmem.Monotonic() - t0
				for _, p := range r.peers {
					discard(p.fd, buf)
				}
			}
			sends, delivered = r.count("sends")-sends, r.count("delivered")-delivered
			b.ReportMetric(float64(spent)/float64(sends), "ns/send")
			b.ReportMetric(float64(delivered)/float64(sends), "msgs/send")
			b.StopTimer()
			if err := st.Close(); err != nil {
				b.Fatal(err)
			}
			r.end()
		})
	}
}
