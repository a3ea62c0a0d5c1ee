package topo_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/tilewire/tilewire/tile"
	"github.com/tilewire/tilewire/tile/topo"
)

// A tile that dies each time it is started, until its budget is spent. A real one has a cnc (Spec.Cnc), and runs a
// tile.Loop.
func Example() {
	specs := []topo.Spec{
		{Kind: "net", ID: 0, Path: "/bin/sh", Args: []string{"-c", "kill -9 $$"}, CPU: tile.Float},
	}
	s, err := topo.New(specs, topo.Options{
		Budget: 1,
		Event: func(e topo.Event) { // slog.LogAttrs(ctx, e.Level(), e.What.String(), e.Attrs()...) in a program
			fmt.Println(e.Tile(), e.What)
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = s.Run(context.Background())
	fmt.Println(errors.Is(err, topo.ErrBudget), s.Status()[0].Exit)
	// Output:
	// net:0 started
	// net:0 ready
	// net:0 died
	// net:0 restarted
	// net:0 ready
	// net:0 died
	// net:0 gave up
	// true signal killed
}
