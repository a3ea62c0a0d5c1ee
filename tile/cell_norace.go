//go:build !race

package tile

const raceBuild = false

// Add adds n: one plain ADD to memory. Only the block's one writer may call it, so nothing is lost without a LOCK
// prefix; and a naturally aligned 8-byte store is never torn and reaches the other CPUs by itself (x86-64 TSO), so
// that readers who Load atomically see a value that was there. An atomic store would be an XCHG: 5 ns instead of 1.
// The compiler may merge two adds to one, never invent a value. Not for other architectures until that is proven.
func (c *Cell) Add(n uint64) { c.v += n }

// Set sets a gauge. Writer: as of Add.
func (c *Cell) Set(v uint64) { c.v = v }
