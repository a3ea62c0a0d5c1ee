package admin

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
)

// Config is what /configz answers: what is in force, wherever it came from.
type Config struct {
	Name       string           `json:"name"`
	RunDir     string           `json:"run_dir"`
	Listen     []string         `json:"listen"`
	Topics     []instance.Topic `json:"topics"`
	Shape      httpsrv.Params   `json:"shape"` // of the server's memory; needs a restart to change
	Generation uint64           `json:"settings_generation"`
	Settings   map[string]any   `json:"settings"` // what the tiles were told; durations in ns
}

func (s *Server) config() (Config, error) {
	i := &s.in.Info
	c := Config{Name: i.Name, RunDir: i.RunDir, Listen: i.Listen, Topics: i.Topics, Shape: s.in.Server.Params(), Settings: map[string]any{}}
	var err error
	c.Generation, err = s.in.Life().Settings(&c.Settings)
	redact(c.Settings)
	return c, err
}

// secretive are parts of the names of keys whose values nobody is shown.
var secretive = []string{"secret", "token", "password", "private", "credential"}

// redact hides the values of keys that are secret by their names, so that one that comes to be is hidden from the first day.
func redact(v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, val := range v {
			if slices.ContainsFunc(secretive, func(s string) bool { return strings.Contains(strings.ToLower(key), s) }) {
				v[key] = "(redacted)"
				continue
			}
			redact(val)
		}
	case []any:
		for _, val := range v {
			redact(val)
		}
	}
}

func (s *Server) configz(w http.ResponseWriter, r *http.Request) {
	c, err := s.config()
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	answer(w, r, http.StatusOK, c, func(w io.Writer) {
		table(w, func(row func(...any)) {
			row("name", c.Name)
			row("run_dir", c.RunDir)
			row("listen", strings.Join(c.Listen, " "))
			for _, t := range c.Topics {
				row("topic."+t.Name+".history", t.History)
			}
			row("settings_generation", c.Generation)
			flat("settings", c.Settings, row)
		})
	})
}

// Units of the durations among the settings, as in the names of the keys of the configuration.
var (
	inSeconds = []string{"max_lag", "ping_interval", "pong_timeout"}
	inMillis  = []string{"header_timeout", "body_timeout", "idle_timeout", "write_timeout", "grace", "drain", "lame_duck", "linger", "over", "heartbeat_timeout"}
)

// flat writes nested keys as one row each, in order; durations in the unit of their key, which is put behind the name.
func flat(key string, v any, row func(...any)) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			flat(key+"."+k, v[k], row)
		}
	case float64: // a number of JSON
		switch name := key[strings.LastIndexByte(key, '.')+1:]; {
		case slices.Contains(inSeconds, name):
			key, v = key+"_seconds", v/1e9
		case slices.Contains(inMillis, name):
			key, v = key+"_millis", v/1e6
		}
		row(key, strconv.FormatFloat(v, 'f', -1, 64))
	default:
		row(key, fmt.Sprint(v))
	}
}
