package wksp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

// sealHead puts the header's checksum right after a change of it.
func sealHead(b []byte) {
	binary.LittleEndian.PutUint32(b[ckptHdrSz-4:], crc32.Checksum(b[:ckptHdrSz-4], castagnoli))
}

// seal puts every checksum right, so that a change of the contents gets through to the checks behind.
func seal(b []byte) {
	sealHead(b)
	le := binary.LittleEndian
	body := le.Uint64(b[72:])*ckptRowSz + le.Uint64(b[80:])
	if n, sane := ckptLen(le.Uint64(b[72:]), le.Uint64(b[80:])); !sane || n != uint64(len(b)) {
		return
	}
	at, n, all := uint64(ckptHdrSz), uint64(0), uint32(0)
	for body > 0 {
		k := min(body, ckptBlock)
		le.PutUint32(b[at+k:], blockSum(n, b[at:at+k]))
		all = crc32.Update(all, castagnoli, b[at+k:at+k+4])
		at, n, body = at+k+4, n+1, body-k
	}
	copy(b[at:], trailer(b[:ckptHdrSz], uint64(len(b)), n, all))
}

// image is a small checkpoint as bytes.
func image(t testing.TB) (*Wksp, []byte) {
	w := format(t, heap, 24, 1<<16)
	for i := range 5 {
		o, err := w.NewNamed(fmt.Sprintf("n%d", i), 1, uint64(100+i), uint64(1+i))
		ok(t, err)
		copy(o.Mem.Bytes(), bytes.Repeat([]byte{byte(i + 1)}, 100+i))
	}
	var b bytes.Buffer
	_, err := w.checkptTo(&b, nil)
	ok(t, err)
	return w, b.Bytes()
}

// TestCheckptAltered: each byte altered, each length, blocks exchanged, other versions: refused by kind, nothing is
// harmed.
func TestCheckptAltered(t *testing.T) {
	w, good := image(t)
	v := format(t, heap, 24, 1<<16)
	_, err := v.NewNamed("keep", 0, 1000, 5)
	ok(t, err)
	was := string(v.given.Bytes())
	refused := func(what string, b []byte, kinds ...error) {
		t.Helper()
		_, err := v.restoreFrom(bytes.NewReader(b), uint64(len(b)))
		if err == nil || !slices.ContainsFunc(kinds, func(k error) bool { return errors.Is(err, k) }) {
			t.Fatalf("%s: error is %v, want %v", what, err, kinds)
		}
		if string(v.given.Bytes()) != was {
			t.Fatalf("%s: refused (%v), but the workspace was touched", what, err)
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1 << (i % 8)
		if i < 8 {
			refused(fmt.Sprintf("byte %d", i), b, ErrNotCheckpt)
		} else {
			refused(fmt.Sprintf("byte %d", i), b, ErrCheckpt)
		}
	}
	for n := range good {
		refused(fmt.Sprintf("%d bytes", n), good[:n], ErrCheckpt, ErrNotCheckpt)
	}
	refused("longer", append(bytes.Clone(good), 0), ErrCheckpt)
	refused("empty", nil, ErrNotCheckpt)
	refused("text", []byte(strings.Repeat("hello\n", 1000)), ErrNotCheckpt)
	le := binary.LittleEndian
	head := func(off int, val uint64) []byte {
		b := bytes.Clone(good)
		le.PutUint64(b[off:], val)
		sealHead(b)
		return b
	}
	for _, c := range []struct {
		what string
		off  int
		val  uint64
		kind error
		text string
	}{
		{"format", 8, 7 | ckptHdrSz<<32, ErrVersion, "format 7, this program has 1"},
		{"layout version", 16, 9 | ckptBlock<<32, ErrVersion, "version 9, this program has 1"},
		{"layout hash", 24, 0xabc, ErrLayout, "0xabc, this program has 0x"},
		{"header length", 8, 1 | 256<<32, ErrCheckpt, ""},
		{"block size", 16, uint64(Version) | 4096<<32, ErrCheckpt, ""},
		{"partMax", 32, 0, ErrCheckpt, ""},
		{"partMax", 32, 1 << 60, ErrCheckpt, ""},
		{"dataMax", 40, 1 << 60, ErrCheckpt, ""},
		{"dataMax", 40, 100, ErrCheckpt, ""},
		{"size", 48, 0, ErrCheckpt, ""},
		{"allocs", 72, 1 << 62, ErrCheckpt, ""},
		{"allocs", 72, 4, ErrCheckpt, ""},
		{"bytes", 80, ^uint64(0), ErrCheckpt, ""},
		{"length", 88, 1, ErrCheckpt, ""},
		{"name", 96, 0, ErrCheckpt, ""},
	} {
		b := head(c.off, c.val)
		refused(c.what, b, c.kind)
		if _, err := v.restoreFrom(bytes.NewReader(b), uint64(len(b))); !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v does not say %q", c.what, err, c.text)
		}
	}
	// Contents that contradict themselves under right checksums.
	row := func(i, off int) int { return ckptHdrSz + i*ckptRowSz + off }
	for what, change := range map[string]func(b []byte){
		"tag 0":     func(b []byte) { le.PutUint64(b[row(1, 16):], 0) },
		"overlap":   func(b []byte) { copy(b[row(1, 0):], b[row(0, 0):row(0, 8)]) },
		"odd":       func(b []byte) { b[row(1, 0)]++ },
		"low":       func(b []byte) { le.PutUint64(b[row(0, 0):], 0) },
		"high":      func(b []byte) { le.PutUint64(b[row(4, 0):], 1<<40) },
		"size 0":    func(b []byte) { le.PutUint64(b[row(4, 8):], 0) },
		"size huge": func(b []byte) { le.PutUint64(b[row(4, 8):], ^uint64(0)) },
		"sizes sum": func(b []byte) { b[row(4, 8)]++ },
		"names":     func(b []byte) { copy(b[row(1, 24):], b[row(0, 24):row(1, 0)]) },
		"no name":   func(b []byte) { b[row(1, 24)] = ' ' },
	} {
		b := bytes.Clone(good)
		change(b)
		seal(b)
		refused(what, b, ErrCheckpt)
	}
	_, err = v.restoreFrom(bytes.NewReader(good), uint64(len(good)))
	ok(t, err)
	if !slices.Equal(stateOf(t, v), stateOf(t, w)) {
		t.Fatal("the good one was not restored")
	}

	was = string(v.given.Bytes())

	// Two blocks of the same length that change places.
	big := format(t, heap, 8, 4<<20)
	o, err := big.NewNamed("b", 0, 3*ckptBlock, 1)
	ok(t, err)
	for i := range o.Mem.Bytes() {
		o.Mem.Bytes()[i] = byte(i >> 18)
	}
	var f bytes.Buffer
	_, err = big.checkptTo(&f, nil)
	ok(t, err)
	b := f.Bytes()
	one, two := bytes.Clone(b[ckptHdrSz+ckptBlock+4:][:ckptBlock+4]), bytes.Clone(b[ckptHdrSz+2*(ckptBlock+4):][:ckptBlock+4])
	copy(b[ckptHdrSz+ckptBlock+4:], two)
	copy(b[ckptHdrSz+2*(ckptBlock+4):], one)
	refused("exchanged", b, ErrCheckpt)
}

// FuzzRestore: any bytes, with checksums as they come or put right. Nothing may crash, hang or reach outside; what is
// refused harms nothing, what is taken is sound.
func FuzzRestore(f *testing.F) {
	_, good := image(f)
	f.Add(good, false)
	f.Add(good, true)
	f.Add(good[:700], true)
	f.Add([]byte{}, false)
	v := format(f, heap, 24, 1<<16)
	if _, err := v.NewNamed("keep", 0, 1000, 5); err != nil {
		f.Fatal(err)
	}
	base := bytes.Clone(v.given.Bytes())
	f.Fuzz(func(t *testing.T, b []byte, mend bool) { fuzzRestore(t, base, b, mend) })
}

func fuzzRestore(t testing.TB, base, b []byte, mend bool) {
	if mend && len(b) >= ckptHdrSz {
		b = bytes.Clone(b)
		seal(b)
	}
	m := shmem.Heap(uint64(len(base)), Align())
	copy(m.Bytes(), base)
	w := join(t, m)
	_, err := w.restoreFrom(bytes.NewReader(b), uint64(len(b)))
	if err != nil {
		if !bytes.Equal(m.Bytes(), base) {
			t.Fatalf("refused (%v), but the workspace was touched", err)
		}
		return
	}
	if err := w.Verify(); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if _, err := w.checkptTo(&again, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.restoreFrom(bytes.NewReader(again.Bytes()), uint64(again.Len())); err != nil {
		t.Fatal(err)
	}
}

// TestRestoreHostile is FuzzRestore with blows that hit: words of header and table under right checksums.
func TestRestoreHostile(t *testing.T) {
	r := rand.New(rand.NewPCG(testSeed(t), 6))
	w, good := image(t)
	base := bytes.Clone(w.given.Bytes())
	taken := 0
	for range 5000 {
		b := bytes.Clone(good)
		for range 1 + r.IntN(3) {
			off := 8 * (1 + r.IntN((ckptHdrSz+5*ckptRowSz)/8-1))
			switch r.IntN(4) {
			case 0:
				b[off] ^= 1 << r.IntN(8)
			case 1:
				binary.LittleEndian.PutUint64(b[off:], r.Uint64N(80)*128)
			case 2:
				binary.LittleEndian.PutUint64(b[off:], r.Uint64()>>r.IntN(64))
			case 3:
				binary.LittleEndian.PutUint64(b[off:], uint64(r.IntN(200)))
			}
		}
		seal(b)
		fuzzRestore(t, base, b, false)
		if _, _, err := verifyCkpt(bytes.NewReader(b), uint64(len(b))); err == nil {
			taken++
		}
	}
	t.Logf("%d of 5000 were taken", taken)
}

// TestCkptGolden holds the file format to its bytes: who changes it raises ckptVersion, or old files would be misread.
func TestCkptGolden(t *testing.T) {
	w := format(t, heap, 28, 4096)
	o, err := w.NewNamed("a", 0, 5, 7)
	ok(t, err)
	copy(o.Mem.Bytes(), "bytes")
	info, table, err := w.ckptTable()
	ok(t, err)
	info.Taken = time.Unix(1, 2)
	var f bytes.Buffer
	ok(t, w.ckptWrite(&f, info, table))
	b := bytes.Clone(f.Bytes())
	if binary.LittleEndian.Uint64(b[24:]) != LayoutHash || len(b) != 512+64+5+4+64 {
		t.Fatalf("%d bytes, layout hash %#x", len(b), b[24:32])
	}
	const want = "5457636b7074027f 0100000000020000 0100000000001000 " // magic, format, header length, version, block
	got := fmt.Sprintf("%x %x %x ", b[:8], b[8:16], b[16:24])
	if got != want {
		t.Errorf("header begins %s, want %s", got, want)
	}
	for _, g := range []struct {
		what     string
		from, to int
		want     string
	}{
		{"partMax, dataMax, size", 32, 56, "1c000000000000000010000000000000" + "0020000000000000"},
		{"seed, taken, allocs, bytes, length", 56, 96, "2a00000000000000" + "02ca9a3b00000000" + "0100000000000000" + "0500000000000000" + "8902000000000000"},
		{"name", 96, 104, "7465737400000000"},
		{"row", 512, 512 + 32, "0010000000000000" + "0500000000000000" + "0700000000000000" + "6100000000000000"},
		{"bytes", 576, 581, "6279746573"},
		{"trailer", 585, 609, "54572e656e64037f" + "8902000000000000" + "0100000000000000"},
	} {
		if got := fmt.Sprintf("%x", b[g.from:g.to]); got != g.want {
			t.Errorf("%s: %s, want %s", g.what, got, g.want)
		}
	}
	read, rows, err := verifyCkpt(bytes.NewReader(b), uint64(len(b)))
	if err != nil || len(rows) != 1 || read.Name != "test" {
		t.Errorf("%+v, %v", read, err)
	}
}
