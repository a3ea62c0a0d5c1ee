package echo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// scaled is n, or less of it with -short and -race.
func scaled(n int) int {
	if testing.Short() || raceOn {
		return max(n/16, 1)
	}
	return n
}

// payload is n octets of text, or of what is no text.
func payload(op byte, n int) string {
	unit := "Größe und Maß über alle Bäche; "
	if op == ws.OpBinary {
		unit = "\x00\xff\xfe binary \x80"
	}
	s := strings.Repeat(unit, n/len(unit)+1)[:n]
	if op == ws.OpText { // not to end within a code point
		s = strings.ToValidUTF8(s, ".")
	}
	return s
}

// exchange sends bytes, cut octets a write, while it awaits the message that comes back.
func exchange(t *testing.T, c *client, out []byte, cut int, want event) {
	t.Helper()
	wrote := make(chan error, 1)
	go func() { wrote <- c.write(turn{out: out, cut: cut}, asWritten, nil) }()
	if err := c.expect(want); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}

// whole plays one message in a connection of its own, and closes it.
func whole(t *testing.T, out []byte, cut int, want event) {
	t.Helper()
	c := upgraded(t)
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	exchange(t, c, out, cut, want)
	if _, err := c.Write(fr(clos, code(1000)).bytes()); err != nil {
		t.Fatal(err)
	}
	if err := c.expect(closed(1000), end()); err != nil {
		t.Fatal(err)
	}
}

// TestConformanceLimits is section 9: large messages, many fragments, small writes, and round trips. The times are what this machine
// takes while it does other things; nothing depends on them.
func TestConformanceLimits(t *testing.T) {
	if testing.Short() || raceOn {
		t.Log("sizes divided by 16")
	}
	const kib, mib = 1 << 10, 1 << 20
	n, begin := 0, time.Now()
	play := func(id, what string, f func(t *testing.T)) {
		n++
		t.Run(id, func(t *testing.T) {
			at := time.Now()
			f(t)
			t.Logf("%s: %s in %v", id, what, time.Since(at).Round(time.Millisecond))
		})
	}
	for k, op := range []byte{ws.OpText, ws.OpBinary} {
		name := map[byte]string{ws.OpText: "text", ws.OpBinary: "binary"}[op]
		for i, size := range []int{64 * kib, 256 * kib, mib, 4 * mib, 8 * mib, 16 * mib} {
			s := payload(op, scaled(size))
			play(number("9.%d.%d", 1+k, i+1), fmt.Sprintf("%s of %d KiB", name, len(s)>>10), func(t *testing.T) {
				whole(t, fr(fin|op, s).bytes(), 0, event{op, s})
			})
		}
		s := payload(op, scaled(4*mib))
		for i, size := range []int{64, 256, kib, 4 * kib, 16 * kib, 64 * kib, 256 * kib, mib, 4 * mib} {
			play(number("9.%d.%d", 3+k, i+1), fmt.Sprintf("%s of %d KiB in fragments of %d octets", name, len(s)>>10, size), func(t *testing.T) {
				whole(t, fragmented(op, s, size), 0, event{op, s})
			})
		}
		s1 := payload(op, scaled(mib))
		for i, cut := range []int{64, 128, 256, 512, 1024, 2048} {
			play(number("9.%d.%d", 5+k, i+1), fmt.Sprintf("%s of %d KiB in writes of %d octets", name, len(s1)>>10, cut), func(t *testing.T) {
				whole(t, fr(fin|op, s1).bytes(), cut, event{op, s1})
			})
		}
		for i, size := range []int{0, 16, 64, 256, 1024, 4096} {
			trips := scaled(1000)
			play(number("9.%d.%d", 7+k, i+1), fmt.Sprintf("%d round trips of %d octets, %s", trips, size, name), func(t *testing.T) {
				c := upgraded(t)
				defer c.Close()
				s := payload(op, size)
				out := fr(fin|op, s).bytes()
				for range trips {
					exchange(t, c, out, 0, event{op, s})
				}
			})
		}
	}
	if n != 54 {
		t.Errorf("%d cases, want 54", n)
	}
	t.Logf("| 9 | %d | in %v |", n, time.Since(begin).Round(time.Millisecond))
}

// fragmented is a message in frames of size octets.
func fragmented(op byte, s string, size int) []byte {
	var out []byte
	for first := op; ; first = ws.OpCont {
		k := min(size, len(s))
		last := k == len(s)
		b0 := first
		if last {
			b0 |= fin
		}
		out = append(out, fr(b0, s[:k]).bytes()...)
		if s = s[k:]; last {
			return out
		}
	}
}

// A message one octet over the limit is refused with 1009, by its header alone; so is the fragment with which the sum goes over.
func TestOversize(t *testing.T) {
	const most = 16 << 20
	for _, c := range []struct {
		name string
		out  []byte
	}{
		{"one frame", fr(bin, "").head(most + 1)},
		{"2^63-1 octets", fr(bin, "").head(1<<63 - 1)},
		{"sum of fragments", append(fr(ws.OpBinary, fe(1000)).bytes(), fr(cont, "").head(most-999)...)},
	} {
		cl := upgraded(t)
		if _, err := cl.Write(c.out); err != nil {
			t.Fatal(err)
		}
		if err := cl.expect(closed(1009), end()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		cl.Close()
	}
}
