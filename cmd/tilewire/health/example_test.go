package health_test

import (
	"fmt"

	"github.com/tilewire/tilewire/cmd/tilewire/health"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
)

func ExampleVerdict_Word() {
	v := health.Verdict{Live: true, State: instance.Draining, Why: "the instance is draining"}
	fmt.Println(v.Word(), v.Ready)
	// Output: draining false
}
