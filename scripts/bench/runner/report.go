package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// run is all that one run of the benchmark found: what table and plot are made of.
type run struct {
	Machine map[string]any `json:"machine"`
	Began   string         `json:"began"`
	Seconds float64        `json:"seconds"`
	Rounds  int            `json:"rounds"`
	Window  string         `json:"window"` // length of a measurement
	Load    []string       `json:"loadavg_begin_end"`
	Rows    []row          `json:"results"`
	Staging []staging      `json:"staging,omitempty"`
}

// row is a server in a case: the median measurement by the case's metric, and all rounds' values.
type row struct {
	Case    string             `json:"case"`
	Server  string             `json:"server"`
	Metric  metric             `json:"metric"`
	Value   float64            `json:"value"`
	Values  []float64          `json:"values"`
	Failed  int                `json:"failed,omitempty"` // rounds in which something was lost
	Error   string             `json:"error,omitempty"`  // of the last one
	More    map[string]float64 `json:"more,omitempty"`
	Limited string             `json:"limited_by,omitempty"`
	Stats   json.RawMessage    `json:"server_stats,omitempty"`
}

// staging is a line of the Go benchmarks of staging and publishing.
type staging struct {
	Name   string  `json:"name"`
	Ns     float64 `json:"ns"`
	Allocs float64 `json:"allocs"`
}

// rows condenses all measurements.
func rows(all []result) []row {
	var out []row
	index := map[string]int{}
	for _, r := range all {
		key := r.Case + " " + r.Server
		k, ok := index[key]
		if !ok {
			k = len(out)
			index[key] = k
			out = append(out, row{Case: r.Case, Server: r.Server, Metric: r.Metric})
		}
		if r.Error != "" {
			out[k].Failed++
			out[k].Error = r.Error
		} else {
			out[k].Values = append(out[k].Values, r.Value)
		}
	}
	for i := range out {
		o := &out[i]
		m, ok := median(all, o.Case, o.Server)
		if !ok {
			continue
		}
		p, l := &m.Report, &m.Report.Latency
		o.Value, o.Limited, o.Stats = m.Value, m.Bottleneck, m.Stats
		o.More = map[string]float64{
			"cpu_s_per_million": m.CPUPerM, "server_cpu": m.CPUShare, "load_cpu": p.CPUShare, "others_cpu": m.Others, "run_delay": m.DelayShare,
			"p50_us": float64(l.P50) / 1e3, "p99_us": float64(l.P99) / 1e3, "p99_9_us": float64(l.P999) / 1e3, "max_us": float64(l.Max) / 1e3,
			"messages_per_read": float64(p.Deliveries) / float64(max(p.Reads, 1)), "rate": m.Rate, "connected": float64(p.Connected),
			"rss_per_connection": m.RSSPerConn, "private_per_connection": m.Private, "connect_s": p.ConnectSeconds, "window_s": p.WindowSeconds,
		}
	}
	return out
}

func (r *run) find(name, server string) (row, bool) {
	k := slices.IndexFunc(r.Rows, func(o row) bool { return o.Case == name && o.Server == server && len(o.Values) > 0 })
	if k < 0 {
		return row{}, false
	}
	return r.Rows[k], true
}

// names returns what appears in the rows, in their order.
func (r *run) names(of func(row) string) []string {
	var out []string
	for _, o := range r.Rows {
		if n := of(o); !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// write puts results, table and plot into dir.
func (r *run) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"results.json": append(b, '\n'), "table.md": []byte(r.markdown()), "deliveries.svg": []byte(r.plot()),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// load reads what write wrote.
func load(file string) (*run, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(run)
	return r, json.Unmarshal(b, r)
}

var benchLine = regexp.MustCompile(`^Benchmark((?:Stage|Publish)/\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op(.*)`)

// goBenchmarks runs the Go benchmarks of staging against copying.
func goBenchmarks(benchtime string) ([]staging, error) {
	cmd := exec.Command("go", "-C", "../..", "test", "-run", "^$", "-bench", "^Benchmark(Stage|Publish)$", "-benchtime", benchtime, "./httpsrv")
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test -bench: %w\n%s", err, b)
	}
	var out []staging
	for _, l := range strings.Split(string(b), "\n") {
		m := benchLine.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		s := staging{Name: m[1]}
		s.Ns, _ = strconv.ParseFloat(m[2], 64)
		if f := strings.Fields(m[3]); len(f) > 1 && f[len(f)-1] == "allocs/op" {
			s.Allocs, _ = strconv.ParseFloat(f[len(f)-2], 64)
		}
		out = append(out, s)
	}
	return out, nil
}

// markdown is the table of the README and of docs/bench.
func (r *run) markdown() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Benchmark of %s\n\nMade by `scripts/bench.sh` from `results.json`; do not edit. ", r.Began[:min(len(r.Began), 10)])
	fmt.Fprintf(&b, "Medians; interleaved rounds: %d, of %s each; server and all its processes on CPU 0, load generator on CPU 1, loopback; "+
		"every client verifies that every message arrives in order. %v, %v CPUs, Linux %v, %v.\n", r.Rounds, r.Window,
		r.Machine["cpu"], r.Machine["cpus"], r.Machine["kernel"], r.Machine["go"])
	servers := r.names(func(o row) string { return o.Server })
	var open []string
	for _, m := range []metric{perSecond, cpuPerM, latencyP50, memPerConn} {
		cases := slices.DeleteFunc(r.names(func(o row) string {
			if o.Metric == m {
				return o.Case
			}
			return ""
		}), func(s string) bool { return s == "" })
		if len(cases) == 0 {
			continue
		}
		title := map[metric]string{perSecond: "Deliveries per second", cpuPerM: "CPU seconds of the server per million deliveries",
			latencyP50: "Publish to receive, p50 / p99 in µs", memPerConn: "Resident bytes per idle connection"}[m]
		fmt.Fprintf(&b, "\n## %s\n\n| case |", title)
		for _, s := range servers {
			fmt.Fprintf(&b, " %s |", s)
		}
		fmt.Fprint(&b, " ours/limit | ours/goraw |\n|---|")
		fmt.Fprint(&b, strings.Repeat("--:|", len(servers)+2), "\n")
		for _, c := range cases {
			fmt.Fprintf(&b, "| %s |", c)
			for _, s := range servers {
				o, ok := r.find(c, s)
				text := "–"
				switch {
				case !ok && slices.ContainsFunc(r.Rows, func(o row) bool { return o.Case == c && o.Server == s && o.Failed > 0 }):
					text = "lost"
				case ok && m == perSecond:
					text = number(o.Value)
				case ok && m == latencyP50:
					text = fmt.Sprintf("%.0f / %.0f", o.Value, o.More["p99_us"])
				case ok && m == memPerConn:
					text = fmt.Sprintf("%.0f", o.Value)
				case ok:
					text = fmt.Sprintf("%.2f", o.Value)
				}
				fmt.Fprintf(&b, " %s |", text)
				if ok && o.Limited != "" && o.Limited != "server" && o.Limited != "neither" && m == perSecond {
					open = append(open, c+" "+s)
				}
			}
			us, _ := r.find(c, "tilewire")
			limit, _ := r.find(c, "limit")
			raw, _ := r.find(c, "goraw")
			fmt.Fprintf(&b, " %s | %s |\n", ratio(us.Value, limit.Value), ratio(us.Value, raw.Value))
		}
	}
	if len(open) > 0 {
		fmt.Fprintf(&b, "\nThe load generator had no CPU to spare in (the figure may be too low): %s.\n", strings.Join(open, ", "))
	}
	var disturbed []string
	for _, o := range r.Rows {
		if o.More["others_cpu"] > 2*quietShare {
			disturbed = append(disturbed, fmt.Sprintf("%s %s (%.2f)", o.Case, o.Server, o.More["others_cpu"]))
		}
	}
	if len(disturbed) > 0 {
		fmt.Fprintf(&b, "\nOthers took this share of a CPU meanwhile, so that the figure is worth little: %s.\n", strings.Join(disturbed, ", "))
	}
	if o, ok := r.find("memory/5000", "tilewire"); ok {
		var said struct {
			Bytes float64 `json:"region_bytes_per_connection"`
		}
		if json.Unmarshal(o.Stats, &said) == nil && said.Bytes > 0 {
			fmt.Fprintf(&b, "\nTilewire sets its memory aside at start, so that the resident bytes above are only the rise; a connection takes %.0f bytes of the region.\n", said.Bytes)
		}
	}
	if o, ok := r.find("publish/0", "tilewire"); ok {
		fmt.Fprintf(&b, "\n## Publishing 256 B beside clients\n\n| clients | ns a message (staged, stamped, published; median) |\n|--:|--:|\n| 0 | %.0f |\n", o.Value)
		for _, n := range []string{"1000", "10000"} {
			if o, ok := r.find("publish/"+n, "tilewire"); ok {
				fmt.Fprintf(&b, "| %s | %.0f |\n", n, o.Value)
			}
		}
	}
	if len(r.Staging) > 0 {
		fmt.Fprint(&b, "\n## Staging against a plain copy\n\n| benchmark/bytes | ns | allocations |\n|---|--:|--:|\n")
		for _, s := range r.Staging {
			fmt.Fprintf(&b, "| %s | %.1f | %.0f |\n", s.Name, s.Ns, s.Allocs)
		}
	}
	if o, ok := r.find("many/50000x128@32", "tilewire"); ok {
		fmt.Fprintf(&b, "\n50,000 connections over three network tiles of one instance: connected in %.1f s, %s deliveries/s at the rate asked for, none lost, %.0f resident bytes a connection.\n",
			o.More["connect_s"], number(o.Value), o.More["rss_per_connection"])
	}
	fmt.Fprint(&b, "\n![deliveries per second over the number of clients](deliveries.svg)\n")
	return b.String()
}

// loadavg is the kernel's load average now.
func loadavg() string {
	b, _ := os.ReadFile("/proc/loadavg")
	return strings.TrimSpace(string(b))
}
