package swarm

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"
)

func TestRoles(t *testing.T) {
	for _, o := range []Options{
		{Clients: 1}, {Clients: 5, StallClients: 5}, {Clients: 2000, StallClients: 5},
		{Clients: 1000, StallClients: 3, SlowClients: 7}, {Clients: 10, StallClients: 7, SlowClients: 3},
		{Clients: 100, Idle: 10000, SlowClients: 1}, {Clients: 3, Idle: 1, StallClients: 1, SlowClients: 2},
	} {
		var n [4]int
		for _, r := range roles(o) {
			n[r]++
		}
		if want := [4]int{o.Clients - o.StallClients - o.SlowClients, o.StallClients, o.SlowClients, o.Idle}; n != want {
			t.Errorf("%+v: %v, want %v", o, n, want)
		}
	}
	if Role(9).String() != "unknown" || Slow.String() != "slow" {
		t.Error("names")
	}
}

// TestReportJSON brings a report through JSON, as a process that runs a swarm of its own hands it on.
func TestReportJSON(t *testing.T) {
	a := Report{Clients: 3, EndGroups: []EndGroup{{Slow, EndClosed, 4001, "lagged", 2}}, Faults: Faults{Gaps: 1, First: []string{"x"}}}
	p, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var b Report
	if err := json.Unmarshal(p, &b); err != nil || !reflect.DeepEqual(a, b) {
		t.Fatalf("%v\n%+v\n%+v", err, a, b)
	}
	var r Role
	if err := r.UnmarshalText([]byte("lazy")); !errors.Is(err, ErrOptions) {
		t.Fatal(err)
	}
}
