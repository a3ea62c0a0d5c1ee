package swarm_test

import (
	"fmt"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
)

// A publisher makes its messages with FillPayload; after that a template and Stamp will do for
// clients in ModeSeq.
func ExampleFillPayload() {
	template := make([]byte, 64)
	swarm.FillPayload(template, 1, 1000)
	swarm.Stamp(template, 2, 2000)
	fmt.Println(swarm.ReadStamp(template))
	// Output: 2 2000
}

func ExampleHistogram() {
	var h swarm.Histogram
	for v := range int64(100) {
		h.Record(v)
	}
	fmt.Println(h.Count(), h.Quantile(.5), h.Max())
	// Output: 100 49 99
}
