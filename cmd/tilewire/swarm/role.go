package swarm

import "fmt"

// Role says how a client behaves.
type Role uint8

const (
	Healthy  Role = iota // reads at once
	Stalling             // stops reading after StallAfter messages
	Slow                 // reads SlowBytes per SlowInterval
	Idle                 // upgrades on IdlePath and expects no message
)

// String returns the role's name, "unknown" for anything else.
func (r Role) String() string {
	switch r {
	case Healthy:
		return "healthy"
	case Stalling:
		return "stalling"
	case Slow:
		return "slow"
	case Idle:
		return "idle"
	}
	return "unknown"
}

// MarshalText gives the name, for JSON.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText takes what MarshalText gave; ErrOptions for any other name.
func (r *Role) UnmarshalText(p []byte) error {
	for k := Healthy; k <= Idle; k++ {
		if k.String() == string(p) {
			*r = k
			return nil
		}
	}
	return fmt.Errorf("%w: role %q", ErrOptions, p)
}

// roles spreads the roles evenly over the order of dialling, so that a server which goes through
// its clients in that order meets idle and stalled ones everywhere.
func roles(o Options) []Role {
	total := o.Clients + o.Idle
	rs := make([]Role, total)
	for i := range rs {
		rs[i] = Idle
	}
	busy := make([]int, o.Clients)
	for b := range busy {
		busy[b] = b * total / o.Clients
		rs[busy[b]] = Healthy
	}
	odd := o.StallClients + o.SlowClients
	for k := range odd {
		r := Stalling
		if k >= o.StallClients {
			r = Slow
		}
		// The stalling ones get even places among the odd ones, the slow ones the rest.
		place := k
		if o.StallClients > 0 && o.SlowClients > 0 {
			place = mixed(k, o.StallClients, odd)
		}
		rs[busy[place*o.Clients/odd]] = r
	}
	return rs
}

// mixed returns the place of the k-th of odd clients, of which the first stall ones are to be spread
// evenly among the others.
func mixed(k, stall, odd int) int {
	if k < stall {
		return k * odd / stall
	}
	want := k - stall
	for place, s := 0, 0; ; place++ {
		if s < stall && place == s*odd/stall {
			s++
			continue
		}
		if want == 0 {
			return place
		}
		want--
	}
}
