package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// record counts what the attackers met.
type record struct {
	mu sync.Mutex
	n  map[string]int
}

func newRecord() *record { return &record{n: map[string]int{}} }

func (r *record) add(what string) {
	r.mu.Lock()
	r.n[what]++
	r.mu.Unlock()
}

func (r *record) get(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n[what]
}

// only is an error when anything but these was met, or none of them.
func (r *record) only(whats ...string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	good := 0
	for what, n := range r.n {
		if !slices.Contains(whats, what) {
			return fmt.Errorf("%d attackers met %q, want only %q", n, what, whats)
		}
		good += n
	}
	if good == 0 {
		return fmt.Errorf("no attacker met any of %q", whats)
	}
	return nil
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(r.n)) {
		parts = append(parts, fmt.Sprintf("%d × %s", r.n[k], k))
	}
	if parts == nil {
		return "nothing met"
	}
	return strings.Join(parts, ", ")
}
