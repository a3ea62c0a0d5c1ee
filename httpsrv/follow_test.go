package httpsrv

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

// A follower gets every message while it keeps up, and the count of those that
// it missed when it does not.
func TestFollower(t *testing.T) {
	p := rigParams()
	size, err := Footprint(p)
	if err != nil {
		t.Fatal(err)
	}
	rigMems(t, size, func(t *testing.T, m shmem.Mem) {
		if err := newAt(m, p, ^uint64(0)-300); err != nil {
			t.Fatal(err)
		}
		s, err := Join(m)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Leave()
		if _, err := s.Follow(1); !errors.Is(err, ErrParams) {
			t.Errorf("ring 1 of 1: %v", err)
		}
		st, err := s.Produce(0, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		n := 0
		publish := func() {
			st.Printf("%d %s", n, strings.Repeat("z", n*31%2000))
			if _, err := st.WsBroadcast(OpText); err != nil {
				t.Fatal(err)
			}
			if n++; n%5 == 0 {
				_, _ = st.WriteString("to one")
				if _, err := st.WsSend(1<<32, OpBinary); err != nil {
					t.Fatal(err)
				}
			}
		}
		publish()
		f, err := s.Follow(0)
		if err != nil {
			t.Fatal(err)
		}
		want := func(i int) {
			t.Helper()
			m, lost, ok := f.Next()
			if !ok || lost != 0 || m.Op != OpText || string(m.Data) != fmt.Sprintf("%d %s", i, strings.Repeat("z", i*31%2000)) || m.Time == 0 {
				t.Fatalf("message %d: %v, %d lost, %q", i, ok, lost, short(string(m.Data)))
			}
		}
		for range 1000 {
			publish()
			want(n - 1)
		}
		if _, lost, ok := f.Next(); ok || lost != 0 {
			t.Fatal("a message after the last one")
		}
		for _, behind := range []int{50, 100, 150, 400, 5000} {
			from, first := n, st.Seq()
			for range behind {
				publish()
			}
			got, lost := 0, uint64(0)
			for {
				m, l, ok := f.Next()
				lost += l
				if !ok {
					break
				}
				got++
				var i int
				if fmt.Sscan(string(m.Data), &i); i < from || i >= n {
					t.Fatalf("%d messages behind: got %q", behind, short(string(m.Data)))
				}
			}
			if all := uint64(st.Seq() - first); got == 0 || lost == 0 != (got == behind) || uint64(got)+lost > all {
				t.Errorf("%d messages behind: got %d, lost %d of %d", behind, got, lost, all)
			}
		}
	})
}
