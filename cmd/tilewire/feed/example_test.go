package feed_test

import (
	"fmt"

	"github.com/tilewire/tilewire/cmd/tilewire/feed"
)

func ExampleParseFraming() {
	_, err := feed.ParseFraming("csv")
	fmt.Println(err)
	// Output: unknown framing "csv": one of line, nul, len32
}
