package admin

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/health"
)

// Health is what /healthz and /readyz answer.
type Health struct {
	Verdict      string  `json:"verdict"` // ok, degraded, unready, starting, draining, stopping, down
	Live         bool    `json:"live"`
	Ready        bool    `json:"ready"`
	State        string  `json:"state"` // what the supervisor says
	StateSeconds float64 `json:"state_seconds"`
	Why          string  `json:"why"` // a sentence, "" if all is well
}

func healthOf(v *health.Verdict) Health {
	return Health{Verdict: v.Word(), Live: v.Live, Ready: v.Ready, State: v.State.String(), StateSeconds: sinceMono(v.Since), Why: v.Why}
}

func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	v, _ := s.look()
	s.probe(w, r, &v, v.Live)
}

func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	v, _ := s.look()
	s.probe(w, r, &v, v.Ready)
}

func (s *Server) probe(w http.ResponseWriter, r *http.Request, v *health.Verdict, yes bool) {
	status := http.StatusOK
	if !yes {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	}
	h := healthOf(v)
	answer(w, r, status, h, func(w io.Writer) { h.text(w) })
}

func (h *Health) text(w io.Writer) {
	fmt.Fprint(w, h.Verdict)
	if h.Why != "" {
		fmt.Fprint(w, ": ", h.Why)
	}
	fmt.Fprintln(w)
}

// Status is what /statusz answers.
type Status struct {
	Health
	Name          string   `json:"name"`
	Version       string   `json:"version"`
	Started       string   `json:"started"` // RFC 3339, of the instance's memory
	UptimeSeconds float64  `json:"uptime_seconds"`
	SupervisorPid int      `json:"supervisor_pid"`
	Listen        []string `json:"listen"`
	Connections   uint64   `json:"connections"`
	Clients       uint64   `json:"clients"` // of these, that stream
	Memory        Memory   `json:"memory"`

	Steering *Steering `json:"steering"` // null: the kernel's hash decides, or there is but one network tile
}

// Memory is the region of an instance.
type Memory struct {
	Path          string `json:"path"`
	Bytes         uint64 `json:"bytes"`
	PageBytes     uint64 `json:"page_bytes"`
	Backing       string `json:"backing"`
	Numa          string `json:"numa"`     // nodes that it lies on, "" if the kernel was not told
	Fallback      string `json:"fallback"` // why it is not on better pages, "" if it is
	UsedBytes     uint64 `json:"used_bytes"`
	WorkspaceSize uint64 `json:"workspace_bytes"`
}

func (s *Server) memory() Memory {
	r := s.in.Region
	m := Memory{Path: r.Path(), Bytes: r.Size(), PageBytes: r.PageSize(), Backing: r.Backing(), Numa: r.Numa().String(), Fallback: r.Fallback()}
	if u, err := s.in.Wksp.Usage(); err == nil {
		m.UsedBytes, m.WorkspaceSize = u.UsedBytes, u.Size
	}
	return m
}

// counter sums a counter of all network tiles.
func (s *Server) counter(name string) (n uint64) {
	for i := range int(s.in.Server.Params().TileCnt) {
		if c, err := s.in.Server.Counters(i); err == nil {
			if cell := c.Lookup(name); cell != nil {
				n += cell.Load()
			}
		}
	}
	return n
}

func (s *Server) statusz(w http.ResponseWriter, r *http.Request) {
	v, _ := s.look()
	i := &s.in.Info
	began := time.Unix(0, i.Started)
	st := Status{
		Health: healthOf(&v), Name: i.Name, Version: s.version, Started: began.UTC().Format(time.RFC3339),
		UptimeSeconds: seconds(time.Since(began).Nanoseconds()), SupervisorPid: s.in.Supervisor(), Listen: i.Listen,
		Connections: s.counter("conns_now"), Clients: s.counter("ws_now"), Memory: s.memory(), Steering: s.steering(),
	}
	answer(w, r, http.StatusOK, st, func(w io.Writer) {
		st.text(w)
		table(w, func(row func(...any)) {
			row("instance", st.Name)
			row("version", st.Version)
			row("uptime", short(st.UptimeSeconds))
			row("clients", st.Clients)
			row("connections", st.Connections)
			row("memory", fmt.Sprintf("%d MiB on %s (%s)", st.Memory.Bytes>>20, st.Memory.Backing, st.Memory.Path))
			if d := st.Steering; d != nil {
				row("steering", fmt.Sprintf("%s, %d live tiles; %d selected, %d fell back, %d passed, %d migrated", d.Mode, d.Live, d.Selected, d.FellBack, d.Passed, d.Migrated))
			}
			for _, l := range st.Listen {
				row("listen", l)
			}
		})
	})
}

func (s *Server) index(w http.ResponseWriter, r *http.Request) {
	paths := []string{"/healthz", "/readyz", "/statusz", "/tilez", "/ringz", "/clientz", "/configz", "/publish/{topic}"}
	answer(w, r, http.StatusOK, map[string]any{"name": s.in.Info.Name, "endpoints": paths}, func(w io.Writer) {
		for _, p := range paths {
			fmt.Fprintln(w, p)
		}
	})
}
