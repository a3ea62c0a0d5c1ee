package steer

import (
	"fmt"

	"github.com/tilewire/tilewire/shmem"
)

// Tile is a network tile's handle. It needs no capability and no system call but Join's mmap. Its methods do nothing on
// nil, which stands for 'not steered'. One goroutine uses it.
type Tile struct {
	t     *tileCell
	m     mapping
	moved uint64
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
	return t, nil
}

// SetLoad says how many connections the tile has: one store, at each change or now and then.
func (t *Tile) SetLoad(n uint64) {
	if t != nil {
		t.t.load.Store(n)
	}
}

// Took says that accept gave one: he is in the load from now on, and was pending. A tile that never calls it, since it stands still,
// is taken to have all that it was sent.
func (t *Tile) Took() {
	if t != nil {
		if n := t.t.seen.Load(); n != t.t.sent.Load() {
			t.t.seen.Store(n + 1)
		}
	}
}

// Drained says that accept gave EAGAIN: whoever is pending still has given up, or is in the middle of the handshake.
func (t *Tile) Drained() {
	if t != nil {
		if n := t.t.sent.Load(); n != t.t.seen.Load() {
			t.t.seen.Store(n)
		}
	}
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
