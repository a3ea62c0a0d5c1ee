package echo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// The range of Options.MaxMessage in bytes: a request head must fit, and a few messages into memory.
const (
	MinMessage     = 8 << 10
	MaxMessage     = 256 << 20
	DefaultMessage = 1 << 20
)

const (
	clients    = 1024
	requests   = 256 // connections that await a request or its answer
	maxRequest = 1 << 20
	msgMemory  = 256 << 20 // for messages being received; pages that nobody needs are not touched
	replyWait  = 5 * time.Second
	drainTime  = 2 * time.Second
)

// Options are what an echo server is told.
type Options struct {
	Listen     string // HOST:PORT, or what else httpsrv.ListenSocket takes
	MaxMessage int    // bytes of a client's message; 0: DefaultMessage
}

// Server is an echo server. It belongs to one goroutine, that of Run.
type Server struct {
	tile *httpsrv.NetTile
	cnc  *tile.Cnc
	srv  *httpsrv.Server
	addr string
	dir  string // of the doorbell
	ok   httpsrv.Static
}

// params sizes the server so that clients with the largest messages can be served: several at a time may be received,
// and the replies to one client fit whatever wraps.
func params(maxMessage int) httpsrv.Params {
	n := uint64(maxMessage)
	reply := uint64(16 << 20)
	for reply < 4*n {
		reply <<= 1
	}
	return httpsrv.Params{
		MaxConnectionCnt: requests, MaxWsConnectionCnt: clients, TileCnt: 1, RingCnt: 1,
		MaxRequestLen: uint32(min(n, maxRequest)), MaxWsRecvFrameLen: uint32(n),
		OutgoingBufferSz: 4096, RingDepth: 64, // nobody broadcasts
		ReplyBufferSz: reply, ReplyDepth: 1 << 16,
		HeadBufCnt: requests + clients, RecvBufCnt: clients, PendingCnt: 32 * (requests + clients),
		MsgBufCnt: uint32(min(max(msgMemory/n, 4), clients)),
	}
}

// New makes the server and its listening socket. Errors: httpsrv.ErrParams for MaxMessage, and those of the socket.
func New(o Options) (_ *Server, err error) {
	if o.MaxMessage == 0 {
		o.MaxMessage = DefaultMessage
	}
	if o.MaxMessage < MinMessage || o.MaxMessage > MaxMessage {
		return nil, fmt.Errorf("%w: messages of up to %d bytes, must be %d to %d", httpsrv.ErrParams, o.MaxMessage, MinMessage, MaxMessage)
	}
	s := &Server{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	p := params(o.MaxMessage)
	size, err := httpsrv.Footprint(p)
	if err != nil {
		return nil, err
	}
	mem := shmem.Heap(size, httpsrv.Align())
	if err = httpsrv.New(mem, p); err != nil {
		return nil, err
	}
	if s.srv, err = httpsrv.Join(mem); err != nil {
		return nil, err
	}
	if s.ok, err = s.srv.AddStatic("ok", []byte("OK")); err != nil {
		return nil, err
	}
	cnc := shmem.Heap(tile.CncFootprint, tile.CncAlign)
	if err = tile.CncNew(cnc, "echo", 0); err != nil {
		return nil, err
	}
	if s.cnc, err = tile.CncJoin(cnc); err != nil {
		return nil, err
	}
	if _, err = s.cnc.Take(); err != nil { // held for as long as the server is there
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "tilewire-echo-"); err != nil {
		return nil, err
	}
	s.tile, err = s.srv.TakeTile(0, httpsrv.TileOptions{
		BellPath: filepath.Join(s.dir, "bell"), ReplyWait: replyWait, CloseTimeout: replyWait,
		WriteTimeout: replyWait, PingInterval: -1, AllowOrigins: []string{"*"}, // it answers whoever tests, and begins nothing
		Callbacks: httpsrv.Callbacks{Request: s.request, WsMessage: s.message},
	})
	if err != nil {
		return nil, err
	}
	s.addr, err = s.tile.Listen(o.Listen)
	return s, err
}

// Addr returns the address that is listened on, with the port that the kernel chose for port 0.
func (s *Server) Addr() string { return s.addr }

// Counter returns what the network tile has counted under a name of httpsrv.CounterNames, at any time.
func (s *Server) Counter(name string) uint64 {
	c, err := s.srv.Counters(0)
	if err != nil {
		return 0
	}
	if cell := c.Lookup(name); cell != nil {
		return cell.Load()
	}
	return 0
}

// Run serves until ctx ends. Then nobody new gets in, the clients are closed with 1001 once they have what they are owed, in a bounded
// time, and everything is given back.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	stop := context.AfterFunc(ctx, s.cnc.Halt)
	defer stop()
	loop := tile.Loop{Cnc: s.cnc, CPU: tile.Float, Poll: s.tile.Poll}
	if err := loop.Run(); err != nil {
		return err
	}
	s.tile.Drain(httpsrv.CodeGoingAway, "shutting down", httpsrv.CloseShutdown, drainTime)
	for end := shmem.Monotonic() + 2*drainTime.Nanoseconds(); shmem.Monotonic() < end; {
		if all, _ := s.tile.Conns(); all == 0 {
			break
		}
		s.tile.Poll(shmem.Monotonic(), 10)
	}
	return nil
}

func (s *Server) close() {
	if s.tile != nil {
		s.tile.Release()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// request answers what is no upgrade with OK or with its own body.
func (s *Server) request(r *httpsrv.Request) httpsrv.Response {
	if r.Headers.UpgradeWebsocket {
		return httpsrv.Response{UpgradeWebsocket: true, Ring: httpsrv.NoRing}
	}
	if r.Method != httpsrv.MethodPost && r.Method != httpsrv.MethodPut {
		return httpsrv.Response{ContentType: "text/plain", StaticBody: s.ok}
	}
	resp := httpsrv.Response{ContentType: "application/octet-stream"}
	if n := len(r.Headers.ContentType); n > 0 && n <= 128 { // the response's head has its limit
		resp.ContentType = string(r.Headers.ContentType)
	}
	st := s.tile.Stage()
	_, _ = st.Write(r.Body) // Body reports what went wrong
	if err := st.Body(&resp); err != nil {
		return httpsrv.Response{Status: 503, RetryAfter: 1}
	}
	return resp
}

// message sends a message back. There is place for it, or it would not have been read; should it fail all the same, the
// client hears of it by 1011.
func (s *Server) message(c httpsrv.ConnID, op byte, data []byte) {
	st := s.tile.Stage()
	_, _ = st.Write(data)
	if _, err := st.WsSend(c, op); err != nil {
		if err = s.tile.WsClose(c, httpsrv.CloseInternal); err != nil && !errors.Is(err, httpsrv.ErrConn) {
			panic(err)
		}
	}
}
