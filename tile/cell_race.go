//go:build race

package tile

import "sync/atomic"

const raceBuild = true

// Add adds n; see cell_norace.go. The race detector knows no TSO, so here the one writer stores atomically.
func (c *Cell) Add(n uint64) { atomic.StoreUint64(&c.v, atomic.LoadUint64(&c.v)+n) }

// Set sets a gauge. Writer: as of Add.
func (c *Cell) Set(v uint64) { atomic.StoreUint64(&c.v, v) }
