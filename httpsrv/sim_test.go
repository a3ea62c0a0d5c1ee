//go:build explore

package httpsrv

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// simNumber is the number in an environment variable.
func simNumber(t *testing.T, name string) (n uint64, ok bool) {
	v := os.Getenv(name)
	if v == "" {
		return 0, false
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}

// TestExploreSimulation runs the simulation of docs/simulation.md for some
// thousand seeds: as many as its time allows, or TILEWIRE_SIM_RUNS.
// TILEWIRE_SIM=SEED runs that one alone and tells all of it.
func TestExploreSimulation(t *testing.T) {
	defer os.RemoveAll(simBellDir())
	if seed, ok := simNumber(t, "TILEWIRE_SIM"); ok {
		story := &simStory{whole: true}
		w := simRun(seed, story)
		t.Log(story)
		if w.wrong != "" {
			t.Fatal(w.wrong)
		}
		return
	}
	d, _ := budget(t)
	most, counted := simNumber(t, "TILEWIRE_SIM_RUNS")
	seed, began, steps, n := seedOf(t), time.Now(), 0, uint64(0)
	for ; counted && n < most || !counted && time.Since(began) < d; n++ {
		w := simRun(seed+n, nil)
		if steps += w.steps; w.wrong == "" {
			continue
		}
		story := &simStory{}
		if again := simRun(seed+n, story); again.wrong != w.wrong {
			t.Errorf("not deterministic: the second time %q", again.wrong)
		}
		t.Fatalf("%s\n%s\nafter %d runs; again: TILEWIRE_SIM=%d", story, w.wrong, n+1, seed+n)
	}
	t.Logf("%d runs, %d steps", n, steps)
}
