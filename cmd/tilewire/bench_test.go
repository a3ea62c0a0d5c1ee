package main

import (
	"encoding/json"
	"os/exec"
	"testing"
)

// A short bench: three processes and the clients, nothing lost, and figures that can be.
func TestBench(t *testing.T) {
	for _, args := range [][]string{
		{"--clients", "20", "--window", "16"},
		{"--clients", "20", "--rate", "400", "--size", "700"},
	} {
		cmd := exec.Command(program, append([]string{"bench", "--duration", "1s", "--json"}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		var f benchFigures
		if err := json.Unmarshal(out, &f); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if !f.Lossless || f.Deliveries <= 0 || f.Latency.P50 == 0 || f.Latency.P50 > f.Latency.Max ||
			f.Sends <= 0 || f.Sends > 1.1 || f.NetCPU <= 0 || f.ProducerCPU <= 0 || f.PageSize < 4096 {
			t.Errorf("%v: %s", args, out)
		}
		if f.Window == 16 && f.Sends > 0.5 {
			t.Errorf("%v sends a delivery: bursts are not sent at once", f.Sends)
		}
	}
	for _, args := range [][]string{{"--clients", "0"}, {"--size", "15"}, {"--rate", "-1"}, {"--window", "0"}} {
		err := exec.Command(program, append([]string{"bench"}, args...)...).Run()
		if ee, ok := err.(*exec.ExitError); !ok || ee.ExitCode() != exitUsage {
			t.Errorf("bench %v: %v", args, err)
		}
	}
}
