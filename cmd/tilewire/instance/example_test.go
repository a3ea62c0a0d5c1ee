package instance_test

import (
	"fmt"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
)

func ExampleTile() {
	fmt.Println(instance.Tile{Kind: "net", ID: 1})
	// Output: net:1
}
