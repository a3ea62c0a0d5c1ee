package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// report is what was seen. Its methods may be called from any goroutine.
type report struct {
	o     options
	began time.Time

	messages, bytes, sent, echoed, pongs, answers, closes, conns atomic.Uint64

	nr    atomic.Int64   // of the last death
	worst []atomic.Int64 // latency in ns of a broadcast since that death, and before the next
	twice []atomic.Bool  // the successor died as well

	mu     sync.Mutex
	faults map[string]int // by kind of client
	first  []string
	apps   string
	harm   bool
	once   sync.Once
	hurt   chan struct{} // closed by the first fault
}

func newReport(o options) *report {
	return &report{o: o, began: time.Now(), worst: make([]atomic.Int64, o.kills+1), twice: make([]atomic.Bool, o.kills+1), faults: map[string]int{}, hurt: make(chan struct{})}
}

func (r *report) kill()  { r.nr.Add(1) }
func (r *report) hasty() { r.twice[r.nr.Load()].Store(true) }

// late takes note of how old a broadcast was when it came.
func (r *report) late(ns int64) {
	w := &r.worst[r.nr.Load()]
	for old := w.Load(); ns > old && !w.CompareAndSwap(old, ns); old = w.Load() {
	}
}

// counters notes what the tiles counted, where clients noticed something.
func (r *report) counters(s *server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.first) == 0 {
		return
	}
	var all []string
	for i, name := range s.cnt.Names() {
		if n := s.cnt.Cell(i).Load(); n != 0 && (strings.HasPrefix(name, "closed_") || strings.Contains(name, "reject") || strings.Contains(name, "error") || name == "app_lost" || name == "buffer_waits") {
			all = append(all, fmt.Sprintf("%s %d", name, n))
		}
	}
	r.first = append(r.first, "the tile counted: "+strings.Join(all, ", "))
}

// fault is something that a client noticed.
func (r *report) fault(kind, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[kind]++
	if len(r.first) < 10 {
		r.first = append(r.first, fmt.Sprintf("%s, after death %d: %s", kind, r.nr.Load(), fmt.Sprintf(format, args...)))
	}
	r.once.Do(func() { close(r.hurt) })
}

func (r *report) app(a *app) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.apps = fmt.Sprintf("application: %d messages, %.1f MB, %d requests; doubled %d, lost %d, wrong %d, unsent %d",
		a.messages.Load(), float64(a.bytes.Load())/1e6, a.requests.Load(), a.doubled.Load(), a.lost.Load(), a.wrong.Load(), a.unsent.Load())
	if s := a.first.Load(); s != nil {
		r.harm = true
		r.first = append(r.first, *s)
	}
}

// outages gives the worst latency of each death, sorted: of those that came once, or twice in a row.
func (r *report) outages(twice bool) []int64 {
	var w []int64
	for i := 1; i <= int(r.nr.Load()); i++ {
		if r.twice[i].Load() == twice {
			w = append(w, r.worst[i].Load())
		}
	}
	slices.Sort(w)
	return w
}

func quantile(w []int64, q float64) time.Duration {
	if len(w) == 0 {
		return 0
	}
	return time.Duration(w[min(int(q*float64(len(w))), len(w)-1)]).Round(10 * time.Microsecond)
}

// verdict is nil if nobody noticed anything.
func (r *report) verdict() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.faults {
		n += c
	}
	switch p99 := quantile(r.outages(false), 0.99); {
	case n > 0 || r.harm:
		return fmt.Errorf("clients noticed: %d faults", n)
	case r.messages.Load() == 0 || r.nr.Load() == 0 && r.o.kills > 0:
		return fmt.Errorf("nothing was tried: %d messages, %d deaths", r.messages.Load(), r.nr.Load())
	case r.o.bound > 0 && p99 > r.o.bound:
		return fmt.Errorf("outage p99 %v, above %v", p99, r.o.bound)
	}
	return nil
}

func (r *report) String() string {
	var b strings.Builder
	w, ww := r.outages(false), r.outages(true)
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(&b, "%d deaths (%d while taking over) in %.1f s, seed %d; %d connections\n", r.nr.Load(), len(ww),
		time.Since(r.began).Seconds(), r.o.seed, r.conns.Load())
	fmt.Fprintf(&b, "to clients: %d broadcasts, %.1f MB, %d echoes of %d sent, %d pongs, %d answers, %d closing handshakes\n",
		r.messages.Load(), float64(r.bytes.Load())/1e6, r.echoed.Load(), r.sent.Load(), r.pongs.Load(), r.answers.Load(), r.closes.Load())
	if r.apps != "" {
		fmt.Fprintln(&b, r.apps)
	}
	fmt.Fprintf(&b, "worst latency of a broadcast around a death: p50 %v, p99 %v, max %v; two in a row: p50 %v, max %v; before the first %v\n",
		quantile(w, 0.5), quantile(w, 0.99), quantile(w, 1), quantile(ww, 0.5), quantile(ww, 1), time.Duration(r.worst[0].Load()).Round(10*time.Microsecond))
	for kind, n := range r.faults {
		fmt.Fprintf(&b, "%s: %d faults\n", kind, n)
	}
	for _, s := range r.first {
		fmt.Fprintln(&b, " ", s)
	}
	return b.String()
}
