package instance

import (
	"errors"
	"os"
	"time"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// TileStatus is what the shared memory and the kernel's locks say of a tile. It needs no supervisor, and works after a
// crash.
type TileStatus struct {
	Kind     string        `json:"kind"`
	ID       int           `json:"id"`
	State    string        `json:"state"` // absent booting running leaving stuck stopping ended failed killed
	Pid      int           `json:"pid"`   // of its last process, 0: none yet
	CPU      int           `json:"cpu"`   // tile.Float: not pinned
	Age      time.Duration `json:"heartbeat_age_ns"`
	Restarts int           `json:"restarts"`
	Cause    string        `json:"cause,omitempty"` // of a failure
}

// Status is what there is to know of an instance from outside.
type Status struct {
	Name   string       `json:"name"`
	State  string       `json:"state"` // starting ready draining stopping, or without a supervisor: unserved made crashed; or of another build
	Since  int64        `json:"since_monotonic_ns"`
	Pid    int          `json:"supervisor_pid"` // of the last one
	Listen []string     `json:"listen"`
	Tiles  []TileStatus `json:"tiles"`

	Settings uint64 `json:"settings_generation"`
}

// fresh is the age from which on a heartbeat is stale, where the settings do not say.
const fresh = 2 * time.Second

// Status looks at the instance, of which joined says how many processes are joined besides this one. It may be joined
// read-only.
func (in *Instance) Status(joined int) Status {
	st, since := in.life.State()
	s := Status{Name: in.Info.Name, State: st.String(), Since: since, Pid: in.life.Pid(), Listen: in.Info.Listen,
		Settings: in.life.Generation(), Tiles: []TileStatus{}}
	if !in.Owned() {
		switch {
		case joined > 0:
			s.State = "unserved"
		case in.keeps():
			s.State = "made"
		default:
			s.State = "crashed"
		}
	}
	var v Settings
	if _, err := in.life.Settings(&v); err != nil || v.HeartbeatTimeout <= 0 {
		v.HeartbeatTimeout = fresh
	}
	for _, t := range in.Tiles() {
		m, err := in.Cnc(t)
		if err != nil {
			continue
		}
		c, err := tile.CncJoin(m)
		if err != nil {
			s.Tiles = append(s.Tiles, TileStatus{Kind: t.Kind, ID: t.ID, State: "damaged", Cause: err.Error(), Age: -1, CPU: tile.Float})
			continue
		}
		leaves := t.Kind == KindNet && v.Nets > 0 && t.ID >= v.Nets
		if leaves && !c.Held() { // not in use
			continue
		}
		row := tileStatus(c, shmem.Monotonic(), v.HeartbeatTimeout)
		if leaves && row.State == "running" {
			row.State = "leaving"
		}
		s.Tiles = append(s.Tiles, row)
	}
	return s
}

func tileStatus(c *tile.Cnc, now int64, stale time.Duration) TileStatus {
	held, sig := c.Held(), c.Signal()
	s := TileStatus{Kind: c.Kind(), ID: c.ID(), Pid: c.Pid(), CPU: c.CPU(), Restarts: c.Restarts(), Cause: c.Cause(), Age: -1}
	if hb := c.Heartbeat(); hb > 0 {
		s.Age = time.Duration(max(now-hb, 0))
	}
	switch {
	case !held && c.Start() == 0:
		s.State = "absent"
	case !held && sig == tile.SignalBoot:
		s.State = "ended"
	case sig == tile.SignalFail:
		s.State = "failed"
	case !held:
		s.State = "killed"
	case sig == tile.SignalBoot:
		s.State = "booting"
	case sig == tile.SignalHalt:
		s.State = "stopping"
	case s.Age > stale:
		s.State = "stuck"
	default:
		s.State = "running"
	}
	return s
}

// All returns the status of every instance of this host that this user may look into, or that crashes left.
func All() ([]Status, error) {
	regions, err := shmem.List()
	list := []Status{}
	for _, r := range regions {
		if r.Err != nil {
			continue
		}
		in, e := Join(r.Name, shmem.ReadOnly)
		if e != nil { // something else's, another user's, or gone meanwhile
			if !errors.Is(e, ErrForeign) && !errors.Is(e, ErrNone) && !errors.Is(e, shmem.ErrPermission) {
				err = errors.Join(err, e)
			}
			if ofAnotherBuild(r.Name, e) {
				list = append(list, Status{Name: r.Name, State: "of another build", Listen: []string{}, Tiles: []TileStatus{}})
			}
			continue
		}
		joined := 0
		for _, j := range r.Joiners {
			if j.Pid != os.Getpid() {
				joined++
			}
		}
		list = append(list, in.Status(joined))
		err = errors.Join(err, in.Leave())
	}
	return list, err
}
