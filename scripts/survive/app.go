package main

import (
	"bytes"
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/httpsrv"
)

// app is the application: it hands each message and each body back, and keeps
// account of what comes twice, never, or wrong.
type app struct {
	a    *httpsrv.App
	last map[uint64]uint64 // number of the last message, by client
	want []byte
	end  chan struct{}
	done chan struct{}

	messages, bytes, requests atomic.Uint64
	doubled, lost, wrong      atomic.Uint64
	unsent                    atomic.Uint64
	first                     atomic.Pointer[string] // what was wrong first
}

func startApp(s *server) (*app, error) {
	a := &app{last: map[uint64]uint64{}, end: make(chan struct{}), done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(a.done)
		runtime.LockOSThread()
		var err error
		a.a, err = s.in.Server.TakeApp(0, httpsrv.AppOptions{
			BellPath:  s.in.AppBell(0),
			Callbacks: httpsrv.Callbacks{Request: a.request, WsMessage: a.message},
		})
		ready <- err
		if err != nil {
			return
		}
		for {
			select {
			case <-a.end:
				_ = a.a.Release()
				return
			default:
				a.a.Poll(50)
			}
		}
	}()
	return a, <-ready
}

func (a *app) stop() {
	close(a.end)
	<-a.done
}

// request: WebSockets at /stream follow the ring, those at /quiet do not; others get their body back.
func (a *app) request(r *httpsrv.Request) httpsrv.Response {
	switch {
	case r.Headers.UpgradeWebsocket && string(r.Path) == "/quiet":
		return httpsrv.Response{UpgradeWebsocket: true, Ring: httpsrv.NoRing}
	case r.Headers.UpgradeWebsocket:
		return httpsrv.Response{UpgradeWebsocket: true}
	}
	a.requests.Add(1)
	resp := httpsrv.Response{ContentType: "application/octet-stream"}
	_, _ = a.a.Stage().Write(r.Body) // Body reports what went wrong
	if err := a.a.Stage().Body(&resp); err != nil {
		return httpsrv.Response{Status: 500}
	}
	return resp
}

// message checks the next message of a client, whose number is where the publish time is elsewhere.
func (a *app) message(c httpsrv.ConnID, op byte, data []byte) {
	a.messages.Add(1)
	a.bytes.Add(uint64(len(data)))
	if len(data) < swarm.PrefixSz {
		a.bad(&a.wrong, "connection %v: message of %d bytes", c, len(data))
		return
	}
	n, who := swarm.ReadStamp(data)
	a.want = append(a.want[:0], data...)
	swarm.FillPayload(a.want, n, who)
	last := a.last[uint64(who)]
	switch {
	case !bytes.Equal(a.want, data):
		a.bad(&a.wrong, "client %d: message %d differs from what it sent", who, n)
	case n <= last:
		a.bad(&a.doubled, "client %d: message %d after %d", who, n, last)
	case n > last+1:
		a.bad(&a.lost, "client %d: message %d after %d", who, n, last)
	}
	a.last[uint64(who)] = n
	_, _ = a.a.Stage().Write(data) // the send reports what went wrong
	if _, err := a.a.Stage().WsSend(c, op); err != nil {
		a.bad(&a.unsent, "client %d: message %d: %v", who, n, err)
	}
}

func (a *app) bad(cell *atomic.Uint64, format string, args ...any) {
	cell.Add(1)
	s := "application: " + fmt.Sprintf(format, args...)
	a.first.CompareAndSwap(nil, &s)
}
