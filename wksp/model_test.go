package wksp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// testSeed returns WKSP_SEED or a random one, and says which.
func testSeed(t testing.TB) uint64 {
	seed := rand.Uint64()
	if s := os.Getenv("WKSP_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("WKSP_SEED=%d", seed)
	return seed
}

// model is the naive picture of a workspace: what was asked for, in a list.
type model struct {
	lo, hi uint64
	live   []held // by gaddr
}

type held struct {
	gaddr, size, tag uint64
	name             string
	fill             byte
}

func (h held) end() uint64 { return shmem.Align(h.gaddr+h.size, Granule) }

// holes returns the free ranges.
func (m *model) holes() (hs [][2]uint64) {
	at := m.lo
	for _, h := range m.live {
		if h.gaddr > at {
			hs = append(hs, [2]uint64{at, h.gaddr})
		}
		at = h.end()
	}
	if at < m.hi {
		hs = append(hs, [2]uint64{at, m.hi})
	}
	return hs
}

// fits tells whether any hole takes size at align.
func (m *model) fits(align, size uint64) bool {
	for _, h := range m.holes() {
		if shmem.Align(h[0], align)+shmem.Align(size, Granule) <= h[1] {
			return true
		}
	}
	return false
}

func (m *model) add(t testing.TB, h held) {
	for _, o := range m.live {
		if h.gaddr < o.end() && o.gaddr < h.end() {
			t.Fatalf("%+v overlaps %+v", h, o)
		}
	}
	if h.gaddr < m.lo || h.end() > m.hi {
		t.Fatalf("%+v is outside [%#x,%#x)", h, m.lo, m.hi)
	}
	i, _ := slices.BinarySearchFunc(m.live, h, func(a, b held) int { return int(int64(a.gaddr) - int64(b.gaddr)) })
	m.live = slices.Insert(m.live, i, h)
}

// same compares workspace and model.
func (m *model) same(t testing.TB, w *Wksp) {
	t.Helper()
	l, err := w.TagQuery()
	ok(t, err)
	if len(l) != len(m.live) {
		t.Fatalf("%d allocations, model has %d", len(l), len(m.live))
	}
	for i, h := range m.live {
		if o := l[i]; o.Gaddr != h.gaddr || o.Size != h.size || o.Tag != h.tag || o.Name != h.name {
			t.Fatalf("allocation %d is %+v, model has %+v", i, o, h)
		}
	}
	u, err := w.Usage()
	ok(t, err)
	var free, largest uint64
	hs := m.holes()
	for _, h := range hs {
		free += h[1] - h[0]
		largest = max(largest, h[1]-h[0])
	}
	if u.Free != uint64(len(hs)) || u.FreeBytes != free || u.LargestFree != largest || u.Used != uint64(len(m.live)) || u.Bad != 0 {
		t.Fatalf("usage %+v, model: %d holes, %d free, largest %d", u, len(hs), free, largest)
	}
}

// TestModel: random operations against the naive model: nothing overlaps, no byte of one is another's, failures
// happen only where the model has no room.
func TestModel(t *testing.T) {
	both(t, func(t *testing.T, mk mkMem) {
		seed := testSeed(t)
		r := rand.New(rand.NewPCG(seed, 1))
		for round := range 6 {
			partMax := []uint64{3, 10, 60, 60, 500, 500}[round]
			w := format(t, mk, partMax, 1<<20)
			n := 1500
			if !raceBuild && round == 5 {
				n = 4000
			}
			m := &model{lo: w.dataLo, hi: w.dataHi}
			for range n {
				m.step(t, w, r)
			}
			m.same(t, w)
			ok(t, w.Verify())
			ok(t, w.Rebuild())
			ok(t, w.Verify())
			m.same(t, w)
		}
	})
}

func (m *model) step(t testing.TB, w *Wksp, r *rand.Rand) {
	switch k := r.IntN(1000); {
	case k < 520:
		m.alloc(t, w, r)
	case k < 960 && len(m.live) > 0:
		i := r.IntN(len(m.live))
		h := m.live[i]
		mem, err := w.Laddr(h.gaddr, 0)
		ok(t, err)
		for j, c := range mem.Bytes() {
			if c != h.fill {
				t.Fatalf("%+v: byte %d is %d", h, j, c)
			}
		}
		if r.IntN(8) == 0 {
			want(t, w.Free(h.gaddr+1), ErrNotFound)
		}
		ok(t, w.Free(h.gaddr))
		m.live = slices.Delete(m.live, i, i+1)
	case k < 980:
		name := fmt.Sprintf("n%d", r.IntN(30))
		o, err := w.Lookup(name)
		i := slices.IndexFunc(m.live, func(h held) bool { return h.name == name })
		if (err == nil) != (i >= 0) || err == nil && o.Gaddr != m.live[i].gaddr {
			t.Fatalf("Lookup(%s) = %+v, %v, model %d", name, o, err, i)
		}
	case k < 985:
		tag := 1 + r.Uint64N(6)
		n, err := w.TagFree(tag, 77)
		ok(t, err)
		before := len(m.live)
		m.live = slices.DeleteFunc(m.live, func(h held) bool { return h.tag == tag })
		if n != before-len(m.live) {
			t.Fatalf("TagFree freed %d, model %d", n, before-len(m.live))
		}
	case k < 986:
		ok(t, w.Reset())
		m.live = nil
	case k < 990:
		ok(t, w.Rebuild())
	case k < 995:
		ok(t, w.Verify())
	default:
		m.same(t, w)
	}
}

func (m *model) alloc(t testing.TB, w *Wksp, r *rand.Rand) {
	align := uint64(1) << r.IntN(15)
	if r.IntN(3) == 0 {
		align = 0
	}
	h := held{size: 1 + r.Uint64N(uint64(1)<<(4+r.IntN(13))), tag: 1 + r.Uint64N(6), fill: byte(r.Uint32())}
	eff := align
	if eff == 0 {
		eff = DefaultAlign
	}
	eff = max(eff, Granule)
	fits, asked := m.fits(eff, h.size), h.size
	var err error
	switch r.IntN(4) {
	case 0:
		h.name = fmt.Sprintf("n%d", r.IntN(30))
		var o Object
		o, err = w.NewNamed(h.name, align, h.size, h.tag)
		h.gaddr = o.Gaddr
		taken := slices.ContainsFunc(m.live, func(o held) bool { return o.name == h.name })
		if taken != errors.Is(err, ErrExists) {
			t.Fatalf("NewNamed(%s): %v, taken: %v", h.name, err, taken)
		}
	case 1:
		h.gaddr, h.size, err = w.AllocAtLeast(align, h.size, h.tag)
		if err == nil && (h.size < asked || h.size%Granule != 0) {
			t.Fatalf("AllocAtLeast(%d) got %d", asked, h.size)
		}
	default:
		h.gaddr, err = w.Alloc(align, h.size, h.tag)
	}
	switch {
	case err == nil:
		if h.gaddr%eff != 0 {
			t.Fatalf("gaddr %#x at alignment %d", h.gaddr, eff)
		}
		m.add(t, h)
		mem, err := w.Laddr(h.gaddr, h.size)
		ok(t, err)
		for i := range mem.Bytes() {
			mem.Bytes()[i] = h.fill
		}
	case errors.Is(err, ErrNoSpace):
		if fits && (eff == Granule || eff == DefaultAlign) {
			t.Fatalf("no space for %d at %d, the model has: %v", asked, eff, err)
		}
	case errors.Is(err, ErrNoPart):
		if rows := len(m.live) + len(m.holes()); uint64(rows)+2 <= w.partMax {
			t.Fatalf("%v, but %d rows of %d are in use", err, rows, w.partMax)
		}
	case !errors.Is(err, ErrExists):
		t.Fatal(err)
	}
}
