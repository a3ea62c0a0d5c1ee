package admin

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
)

// ClosedClient is a row of /clientz?state=closed.
type ClosedClient struct {
	ID            string  `json:"id"` // tile.slot.generation
	Tile          string  `json:"tile"`
	Peer          string  `json:"peer"`      // "unix": by a unix socket
	Transport     string  `json:"transport"` // ws or http
	Topic         string  `json:"topic"`     // "" where none was followed
	ClosedSeconds float64 `json:"closed_seconds"`
	LastedSeconds float64 `json:"lasted_seconds"`
	Reason        string  `json:"reason"`
	Text          string  `json:"text"` // the reason in words
	Code          uint16  `json:"code"` // of the client's close frame, 0: it sent none
	LagMessages   uint64  `json:"lag_messages"`
	LagBytes      uint64  `json:"lag_bytes"`
	Sent          uint64  `json:"sent_bytes"`
	Received      uint64  `json:"received_bytes"`
}

// ClosedList is what /clientz?state=closed and `tilewire clients --state closed` give.
type ClosedList struct {
	Sort    string         `json:"sort"`
	State   string         `json:"state"`
	Total   int            `json:"total"` // that are remembered: the last 256 of each network tile
	Clients []ClosedClient `json:"clients"`
}

var closedOrders = map[string]func(a, b *httpsrv.Closed) int{
	"time": func(a, b *httpsrv.Closed) int { return cmp.Compare(b.At, a.At) },
	"lag": func(a, b *httpsrv.Closed) int {
		return cmp.Or(cmp.Compare(b.LagMessages, a.LagMessages), cmp.Compare(b.LagBytes, a.LagBytes))
	},
	"age":   func(a, b *httpsrv.Closed) int { return cmp.Compare(b.At-b.Opened, a.At-a.Opened) },
	"bytes": func(a, b *httpsrv.Closed) int { return cmp.Compare(b.Sent, a.Sent) },
}

// ClosedClients reads the connections that are gone, those of an instance that may be joined read-only. Errors: ErrQuery.
func ClosedClients(in *instance.Instance, q Query) (ClosedList, error) {
	l := ClosedList{Sort: q.Sort, State: q.State, Clients: []ClosedClient{}}
	if err := q.check(); err != nil {
		return l, err
	}
	var all []httpsrv.Closed
	for i := range int(in.Server.Params().TileCnt) {
		in.Server.Closed(i, func(c *httpsrv.Closed) bool {
			all = append(all, *c)
			return true
		})
	}
	order := closedOrders[q.Sort]
	slices.SortStableFunc(all, func(a, b httpsrv.Closed) int { return cmp.Or(order(&a, &b), cmp.Compare(b.At, a.At)) })
	l.Total = len(all)
	now := shmem.Monotonic()
	for _, c := range all[:min(q.Limit, len(all))] {
		row := ClosedClient{
			ID: c.ID.String(), Tile: "net:" + strconv.Itoa(c.ID.Tile()), Peer: "unix", Transport: "http", Topic: in.Info.TopicOf(c.Ring),
			ClosedSeconds: seconds(now - c.At), LastedSeconds: seconds(c.At - c.Opened), Reason: c.Reason.Name(), Text: c.Reason.String(),
			Code: c.Code, LagMessages: c.LagMessages, LagBytes: c.LagBytes, Sent: c.Sent, Received: c.Received,
		}
		if c.Peer.IsValid() {
			row.Peer = c.Peer.String()
		}
		if c.Ws {
			row.Transport = "ws"
		}
		l.Clients = append(l.Clients, row)
	}
	return l, nil
}

// Text writes the list for people.
func (l ClosedList) Text(w io.Writer) {
	table(w, func(row func(...any)) {
		row("id", "peer", "transport", "topic", "closed", "lasted", "lag", "bytes", "sent", "code", "reason")
		for _, c := range l.Clients {
			row(c.ID, c.Peer, c.Transport, c.Topic, short(c.ClosedSeconds), short(c.LastedSeconds), c.LagMessages, c.LagBytes, c.Sent, c.Code, c.Text)
		}
	})
	if n := l.Total - len(l.Clients); n > 0 {
		fmt.Fprintf(w, "%d more\n", n)
	}
}
