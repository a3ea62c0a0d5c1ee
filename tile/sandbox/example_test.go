package sandbox_test

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/sandbox"
)

// A tile filters its calls when it is open and pinned; one that reads a timer besides says so.
func Example() {
	calls := append(sandbox.ProducerCalls(), sandbox.Rule{Nr: unix.SYS_TIMERFD_SETTIME})
	loop := tile.Loop{Confine: func() error { return sandbox.Filter(calls) }}
	fmt.Println(loop.Confine != nil) // and Run
	// Output: true
}
