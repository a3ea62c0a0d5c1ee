package wksp_test

import (
	"fmt"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/wksp"
)

// A workspace is formatted by one process, and joined by all that use it.
func Example() {
	const partMax, dataMax = 64, 1 << 20
	size, err := wksp.Footprint(partMax, dataMax)
	if err != nil {
		fmt.Println(err)
		return
	}
	m := shmem.Heap(size, wksp.Align()) // in earnest the Mem of a region: shmem.Create
	if err := wksp.New(m, "demo", partMax, dataMax, 1); err != nil {
		fmt.Println(err)
		return
	}

	w, _ := wksp.Join(m)
	ring, _ := w.NewNamed("ring/0", 0, 1000, 1)
	copy(ring.Mem.Bytes(), "to all")

	other, _ := wksp.Join(m.AsReadOnly()) // in earnest another process
	found, _ := other.Lookup("ring/0")
	fmt.Printf("%s: %d bytes, tag %d: %s\n", found.Name, found.Size, found.Tag, found.Mem.Bytes()[:6])

	n, _ := w.TagFree(1)
	_, err = other.Lookup("ring/0")
	fmt.Println(n, "freed;", err)
	// Output:
	// ring/0: 1000 bytes, tag 1: to all
	// 1 freed; wksp: not found: no object ring/0 in workspace demo
}

// Partition rows and data are weighed against each other by the average size of what will be allocated.
func ExamplePartMaxEst() {
	const region = 2 << 20
	partMax := wksp.PartMaxEst(region, 16<<10)
	dataMax := wksp.DataMaxEst(region, partMax)
	size, err := wksp.Footprint(partMax, dataMax)
	fmt.Println(partMax, dataMax, size <= region, err)
	// Output: 251 2064384 true <nil>
}

// Check is what an operator, or a starting process, does with a workspace that may have seen a crash.
func ExampleWksp_Check() {
	size, _ := wksp.Footprint(8, 1<<16)
	m := shmem.Heap(size, wksp.Align())
	_ = wksp.New(m, "demo", 8, 1<<16, 1)
	w, _ := wksp.Join(m)
	r, err := w.Check()
	fmt.Println(r.Unfinished, r.Found, r.Rebuilt, err)
	// Output: none <nil> false <nil>
}
