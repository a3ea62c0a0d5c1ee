package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
)

// result is one measurement of one server in one case.
type result struct {
	Case       string          `json:"case"`
	Server     string          `json:"server"`
	Round      int             `json:"round"`
	Metric     metric          `json:"metric"`
	Value      float64         `json:"value"`
	Rate       float64         `json:"rate,omitempty"` // messages per second asked for
	CPUSeconds float64         `json:"server_cpu_seconds"`
	CPUShare   float64         `json:"server_cpu_share"`
	DelayShare float64         `json:"server_run_delay_share"` // ready to run without a CPU, because of others or of its own processes
	Others     float64         `json:"others_cpu_share"`       // of one CPU, taken by neither server nor load generator (resolution: 10 ms)
	CPUPerM    float64         `json:"server_cpu_seconds_per_million"`
	RSSPerConn float64         `json:"server_rss_per_connection"`
	Private    float64         `json:"server_private_per_connection"`
	Processes  int             `json:"server_processes"`
	Bottleneck string          `json:"bottleneck"`
	Stats      json.RawMessage `json:"server_stats,omitempty"` // what it said of itself at its end
	Report     swarm.Report    `json:"load"`
	Error      string          `json:"error,omitempty"`
}

// setup says where and how long.
type setup struct {
	dir                string // programs and pipe
	serverCPU, loadCPU int
	warmup, duration   time.Duration
	full               bool
	quiet              time.Duration // how long to wait for a quiet machine before each measurement
	retries            int           // measurements that others disturbed are repeated so many times
}

// stopWait bounds how long a server may take to end before it is killed.
const stopWait = 3 * time.Second

// once runs one server under one load. What others disturbed is repeated; of all tries the least disturbed counts.
func (s setup) once(c bench, v server, round int) (best result) {
	for k := range s.retries + 1 {
		if s.quiet > 0 {
			awaitQuiet(s.quiet)
		}
		r := result{Case: c.name, Server: v.name, Round: round, Metric: c.metric, Rate: c.rate}
		if err := s.tryCase(c, v, &r); err != nil {
			r.Error = err.Error()
		}
		if k == 0 || r.Others < best.Others {
			best = r
		}
		if best.Others <= quietShare {
			break
		}
	}
	return best
}

func (s setup) tryCase(c bench, v server, r *result) error {
	var err error
	switch {
	case c.loads > 0:
		err = s.tryMany(c, v, r)
	case c.clients == 0:
		err = s.tryNobody(c, v, r)
	default:
		err = s.try(c, v, r)
	}
	if c.metric == publishNs && err == nil {
		var said struct {
			Ns float64 `json:"publish_ns_p50"`
		}
		if err = json.Unmarshal(r.Stats, &said); err != nil {
			return fmt.Errorf("stats %q: %w", r.Stats, err)
		}
		r.Value = said.Ns
	}
	return err
}

// fifo makes a named pipe for credits.
func (s setup) fifo(name string) (path string, err error) {
	path = filepath.Join(s.dir, name)
	os.Remove(path)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return "", fmt.Errorf("mkfifo %s: %w", path, err)
	}
	return path, nil
}

// words is the command line of a server.
func (s setup) words(c bench, v server, pipe string) []string {
	words := append(fill(v.command, s.dir), "--listen", c.listen(), "--size", fmt.Sprint(c.size), "--rate", fmt.Sprint(c.rate), "--credits", pipe)
	if s.full {
		words = append(words, "--fill")
	}
	if c.burst > 1 {
		words = append(words, "--burst", fmt.Sprint(c.burst))
	}
	if c.tiles > 1 {
		words = append(words, "--tiles", fmt.Sprint(c.tiles), "--max-connections", fmt.Sprint(c.clients/c.tiles+64))
	}
	return words
}

// end stops the server and keeps what it says of itself.
func (r *result) end(srv *exec.Cmd, lines <-chan string) {
	for _, l := range stop(srv, lines) {
		if js, ok := strings.CutPrefix(l, "stats "); ok {
			r.Stats = json.RawMessage(js)
		}
	}
}

func (s setup) try(c bench, v server, r *result) (err error) {
	pipe, err := s.fifo("credits")
	if err != nil {
		return err
	}
	defer os.Remove(pipe)
	srv, lines, _, err := spawn(s.words(c, v, pipe), s.serverCPU)
	if err != nil {
		return err
	}
	defer r.end(srv, lines)
	addr, err := expect(lines, "listening ", 10*time.Second)
	if err != nil {
		return fmt.Errorf("%s: %w", v.name, err)
	}
	before := measure(srv.Process.Pid)

	words := []string{filepath.Join(s.dir, "loadgen"), "--addr", addr, "--clients", fmt.Sprint(c.clients), "--size", fmt.Sprint(c.size),
		"--window", fmt.Sprint(c.window), "--credits", pipe, "--idle", fmt.Sprint(c.idle), "--slow", fmt.Sprint(c.slow),
		"--warmup", s.warmup.String(), "--duration", s.duration.String(), "--envelope", v.envelope, fmt.Sprintf("--full=%v", s.full)}
	load, said, tell, err := spawn(words, s.loadCPU)
	if err != nil {
		return err
	}
	defer stop(load, said)
	wait := time.Minute + s.warmup + s.duration
	if _, err = expect(said, "ready ", wait); err != nil {
		return fmt.Errorf("load generator: %w", err)
	}
	if c.bare {
		time.Sleep(s.warmup + 100*time.Millisecond) // let the server come to rest; there is no event to wait for
	}
	connected := measure(srv.Process.Pid)
	total := float64(c.clients + c.idle)
	r.RSSPerConn, r.Private = float64(connected.rss-before.rss)/total, float64(connected.private-before.private)/total
	r.Processes = connected.pids
	if c.bare {
		r.Value = r.RSSPerConn
		return nil
	}
	fmt.Fprintln(tell)
	if _, err = expect(said, "window", wait); err != nil {
		return fmt.Errorf("load generator: %w", err)
	}
	base, busy0 := measure(srv.Process.Pid), busy()
	fmt.Fprintln(tell)
	if _, err = expect(said, "end", wait); err != nil {
		return fmt.Errorf("load generator: %w", err)
	}
	busy1, top := busy(), measure(srv.Process.Pid)
	fmt.Fprintln(tell)
	line, err := expect(said, "{", wait)
	if err != nil {
		return fmt.Errorf("load generator: %w", err)
	}
	if err := json.Unmarshal([]byte("{"+line), &r.Report); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	r.CPUSeconds = (top.cpu - base.cpu).Seconds()
	if w := r.Report.WindowSeconds; w > 0 {
		r.CPUShare = r.CPUSeconds / w
		r.DelayShare = (top.delay - base.delay).Seconds() / w
		r.Others = max((busy1-busy0).Seconds()-r.CPUSeconds-r.Report.CPUSeconds, 0) / w
	}
	if d := r.Report.Deliveries; d > 0 {
		r.CPUPerM = r.CPUSeconds / float64(d) * 1e6
	}
	r.Bottleneck = r.Report.Bottleneck(r.CPUShare)
	switch c.metric {
	case perSecond:
		r.Value = r.Report.DeliveriesPerSec
	case cpuPerM:
		r.Value = r.CPUPerM
	case latencyP50:
		r.Value = float64(r.Report.Latency.P50) / 1e3
	}
	if !r.Report.Lossless {
		return fmt.Errorf("lost: %d faults %v, ends %+v", r.Report.Faults.Total(), r.Report.Faults.First, r.Report.EndGroups)
	}
	return nil
}

// spawn starts words on cpu and returns its lines and its stdin.
func spawn(words []string, cpu int) (*exec.Cmd, <-chan string, io.Writer, error) {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	if err := start(cmd, cpu); err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", words[0], err)
	}
	lines := make(chan string, 64)
	go func() {
		defer close(lines)
		for r := bufio.NewReader(out); ; {
			l, err := r.ReadString('\n')
			if err != nil {
				return
			}
			lines <- strings.TrimSuffix(l, "\n")
		}
	}()
	return cmd, lines, in, nil
}

// expect waits for a line with the prefix and returns the rest of it.
func expect(lines <-chan string, prefix string, wait time.Duration) (string, error) {
	timeout := time.After(wait)
	for {
		select {
		case l, ok := <-lines:
			if !ok {
				return "", fmt.Errorf("ended without %q", prefix)
			}
			if rest, ok := strings.CutPrefix(l, prefix); ok {
				return rest, nil
			}
		case <-timeout:
			return "", fmt.Errorf("no %q within %v", prefix, wait)
		}
	}
}

// stop ends cmd (SIGTERM, SIGKILL when that does not help) and returns the lines it still said.
func stop(cmd *exec.Cmd, lines <-chan string) (rest []string) {
	cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(stopWait, func() { cmd.Process.Kill() })
	for l := range lines {
		rest = append(rest, l)
	}
	cmd.Wait()
	kill.Stop()
	return rest
}
