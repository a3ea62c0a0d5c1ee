package steer_test

import (
	"errors"
	"fmt"
	"os"

	"github.com/tilewire/tilewire/httpsrv/steer"
)

// The supervisor's part: two tiles, one listen address. listeners are sockets that listen at it, bound with SO_REUSEPORT.
func Example() {
	var listeners [2]int
	st, err := steer.Load(steer.Options{Tiles: 2, Ports: 1, Mode: steer.Least})
	if errors.Is(err, steer.ErrPermission) {
		fmt.Println("the kernel's hash it is:", err)
		return
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()
	for tile, fd := range listeners {
		if err := st.Insert(0, tile, fd); err != nil {
			fmt.Println(err)
		}
	}
	array, err := st.File() // for exec.Cmd.ExtraFiles of each tile
	if err != nil {
		fmt.Println(err)
		return
	}
	defer array.Close()
	// As each tile says that it is ready:
	_ = st.SetLive(0, true)
	_ = st.SetLive(1, true)
	// As tile 1 is to drain, or has died:
	_ = st.SetLive(1, false)
	fmt.Println(st.Stats().Live)
}

// A tile's part, which needs no right.
func ExampleJoin() {
	array := os.NewFile(3, "steering") // inherited
	t, err := steer.Join(int(array.Fd()), 1)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.Leave()
	array.Close()
	connections := uint64(0)
	for range 10 { // accepted
		connections++
		t.Took()
		t.SetLoad(connections)
	}
	t.Drained() // accept said EAGAIN
}
