package wksp

import (
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// mkMem makes size bytes of memory for a test.
type mkMem func(t testing.TB, size uint64) shmem.Mem

func heap(t testing.TB, size uint64) shmem.Mem { return shmem.Heap(size, Align()) }

// both runs f on heap-backed memory and on a real region.
func both(t *testing.T, f func(t *testing.T, mk mkMem)) {
	t.Run("heap", func(t *testing.T) { f(t, heap) })
	t.Run("mapped", func(t *testing.T) { f(t, mapped) })
}
