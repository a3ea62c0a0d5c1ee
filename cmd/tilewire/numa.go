package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/tilewire/tilewire/shmem"
)

// numaOf decides on which of the host's nodes the memory lies: local to the CPUs of the network tiles, which nodeOf knows the nodes
// of (negative: one floats), interleaved over all, or bound to the node that is named.
func numaOf(text string, cpus, nodes []int, nodeOf func(cpu int) int) (shmem.Numa, error) {
	switch text {
	case "local":
		var on []int
		for _, cpu := range cpus {
			if cpu >= 0 {
				on = append(on, nodeOf(cpu))
			}
		}
		slices.Sort(on)
		on = slices.DeleteFunc(slices.Compact(on), func(n int) bool { return !slices.Contains(nodes, n) })
		switch {
		case len(on) > 1: // to each tile a part of it is near
			return shmem.Numa{Mode: shmem.NumaInterleave, Nodes: on}, nil
		case len(on) == 0:
			on = nodes[:1]
		}
		return shmem.Numa{Mode: shmem.NumaPrefer, Nodes: on}, nil
	case "interleave":
		return shmem.Numa{Mode: shmem.NumaInterleave, Nodes: nodes}, nil
	}
	n, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return shmem.Numa{}, usageError{fmt.Errorf("--numa %q: local, interleave, or a node's number", text)}
	case !slices.Contains(nodes, n):
		return shmem.Numa{}, usageError{fmt.Errorf("--numa %d: there is no such node to have memory of; there is %v", n, nodes)}
	}
	return shmem.Numa{Mode: shmem.NumaBind, Nodes: []int{n}}, nil
}

// numa is where the memory that the flags describe is to lie, for network tiles on these CPUs.
func (s *shape) numa(cpus []int) (shmem.Numa, error) {
	return numaOf(s.numaOn, cpus, shmem.NumaNodes(), shmem.NumaNode)
}
