package admin

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

// ErrQuery: a query's sort, state or limit is none that there is; the text says which there are.
var ErrQuery = errors.New("query")

// Query says which connections are wanted.
type Query struct {
	Sort  string // lag: most messages behind; age: oldest first; bytes: sent most; of closed ones also time: the last closed first
	State string // open or closed
	Limit int    // rows at most, 1 to MaxLimit
}

// MaxLimit is the most rows that a Query may ask for.
const MaxLimit = 10_000

// DefaultQuery is what is wanted by who does not say.
var DefaultQuery = Query{Sort: "lag", State: "open", Limit: 100}

// orders gives for each Sort what comes first; of equals the one in the lower tile and slot does.
var orders = map[string]func(a, b *httpsrv.Client) int{
	"lag": func(a, b *httpsrv.Client) int {
		return cmp.Or(cmp.Compare(b.LagMessages, a.LagMessages), cmp.Compare(b.LagBytes, a.LagBytes))
	},
	"age":   func(a, b *httpsrv.Client) int { return cmp.Compare(a.Opened, b.Opened) },
	"bytes": func(a, b *httpsrv.Client) int { return cmp.Compare(b.Sent, a.Sent) },
}

func (q *Query) check() error {
	switch {
	case q.State == "closed" && closedOrders[q.Sort] == nil:
		return fmt.Errorf("%w: sort %q: one of time, lag, age, bytes", ErrQuery, q.Sort)
	case q.State == "open" && orders[q.Sort] == nil:
		return fmt.Errorf("%w: sort %q: one of lag, age, bytes", ErrQuery, q.Sort)
	case q.State != "open" && q.State != "closed":
		return fmt.Errorf("%w: state %q: one of open, closed", ErrQuery, q.State)
	case q.Limit < 1 || q.Limit > MaxLimit:
		return fmt.Errorf("%w: limit %d: 1 to %d", ErrQuery, q.Limit, MaxLimit)
	}
	return nil
}

// Client is a row of /clientz.
type Client struct {
	ID          string   `json:"id"` // tile.slot.generation: of this connection alone
	Tile        string   `json:"tile"`
	TileHeld    bool     `json:"tile_held"` // false: its tile is dead, and this is what it left
	Peer        string   `json:"peer"`      // "unix": by a unix socket
	Transport   string   `json:"transport"` // ws or http
	State       string   `json:"state"`
	Topic       string   `json:"topic"` // "" where none is followed
	AgeSeconds  float64  `json:"age_seconds"`
	LagMessages uint64   `json:"lag_messages"`
	LagBytes    uint64   `json:"lag_bytes"`
	LagSeconds  float64  `json:"lag_seconds"`
	Blocked     bool     `json:"blocked"` // the kernel takes nothing more for it now
	Pending     uint32   `json:"pending_messages"`
	Sent        uint64   `json:"sent_bytes"`
	Received    uint64   `json:"received_bytes"`
	RTTSeconds  *float64 `json:"rtt_seconds"` // null: not known
	App         *int     `json:"app"`         // application in another process, null: none
	Reason      string   `json:"reason"`      // while it is being closed
}

// List is what /clientz and `tilewire clients` give.
type List struct {
	Sort    string   `json:"sort"`
	State   string   `json:"state"`
	Total   int      `json:"total"` // connections there are
	Clients []Client `json:"clients"`
}

// Clients reads the connections of an instance, which may be joined read-only, and keeps the first q.Limit in the order asked for.
// Errors: ErrQuery, also for closed ones, which ClosedClients lists.
func Clients(in *instance.Instance, q Query) (List, error) {
	l := List{Sort: q.Sort, State: q.State, Clients: []Client{}}
	if err := q.check(); err != nil {
		return l, err
	}
	if q.State != "open" {
		return l, fmt.Errorf("%w: state %q", ErrQuery, q.State)
	}
	order := orders[q.Sort]
	before := func(a, b httpsrv.Client) int { return cmp.Or(order(&a, &b), cmp.Compare(uint32(a.ID), uint32(b.ID))) }
	var top []httpsrv.Client
	in.Server.Clients(func(c *httpsrv.Client) bool {
		l.Total++
		if len(top) == q.Limit {
			if before(*c, top[len(top)-1]) >= 0 {
				return true
			}
			top = top[:len(top)-1]
		}
		at, _ := slices.BinarySearchFunc(top, *c, before)
		top = slices.Insert(top, at, *c)
		return true
	})
	now := shmem.Monotonic()
	held := map[int]bool{}
	for i := range int(in.Server.Params().TileCnt) {
		held[i] = in.Server.TileHeld(i)
	}
	for i := range top {
		l.Clients = append(l.Clients, clientOf(&top[i], now, held[top[i].ID.Tile()], &in.Info))
	}
	return l, nil
}

func clientOf(c *httpsrv.Client, now int64, held bool, info *instance.Info) Client {
	row := Client{
		ID: c.ID.String(), Tile: "net:" + strconv.Itoa(c.ID.Tile()), TileHeld: held, Peer: "unix", Transport: "http", State: c.State,
		AgeSeconds: seconds(now - c.Opened), LagMessages: c.LagMessages, LagBytes: c.LagBytes, LagSeconds: seconds(c.LagTime),
		Blocked: c.Blocked, Pending: c.Pending, Sent: c.Sent, Received: c.Received,
	}
	if c.Peer.IsValid() {
		row.Peer = c.Peer.String()
	}
	if c.Ws {
		row.Transport = "ws"
	}
	row.Topic = info.TopicOf(c.Ring)
	if c.RTT > 0 {
		rtt := c.RTT.Seconds()
		row.RTTSeconds = &rtt
	}
	if c.App >= 0 {
		app := c.App
		row.App = &app
	}
	if c.State == "closing" || c.State == "linger" {
		row.Reason = c.Reason.Name()
	}
	return row
}

// Text writes the list for people.
func (l List) Text(w io.Writer) {
	table(w, func(row func(...any)) {
		row("id", "peer", "transport", "state", "topic", "age", "lag", "bytes", "seconds", "blocked", "sent", "rtt", "reason")
		for _, c := range l.Clients {
			rtt := ""
			if c.RTTSeconds != nil {
				rtt = short(*c.RTTSeconds)
			}
			blocked := ""
			if c.Blocked {
				blocked = "yes"
			}
			row(c.ID, c.Peer, c.Transport, c.State, c.Topic, short(c.AgeSeconds), c.LagMessages, c.LagBytes, c.LagSeconds, blocked, c.Sent, rtt, c.Reason)
		}
	})
	if n := l.Total - len(l.Clients); n > 0 {
		fmt.Fprintf(w, "%d more\n", n)
	}
}

// parseQuery reads ?sort=&state=&limit=.
func parseQuery(v url.Values) (q Query, err error) {
	q = DefaultQuery
	if v.Get("state") == "closed" {
		q.Sort = "time"
	}
	for key, to := range map[string]*string{"sort": &q.Sort, "state": &q.State} {
		if s := v.Get(key); s != "" {
			*to = s
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil {
			return q, fmt.Errorf("%w: limit %q is no number", ErrQuery, s)
		}
	}
	return q, q.check()
}

func (s *Server) clientz(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	s.scan.Lock()
	doc, text, err := Look(s.in, q)
	s.scan.Unlock()
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	answer(w, r, http.StatusOK, doc, text)
}

// Look is Clients or ClosedClients, as q says: the document, and what writes it for people.
func Look(in *instance.Instance, q Query) (doc any, text func(io.Writer), err error) {
	if q.State == "closed" {
		l, err := ClosedClients(in, q)
		return l, l.Text, err
	}
	l, err := Clients(in, q)
	return l, l.Text, err
}
