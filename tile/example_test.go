package tile_test

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// A tile that counts what a producer publishes, asleep in its epoll while there is nothing.
func Example() {
	// Set-up, once, by whoever owns the memory. Heap memory stands for a region here.
	names := []string{"seen_total"}
	size, _ := tile.CountersFootprint(names)
	cncMem, bellMem, countersMem := shmem.Heap(tile.CncFootprint, 128), shmem.Heap(tile.BellFootprint, 128), shmem.Heap(size, 128)
	tile.CncNew(cncMem, "count", 0)
	tile.BellNew(bellMem, "")
	tile.CountersNew(countersMem, names)
	var published atomic.Uint64

	// The tile.
	cnc, _ := tile.CncJoin(cncMem)
	role, _ := cnc.Take()
	defer role.Unlock()
	bell, _ := tile.BellJoin(bellMem)
	counters, _ := tile.CountersJoin(countersMem)
	fd, _ := bell.OpenEventfd()
	ep, _ := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	defer unix.Close(ep)
	unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	var evs [1]unix.EpollEvent
	seen := counters.Lookup("seen_total")

	loop := tile.Loop{Cnc: cnc, CPU: tile.Float}
	loop.Poll = func(now int64, timeoutMs int) int {
		if timeoutMs > 0 {
			bell.Sleep()
			if published.Load() != seen.Load() { // the second look
				timeoutMs = 0
			}
		}
		if n, _ := shmem.EpollWait(ep, evs[:], timeoutMs); n > 0 {
			bell.Drain()
		}
		bell.Awake()
		work := published.Load() - seen.Load()
		seen.Add(work)
		return int(work)
	}
	done := make(chan error)
	go func() { done <- loop.Run() }()

	// The producer.
	for range 1000 {
		published.Add(1)
		bell.Ring()
	}
	for seen.Load() < 1000 {
		bell.Ring()
	}
	cnc.Halt()
	bell.Ring()
	fmt.Println(<-done, counters.Names(), counters.Snapshot(nil), cnc.Signal())
	bell.Leave()
	// Output: <nil> [seen_total] [1000] boot
}

func ExamplePickCPUs() {
	cpus, _ := tile.PickCPUs("2-4,f1", 4, []int{0, 1, 2, 3, 4})
	fmt.Println(cpus)
	cpus, _ = tile.PickCPUs("auto", 2, []int{0, 1, 2, 3, 4}, 1)
	fmt.Println(tile.FormatCPUs(cpus))
	// Output:
	// [2 3 4 -1]
	// 2-3
}
