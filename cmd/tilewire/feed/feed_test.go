package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

// recorder stands for a stage: it keeps what is published, and takes messages of up to limit bytes.
type recorder struct {
	limit int
	buf   []byte
	err   error
	cork  int
	got   []string // t:TEXT, b:BYTES
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.err == nil && len(r.buf)+len(p) > r.limit {
		r.err = httpsrv.ErrTooLarge
	}
	if r.err != nil {
		return 0, r.err
	}
	r.buf = append(r.buf, p...)
	return len(p), nil
}

func (r *recorder) Err() error { return r.err }
func (r *recorder) Cork()      { r.cork++ }
func (r *recorder) Uncork()    { r.cork-- }
func (r *recorder) Unstage()   { r.buf, r.err = r.buf[:0], nil }

func (r *recorder) WsBroadcast(op byte) (httpsrv.Seq, error) {
	err := r.err
	if err == nil {
		kind := "t:"
		if op == httpsrv.OpBinary {
			kind = "b:"
		}
		r.got = append(r.got, kind+string(r.buf))
	}
	r.Unstage()
	return httpsrv.Seq(len(r.got)), err
}

// feed writes the pieces and closes.
func feed(f Framing, limit int, pieces ...[]byte) (*recorder, Stats, error) {
	r := &recorder{limit: limit}
	fd := &Feeder{st: r, frame: f, text: true}
	for _, p := range pieces {
		_, _ = fd.Write(p)
	}
	err := fd.Close()
	return r, fd.Stats, err
}

func len32(s string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s }

func TestMessages(t *testing.T) {
	long := strings.Repeat("x", 101)
	for _, c := range []struct {
		name string
		f    Framing
		in   string
		want []string
		st   Stats
		err  error
	}{
		{"nothing", Line, "", nil, Stats{}, nil},
		{"lines", Line, "a\nbc\n", []string{"t:a", "t:bc"}, Stats{Messages: 2, Bytes: 3}, nil},
		{"empty lines are messages", Line, "\n\na\n\n", []string{"t:", "t:", "t:a", "t:"}, Stats{Messages: 4, Bytes: 1}, nil},
		{"last line without LF", Line, "a\nb", []string{"t:a", "t:b"}, Stats{Messages: 2, Bytes: 2}, nil},
		{"CRLF", Line, "a\r\n\r\nb\r\n", []string{"t:a", "t:", "t:b"}, Stats{Messages: 3, Bytes: 2}, nil},
		{"CR elsewhere stays", Line, "a\rb\r\r\n", []string{"t:a\rb\r"}, Stats{Messages: 1, Bytes: 4}, nil},
		{"last CR without LF stays", Line, "a\r", []string{"t:a\r"}, Stats{Messages: 1, Bytes: 2}, nil},
		{"NUL in a line", Line, "a\x00b\n", []string{"t:a\x00b"}, Stats{Messages: 1, Bytes: 3}, nil},
		{"UTF-8", Line, "grün 東京 🧵\n", []string{"t:grün 東京 🧵"}, Stats{Messages: 1, Bytes: 17}, nil},
		{"not UTF-8", Line, "a\xff\nb\n", []string{"b:a\xff", "t:b"}, Stats{Messages: 2, Bytes: 3, Binary: 1}, nil},
		{"ends within a rune", Line, "a\xe6\x9d\nb\n", []string{"b:a\xe6\x9d", "t:b"}, Stats{Messages: 2, Bytes: 4, Binary: 1}, nil},
		{"surrogate", Line, "\xed\xa0\x80\n", []string{"b:\xed\xa0\x80"}, Stats{Messages: 1, Bytes: 3, Binary: 1}, nil},
		{"oversize", Line, "a\n" + long + "\nb\n", []string{"t:a", "t:b"}, Stats{Messages: 2, Bytes: 2, TooLarge: 1, Largest: 101}, nil},
		{"oversize at the end", Line, "a\n" + long, []string{"t:a"}, Stats{Messages: 1, Bytes: 1, TooLarge: 1, Largest: 101}, nil},
		{"as large as can be", Line, long[1:] + "\n", []string{"t:" + long[1:]}, Stats{Messages: 1, Bytes: 100}, nil},
		{"nul", Nul, "a\nb\r\x00\x00c", []string{"t:a\nb\r", "t:", "t:c"}, Stats{Messages: 3, Bytes: 5}, nil},
		{"len32", Len32, len32("a\nb") + len32("") + len32("\x00\xff"), []string{"t:a\nb", "t:", "b:\x00\xff"}, Stats{Messages: 3, Bytes: 5, Binary: 1}, nil},
		{"len32 oversize", Len32, len32(long) + len32("b"), []string{"t:b"}, Stats{Messages: 1, Bytes: 1, TooLarge: 1, Largest: 101}, nil},
		{"len32 short of bytes", Len32, len32("a") + len32("abcdef")[:7], []string{"t:a"}, Stats{Messages: 1, Bytes: 1}, ErrTruncated},
		{"len32 short of its head", Len32, len32("a") + "\x00\x00", []string{"t:a"}, Stats{Messages: 1, Bytes: 1}, ErrTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			for cut := 0; cut <= len(c.in); cut++ { // in two pieces, cut anywhere
				r, st, err := feed(c.f, 100, []byte(c.in[:cut]), []byte(c.in[cut:]))
				if !slices.Equal(r.got, c.want) || st != c.st || !errors.Is(err, c.err) {
					t.Fatalf("cut at %d: %q %+v %v\nwant %q %+v %v", cut, r.got, st, err, c.want, c.st, c.err)
				}
				if len(r.buf) != 0 || r.err != nil || r.cork != 0 {
					t.Fatalf("cut at %d: %q %v is left staged, corked %d", cut, r.buf, r.err, r.cork)
				}
			}
		})
	}
}

func TestTruncatedSaysHowMuch(t *testing.T) {
	for in, want := range map[string]string{len32("abcdef")[:7]: "3 of its", "\x00\x00\x01": "1 of its"} {
		if _, _, err := feed(Len32, 100, []byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

func TestParseFraming(t *testing.T) {
	for _, s := range []string{"line", "nul", "len32"} {
		if f, err := ParseFraming(s); string(f) != s || err != nil {
			t.Errorf("%q: %v, %v", s, f, err)
		}
	}
	for _, s := range []string{"", "Line", "len64"} {
		if _, err := ParseFraming(s); !errors.Is(err, ErrFraming) || !strings.Contains(err.Error(), strconv.Quote(s)) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// oracle cuts the whole input in the plainest way.
func oracle(f Framing, in string) (msgs []string, whole bool) {
	switch f {
	case Len32:
		for len(in) >= 4 {
			n := uint64(binary.BigEndian.Uint32([]byte(in)))
			if n > uint64(len(in)-4) {
				return msgs, false
			}
			msgs = append(msgs, in[4:4+n])
			in = in[4+n:]
		}
		return msgs, in == ""
	case Nul:
		msgs = strings.Split(in, "\x00")
	default:
		msgs = strings.Split(in, "\n")
		for i := range msgs[:len(msgs)-1] {
			msgs[i] = strings.TrimSuffix(msgs[i], "\r")
		}
	}
	if msgs[len(msgs)-1] == "" {
		msgs = msgs[:len(msgs)-1]
	}
	return msgs, true
}

// FuzzCuts: however the input is cut, the messages are those of the oracle.
func FuzzCuts(f *testing.F) {
	for i, in := range []string{"a\r\nb\n\nc", "\xff\x00\r\r\n", len32("abc") + len32("") + "\x00", strings.Repeat("y", 40) + "\n"} {
		f.Add([]byte(in), uint8(i), uint64(i))
	}
	f.Fuzz(func(t *testing.T, in []byte, framing uint8, seed uint64) {
		fr := []Framing{Line, Nul, Len32}[framing%3]
		rng := rand.New(rand.NewPCG(seed, 1))
		var pieces [][]byte
		for rest := bytes.Clone(in); len(rest) > 0; {
			n := 1 + rng.IntN(min(len(rest), 8))
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		const limit = 24
		r, st, err := feed(fr, limit, pieces...)
		msgs, whole := oracle(fr, string(in))
		var want []string
		var wantSt Stats
		for _, m := range msgs {
			if len(m) > limit {
				wantSt.TooLarge++
				wantSt.Largest = max(wantSt.Largest, uint64(len(m)))
				continue
			}
			kind := "t:"
			if !bytes.Equal(bytes.ToValidUTF8([]byte(m), nil), []byte(m)) {
				kind = "b:"
				wantSt.Binary++
			}
			wantSt.Messages++
			wantSt.Bytes += uint64(len(m))
			want = append(want, kind+m)
		}
		if !slices.Equal(r.got, want) || st != wantSt || (err == nil) != whole {
			t.Fatalf("%s %q: %q %+v %v\nwant %q %+v, whole %v", fr, in, r.got, st, err, want, wantSt, whole)
		}
	})
}

// TestRealStage: a line that fits no ring, through the real one.
func TestRealStage(t *testing.T) {
	p := httpsrv.Params{
		MaxConnectionCnt: 1, MaxWsConnectionCnt: 1, MaxRequestLen: 1024, MaxWsRecvFrameLen: 1024,
		OutgoingBufferSz: 1 << 12, RingDepth: 64, ReplyDepth: 4, TileCnt: 1, RingCnt: 1,
		HeadBufCnt: 1, RecvBufCnt: 2, MsgBufCnt: 1, PendingCnt: 1, StaticSz: 64,
	}
	sz, err := httpsrv.Footprint(p)
	if err != nil {
		t.Fatal(err)
	}
	m := shmem.Heap(sz, httpsrv.Align())
	if err := httpsrv.New(m, p); err != nil {
		t.Fatal(err)
	}
	srv, err := httpsrv.Join(m)
	if err != nil {
		t.Fatal(err)
	}
	st, err := srv.Produce(0, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	f := New(st, Line)
	for range 100 { // many laps of the ring
		in := "short\n" + strings.Repeat("x", 5000) + "\n" + strings.Repeat("y", st.Max()) + "\nlast\n"
		for len(in) > 0 {
			n := min(len(in), 700)
			_, _ = f.Write([]byte(in[:n]))
			in = in[n:]
		}
	}
	if want := (Stats{Messages: 300, Bytes: 100 * uint64(9+st.Max()), TooLarge: 100, Largest: 5000}); f.Stats != want {
		t.Errorf("%+v, want %+v", f.Stats, want)
	}
	if r := srv.Ring(0); r.Head-r.Start != 300 || r.TooLarge != 100 {
		t.Errorf("the ring holds %d messages, refused %d", r.Head-r.Start, r.TooLarge)
	}
	_, _ = f.Write([]byte("tail"))
	if err := f.Close(); err != nil || f.Stats.Messages != 301 {
		t.Errorf("Close: %v, %d messages", err, f.Stats.Messages)
	}
}
