package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// busy returns the time that all CPUs together have worked since boot (/proc/stat, 10 ms resolution).
func busy() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	var ticks int64
	for i, v := range f[1:min(len(f), 9)] { // user nice system idle iowait irq softirq steal
		if i == 3 || i == 4 {
			continue
		}
		n, _ := strconv.ParseInt(v, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// quietShare is the share of one CPU that others may take without spoiling a measurement.
const quietShare = 0.06

// awaitQuiet waits until others leave the machine alone, for wait at most.
func awaitQuiet(wait time.Duration) {
	const look = 250 * time.Millisecond
	for end := time.Now().Add(wait); ; {
		from := busy()
		time.Sleep(look)
		if float64(busy()-from)/float64(look) <= quietShare {
			return
		}
		if time.Now().After(end) {
			fmt.Fprintln(os.Stderr, "the machine is not quiet; the figures show by how much (column others)")
			return
		}
	}
}
