//go:build explore

package httpsrv

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
)

var fast = clientSpec{}

func takes(n ...int) clientSpec  { return clientSpec{window: n} }
func stalls(n ...int) clientSpec { return clientSpec{window: n, stalls: true} }

// scenarios: each makes other limits run out. All are explored with every rule
// kept; a broken rule is looked for in those named for it.
var scenarios = []*scenario{
	{ // broadcast bytes run out; wraps with gaps; a join in the middle
		name: "bytes", ring: 64, side: 32, depth: 8, clients: []clientSpec{fast, fast},
		producer: []string{"25 25 25 25"},
		tiles:    [2][]string{{"j0 d"}, {"d j1"}},
	},
	{ // descriptors run out while the bytes do not; pings at a frame's middle
		name: "descriptors", ring: 256, side: 32, depth: 4, lag: 64, clients: []clientSpec{takes(3, 4), fast},
		producer: []string{"5 6 7 8 y 9 y 6"},
		tiles:    [2][]string{{"j0 w d y p0 y o0 d"}, {"d j1h2"}},
	},
	{ // side bytes run out, between broadcasts
		name: "side", ring: 128, side: 32, depth: 16, clients: []clientSpec{takes(2), fast},
		producer: []string{"12>0 12>0 5 12>0 9>1"},
		tiles:    [2][]string{{"j0 d o0"}, {"j1"}},
	},
	{ // a message as big as the ring, and one that a wrap's gap lies before
		name: "whole ring", ring: 64, side: 32, depth: 8, clients: []clientSpec{fast, takes(30)},
		producer: []string{"20 60 9 30u 60u 9 40"},
		tiles:    [2][]string{{"j0 d d"}, {"j1 d o1"}},
	},
	{ // a large message that is dropped has raised the limit; a client at the head waits for its own bytes
		name: "unstage", ring: 64, side: 32, depth: 8, clients: []clientSpec{takes(22, 2), fast},
		producer: []string{"20 y 10>0 y 60u 5>1 y 9 60u 30"},
		tiles:    [2][]string{{"j0 w d y d y d"}, {"d j1 w d y"}},
	},
	{ // the wait fails, and the next try must not overwrite either
		name: "busy", ring: 64, side: 32, depth: 8, clients: []clientSpec{fast, fast}, busy: true,
		producer: []string{"25 25 20+5 25"},
		tiles:    [2][]string{{"j0 d"}, {"j1"}},
	},
	{ // a producer dies anywhere, above all after it has raised the limit
		name: "producer dies", ring: 64, side: 32, depth: 4, clients: []clientSpec{fast, fast}, deaths: 1, mortal: "producer0",
		producer: []string{"25 25 12+13", "25 9>0 25"},
		tiles:    [2][]string{{"j0 d"}, {"j1"}},
	},
	{ // a tile dies anywhere, above all while it holds a pin, and its slot is taken again
		name: "tile dies", ring: 64, side: 32, depth: 8, clients: []clientSpec{fast, fast, fast}, deaths: 1, mortal: "tile0",
		producer: []string{"25 25 25 25 25"},
		tiles:    [2][]string{{"j0 d", "j1"}, {"j2"}},
	},
	{ // descriptors are reused under a reader's hands
		name: "lapped", ring: 256, side: 32, depth: 4, lag: 64, clients: []clientSpec{fast, takes(1)},
		producer: []string{"5 6 7 8 9 6"},
		tiles:    [2][]string{{"j0"}, {"j1h3 d d"}},
	},
	{ // one tile: a slot is taken again after its tile died with a pin
		name: "slot again", ring: 64, side: 32, depth: 8, clients: []clientSpec{fast, fast}, deaths: 1, mortal: "tile0",
		producer: []string{"25 25 y 25 y 25 y 25 25 25"},
		tiles:    [2][]string{{"j0 w d", "j1 w d"}},
	},
	{ // one tile: a producer dies after it has raised the limit, and its successor finds the limit
		name: "limit found", ring: 64, side: 32, depth: 8, clients: []clientSpec{fast}, deaths: 1, mortal: "producer0",
		producer: []string{"25 25 y 25", "25 25"},
		tiles:    [2][]string{{"j0 w d"}},
	},
	{ // one tile: a wait fails, and the next try finds the limit raised
		name: "wait failed", ring: 64, side: 32, depth: 8, clients: []clientSpec{fast}, busy: true,
		producer: []string{"25 25 y 25 25"},
		tiles:    [2][]string{{"j0 w d"}},
	},
	{ // one tile: a message of its own is overwritten
		name: "own", ring: 128, side: 32, depth: 16, clients: []clientSpec{takes(2)},
		producer: []string{"12>0 12>0 5 y 12>0 9>0"},
		tiles:    [2][]string{{"j0 w d y o0"}},
	},
	{ // one tile: a descriptor is reused between a reader's look and its copy
		name: "descriptor reused", ring: 256, side: 32, depth: 4, lag: 64, clients: []clientSpec{fast},
		producer: []string{"5 y 6 y 7 8 9 10"},
		tiles:    [2][]string{{"j0 w d y w d"}},
	},
	{ // history joins while their bytes go; blocked clients; the end of the number range
		name: "history", ring: 64, side: 32, depth: 8, seq0: ^uint64(0) - 2, clients: []clientSpec{stalls(9), fast, takes(40, 3)},
		producer: []string{"9 20 15 3>1 33 8 20"},
		tiles:    [2][]string{{"d j0h2 d j2h3 d o2"}, {"d j1h1"}},
	},
	{ // everything at once, for random walks
		name: "medley", ring: 128, side: 64, depth: 8, busy: true, deaths: 1, mortal: "tile0",
		clients:  []clientSpec{takes(20, 3, 50), stalls(30), fast, takes(1, 1, 1, 60)},
		producer: []string{"9 20>2 15+7 3>0 33 124 8 60u 20 40 3 4 5 6 50>0 7>3 8 90+20", "30 30 30>2 9 9 9 9 80 3"},
		tiles:    [2][]string{{"j0 d p0 j1h2 d o0 p0 d p0 o0", "j0h3 d p0 o0 j1"}, {"j2 d j3h2 p3 o3 d p3 o3 d"}},
	},
	{ // the same, and a producer that dies
		name: "medley, producer dies", ring: 128, side: 32, depth: 4, busy: true, deaths: 1, mortal: "producer0", lag: 64,
		clients:  []clientSpec{takes(20, 3, 50), stalls(30), fast, takes(1, 1, 1, 60)},
		producer: []string{"9 20>2 15+7 3>0 33 124 8 60u 20 40 3 4 5 6", "30 30 20>2 9 9 9 9 80 3 28>0 7>3 8 90+20"},
		tiles:    [2][]string{{"j0 d p0 j1h2 d o0 p0 d p0 o0"}, {"j2 d j3h2 p3 o3 d p3 o3 d"}},
	},
}

func scenarioNamed(name string) *scenario {
	for _, sc := range scenarios {
		if sc.name == name {
			return sc
		}
	}
	panic(name)
}

// budget is the time of the whole exploration with every rule kept, and its
// bound on preemptions: TILEWIRE_EXPLORE=10m gives it more.
func budget(t *testing.T) (d time.Duration, preempts int) {
	d, preempts = 30*time.Second, 2
	if v := os.Getenv("TILEWIRE_EXPLORE"); v != "" {
		var err error
		if d, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
		preempts = 4
	}
	return d, preempts
}

// seedOf returns the seed of the random walks, TILEWIRE_SEED or the time, and prints it.
func seedOf(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("TILEWIRE_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TILEWIRE_SEED=%d", seed)
	return seed
}

// TestExplore: with every rule kept nothing goes wrong, whoever is held up or dies where.
func TestExplore(t *testing.T) {
	brokenRule = 0
	d, preempts := budget(t)
	seed := seedOf(t)
	each := d / time.Duration(2*len(scenarios))
	runs := 0
	for _, sc := range scenarios {
		t.Run(sc.name, func(t *testing.T) {
			o := search(sc, preempts, time.Now().Add(each))
			if o.found != nil {
				t.Fatal(o.found)
			}
			r := wander(sc, seed, time.Now().Add(each))
			if r.found != nil {
				t.Fatal(r.found)
			}
			t.Logf("%d schedules (all of up to %d preemptions), %d random ones, %d steps on average",
				o.runs, o.whole, r.runs, (o.steps+r.steps)/(o.runs+r.runs))
			runs += o.runs + r.runs
		})
	}
	t.Logf("%d schedules in all", runs)
}

// TestExploreRules: without any one of the rules something goes wrong.
func TestExploreRules(t *testing.T) {
	if rigRace {
		t.Skip("finds the same, and takes ten times as long to")
	}
	defer func() { brokenRule = 0 }()
	for _, c := range []struct {
		rule rule
		name string
		in   string
	}{
		{ruleRaiseThenPins, "raise the limit, then read the pins", "limit found"},
		{rulePinThenLimit, "pin, then check the limit", "limit found"},
		{ruleWaitForPins, "wait for pins below the limit", "limit found"},
		{ruleDeadNow, "never remember that a tile is dead", "slot again"},
		{ruleLimitIsNoGrant, "a limit that is found is no grant", "limit found"},
		{ruleFailedWait, "nor is one whose wait failed", "wait failed"},
		{ruleDescRaises, "reusing a descriptor raises the limits", "descriptors"},
		{ruleSidePins, "pins of the side area count", "own"},
		{ruleSideLimit, "so does its limit", "own"},
		{ruleCopyThenCheck, "a descriptor is checked after the copy", "descriptor reused"},
		{ruleUnpublishedHidden, "head moves last", "descriptor reused"},
		{ruleHeadStays, "the limit never passes what is published", "unstage"},
		{ruleBoundaryLimit, "a boundary counts only above the limit", "descriptors"},
	} {
		t.Run(c.name, func(t *testing.T) {
			brokenRule = c.rule
			o := search(scenarioNamed(c.in), 3, time.Now().Add(5*time.Minute)) // seconds, if the machine has nothing else to do
			if o.found == nil {
				t.Fatalf("%d schedules of %q (all of up to %d preemptions) and nothing went wrong", o.runs, c.in, o.whole)
			}
			t.Log(o.found)
		})
	}
	if int(ruleCount)-1 != 13 {
		t.Error(fmt.Sprint("a rule has no test: ", ruleCount))
	}
}
