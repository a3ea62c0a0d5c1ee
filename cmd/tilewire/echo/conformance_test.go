package echo

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// How the bytes of a case reach the server.
const (
	asWritten = iota // as the case says
	octets           // one by one
	atRandom         // cut anywhere
	ways
)

var wayNames = [ways]string{"as written", "octet by octet", "cut at random"}

// write sends a turn's bytes in one of these ways.
func (c *client) write(tn turn, way int, rng *rand.Rand) error {
	rest, step := tn.out, tn.cut
	for len(rest) > 0 {
		n := len(rest)
		switch {
		case way == octets:
			n = min(n, 1+len(tn.out)/octetsMax)
		case way == atRandom:
			n = 1 + rng.IntN(min(n, 1+len(tn.out)/8))
		case step > 0:
			n = min(n, step)
		}
		if _, err := c.Write(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// run plays a case. A write that fails is no fault of its own: the server may have closed; what it said counts.
func (tc *tcase) run(t *testing.T, way int, rng *rand.Rand) error {
	c := upgraded(t)
	defer c.Close()
	for i, tn := range tc.turns {
		wrote := make(chan error, 1)
		go func() { wrote <- c.write(tn, way, rng) }()
		if err := c.expect(tn.want...); err != nil {
			return fmt.Errorf("turn %d: %w", i, err)
		}
		err := <-wrote
		if n := len(tn.want); n > 0 && tn.want[n-1] == end() {
			return nil
		}
		if err != nil && tc.bad == 0 {
			return fmt.Errorf("turn %d: %w", i, err)
		}
	}
	switch {
	case tc.bad != 0:
		return c.expect(closed(tc.bad), end())
	case tc.last != event{}:
		return c.expect(tc.last, end())
	}
	if _, err := c.Write(fr(clos, code(1000)).bytes()); err != nil {
		return err
	}
	return c.expect(closed(1000), end())
}

// section of a case: "6.4" of "6.4.2" for section 6, else its first number.
func section(id string) int {
	n, _ := strconv.Atoi(strings.SplitN(id, ".", 2)[0])
	return n
}

// TestConformance runs Autobahn's cases of sections 1 to 7 and 10, 247 by number, in three ways. The outcome must be the strict one.
func TestConformance(t *testing.T) {
	all := append(basicCases(), utf8Cases()...)
	ids := map[string]bool{}
	for _, tc := range all {
		ids[tc.id] = true
	}
	if len(all) != 247 || len(ids) != 247 {
		t.Fatalf("%d cases under %d numbers, want 247", len(all), len(ids))
	}
	slices.SortStableFunc(all, func(a, b tcase) int { return section(a.id) - section(b.id) })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	passed := map[int]*[ways]int{}
	count := map[int]int{}
	for _, tc := range all {
		s := section(tc.id)
		if count[s]++; passed[s] == nil {
			passed[s] = &[ways]int{}
		}
		for way := range ways {
			if err := tc.run(t, way, rng); err != nil {
				t.Errorf("%s %s: %v", tc.id, wayNames[way], err)
				continue
			}
			passed[s][way]++
		}
	}
	var sum [ways]int
	row := func(name any, n int, p *[ways]int) {
		t.Logf("| %v | %d | %d | %d | %d |", name, n, p[asWritten], p[octets], p[atRandom])
	}
	t.Logf("| section | cases | %s |", strings.Join(wayNames[:], " | "))
	for _, s := range []int{1, 2, 3, 4, 5, 6, 7, 10} {
		row(s, count[s], passed[s])
		for i := range sum {
			sum[i] += passed[s][i]
		}
	}
	row("all", len(all), &sum)
}
