package steer

import (
	"fmt"
	"structs"
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
)

const (
	// MaxTiles is how many tiles can share a port.
	MaxTiles = 255
	// MaxCPUs is how many CPUs Mode CPU knows.
	MaxCPUs = 1024

	cellSize      = 384 // bytes
	sharedMagic   = 0x7265657473656c74
	sharedVersion = 3
)

// The BPF array that supervisor, tiles and program map consists of cells, 384 bytes or three line pairs each:
//
//	0    head
//	1+i  tileCell of tile i
//
// program.c has the same in C.

// head is the first cell.
//
//	  0 magic, version, tiles, seed of the hashes         writer: Load
//	128 mode                                              writer: supervisor
//	256 passed, fellBack, empty, other: counts, see Stats writer: program
//	384
type head struct {
	_        structs.HostLayout
	magic    uint64
	version  uint32
	tiles    uint32
	seed     uint64
	_        [13]uint64
	mode     atomic.Uint32
	_        [31]uint32
	passed   atomic.Uint64
	fellBack atomic.Uint64
	empty    atomic.Uint64
	other    atomic.Uint64
	_        [12]uint64
}

// tileCell is a tile's part.
//
//	  0 live      1 or 0                                            writer: supervisor
//	128 load      connections that the tile has                     writer: tile
//	136 bias      load less those of sent that are in it, or gone   writer: tile
//	256 sent      connections that it was to get                    writer: program
//	264 selected  SYNs sent to it                                   writer: program
//	272 migrated  connections that came from a closed listener      writer: program
//	384
type tileCell struct {
	_        structs.HostLayout
	live     atomic.Uint64
	_        [15]uint64
	load     atomic.Uint64
	bias     atomic.Uint64
	_        [14]uint64
	sent     atomic.Uint64
	selected atomic.Uint64
	migrated atomic.Uint64
	_        [13]uint64
}

// shared is this process's view of the array.
type shared struct {
	*head
	tile []tileCell
}

// cellCnt is how many cells an array for so many tiles has.
func cellCnt(tiles int) int { return 1 + tiles }

// view overlays m, which must be large enough for tiles.
func view(m shmem.Mem, tiles int) (s shared, err error) {
	if s.head, err = shmem.At[head](m, 0); err == nil {
		s.tile, err = shmem.SliceAt[tileCell](m, cellSize, uint64(tiles))
	}
	if err != nil {
		return s, fmt.Errorf("%w: %w", ErrLayout, err)
	}
	return s, nil
}

// format makes m, which is zero, an array for so many tiles, none of them live.
func format(m shmem.Mem, tiles int, mode Mode, seed uint64) (shared, error) {
	s, err := view(m, tiles)
	if err != nil {
		return s, err
	}
	s.version, s.tiles, s.seed, s.magic = sharedVersion, uint32(tiles), seed, sharedMagic
	s.mode.Store(uint32(mode))
	return s, nil
}

// overlay checks what m is, and returns a view of it.
func overlay(m shmem.Mem) (shared, error) {
	h, err := shmem.At[head](m, 0)
	if err != nil {
		return shared{}, fmt.Errorf("%w: %w", ErrLayout, err)
	}
	if h.magic != sharedMagic || h.version != sharedVersion {
		return shared{}, fmt.Errorf("%w: magic %#x, version %d, want %#x, %d", ErrLayout, h.magic, h.version, uint64(sharedMagic), sharedVersion)
	}
	tiles := int(h.tiles)
	if tiles < 1 || tiles > MaxTiles {
		return shared{}, fmt.Errorf("%w: %d tiles", ErrLayout, tiles)
	}
	return view(m, tiles)
}

func (s *shared) setLive(tile int, live bool) {
	var v uint64
	if live {
		v = 1
	}
	s.tile[tile].live.Store(v)
}

// Stats is what has been decided since Load, and where things stand. Counts are read one by one, not at one instant.
type Stats struct {
	Mode     Mode
	Live     int    // live tiles
	Passed   uint64 // new connections left to the kernel's hash by mode Off
	FellBack uint64 // the same since no live tile had a listener
	Empty    uint64 // looks at live tiles that had no listener at that port
	Other    uint64 // segments that begin no connection: answers to SYN cookies, strays
	Tiles    []TileStats
}

// TileStats is a tile's part of Stats.
type TileStats struct {
	Live     bool
	Load     uint64 // connections, as it said
	Pending  uint64 // were sent to it and not taken yet
	Selected uint64 // SYNs sent to it
	Migrated uint64 // connections that came to it from a closed listener
}

// Selected is the sum over the tiles.
func (s Stats) Selected() (n uint64) {
	for i := range s.Tiles {
		n += s.Tiles[i].Selected
	}
	return n
}

// Migrated is the sum over the tiles.
func (s Stats) Migrated() (n uint64) {
	for i := range s.Tiles {
		n += s.Tiles[i].Migrated
	}
	return n
}

func (s *shared) stats() Stats {
	st := Stats{Mode: Mode(s.mode.Load()), Passed: s.passed.Load(), FellBack: s.fellBack.Load(),
		Empty: s.empty.Load(), Other: s.other.Load(), Tiles: make([]TileStats, len(s.tile))}
	for i := range s.tile {
		t := &s.tile[i]
		st.Tiles[i] = TileStats{Live: t.live.Load() != 0, Load: t.load.Load(),
			Selected: t.selected.Load(), Migrated: t.migrated.Load()}
		if n := t.bias.Load() + t.sent.Load() - st.Tiles[i].Load; n < 1<<32 { // else the words are of different moments
			st.Tiles[i].Pending = n
		}
		if st.Tiles[i].Live {
			st.Live++
		}
	}
	return st
}
