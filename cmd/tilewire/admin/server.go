package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/health"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv/steer"
	"github.com/tilewire/tilewire/shmem"
)

// What those who ask are held to. All of them are trusted, and some of them are broken.
const (
	maxConns       = 64      // at once; more wait in the backlog
	maxHeaderBytes = 8 << 10 // of a request's head
	maxMessage     = 1 << 20 // of a message to be published
	headerTimeout  = 5 * time.Second
	requestTimeout = 15 * time.Second // for a whole request
	answerTimeout  = 15 * time.Second // for a whole answer
	idleTimeout    = 30 * time.Second // between two requests
	endTimeout     = time.Second      // for answers in progress when the server ends
)

// Server answers for one instance.
type Server struct {
	in      *instance.Instance
	version string
	mux     *http.ServeMux

	mu    sync.Mutex // of the judge
	judge *health.Judge

	steered *steer.View // nil: not steered

	scan sync.Mutex // one walk over the connections at a time
	pub  sync.Mutex // one message at a time
}

// New returns a server for in, which must stay joined while it serves. version is what /statusz calls the build,
// steered the shared array of its steering, nil: there is none.
func New(in *instance.Instance, version string, steered *steer.View) (*Server, error) {
	j, err := health.New(in)
	if err != nil {
		return nil, err
	}
	s := &Server{in: in, version: version, judge: j, steered: steered, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /healthz", s.healthz)
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.mux.HandleFunc("GET /statusz", s.statusz)
	s.mux.HandleFunc("GET /tilez", s.tilez)
	s.mux.HandleFunc("GET /ringz", s.ringz)
	s.mux.HandleFunc("GET /clientz", s.clientz)
	s.mux.HandleFunc("GET /configz", s.configz)
	s.mux.HandleFunc("POST /publish/{topic}", s.publish)
	s.mux.HandleFunc("GET /{$}", s.index)
	return s, nil
}

// look is the judge's verdict now, with a copy of its tiles.
func (s *Server) look() (health.Verdict, []health.Tile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.judge.Look(shmem.Monotonic())
	return v, append([]health.Tile(nil), s.judge.Tiles()...)
}

// Handler returns the endpoints. Pages of other origins can neither send anything (cross-origin writes are refused) nor read
// it: where a browser gets here by TCP, the Host must be an address or localhost, so that no name can be bound to it.
func (s *Server) Handler() http.Handler {
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusForbidden, "a page of another origin may not do this")
	}))
	h := origin.Handler(http.HandlerFunc(s.route))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && a.Network() == "tcp" && !ownHost(r.Host) {
			fail(w, http.StatusMisdirectedRequest, "Host "+r.Host+" is neither an address nor localhost")
			return
		}
		h.ServeHTTP(w, r)
	})
}

// route is the mux, whose own refusals are in the words of the others.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	h, pattern := s.mux.Handler(r)
	if pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	no := refusal{h: w.Header()}
	h.ServeHTTP(&no, r)
	fail(w, no.code, fmt.Sprintf("%s %s: %s; / lists what there is", r.Method, r.URL.Path, strings.ToLower(http.StatusText(no.code))))
}

// refusal takes the status and header of what the mux answers by itself.
type refusal struct {
	h    http.Header
	code int
}

func (f *refusal) Header() http.Header         { return f.h }
func (f *refusal) WriteHeader(code int)        { f.code = code }
func (f *refusal) Write(b []byte) (int, error) { return len(b), nil }

func ownHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil || host == "localhost"
}

// Serve answers those who connect to l until ctx ends, then lets answers in progress end. Errors: those of l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler: s.Handler(), MaxHeaderBytes: maxHeaderBytes, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout,
		WriteTimeout: answerTimeout, IdleTimeout: idleTimeout, ErrorLog: log.New(io.Discard, "", 0),
	}
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(over)
		end, cancel := context.WithTimeout(context.Background(), endTimeout)
		defer cancel()
		if h.Shutdown(end) != nil {
			_ = h.Close()
		}
	})
	err := h.Serve(newLimited(l, maxConns))
	if stop() { // ended by itself
		_ = h.Close()
		return err
	}
	<-over
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return err
}
