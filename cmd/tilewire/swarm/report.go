package swarm

import (
	"time"

	"golang.org/x/sys/unix"
)

// Latency sums up a Histogram; nanoseconds from the publisher's stamp to the end of the read that
// brought the message.
type Latency struct {
	Count uint64 `json:"count"`
	P50   uint64 `json:"p50_ns"`
	P90   uint64 `json:"p90_ns"`
	P99   uint64 `json:"p99_ns"`
	P999  uint64 `json:"p99_9_ns"`
	Max   uint64 `json:"max_ns"`
}

// Summary returns h's figures.
func (h *Histogram) Summary() Latency {
	return Latency{h.Count(), h.Quantile(.5), h.Quantile(.9), h.Quantile(.99), h.Quantile(.999), h.Max()}
}

// Report is what Run found. Figures of the window count healthy clients only; faults and ends are
// those of the whole run.
type Report struct {
	Clients        int     `json:"clients"`
	Idle           int     `json:"idle"`
	Connected      int     `json:"connected"` // got through the upgrade, any role
	Mode           string  `json:"mode"`
	Size           int     `json:"size"` // as wanted; 0: any
	ConnectSeconds float64 `json:"connect_seconds"`

	WindowSeconds    float64 `json:"window_seconds"`
	Deliveries       uint64  `json:"deliveries"` // messages times clients in the window
	DeliveriesPerSec float64 `json:"deliveries_per_second"`
	PayloadBytes     uint64  `json:"payload_bytes"`
	WireBytes        uint64  `json:"wire_bytes"` // all roles, with frame headers
	Reads            uint64  `json:"reads"`      // reads that brought bytes, all roles
	Wakeups          uint64  `json:"wakeups"`    // epoll waits
	Pings            uint64  `json:"pings"`      // answered, whole run
	Latency          Latency `json:"latency"`

	OtherDeliveries uint64 `json:"other_deliveries"` // to stalling and slow clients, whole run
	MinSeq          uint64 `json:"min_seq"`          // lowest and highest last seq of the healthy clients
	MaxSeq          uint64 `json:"max_seq"`          //   that are still connected at the end

	Faults       Faults     `json:"faults"`
	Lossless     bool       `json:"lossless"`      // no fault, and no healthy client ended by the server or unable to connect
	HealthyEnded int        `json:"healthy_ended"` // healthy clients that ended before the swarm closed them
	StallingOpen int        `json:"stalling_open"` // stalling clients that the server had not ended
	EndGroups    []EndGroup `json:"ends,omitempty"`
	Ends         []End      `json:"-"` // each of them, in order of time

	CPUSeconds float64 `json:"cpu_seconds"` // of the swarm's thread in the window
	CPUShare   float64 `json:"cpu_share"`   // of the window; 1 = a whole CPU
	Saturated  bool    `json:"saturated"`   // CPUShare of 0.95 or more: figures may be the swarm's own limit

	hist *Histogram
}

// saturation is the share of a CPU from which on a thread counts as busy all the time.
const saturation = 0.95

// Histogram returns the latencies of the window; values in nanoseconds.
func (r *Report) Histogram() *Histogram { return r.hist }

// Bottleneck says who limited the figures: "load generator", "server", "both" or "neither" (the rate
// asked for, or the credits). serverShare is the CPU time of the server's busiest thread over the window.
func (r *Report) Bottleneck(serverShare float64) string {
	switch server := serverShare >= saturation; {
	case r.Saturated && server:
		return "both"
	case r.Saturated:
		return "load generator"
	case server:
		return "server"
	}
	return "neither"
}

// counters of the hot path; those of a window are a difference of two snapshots.
type counters struct {
	deliveries, others, payload, wire, reads, wakeups, pings uint64
}

// threadCPU returns the CPU time, user and system, of the calling thread.
func threadCPU() time.Duration {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &ru); err != nil {
		return 0 // cannot fail with a valid who; the share will read 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// report closes the window at now.
func (s *swarm) report() *Report {
	a, b := s.base, s.top
	r := &Report{
		Clients: s.o.Clients, Idle: s.o.Idle, Connected: s.connected,
		Mode: s.o.Mode.String(), Size: s.o.Size,
		ConnectSeconds: float64(s.readyAt-s.started) / 1e9,
		WindowSeconds:  float64(s.topAt-s.baseAt) / 1e9,
		Deliveries:     b.deliveries - a.deliveries,
		PayloadBytes:   b.payload - a.payload,
		WireBytes:      b.wire - a.wire,
		Reads:          b.reads - a.reads,
		Wakeups:        b.wakeups - a.wakeups,
		Pings:          s.cnt.pings,
		Latency:        s.lat.Summary(),

		OtherDeliveries: s.cnt.others,
		Faults:          s.faults,
		EndGroups:       groupEnds(s.ends),
		Ends:            s.ends,
		CPUSeconds:      (s.topCPU - s.baseCPU).Seconds(),
		hist:            &s.lat,
	}
	if r.WindowSeconds > 0 {
		r.DeliveriesPerSec = float64(r.Deliveries) / r.WindowSeconds
		r.CPUShare = r.CPUSeconds / r.WindowSeconds
	}
	r.Saturated = r.CPUShare >= saturation
	r.MinSeq, r.MaxSeq, r.StallingOpen = s.minSeq, s.maxSeq, s.alive[Stalling]
	for _, e := range s.ends {
		if e.Role == Healthy {
			r.HealthyEnded++
		}
	}
	r.Lossless = s.faults.Total() == 0 && r.HealthyEnded == 0
	return r
}
