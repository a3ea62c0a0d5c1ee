package httpsrv

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// asker is a client over a socketpair that stays, its tile driven by the test.
func asker(t testing.TB) (r *rig, ask func(in []byte, answers int)) {
	p := rigParams()
	r = newRig(t, shmem.Heap(mustFootprint(t, p), Align()), p, TileOptions{KeepAlive: true})
	static, err := r.s.AddStatic("b", []byte(strings.Repeat("b", 256)))
	if err != nil {
		t.Fatal(err)
	}
	r.onRequest = func(*Request) Response { return Response{ContentType: "text/plain", StaticBody: static} }
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.tile.admit(fds[1])
	r.adopt(fds[0])
	var buf [64 << 10]byte
	size := 0 // of an answer
	return r, func(in []byte, answers int) {
		if n, e := shmem.Send(fds[0], in); n != len(in) {
			t.Fatal(n, e)
		}
		for got, turns := 0, 0; size == 0 || got < answers*size; turns++ {
			r.tile.Poll(shmem.Monotonic(), 0)
			n, _ := shmem.Recv(fds[0], buf[:])
			if got += n; size == 0 {
				size = n
			}
			if turns > 1000 {
				t.Fatalf("%d bytes of %d answers of %d", got, answers, size)
			}
		}
	}
}

// Requests of a connection that lives allocate nothing.
func TestKeepAliveAllocatesNothing(t *testing.T) {
	if rigRace {
		t.Skip("the race detector allocates")
	}
	r, ask := asker(t)
	in := []byte(req("GET", "/", "Accept: */*\r\n"))
	ask(in, 1)
	if n := testing.AllocsPerRun(500, func() { ask(in, 1) }); n != 0 {
		t.Errorf("%v allocations a request", n)
	}
	if n := r.count("requests"); n < 500 {
		t.Errorf("%d requests: not what was to be measured", n)
	}
	r.end()
}

// The client's system calls are in the figures.
func BenchmarkKeepAlive(b *testing.B) {
	one := req("GET", "/", "Accept: */*\r\nUser-Agent: bench\r\n")
	for _, c := range []struct {
		name string
		n    int
	}{{"one by one", 1}, {"16 pipelined", 16}} {
		b.Run(c.name, func(b *testing.B) {
			r, ask := asker(b)
			in := []byte(strings.Repeat(one, c.n))
			ask([]byte(one), 1)
			b.ReportAllocs()
			for b.Loop() {
				ask(in, c.n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.n), "ns/request")
			r.end()
		})
	}
}
