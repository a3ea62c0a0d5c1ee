package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	all := []result{
		{Case: "c", Server: "s", Value: 3}, {Case: "c", Server: "s", Value: 1}, {Case: "c", Server: "s", Value: 2},
		{Case: "c", Server: "s", Value: 9, Error: "lost"}, {Case: "c", Server: "t", Value: 7}, {Case: "d", Server: "s", Error: "lost"},
	}
	if m, ok := median(all, "c", "s"); !ok || m.Value != 2 {
		t.Fatal(m.Value, ok)
	}
	if _, ok := median(all, "d", "s"); ok {
		t.Fatal("a lost measurement counts")
	}
	if ms := medians(all); len(ms) != 2 || ms[1].Server != "t" {
		t.Fatalf("%+v", ms)
	}
	var b strings.Builder
	printCase(&b, bench{name: "c", metric: perSecond}, []server{{name: "s"}, {name: "t"}, {name: "u"}}, all)
	if n := strings.Count(b.String(), "\n"); n != 6 {
		t.Fatalf("%d lines:\n%s", n, b.String())
	}
}

func TestPick(t *testing.T) {
	for pattern, n := range map[string]int{"": 19, "throughput": 12, "throughput/1000x*/w32": 2, "memory,open/*": 2} {
		if cs, err := pick(pattern); err != nil || len(cs) != n {
			t.Errorf("%q: %d cases, %v", pattern, len(cs), err)
		}
	}
	if _, err := pick("nothing"); err == nil {
		t.Error("an unknown case passes")
	}
	if vs, err := choose("mine,goraw", []string{"mine=x --a b"}); err != nil || !slices.Equal(vs[0].command, []string{"x", "--a", "b"}) {
		t.Errorf("%v %v", vs, err)
	}
	if _, err := choose("x", nil); err == nil {
		t.Error("an unknown server passes")
	}
}

func TestMeasure(t *testing.T) {
	cmd := exec.Command("sh", "-c", "cat; true")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := start(cmd, 0); err != nil {
		t.Skip(err)
	}
	defer cmd.Wait()
	defer in.Close()
	if !slices.Contains(tree(os.Getpid()), cmd.Process.Pid) {
		t.Error("child not found")
	}
	if u := measure(os.Getpid()); u.pids < 2 || u.rss == 0 || u.cpu == 0 {
		t.Errorf("%+v", u)
	}
}
