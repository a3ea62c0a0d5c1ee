package shmem_test

import (
	"fmt"
	"structs"
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
)

// counter lies in shared memory: fixed layout, no Go pointers.
type counter struct {
	_     structs.HostLayout
	Magic atomic.Uint64 // writer: creator, last
	Count atomic.Uint64 // writer: whoever holds the lock on the first byte
}

const magic = 0x636f756e74657231

// A region is made whole: Init formats it before anybody can open it. Any process then joins it by name.
func Example() {
	const name = "example"
	shmem.Unlink(name, true)
	r, err := shmem.Create(name, 4096, shmem.Options{MaxPageSize: shmem.PageNormal, Init: func(m shmem.Mem) error {
		c, err := shmem.At[counter](m, 0)
		if err == nil {
			c.Magic.Store(magic)
		}
		return err
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer shmem.Unlink(name, true)
	defer r.Leave()

	other, err := shmem.Open(name, shmem.ReadWrite) // as another process would
	if err != nil {
		fmt.Println(err)
		return
	}
	defer other.Leave()
	role, err := other.Mem().Lock(0) // held until Unlock or death
	if err != nil {
		fmt.Println(err)
		return
	}
	defer role.Unlock()
	shmem.MustAt[counter](other.Mem(), 0).Count.Add(3)

	fmt.Println(shmem.MustAt[counter](r.Mem(), 0).Count.Load(), r.Mem().Locked(0), r.Size())
	// Output: 3 true 4096
}

// Preflight tells what Create would do, and what stands in the way, before anything is touched.
func ExamplePreflight() {
	plan, err := shmem.Preflight(1<<20, shmem.Options{MaxPageSize: shmem.PageNormal})
	if err != nil {
		fmt.Println(err) // names need, free, and the command that mends it
		return
	}
	fmt.Println(plan.PagesNeeded, "pages of", plan.PageSize)
	// Output: 256 pages of 4096
}

// Footprints are added up with Layout: offsets of the parts, overflow reported once.
func ExampleLayout() {
	var l shmem.Layout
	header := l.Add(1, 100, 128)
	records := l.Add(10, 64, 128)
	size, ok := l.Size()
	fmt.Println(header, records, size, ok)
	// Output: 0 128 768 true
}
