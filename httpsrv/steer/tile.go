package steer

import (
	"fmt"

	"github.com/tilewire/tilewire/shmem"
)

// Tile is a network tile's handle. It needs no capability and no system call but Join's mmap. Its methods do nothing on
// nil, which stands for 'not steered'. One goroutine uses it.
//
// What the program reads of it is one word, so that a connection on its way from 'pending' to 'had' counts once at each moment.
type Tile struct {
	t     *tileCell
	m     mapping
	moved uint64
	seen  uint64 // so many of those sent here it took, or will never see
	mark  uint64 // were sent here when the backlog was empty last
}

// Join maps the array whose descriptor (Steering.File) this process inherited, as the tile of that index; fd may be closed
// afterwards. The tile has the connections that SetLoad says from now on,
// and what was sent to its predecessor is pending, until Drained. Errors: ErrNotShared, ErrLayout, ErrParams.
func Join(fd, tile int) (*Tile, error) {
	m, err := mapShared(fd)
	if err != nil {
		return nil, err
	}
	t, err := join(m.mem(), tile)
	if err != nil {
		_ = m.unmap()
		return nil, err
	}
	t.m = m
	return t, nil
}

func join(m shmem.Mem, tile int) (*Tile, error) {
	s, err := overlay(m)
	if err != nil {
		return nil, err
	}
	if tile < 0 || tile >= len(s.tile) {
		return nil, fmt.Errorf("%w: tile %d of %d", ErrParams, tile, len(s.tile))
	}
	t := &Tile{t: &s.tile[tile]}
	t.moved = t.t.migrated.Load()
	t.seen = t.t.load.Load() - t.t.bias.Load()
	return t, nil
}

// SetLoad says how many connections the tile has: two stores when that has changed.
func (t *Tile) SetLoad(n uint64) {
	if t == nil {
		return
	}
	if t.t.load.Load() != n {
		t.t.load.Store(n)
	}
	if b := n - t.seen; t.t.bias.Load() != b {
		t.t.bias.Store(b)
	}
}

// Took says that accept gave one, who is pending no more. It is told with SetLoad, which comes next. A tile that takes nobody, since it
// stands still, is taken to have all that it was sent.
func (t *Tile) Took() {
	if t != nil && t.seen != t.t.sent.Load() {
		t.seen++
	}
}

// Drained says that accept gave EAGAIN: who was pending the last time already, and is so still, has given up. Who came since may be in the
// middle of the handshake.
func (t *Tile) Drained() {
	if t == nil {
		return
	}
	if int64(t.mark-t.seen) > 0 {
		t.seen = t.mark
		t.SetLoad(t.t.load.Load())
	}
	t.mark = t.t.sent.Load()
}

// Moved tells whether connections of a closed listener have come since the last call: one load.
func (t *Tile) Moved() bool {
	if t == nil {
		return false
	}
	n := t.t.migrated.Load()
	moved := n != t.moved
	t.moved = n
	return moved
}

// Leave unmaps the array.
func (t *Tile) Leave() error {
	if t == nil || t.m.b == nil {
		return nil
	}
	m := t.m
	t.t, t.m = nil, mapping{}
	return m.unmap()
}
