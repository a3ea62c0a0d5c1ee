package steer

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// Handles over heap memory, which the race detector sees.
func TestTile(t *testing.T) {
	m := shmem.Heap(cellSize*uint64(cellCnt(200)), 4096)
	if _, err := join(m, 0); !errors.Is(err, ErrLayout) {
		t.Error("nothing there:", err)
	}
	s, err := format(m, 200, Hash, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []int{-1, 200} {
		if _, err := join(m, bad); !errors.Is(err, ErrParams) {
			t.Error(bad, err)
		}
	}
	s.tile[130].load.Store(9)
	s.tile[130].bias.Store(9)
	s.tile[130].sent.Store(9)
	s.tile[130].migrated.Store(9)
	j, err := join(m, 130)
	if err != nil {
		t.Fatal(err)
	}
	if ts := s.stats().Tiles[130]; j.Moved() || ts.Load != 9 || ts.Pending != 9 {
		t.Error("a successor begins with", ts)
	}
	j.Took()
	j.SetLoad(10)
	if n := s.stats().Tiles[130].Pending; n != 8 {
		t.Error(n, "pending after one was taken")
	}
	j.Drained()
	if n := s.stats().Tiles[130].Pending; n != 8 {
		t.Error(n, "pending, who may be in the middle of the handshake")
	}
	j.Drained()
	j.Took() // one whom the program was not asked about
	if n := s.stats().Tiles[130].Pending; n != 0 {
		t.Error(n, "pending of nobody")
	}
	done := make(chan bool)
	go func() { // the program's and the supervisor's part
		for range 1000 {
			s.tile[130].sent.Add(1)
			s.setLive(130, true)
			s.setLive(131, false)
		}
		s.tile[130].migrated.Add(1)
		close(done)
	}()
	for i := range 1000 {
		j.Took()
		j.SetLoad(uint64(i))
		if n := s.stats().Tiles[130].Pending; n > 1000 {
			t.Fatal(n, "pending")
		}
	}
	<-done
	j.Drained()
	j.Drained()
	st := s.stats()
	if ts := st.Tiles[130]; !ts.Live || ts.Load != 999 || ts.Pending != 0 || st.Live != 1 || st.Migrated() != 10 || st.Selected() != 0 {
		t.Errorf("%+v", ts)
	}
	if !j.Moved() || j.Moved() {
		t.Error("Moved is to tell once")
	}
	s.tiles = 0
	if _, err := join(m, 0); !errors.Is(err, ErrLayout) {
		t.Error("no tiles:", err)
	}
	s.tiles = 200
	short, err := m.Slice(0, m.Len()-8)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := join(short, 0); !errors.Is(err, ErrLayout) {
		t.Error("short:", err)
	}
	var none *Tile
	none.SetLoad(1)
	none.Took()
	none.Drained()
	if none.Moved() || none.Leave() != nil {
		t.Error("nil is not steered")
	}
}

func TestTileCost(t *testing.T) {
	m := shmem.Heap(cellSize*uint64(cellCnt(200)), 4096)
	if _, err := format(m, 1, Hash, 1); err != nil {
		t.Fatal(err)
	}
	j, err := join(m, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { j.SetLoad(1); j.Took(); j.Drained(); j.Moved() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What is no steering map is refused before it is mapped, or by its contents.
func TestJoinRefuses(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Join(int(f.Fd()), 0); !errors.Is(err, ErrNotShared) {
		t.Error("a file:", err)
	}
	if _, err := Join(1<<20, 0); !errors.Is(err, ErrNotShared) {
		t.Error("no descriptor:", err)
	}
	st := load(t, Options{Tiles: 1, Ports: 1})
	if _, err := Join(st.ports[0].listeners.FD(), 0); !errors.Is(err, ErrNotShared) {
		t.Error("another map:", err)
	}
	if _, err := Join(st.array.FD(), 1); !errors.Is(err, ErrParams) {
		t.Error("no such tile:", err)
	}
	st.s.version++
	if _, err := Join(st.array.FD(), 0); !errors.Is(err, ErrLayout) {
		t.Error("another version:", err)
	}
	file, err := st.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if flags, err := unix.FcntlInt(file.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Error("the file is inherited by whoever is started:", flags, err)
	}
}
