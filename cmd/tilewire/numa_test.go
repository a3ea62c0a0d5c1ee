package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/admin"
	"github.com/tilewire/tilewire/shmem"
)

func TestNumaOf(t *testing.T) {
	nodeOf := func(cpu int) int { return cpu / 2 } // two CPUs a node
	prefer, bind, all := shmem.NumaPrefer, shmem.NumaBind, shmem.NumaInterleave
	for _, tc := range []struct {
		text  string
		cpus  []int
		nodes []int
		want  shmem.Numa
	}{
		{"local", []int{2, 3}, []int{0, 1}, shmem.Numa{Mode: prefer, Nodes: []int{1}}},
		{"local", []int{-1, -1}, []int{1, 2}, shmem.Numa{Mode: prefer, Nodes: []int{1}}},
		{"local", []int{5, -1, 0}, []int{0, 1, 2}, shmem.Numa{Mode: all, Nodes: []int{0, 2}}},
		{"local", []int{0}, []int{1}, shmem.Numa{Mode: prefer, Nodes: []int{1}}}, // whose node the cpuset bars
		{"local", nil, []int{0}, shmem.Numa{Mode: prefer, Nodes: []int{0}}},
		{"interleave", []int{0}, []int{0, 2}, shmem.Numa{Mode: all, Nodes: []int{0, 2}}},
		{"2", nil, []int{0, 2}, shmem.Numa{Mode: bind, Nodes: []int{2}}},
	} {
		if got, err := numaOf(tc.text, tc.cpus, tc.nodes, nodeOf); err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%+v: %+v, %v", tc, got, err)
		}
	}
	for text, want := range map[string]string{
		"7": "--numa 7: there is no such node to have memory of; there is [0 2]", "near": `--numa "near": local, interleave, or a node's number`, "-1": "there is [0 2]",
	} {
		if _, err := numaOf(text, nil, []int{0, 2}, nodeOf); err == nil || !strings.HasSuffix(err.Error(), want) || exitCode(err) != exitUsage {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The start says where the memory lies, and so do `mem` and /statusz.
func TestNumaOfInstance(t *testing.T) {
	node := shmem.NumaNodes()[0]
	t.Parallel()
	p := runs(t, "numa", "--backing", "shm", "--numa", fmt.Sprint(node))
	defer func() {
		p.signal(unix.SIGTERM)
		p.exit(0)
	}()
	var v struct{ Region struct{ Numa string } }
	said, _ := verb(t, 0, "mem", "numa", "--json")
	if err := json.Unmarshal([]byte(said), &v); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("bound to NUMA node %d", node)
	if v.Region.Numa == "" {
		t.Skip("this kernel tells no NUMA policy")
	}
	if v.Region.Numa != want {
		t.Errorf("mem says %q, want %q", v.Region.Numa, want)
	}
	p.says(`memory     \d+ MiB on .*` + want + "\n")
	var st admin.Status
	if code := p.asker().get("/statusz", &st); code != 200 || st.Memory.Numa != want {
		t.Errorf("/statusz: %d, %q", code, st.Memory.Numa)
	}
}
