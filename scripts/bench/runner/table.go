package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// median returns the measurement with the median value of a server in a case; those with an error do not count.
func median(all []result, name, server string) (result, bool) {
	var rs []result
	for _, r := range all {
		if r.Case == name && r.Server == server && r.Error == "" {
			rs = append(rs, r)
		}
	}
	if len(rs) == 0 {
		return result{}, false
	}
	slices.SortFunc(rs, func(a, b result) int {
		if a.Value < b.Value {
			return -1
		} else if a.Value > b.Value {
			return 1
		}
		return 0
	})
	return rs[len(rs)/2], true
}

// medians returns one measurement per case and server, in the order of all.
func medians(all []result) []result {
	var out []result
	seen := map[string]bool{}
	for _, r := range all {
		key := r.Case + " " + r.Server
		if m, ok := median(all, r.Case, r.Server); ok && !seen[key] {
			out = append(out, m)
		}
		seen[key] = true
	}
	return out
}

// printCase prints the medians of one case with their ratios to limit and goraw.
func printCase(w io.Writer, c bench, vs []server, all []result) {
	fmt.Fprintf(w, "\n%s: %s (median)\n", c.name, c.metric)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "server\tvalue\t/limit\t/goraw\tCPU s/M\tp50 µs\tp99 µs\tp99.9 µs\tmax µs\tmsg/read\tCPU server\twaited\tCPU load\tothers\tbottleneck\t")
	limit, _ := median(all, c.name, "limit")
	raw, _ := median(all, c.name, "goraw")
	for _, v := range vs {
		if !c.of(v.name) {
			continue
		}
		m, ok := median(all, c.name, v.name)
		if !ok {
			fmt.Fprintf(t, "%s\t–\t\t\t\t\t\t\t\t\t\t\t\t\t\n", v.name)
			continue
		}
		p, l := &m.Report, &m.Report.Latency
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.2f\t%.0f\t%.0f\t%.0f\t%.0f\t%.1f\t%.2f\t%.2f\t%.2f\t%.2f\t%s\t\n", v.name, number(m.Value), ratio(m.Value, limit.Value), ratio(m.Value, raw.Value),
			m.CPUPerM, float64(l.P50)/1e3, float64(l.P99)/1e3, float64(l.P999)/1e3, float64(l.Max)/1e3,
			float64(p.Deliveries)/float64(max(p.Reads, 1)), m.CPUShare, m.DelayShare, p.CPUShare, m.Others, m.Bottleneck)
	}
	t.Flush()
}

func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.0fk", v/1e3)
	}
	return fmt.Sprintf("%.2f", v)
}

func ratio(v, to float64) string {
	if to == 0 {
		return ""
	}
	return fmt.Sprintf("%.3f", v/to)
}

// machine describes where the figures were taken.
func machine() map[string]any {
	m := map[string]any{"cpus": runtime.NumCPU(), "go": runtime.Version()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m["kernel"] = unix.ByteSliceToString(u.Release[:])
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for _, l := range strings.Split(string(b), "\n") {
			if name, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
				m["cpu"] = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}
