// Command runner runs the benchmark: every server in every case, in interleaved rounds, and prints the medians side
// by side. See ../README.md.
package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	log.SetFlags(0)
	runtime.LockOSThread() // children die with this thread; it is the main one
	var (
		s        setup
		extra    list
		caseList = flag.String("cases", "", "comma separated names, groups or patterns; empty: all")
		srvList  = flag.String("servers", "", "comma separated names; empty: all")
		rounds   = flag.Int("rounds", 3, "measurements per server and case; the median counts")
		out      = flag.String("json", "", "write all results to this file")
		show     = flag.Bool("list", false, "only list cases and servers")
		short    = flag.Bool("quick", false, "a few cases and servers, one round: under three minutes")
		report   = flag.String("report", "", "write results.json, table.md and deliveries.svg into this folder")
		from     = flag.String("from", "", "measure nothing: make table and plot of this results.json anew, into --report")
	)
	flag.Var(&extra, "server", "NAME=COMMAND, one more server that speaks the protocol (repeatable)")
	flag.DurationVar(&s.warmup, "warmup", 300*time.Millisecond, "before each measurement")
	flag.DurationVar(&s.duration, "duration", 2*time.Second, "of each measurement")
	flag.IntVar(&s.serverCPU, "server-cpu", 0, "CPU of the server")
	flag.IntVar(&s.loadCPU, "load-cpu", 1, "CPU of the load generator")
	flag.DurationVar(&s.quiet, "quiet", 20*time.Second, "wait so long at most for a quiet machine before each measurement")
	flag.IntVar(&s.retries, "retries", 2, "repeat a measurement that others disturbed so many times at most")
	flag.BoolVar(&s.full, "full", false, "verify every byte instead of seq, length and order")
	flag.Parse()
	if *from != "" {
		r, err := load(*from)
		if err == nil {
			err = r.write(*report)
		}
		if err != nil {
			log.Fatal(err)
		}
		return
	}
	if *short {
		*rounds, s.duration, s.retries, s.quiet = 1, time.Second, 1, 3*time.Second
		if *caseList == "" {
			*caseList = quick
		}
		if *srvList == "" {
			*srvList = "tilewire,limit,goraw,gorilla"
		}
	}

	chosenServers, err := choose(*srvList, extra)
	if err != nil {
		log.Print(err)
		os.Exit(2)
	}
	chosenCases, err := pick(*caseList)
	if err != nil {
		log.Print(err)
		os.Exit(2)
	}
	if *show {
		for _, c := range chosenCases {
			fmt.Println(c.name)
		}
		for _, v := range chosenServers {
			fmt.Println("server", v.name)
		}
		return
	}
	if err := measureAll(s, chosenCases, chosenServers, *rounds, *out, *report); err != nil {
		log.Fatal(err)
	}
}

// measureAll runs every server in every case and writes down what was found: all measurements as JSON to the
// file out, condensed to the folder report, either unless empty.
func measureAll(s setup, cs []bench, vs []server, rounds int, out, report string) (err error) {
	if s.dir, err = os.MkdirTemp("", "tilewire-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	if err := build(s.dir, vs); err != nil {
		return err
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-term
		os.RemoveAll(s.dir)
		os.Exit(130) // the children follow by their parent-death signal
	}()

	began, load := time.Now(), loadavg()
	var stage []staging
	if report != "" {
		if s.quiet > 0 {
			awaitQuiet(s.quiet)
		}
		if stage, err = goBenchmarks("300ms"); err != nil {
			return err
		}
	}
	var all []result
	for _, c := range cs {
		for round := range rounds {
			for _, v := range vs {
				if !c.of(v.name) {
					continue
				}
				r := s.one(c, v, round, all)
				all = append(all, r)
				if r.Error != "" {
					fmt.Fprintf(os.Stderr, "%s %s round %d: %s\n", c.name, v.name, round, r.Error)
				}
			}
		}
		printCase(os.Stdout, c, vs, all)
	}
	if report != "" {
		r := run{Machine: machine(), Began: began.UTC().Format(time.RFC3339), Seconds: time.Since(began).Seconds(), Rounds: rounds,
			Window: s.duration.String(), Load: []string{load, loadavg()}, Rows: rows(all), Staging: stage}
		if err := r.write(report); err != nil {
			return err
		}
	}
	if out == "" {
		return nil
	}
	b, err := json.MarshalIndent(map[string]any{"machine": machine(), "began": began.UTC().Format(time.RFC3339), "seconds": time.Since(began).Seconds(),
		"rounds": rounds, "results": all, "medians": medians(all)}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(b, '\n'), 0o644)
}

// one measures one server in one case, with the rate that the case wants of it.
func (s setup) one(c bench, v server, round int, before []result) result {
	switch {
	case c.ramp:
		return s.ramp(c, v, round)
	case c.half != "":
		m, ok := median(before, c.half, v.name)
		if !ok {
			return result{Case: c.name, Server: v.name, Round: round, Metric: c.metric, Error: "needs case " + c.half + " in the same run"}
		}
		c.rate = m.Value / float64(c.clients) / 2
	}
	return s.once(c, v, round)
}

const (
	rampStart = 100.0 // messages per second
	rampStep  = 1.25
	rampP99   = 50 * time.Millisecond
)

// ramp raises the rate until p99 passes c.late, something is lost, or the server no longer keeps the rate; it
// returns the last good measurement. It first doubles, then goes back and takes steps of rampStep.
func (s setup) ramp(c bench, v server, round int) result {
	s.warmup, s.duration = s.warmup/2, min(s.duration, time.Second)
	good := result{Case: c.name, Server: v.name, Round: round, Metric: c.metric, Error: "not even the first rate was held"}
	for rate, step := rampStart, 2.0; ; {
		c.rate = rate
		r := s.once(c, v, round)
		held := r.Report.DeliveriesPerSec >= 0.95*rate*float64(c.clients)
		switch {
		case r.Error == "" && held && r.Report.Latency.P99 < uint64(cmp.Or(c.late, rampP99)):
			good = r
			rate *= step
		case step == 2 && good.Error == "":
			step = rampStep
			rate = good.Rate * step
		default:
			return good
		}
	}
}
