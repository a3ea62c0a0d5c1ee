package tile

import (
	"fmt"
	"slices"
	"structs"
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
)

const (
	// CountersAlign is in bytes.
	CountersAlign = pairSize

	// CountersMax is the greatest number of cells in a block, CounterNameMax the greatest length of a name in bytes.
	CountersMax    = 4096
	CounterNameMax = 127

	countersMagic   = 0x53544e435f656c74 // "tle_CNTS"
	countersVersion = 1
)

// Cell is one counter or gauge: 8 bytes, in shared memory. The block's one writer Adds and Sets, anybody Loads.
type Cell struct {
	_ structs.HostLayout
	v uint64
}

// Load is the current value. Any process, any time.
func (c *Cell) Load() uint64 { return atomic.LoadUint64(&c.v) }

// Inc adds 1, Sub takes n off a gauge. Writer: as of Add.
func (c *Cell) Inc() { c.Add(1) }

// Sub takes n off a gauge. Writer: as of Add.
func (c *Cell) Sub(n uint64) { c.Add(-n) }

// countersMem heads a block. The names make it self-describing: a reader needs nothing but the memory.
//
//	 0  header, count, cells (offset), end of names   writer: New
//	64  names: per cell one byte of length, then the bytes
//	 .. padding to 128
//	    cells: count x 8 bytes                        writer: the block's owner, and nobody else
//	 .. padding to 128, so that the next object's writer has lines of its own
type countersMem struct {
	_ structs.HostLayout
	header
	count uint32
	_     uint32
	cells uint64
	names uint64
	_     [16]byte
}

const countersNames = 64

var countersLayout = layoutHash[countersMem]()

// Counters is a process's join of a block of counters.
type Counters struct {
	m     shmem.Mem
	c     *countersMem
	names []string
	cells []Cell
}

// CountersFootprint is the size in bytes of a block with these names: 1 to CountersMax, each 1 to CounterNameMax bytes
// of printable ASCII without space, none twice. By convention they are names of metrics without the prefix, labels
// in braces, and _total at the end of those that only grow. Errors: ErrNames.
func CountersFootprint(names []string) (uint64, error) {
	_, _, size, err := countersShape(names)
	return size, err
}

func countersShape(names []string) (namesEnd, cells, size uint64, err error) {
	if len(names) < 1 || len(names) > CountersMax {
		return 0, 0, 0, fmt.Errorf("%w: %d names (1 to %d)", ErrNames, len(names), CountersMax)
	}
	namesEnd = countersNames
	seen := make(map[string]struct{}, len(names))
	for i, n := range names {
		if err := checkCounterName(n); err != nil {
			return 0, 0, 0, fmt.Errorf("name %d: %w", i, err)
		}
		if _, ok := seen[n]; ok {
			return 0, 0, 0, fmt.Errorf("%w: %q twice", ErrNames, n)
		}
		seen[n] = struct{}{}
		namesEnd += 1 + uint64(len(n))
	}
	cells = (namesEnd + pairSize - 1) &^ (pairSize - 1)
	size = (cells + 8*uint64(len(names)) + pairSize - 1) &^ (pairSize - 1)
	return namesEnd, cells, size, nil
}

func checkCounterName(n string) error {
	if len(n) < 1 || len(n) > CounterNameMax {
		return fmt.Errorf("%w: %q has %d bytes (1 to %d)", ErrNames, n, len(n), CounterNameMax)
	}
	for _, b := range []byte(n) {
		if b <= ' ' || b > '~' {
			return fmt.Errorf("%w: %q is not printable ASCII", ErrNames, n)
		}
	}
	return nil
}

// CountersNew formats a block of zeroes over m. Errors: ErrAlign, ErrSize, ErrNames.
func CountersNew(m shmem.Mem, names []string) error {
	namesEnd, cells, size, err := countersShape(names)
	if err != nil {
		return err
	}
	if err := fit("counters", m, size); err != nil {
		return err
	}
	c, err := shmem.At[countersMem](m, 0)
	if err != nil {
		return fmt.Errorf("tile: counters new: %w", err)
	}
	c.begin(m, countersVersion, countersLayout, size)
	c.count, c.cells, c.names = uint32(len(names)), cells, namesEnd
	b := m.Bytes()[countersNames:countersNames]
	for _, n := range names {
		b = append(append(b, byte(len(n))), n...)
	}
	c.magic.Store(countersMagic)
	return nil
}

// CountersJoin joins the block in m, for reading or as its writer. Every length is checked before it is trusted.
// Errors: ErrAlign, ErrSize, ErrMagic, ErrLayout, ErrNames.
func CountersJoin(m shmem.Mem) (*Counters, error) {
	if err := fit("counters", m, pairSize); err != nil {
		return nil, err
	}
	c, err := shmem.At[countersMem](m, 0)
	if err != nil {
		return nil, fmt.Errorf("tile: counters join: %w", err)
	}
	size, err := c.check("counters", countersMagic, countersVersion, countersLayout, m)
	if err != nil {
		return nil, err
	}
	count, cells, namesEnd := c.count, c.cells, c.names
	if count < 1 || count > CountersMax || namesEnd < countersNames || namesEnd > cells || cells > size {
		return nil, fmt.Errorf("%w: counters: %d names up to %d, cells from %d, end %d", ErrSize, count, namesEnd, cells, size)
	}
	b := slices.Clone(m.Bytes()[countersNames:namesEnd])
	names := make([]string, 0, count)
	for range count {
		if len(b) < 1 || len(b) < 1+int(b[0]) {
			return nil, fmt.Errorf("%w: name %d of %d is cut off", ErrNames, len(names), count)
		}
		names = append(names, string(b[1:1+b[0]]))
		b = b[1+b[0]:]
	}
	// What these names would be formatted to is the only shape that is right.
	wantEnd, wantCells, wantSize, err := countersShape(names)
	if err != nil {
		return nil, err
	}
	if wantEnd != namesEnd || wantCells != cells || wantSize != size {
		return nil, fmt.Errorf("%w: counters: shape %d/%d/%d, names say %d/%d/%d", ErrSize, namesEnd, cells, size, wantEnd, wantCells, wantSize)
	}
	s, err := shmem.SliceAt[Cell](m, cells, uint64(count))
	if err != nil {
		return nil, fmt.Errorf("tile: counters join: %w", err)
	}
	return &Counters{m: m, c: c, names: names, cells: s}, nil
}

// Leave ends the join and gives the memory back. Cells must not be used again.
func (c *Counters) Leave() shmem.Mem {
	m := c.m
	*c = Counters{}
	return m
}

// CountersDelete clears the magic. As with a fseq, whoever owns the object around it knows that nobody counts any
// more. Errors: those of CountersJoin.
func CountersDelete(m shmem.Mem) error {
	c, err := CountersJoin(m)
	if err != nil {
		return err
	}
	c.c.magic.Store(0)
	return nil
}

// Match tells a writer whether cell i is called want[i], for all i. Errors: ErrNames with the first difference.
func (c *Counters) Match(want []string) error {
	if len(want) != len(c.names) {
		return fmt.Errorf("%w: block has %d, this build %d", ErrNames, len(c.names), len(want))
	}
	for i, n := range c.names {
		if n != want[i] {
			return fmt.Errorf("%w: cell %d is %q, this build has %q", ErrNames, i, n, want[i])
		}
	}
	return nil
}

// Len is the number of cells.
func (c *Counters) Len() int { return len(c.cells) }

// Names lists the cells' names in order. The caller must not write to it.
func (c *Counters) Names() []string { return c.names }

// Cell is cell i (0 to Len-1). Keep the pointer: it is good until Leave.
func (c *Counters) Cell(i int) *Cell { return &c.cells[i] }

// Lookup finds a cell by name, nil if there is none.
func (c *Counters) Lookup(name string) *Cell {
	if i := slices.Index(c.names, name); i >= 0 {
		return &c.cells[i]
	}
	return nil
}

// Snapshot appends all values to dst[:0] and gives it back: no allocation if dst has room for Len values. Each value
// is whole; the values are not all of one moment.
func (c *Counters) Snapshot(dst []uint64) []uint64 {
	dst = dst[:0]
	for i := range c.cells {
		dst = append(dst, c.cells[i].Load())
	}
	return dst
}
