package main

import (
	"encoding/xml"
	"io"
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
	for pattern, n := range map[string]int{"": 30, "throughput": 12, "throughput/1000x*/w32": 2, "memory,open/*": 2} {
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

func TestReport(t *testing.T) {
	var all []result
	for i, n := range []string{"throughput/100x128/w32", "scale/3000x128/w32", "throughput/1000x128/w128"} {
		for k, s := range []string{"tilewire", "limit", "goraw"} {
			all = append(all, result{Case: n, Server: s, Metric: perSecond, Value: float64(1e6 * (i + 1) * (k + 1))})
		}
	}
	all = append(all, result{Case: "memory/5000", Server: "gorilla", Metric: memPerConn, Error: "lost"},
		result{Case: "publish/0", Server: "tilewire", Metric: publishNs, Value: 100})
	r := &run{Machine: machine(), Began: "2026-01-02T03:04:05Z", Rounds: 1, Rows: rows(all), Staging: []staging{{Name: "Write/128", Ns: 5}}}
	dir := t.TempDir()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	again, err := load(dir + "/results.json")
	if err != nil || again.markdown() != r.markdown() || again.plot() != r.plot() {
		t.Fatalf("what was written reads otherwise: %v", err)
	}
	md := r.markdown()
	for _, want := range []string{"| throughput/100x128/w32 | 1.00M | 2.00M | 3.00M | – | 0.500 | 0.333 |", "lost", "| 0 | 100 |", "| Write/128 | 5.0 | 0 |"} {
		if !strings.Contains(md, want) {
			t.Errorf("no %q in\n%s", want, md)
		}
	}
	names, of := r.curves()
	if len(names) != 3 || len(of["limit"]) != 2 || of["limit"][1].x != 3000 {
		t.Errorf("%v %v", names, of)
	}
	for d := xml.NewDecoder(strings.NewReader(r.plot())); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal("no XML: ", err)
		}
	}
}
