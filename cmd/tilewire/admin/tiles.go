package admin

import (
	"io"
	"net/http"

	"github.com/tilewire/tilewire/cmd/tilewire/health"
	"github.com/tilewire/tilewire/tile"
)

// Tile is a row of /tilez.
type Tile struct {
	Tile             string            `json:"tile"` // kind:id
	Kind             string            `json:"kind"`
	ID               int               `json:"id"`
	Condition        string            `json:"condition"` // well, or what else (package health)
	Held             bool              `json:"held"`      // by a live process
	Pid              int               `json:"pid"`       // 0: never started
	Signal           string            `json:"signal"`
	HeartbeatSeconds *float64          `json:"heartbeat_age_seconds"` // null: none yet
	CPU              *int              `json:"cpu"`                   // null: floats
	Restarts         int               `json:"restarts"`
	UptimeSeconds    float64           `json:"uptime_seconds"` // of a tile that lives
	Cause            string            `json:"cause"`          // why it failed
	Counters         map[string]uint64 `json:"counters"`       // of a network tile
	Steering         *SteeredTile      `json:"steering"`       // null: not steered
}

// TileOf is the row of a tile at a look.
func TileOf(t *health.Tile) Tile {
	row := Tile{
		Tile: t.Name, Kind: t.Kind, ID: t.ID, Condition: t.Condition.String(), Held: t.Held, Pid: t.Pid, Signal: t.Signal.String(),
		Restarts: t.Restarts, Cause: t.Cause, Counters: map[string]uint64{},
	}
	if t.Age >= 0 {
		age := seconds(t.Age.Nanoseconds())
		row.HeartbeatSeconds = &age
	}
	if t.CPU != tile.Float {
		cpu := t.CPU
		row.CPU = &cpu
	}
	if t.Held {
		row.UptimeSeconds = sinceMono(t.Start)
	}
	return row
}

func (s *Server) tilez(w http.ResponseWriter, r *http.Request) {
	v, tiles := s.look()
	steered := s.steered.Stats()
	rows := make([]Tile, len(tiles))
	for i := range tiles {
		rows[i] = TileOf(&tiles[i])
		if t := &tiles[i]; t.Kind == health.KindNet && t.ID < int(s.in.Server.Params().TileCnt) {
			if t.ID < len(steered.Tiles) {
				d := SteeredTile(steered.Tiles[t.ID])
				rows[i].Steering = &d
			}
			if c, err := s.in.Server.Counters(t.ID); err == nil {
				for k, name := range c.Names() {
					rows[i].Counters[name] = c.Cell(k).Load()
				}
			}
		}
	}
	answer(w, r, http.StatusOK, map[string]any{"verdict": v.Word(), "why": v.Why, "tiles": rows}, func(w io.Writer) { TilesText(w, rows) })
}

// TilesText writes rows for people.
func TilesText(w io.Writer, rows []Tile) {
	table(w, func(row func(...any)) {
		row("tile", "pid", "condition", "signal", "heartbeat", "cpu", "restarts", "clients", "accepted", "delivered", "cause")
		for _, t := range rows {
			beat, cpu, clients, accepted, delivered := any(""), any("float"), any(""), any(""), any("")
			if t.HeartbeatSeconds != nil {
				beat = short(*t.HeartbeatSeconds)
			}
			if t.CPU != nil {
				cpu = *t.CPU
			}
			if n, ok := t.Counters["ws_now"]; ok {
				clients, accepted, delivered = n, t.Counters["accepted"], t.Counters["delivered"]
			}
			row(t.Tile, t.Pid, t.Condition, t.Signal, beat, cpu, t.Restarts, clients, accepted, delivered, t.Cause)
		}
	})
}
