package health

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
)

const (
	// staleAfter is the age from which on a heartbeat is stale where the settings do not say.
	staleAfter = 2 * time.Second
	// askEvery is how old what Ask says may be.
	askEvery = 100 * time.Millisecond
)

// Verdict is how an instance is.
type Verdict struct {
	Live  bool
	Ready bool
	Whole bool // every network tile runs that is to, but those that were given up
	State instance.State
	Since int64  // CLOCK_MONOTONIC ns, of the state
	Why   string // one sentence: why it is not ready, or what is amiss all the same; "" if nothing is
}

// Word sums it up: ok, degraded (it serves, but something is amiss), starting, draining, stopping, unready or down.
func (v *Verdict) Word() string {
	switch {
	case !v.Live:
		return "down"
	case v.Ready && v.Why == "":
		return "ok"
	case v.Ready:
		return "degraded"
	case v.State != instance.Ready:
		return v.State.String()
	}
	return "unready"
}

// Judge looks at one instance. It belongs to one goroutine. It writes nothing into shared memory.
type Judge struct {
	in    *instance.Instance
	tiles []Tile
	shown []Tile // of these, that there are
	nets  int    // network tiles that are to serve, 0: all
	down  []int  // of these, that were given up
	stale time.Duration
	gen   uint64 // of the settings that stale is from
	last  Verdict
	at    int64 // when last was given, 0: never
}

// New returns a judge of in, which may be joined read-only, for as long as it is joined. Errors: a cnc that is none.
func New(in *instance.Instance) (*Judge, error) {
	j := &Judge{in: in, stale: staleAfter}
	for _, t := range in.Tiles() {
		row, err := joinTile(in, t)
		if err != nil {
			return nil, err
		}
		j.tiles = append(j.tiles, row)
	}
	return j, nil
}

// Look judges at now (shmem.Monotonic). One fcntl(2) a tile. It allocates only when something is amiss or settings changed.
func (j *Judge) Look(now int64) Verdict {
	j.settings()
	j.shown = j.shown[:0]
	v := Verdict{Live: true, Ready: true, Whole: true}
	v.State, v.Since = j.in.Life().State()
	nets, up, stuck := 0, 0, 0
	aside, soft := "", "" // soft: of a network tile that is being started, and whose work others do meanwhile
	for i := range j.tiles {
		t := &j.tiles[i]
		t.look(now, j.stale)
		if j.beyond(t) {
			if t.Held {
				if t.Condition == Well {
					t.Condition = Leaving // until the next look
				} else if why := t.amiss(); why != "" { // its clients are not served
					aside = why
				}
				j.shown = append(j.shown, *t)
			}
			continue
		}
		j.shown = append(j.shown, *t)
		if t.Kind == KindNet {
			nets++
			if t.Condition == Well {
				up++
			}
			if t.Condition == Stale || t.Condition == Failed && !t.Held {
				stuck++
			}
		}
		why := t.amiss()
		switch {
		case why == "":
		case t.Kind == KindAdmin:
			aside = why
		case t.Kind == KindNet && slices.Contains(j.down, t.ID):
			aside = fmt.Sprintf("%s was given up; the other network tiles serve", t.Name)
		case t.Kind == KindNet && (t.Condition == Starting || t.Condition == Died || t.Condition == Unused || t.Condition == Ended || t.Condition == Ending):
			soft, v.Whole = why, false
		case v.Ready:
			v.Ready, v.Why = false, why
		}
	}
	switch {
	case up == 0 && nets > 0 && v.Ready:
		v.Ready, v.Why = false, cmp.Or(soft, aside, "no network tile serves")
	case soft != "":
		aside = soft
	}
	if nets > 0 && stuck == nets {
		v.Live = false
	}
	if v.State != instance.Ready {
		v.Ready, v.Why = false, "the instance is "+v.State.String()
	}
	if !j.in.Owned() {
		v.Live, v.Ready, v.Why = false, false, "the instance has no supervisor"
	}
	if v.Ready {
		v.Why = aside
	}
	j.last, j.at = v, now
	return v
}

// Ask is Look for who is asked often: it looks when the last look was 100 ms ago, or the supervisor has said something since.
func (j *Judge) Ask(now int64) *Verdict {
	if state, since := j.in.Life().State(); j.at == 0 || now-j.at >= askEvery.Nanoseconds() || state != j.last.State || since != j.last.Since {
		j.Look(now)
	}
	return &j.last
}

// beyond reports whether t is a network tile that is not to serve, or not any more.
func (j *Judge) beyond(t *Tile) bool { return t.Kind == KindNet && j.nets > 0 && t.ID >= j.nets }

// Tiles returns the tiles as of the last look, without network tiles that are not in use. The rows are the judge's: the next look overwrites them.
func (j *Judge) Tiles() []Tile { return j.shown }

// settings takes over the heartbeat timeout in force.
func (j *Judge) settings() {
	gen := j.in.Life().Generation()
	if gen == j.gen {
		return
	}
	var s struct {
		HeartbeatTimeout time.Duration `json:"heartbeat_timeout"`
		Nets             int           `json:"net_tile_count"`
		Down             []int         `json:"given_up"`
	}
	if _, err := j.in.Life().Settings(&s); err != nil {
		return // what was in force stays; the next look tries again
	}
	j.gen, j.stale, j.nets, j.down = gen, staleAfter, s.Nets, s.Down
	if s.HeartbeatTimeout > 0 {
		j.stale = s.HeartbeatTimeout
	}
}
