package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tilewire/tilewire/httpsrv"
)

// Topics that a client may subscribe to.
const (
	topicMessages = "messages"
	topicTicks    = "ticks"
)

// How often the producer's ring is looked at for new messages, and a tick comes.
const (
	lookEvery = 20 * time.Millisecond
	tickEvery = time.Second
	lookMost  = 256 // messages pushed in a row, so that requests get their turn
)

// service is the application. Its state is lost with its process; what its
// clients have to do then they are told by "restarted".
type service struct {
	app      *httpsrv.App
	srv      *httpsrv.Server
	ring     *httpsrv.Follower
	name     string
	began    time.Time
	clients  map[httpsrv.ConnID]map[uint64]string // subscriptions of each WebSocket: topic by number
	count    map[string]int                       // subscriptions by topic
	lastID   uint64
	ticks    uint64
	nextTick time.Time
	lost     uint64 // messages that went by before they were read
	unsent   uint64 // notifications that could not be staged
}

func newService(srv *httpsrv.Server, name string) (*service, error) {
	ring, err := srv.Follow(0)
	if err != nil {
		return nil, err
	}
	return &service{
		srv: srv, ring: ring, name: name, began: time.Now(),
		clients: map[httpsrv.ConnID]map[uint64]string{}, count: map[string]int{},
	}, nil
}

func (s *service) callbacks() httpsrv.Callbacks {
	return httpsrv.Callbacks{Request: s.request, WsOpen: s.open, WsMessage: s.message, WsClose: s.close}
}

// request answers POST /rpc, and the opening handshake of a WebSocket there.
func (s *service) request(r *httpsrv.Request) httpsrv.Response {
	switch {
	case string(r.Path) != "/rpc":
		return httpsrv.Response{Status: 404}
	case r.Headers.UpgradeWebsocket:
		return httpsrv.Response{UpgradeWebsocket: true, Ring: httpsrv.NoRing}
	case r.Method != httpsrv.MethodPost:
		return httpsrv.Response{Status: 405, Allow: httpsrv.Methods(httpsrv.MethodPost)}
	}
	out := s.serve(0, r.Body)
	if out == nil {
		return httpsrv.Response{Status: 204} // notifications only
	}
	resp := httpsrv.Response{ContentType: "application/json", CacheControl: "no-store"}
	_, _ = s.app.Stage().Write(out) // Body reports what went wrong
	if err := s.app.Stage().Body(&resp); err != nil {
		return httpsrv.Response{Status: 500}
	}
	return resp
}

func (s *service) open(c httpsrv.ConnID) {
	s.clients[c] = map[uint64]string{}
	if s.app.Event().Again { // it subscribed at our predecessor
		s.notify(c, "restarted", struct{}{})
	}
}

func (s *service) message(c httpsrv.ConnID, _ byte, data []byte) {
	if out := s.serve(c, data); out != nil {
		s.send(c, out)
	}
}

func (s *service) close(c httpsrv.ConnID, _ httpsrv.CloseReason) {
	for _, topic := range s.clients[c] {
		s.count[topic]--
	}
	delete(s.clients, c)
}

// method does what a call asks for. c is the WebSocket that it came by, or 0.
func (s *service) method(c httpsrv.ConnID, name string, params json.RawMessage) (any, *rpcError) {
	switch name {
	case "status":
		return s.status(), nil
	case "subscribe":
		var p struct {
			Topic string `json:"topic"`
		}
		if err := json.Unmarshal(params, &p); err != nil || p.Topic != topicMessages && p.Topic != topicTicks {
			return nil, &rpcError{codeParams, fmt.Sprintf("params: {\"topic\": %q or %q}", topicMessages, topicTicks)}
		}
		if c == 0 {
			return nil, &rpcError{codeNoSocket, "subscribe needs a WebSocket"}
		}
		s.lastID++
		s.clients[c][s.lastID] = p.Topic
		s.count[p.Topic]++
		return s.lastID, nil
	case "unsubscribe":
		var p struct {
			Subscription uint64 `json:"subscription"`
		}
		if err := json.Unmarshal(params, &p); err != nil {
			return nil, &rpcError{codeParams, "params: {\"subscription\": number}"}
		}
		topic, ok := s.clients[c][p.Subscription]
		if ok {
			delete(s.clients[c], p.Subscription)
			s.count[topic]--
		}
		return ok, nil
	}
	return nil, &rpcError{codeMethod, "no method " + name}
}

func (s *service) status() any {
	ring := s.srv.Ring(0)
	return map[string]any{
		"instance": s.name, "uptime_seconds": int64(time.Since(s.began).Seconds()),
		"epoch": fmt.Sprintf("%x", ring.Epoch), "published": uint64(ring.Head - ring.Start),
		"websockets": len(s.clients), "subscriptions": s.count, "messages_lost": s.lost, "notifications_unsent": s.unsent,
	}
}

// wait returns the ms until there is something to push, unless an event comes before.
func (s *service) wait(now time.Time) int {
	d := 500 * time.Millisecond
	if s.count[topicTicks] > 0 {
		d = min(d, s.nextTick.Sub(now))
	}
	if s.count[topicMessages] > 0 {
		d = min(d, lookEvery)
	}
	return max(int(d.Milliseconds()), 1)
}

// push notifies subscribers of what is new.
func (s *service) push(now time.Time) {
	for range lookMost {
		m, lost, ok := s.ring.Next()
		s.lost += lost
		if !ok {
			break
		}
		if s.count[topicMessages] == 0 {
			continue
		}
		v := map[string]any{"seq": uint64(m.Seq), "data": string(m.Data)}
		if m.Op == httpsrv.OpBinary {
			v["data"], v["base64"] = m.Data, true // encoding/json writes bytes so
		}
		s.publish(topicMessages, v)
	}
	if now.Before(s.nextTick) {
		return
	}
	s.nextTick = now.Add(tickEvery)
	if s.ticks++; s.count[topicTicks] > 0 {
		s.publish(topicTicks, map[string]any{"tick": s.ticks, "unix_ms": now.UnixMilli()})
	}
}

// publish sends a topic's subscribers what is new, each under its subscription's number.
func (s *service) publish(topic string, result any) {
	st := s.app.Stage()
	st.Cork() // one doorbell for all of them
	defer st.Uncork()
	for c, subs := range s.clients {
		for id, t := range subs {
			if t == topic {
				s.notify(c, "subscription", map[string]any{"subscription": id, "result": result})
			}
		}
	}
}

func (s *service) notify(c httpsrv.ConnID, method string, params any) {
	b, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "method": method, "params": params})
	if err == nil {
		s.send(c, bytes.TrimSpace(b))
	}
}

func (s *service) send(c httpsrv.ConnID, b []byte) {
	_, _ = s.app.Stage().Write(b) // the send reports what went wrong
	if _, err := s.app.Stage().WsSend(c, httpsrv.OpText); err != nil {
		s.unsent++
	}
}
