package wksp

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

var regions atomic.Uint32

// region creates a region for a test and removes it afterwards.
func region(t testing.TB, size uint64) *shmem.Region {
	t.Helper()
	name := fmt.Sprintf("wksp-test.%d.%d", os.Getpid(), regions.Add(1))
	r, err := shmem.Create(name, size, shmem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Leave(); err != nil {
			t.Error(err)
		}
		if err := shmem.Unlink(name, true); err != nil {
			t.Error(err)
		}
	})
	return r
}

// mapped is memory of a real region. The race detector is blind on it.
func mapped(t testing.TB, size uint64) shmem.Mem {
	if raceBuild {
		t.Skip("the race detector does not see mapped memory")
	}
	return region(t, size).Mem()
}
