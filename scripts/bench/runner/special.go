package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
)

// tryNobody runs a server without a client: what publishing costs then.
func (s setup) tryNobody(c bench, v server, r *result) error {
	pipe, err := s.fifo("credits")
	if err != nil {
		return err
	}
	defer os.Remove(pipe)
	srv, lines, _, err := spawn(s.words(c, v, pipe), s.serverCPU)
	if err != nil {
		return err
	}
	_, err = expect(lines, "listening ", 10*time.Second)
	if err == nil {
		err = give(pipe, math.MaxUint64)
	}
	if err == nil {
		time.Sleep(s.warmup + s.duration) // the measurement: the server counts
	}
	r.end(srv, lines)
	return err
}

// give grants credits from here, in place of a load generator.
func give(pipe string, limit uint64) error {
	f, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("credits: %w", err)
	}
	defer f.Close()
	_, err = f.Write(binary.LittleEndian.AppendUint64(nil, limit))
	return err
}

// tryMany runs a server of several processes, each with its own load generator: more connections than one process may
// have. All windows are opened and closed together; deliveries are summed up, of latencies the worst counts.
func (s setup) tryMany(c bench, v server, r *result) error {
	serverCPU, loadCPU := s.serverCPU, s.loadCPU
	if c.spread {
		serverCPU, loadCPU = -1, -1
	}
	var pipes, addrs []string
	var pids []int
	for i := range max(c.servers, 1) {
		pipe, err := s.fifo(fmt.Sprint("credits-server", i))
		if err != nil {
			return err
		}
		defer os.Remove(pipe)
		srv, lines, _, err := spawn(s.words(c, v, pipe), serverCPU)
		if err != nil {
			return err
		}
		defer r.end(srv, lines)
		addr, err := expect(lines, "listening ", 10*time.Second)
		if err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
		pipes, addrs, pids = append(pipes, pipe), append(addrs, strings.Fields(addr)...), append(pids, srv.Process.Pid)
	}
	before := measureSum(pids)
	type load struct {
		said <-chan string
		tell func()
	}
	var loads []load
	for i := range c.loads {
		own, err := s.fifo(fmt.Sprint("credits", i)) // the load generators' own credits count for nothing
		if err != nil {
			return err
		}
		defer os.Remove(own)
		n := c.clients / c.loads
		if i < c.clients%c.loads {
			n++
		}
		cmd, said, in, err := spawn([]string{filepath.Join(s.dir, "loadgen"), "--addr", addrs[i%len(addrs)], "--clients", fmt.Sprint(n),
			"--size", fmt.Sprint(c.size), "--window", "0", "--credits", own, "--warmup", s.warmup.String(), "--duration", s.duration.String(),
			fmt.Sprintf("--full=%v", s.full)}, loadCPU)
		if err != nil {
			return err
		}
		defer stop(cmd, said)
		loads = append(loads, load{said, func() { fmt.Fprintln(in) }})
	}
	phase := func(what string) error {
		for _, l := range loads {
			if _, err := expect(l.said, what, 2*time.Minute); err != nil {
				return fmt.Errorf("load generator: %w", err)
			}
		}
		return nil
	}
	goOn := func() {
		for _, l := range loads {
			l.tell()
		}
	}
	if err := phase("ready "); err != nil {
		return err
	}
	connected := measureSum(pids)
	r.RSSPerConn = float64(connected.rss-before.rss) / float64(c.clients)
	r.Private = float64(connected.private-before.private) / float64(c.clients)
	r.Processes = connected.pids
	goOn()
	for _, pipe := range pipes {
		if err := give(pipe, math.MaxUint64); err != nil {
			return err
		}
	}
	if err := phase("window"); err != nil {
		return err
	}
	base, busy0 := measureSum(pids), busy()
	goOn()
	if err := phase("end"); err != nil {
		return err
	}
	busy1, top := busy(), measureSum(pids)
	goOn()
	sum := &r.Report
	sum.Lossless = true
	for _, l := range loads {
		line, err := expect(l.said, "{", 2*time.Minute)
		if err != nil {
			return fmt.Errorf("load generator: %w", err)
		}
		var p swarm.Report
		if err := json.Unmarshal([]byte("{"+line), &p); err != nil {
			return fmt.Errorf("report: %w", err)
		}
		sum.Clients += p.Clients
		sum.Connected += p.Connected
		sum.Deliveries += p.Deliveries
		sum.DeliveriesPerSec += p.DeliveriesPerSec
		sum.Reads += p.Reads
		sum.HealthyEnded += p.HealthyEnded
		sum.CPUSeconds += p.CPUSeconds
		sum.CPUShare += p.CPUShare
		sum.WindowSeconds = max(sum.WindowSeconds, p.WindowSeconds)
		sum.ConnectSeconds = max(sum.ConnectSeconds, p.ConnectSeconds)
		sum.Lossless = sum.Lossless && p.Lossless
		sum.EndGroups = append(sum.EndGroups, p.EndGroups...)
		if sum.Faults.Total() == 0 {
			sum.Faults = p.Faults
		}
		if p.Latency.P99 > sum.Latency.P99 {
			sum.Latency = p.Latency
		}
	}
	r.CPUSeconds = (top.cpu - base.cpu).Seconds()
	if w := sum.WindowSeconds; w > 0 {
		r.CPUShare, r.DelayShare = r.CPUSeconds/w, (top.delay-base.delay).Seconds()/w
		r.Others = max((busy1-busy0).Seconds()-r.CPUSeconds-sum.CPUSeconds, 0) / w
	}
	if sum.Deliveries > 0 {
		r.CPUPerM = r.CPUSeconds / float64(sum.Deliveries) * 1e6
	}
	r.Bottleneck = sum.Bottleneck(r.CPUShare)
	r.Value = sum.DeliveriesPerSec
	if !sum.Lossless {
		return fmt.Errorf("lost: %d faults %v, %d healthy clients ended: %+v", sum.Faults.Total(), sum.Faults.First, sum.HealthyEnded, sum.EndGroups)
	}
	return nil
}
