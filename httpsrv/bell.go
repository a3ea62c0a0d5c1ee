package httpsrv

import (
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// tileBell is a producer's hold of one tile's doorbell. A tile formats its bell
// when it takes its role, so the producer joins it when it first sees that the
// role was taken (again).
type tileBell struct {
	mem  shmem.Mem
	runs *atomic.Uint64
	seen uint64
	bell *tile.Bell
}

func (s *Server) bells() ([]tileBell, error) {
	bs := make([]tileBell, s.params.TileCnt)
	for i := range bs {
		m, err := s.bellMem(i)
		if err != nil {
			return nil, err
		}
		bs[i] = tileBell{mem: m, runs: &s.slot(i).runs}
	}
	return bs, nil
}

// ring wakes the tile if it sleeps: two loads of lines that hardly ever change.
func (b *tileBell) ring() {
	if n := b.runs.Load(); n != b.seen {
		b.rejoin(n)
	}
	if b.bell != nil {
		b.bell.Ring()
	}
}

// openBell formats the doorbell of a role in m, unless the predecessor's is the same one.
func openBell(m shmem.Mem, path string) (*tile.Bell, error) {
	b, err := tile.BellJoin(m)
	if err == nil && b.Path() == path {
		return b, nil
	}
	if err := tile.BellNew(m, path); err != nil {
		return nil, err
	}
	return tile.BellJoin(m)
}

// WakeTile rings tile i's doorbell, so that it sees at once what was changed in
// shared memory; a tile that is awake needs it not.
func (s *Server) WakeTile(i int) error {
	m, err := s.bellMem(i)
	if err != nil {
		return err
	}
	b := tileBell{mem: m, runs: &s.slot(i).runs}
	b.ring()
	b.leave()
	return nil
}

func (b *tileBell) rejoin(n uint64) {
	bell, err := tile.BellJoin(b.mem)
	if err != nil {
		return // being formatted: the next message tries again
	}
	if b.bell != nil {
		b.bell.Leave()
	}
	b.bell, b.seen = bell, n
}

func (b *tileBell) leave() {
	if b.bell != nil {
		b.bell.Leave()
		b.bell, b.seen = nil, 0
	}
}
