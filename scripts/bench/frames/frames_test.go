// Package frames measures what is done to every byte that a WebSocket client sends, unmasking and the check for UTF-8,
// side by side with gobwas/ws and the standard library: go test -bench . ./frames
package frames

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	gobwas "github.com/gobwas/ws"
	"github.com/tilewire/tilewire/httpsrv/ws"
)

var key = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// pair is one job done by us and by a peer. Both are asked for the same result by TestPairs.
type pair struct {
	name        string
	peer        string
	ours, other func(p []byte) bool
	in          func(n int) []byte
}

var dst = make([]byte, 1<<24)

func filled(unit string) func(n int) []byte {
	return func(n int) []byte {
		b := []byte(strings.Repeat(unit, n/len(unit)+1))[:n]
		for !utf8.Valid(b) {
			b = b[:len(b)-1]
		}
		return append(b, strings.Repeat(".", n-len(b))...)
	}
}

func utf8Ours(p []byte) bool {
	var u ws.UTF8
	return u.Write(p) && u.Done()
}

var pairs = []pair{
	{
		name: "mask", peer: "gobwas", in: filled("payload "),
		ours:  func(p []byte) bool { ws.UnmaskCopy(p, p, key, 1); return true },
		other: func(p []byte) bool { gobwas.Cipher(p, key, 1); return true },
	},
	{ // what the server does: gobwas has no masking copy
		name: "mask-copy", peer: "gobwas", in: filled("payload "),
		ours: func(p []byte) bool { ws.UnmaskCopy(dst[:len(p)], p, key, 1); return true },
		other: func(p []byte) bool {
			d := dst[:len(p)]
			copy(d, p)
			gobwas.Cipher(d, key, 1)
			return true
		},
	},
	{name: "utf8-ascii", peer: "std", in: filled(`{"seq":12345,"text":"plain"},`), ours: utf8Ours, other: utf8.Valid},
	{name: "utf8-mixed", peer: "std", in: filled(`{"seq":12345,"text":"größer"},`), ours: utf8Ours, other: utf8.Valid},
	{name: "utf8-german", peer: "std", in: filled("Größe und Maß über alle Bäche, schön für Jürgen. "), ours: utf8Ours, other: utf8.Valid},
	{name: "utf8-greek", peer: "std", in: filled("κόσμε όλα καλά "), ours: utf8Ours, other: utf8.Valid},
	{name: "utf8-japanese", peer: "std", in: filled("日本語のテキスト"), ours: utf8Ours, other: utf8.Valid},
	{name: "utf8-emoji", peer: "std", in: filled("ok 😀🎉 "), ours: utf8Ours, other: utf8.Valid},
}

// TestPairs: both sides do the same work.
func TestPairs(t *testing.T) {
	for _, c := range pairs {
		for n := range 300 {
			a, b := c.in(n), c.in(n)
			if c.ours(a) != c.other(b) || !bytes.Equal(a, b) {
				t.Errorf("%s of %d bytes: the sides differ", c.name, n)
			}
			if strings.HasSuffix(c.name, "copy") {
				c.ours(a)
				got := bytes.Clone(dst[:n])
				if c.other(b); !bytes.Equal(got, dst[:n]) {
					t.Errorf("%s of %d bytes: the sides differ", c.name, n)
				}
			}
		}
	}
}

// BenchmarkFrames alternates the two sides within each loop turn, so that what else runs here slows both, and reports
// the ratio: above 1 we are faster.
func BenchmarkFrames(b *testing.B) {
	for _, c := range pairs {
		for _, n := range []int{128, 1024, 4096, 65536} {
			p := c.in(n)
			b.Run(fmt.Sprintf("%s/%d", c.name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				r := race(b, func() { c.ours(p) }, func() { c.other(p) })
				b.ReportMetric(r, "x-"+c.peer)
			})
		}
	}
}
