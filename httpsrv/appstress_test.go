package httpsrv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"structs"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// appLog is what the application of these tests leaves for its successor, in
// the region behind the server: for each client the last event that it has
// handled. writer: the application
type appLog struct {
	_       structs.HostLayout
	opens   atomic.Uint64
	again   atomic.Uint64     // of these, of connections that lived already
	repeats atomic.Uint64     // events that a predecessor had handled, and died
	dieAt   atomic.Uint64     // test: dieNew, ...: die in the middle of a message. Cleared by the application
	wrong   atomic.Uint64     // messages out of order, missing, or of a connection that was never opened
	clients [64]atomic.Uint64 // number of its last message << 40 | end offset: one store, so that a death leaves both or neither
}

const appLogShift = 40

const appLogSz = 4096

// Where an application dies.
const (
	dieNew      = iota + 1 // before it has logged the message
	dieLogged              // before it has answered
	dieAnswered            // before it is done with the event
	dieAnywhere            // wherever a signal meets it
)

func (l *appLog) die(at uint64) {
	if l.dieAt.CompareAndSwap(at, 0) {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}

func appStressParams() Params {
	return Params{
		MaxConnectionCnt: 64, MaxWsConnectionCnt: 64, MaxRequestLen: 2048, MaxWsRecvFrameLen: 8192,
		OutgoingBufferSz: 1 << 16, RingDepth: 256, TileCnt: 2, RingCnt: 1, AppCnt: 1, ReplyDepth: 1024,
	}
}

func appOpen(name string) (*Server, *appLog, error) {
	r, err := shmem.Open(name, shmem.ReadWrite)
	if err != nil {
		return nil, nil, err
	}
	s, err := Join(r.Mem())
	if err != nil {
		return nil, nil, err
	}
	l, err := shmem.At[appLog](r.Mem(), s.lay.total)
	return s, l, err
}

// appChild is a tile that forwards everything, or the application.
func appChild(arg []string) error {
	s, log, err := appOpen(arg[1])
	if err != nil {
		return err
	}
	var ended atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		ended.Store(true)
		time.AfterFunc(10*time.Second, func() { os.Exit(1) })
	}()
	runtime.LockOSThread()
	if arg[0] == "app" {
		return appServe(s, log, arg[2], &ended)
	}
	grace, err := time.ParseDuration(arg[4])
	if err != nil {
		return err
	}
	t, err := s.TakeTile(int(arg[2][0]-'0'), TileOptions{BellPath: arg[3], AppGrace: grace, SndBuf: 16 << 10, Callbacks: Callbacks{
		Request: func(*Request) Response { return Response{Forward: true} },
	}})
	if err != nil {
		return err
	}
	addr, err := t.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(addr)
	for !ended.Load() {
		t.Poll(shmem.Monotonic(), 100)
	}
	t.Release()
	return nil
}

// appServe logs what a client sends ("CLIENT NUMBER ...") before it answers the
// number, so that an event that comes again after a death is told from a new one.
func appServe(s *Server, log *appLog, bell string, ended *atomic.Bool) error {
	open := map[ConnID]bool{}
	var a *App
	var err error
	a, err = s.TakeApp(0, AppOptions{BellPath: bell, Bound: 10 * time.Second, Callbacks: Callbacks{
		Request: func(q *Request) Response {
			if q.Headers.UpgradeWebsocket {
				return Response{UpgradeWebsocket: true, Ring: NoRing}
			}
			var r Response
			_, _ = a.Stage().Write(q.Path)
			if err := a.Stage().Body(&r); err != nil {
				return Response{Status: 500}
			}
			return r
		},
		WsOpen: func(c ConnID) {
			if log.opens.Add(1); a.Event().Again {
				log.again.Add(1)
			}
			open[c] = true
		},
		WsMessage: func(c ConnID, op byte, data []byte) {
			f := strings.Fields(string(data[:min(len(data), 40)]))
			id, _ := strconv.Atoi(f[0])
			n, _ := strconv.ParseUint(f[1], 10, 64)
			l, ev := &log.clients[id], a.Event()
			log.die(dieNew)
			switch {
			case !open[c]:
				log.wrong.Add(1)
			case f[1] == "last":
				a.Stage().Printf("last %d", l.Load()>>appLogShift)
				if _, err := a.Stage().WsSend(c, op); err != nil {
					log.wrong.Add(1)
				}
				return
			case ev.End <= l.Load()&(1<<appLogShift-1):
				log.repeats.Add(1)
			case n != l.Load()>>appLogShift+1:
				log.wrong.Add(1)
			default:
				l.Store(n<<appLogShift | ev.End)
			}
			if f[2] == "quiet" {
				return
			}
			log.die(dieLogged)
			_, _ = a.Stage().WriteString(strconv.FormatUint(n, 10))
			if _, err := a.Stage().WsSend(c, op); err != nil {
				log.wrong.Add(1)
			}
			log.die(dieAnswered)
		},
		WsClose: func(c ConnID, _ CloseReason) { delete(open, c) },
	}})
	if err != nil {
		return err
	}
	fmt.Println("joined")
	for !ended.Load() {
		a.Poll(-1) // a doorbell that is lost is a hang
	}
	return a.Release()
}

// appStress is two tiles, an application, and the region between them.
type appStress struct {
	*stress
	log   *appLog
	srv   *Server
	dir   string
	app   *stressProc
	addrs [2]string
}

func newAppStress(t *testing.T, grace time.Duration) *appStress {
	t.Helper()
	if rigRace {
		t.Skip("processes share mapped memory: the race detector is blind")
	}
	runtime.LockOSThread() // children die with this thread
	p := appStressParams()
	size, err := Footprint(p)
	if err != nil {
		t.Fatal(err)
	}
	a := &appStress{stress: &stress{T: t}, dir: t.TempDir()}
	a.name = fmt.Sprintf("httpsrv-app-%d-%d", os.Getpid(), rigRegions.Add(1))
	r, err := shmem.Create(a.name, size+appLogSz, shmem.Options{
		Backing: shmem.BackingShm, MaxPageSize: shmem.PageNormal,
		Init: func(m shmem.Mem) error { return New(m, p) },
	})
	if err != nil {
		t.Skip("no region to be had here:", err)
	}
	t.Cleanup(func() {
		_ = r.Leave()
		if err := shmem.Unlink(a.name, true); err != nil {
			t.Error(err)
		}
	})
	if a.srv, a.log, err = appOpen(a.name); err != nil {
		t.Fatal(err)
	}
	for i := range a.addrs {
		p := &stressProc{}
		a.tiles[i] = p
		a.addrs[i] = a.spawn(p, "apptile", a.name, fmt.Sprint(i), filepath.Join(a.dir, fmt.Sprint("bell", i)), grace.String())
		t.Cleanup(func() { a.endProc(p) })
	}
	a.app = &stressProc{}
	a.startApp()
	t.Cleanup(func() { a.endProc(a.app) })
	return a
}

func (a *appStress) startApp() { a.spawn(a.app, "app", a.name, filepath.Join(a.dir, "app")) }

func (a *appStress) endProc(p *stressProc) {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// counters sums a counter of the tiles.
func (a *appStress) counter(name string) (n uint64) {
	for i := range a.addrs {
		c, err := a.srv.Counters(i)
		if err != nil {
			a.Fatal(err)
		}
		n += c.Lookup(name).Load()
	}
	return n
}

func (a *appStress) dial(ctx context.Context, id int) *websocket.Conn {
	a.Helper()
	c, _, err := websocket.Dial(ctx, "ws://"+a.addrs[id%2]+"/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				_ = nc.(*net.TCPConn).SetWriteBuffer(16 << 10)
			}
			return nc, err
		},
	}}})
	if err != nil {
		a.Fatal(err)
	}
	return c
}

// An application that is killed at random moments, 20 clients that exchange
// numbered messages through it, and others that ask over HTTP: its log has every
// message once, every client gets every answer, in order; an answer comes twice
// only where a process died between answering and being done with the event;
// requests are answered, or 503.
func TestAppStressKilled(t *testing.T) {
	a := newAppStress(t, time.Minute)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	const clients, kills = 20, 24
	var stop atomic.Bool
	var answers, doubled, ok200, ok503 atomic.Uint64
	sent := make([]uint64, clients)
	var wg sync.WaitGroup
	for id := range clients {
		c := a.dial(ctx, id)
		c.SetReadLimit(1 << 20)
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer c.CloseNow()
			credit := make(chan struct{}, 8)
			done := make(chan struct{})
			go func() { // sends until told to stop, at most 8 ahead of the answers
				defer close(done)
				for n := uint64(1); !stop.Load(); n++ {
					select {
					case credit <- struct{}{}:
					case <-ctx.Done():
						return
					}
					if err := c.Write(ctx, websocket.MessageText, fmt.Appendf(nil, "%d %d %s", id, n, strings.Repeat("x", int(n*97%3000)+1))); err != nil {
						t.Errorf("client %d: %v", id, err)
						return
					}
					sent[id] = n
				}
				if err := c.Write(ctx, websocket.MessageText, fmt.Appendf(nil, "%d last x", id)); err != nil {
					t.Errorf("client %d: %v", id, err)
				}
			}()
			for last := uint64(0); ; {
				_, b, err := c.Read(ctx)
				if err != nil {
					t.Errorf("client %d after %d: %v", id, last, err)
					return
				}
				if end, ok := strings.CutPrefix(string(b), "last "); ok { // behind all answers
					if <-done; strconv.FormatUint(last, 10) != end || last != sent[id] {
						t.Errorf("client %d sent %d, got answers up to %d; the log says %s", id, sent[id], last, end)
					}
					return
				}
				switch n, _ := strconv.ParseUint(string(b), 10, 64); n {
				case last + 1:
					last = n
					answers.Add(1)
					<-credit
				case last:
					doubled.Add(1)
				default:
					t.Errorf("client %d got the answer %q after %d", id, b, last)
					return
				}
			}
		}()
	}
	for i := range 2 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; !stop.Load(); n++ {
				path := fmt.Sprintf("/%d/%d", i, n)
				resp, err := http.Get("http://" + a.addrs[i] + path)
				if err != nil {
					t.Error(err)
					return
				}
				b, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				switch {
				case resp.StatusCode == 200 && string(b) == path:
					ok200.Add(1)
				case resp.StatusCode == 503 && resp.Header.Get("Retry-After") != "":
					ok503.Add(1)
				default:
					t.Errorf("%s: %d %q", path, resp.StatusCode, b)
					return
				}
			}
		}()
	}
	rnd := rand.New(rand.NewPCG(3, uint64(os.Getpid())))
	for i := range kills {
		// At a random number of answers from here on.
		to := answers.Load() + uint64(20+rnd.IntN(2000))
		for answers.Load() < to && ctx.Err() == nil && !t.Failed() {
			time.Sleep(time.Duration(rnd.IntN(1000)) * time.Microsecond) // the moment of the kill is what is random
		}
		if at := uint64(i%4 + 1); at == dieAnywhere {
			_ = a.app.cmd.Process.Kill()
		} else {
			a.log.dieAt.Store(at)
		}
		_ = a.app.cmd.Wait()
		if i%3 == 0 { // gone for longer than a tile takes to notice
			lost := a.counter("app_lost")
			for end := time.Now().Add(10 * time.Second); a.counter("app_lost") == lost && time.Now().Before(end); {
				runtime.Gosched()
			}
		}
		a.startApp()
	}
	stop.Store(true)
	wg.Wait()
	for id := range clients {
		if l := a.log.clients[id].Load() >> appLogShift; l != sent[id] || l == 0 {
			t.Errorf("client %d sent %d, the log has %d", id, sent[id], l)
		}
	}
	t.Logf("%d messages, %d kills: %d events came again, %d answers twice; %d opens, %d of them again; requests: %d answered, %d 503; %d waits for room",
		answers.Load(), kills, a.log.repeats.Load(), doubled.Load(), a.log.opens.Load(), a.log.again.Load(), ok200.Load(), ok503.Load(), a.counter("app_waits"))
	if a.log.wrong.Load() != 0 {
		t.Errorf("the application saw %d wrong messages", a.log.wrong.Load())
	}
	// Each death repeats the one event that was in progress.
	if r, d := a.log.repeats.Load(), doubled.Load(); r < kills/2 || r > kills*3/4 || d < kills/4 || d > kills/2 { // a signal may meet it there as well
		t.Errorf("%d events came again and %d answers twice, with %d kills", r, doubled.Load(), kills)
	}
	if a.log.again.Load() < (kills-1)*clients {
		t.Errorf("%d successors were told of %d living connections, want %d each", kills, a.log.again.Load(), clients)
	}
	if ok200.Load() == 0 || ok503.Load() == 0 {
		t.Errorf("%d requests answered, %d with 503", ok200.Load(), ok503.Load())
	}
}

// An application that stands still: its clients are held up by TCP, and when it
// goes on it gets everything. Then it is gone for good: 503, and 1013.
func TestAppStressStoppedThenGone(t *testing.T) {
	a := newAppStress(t, 500*time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const clients, each, size = 6, 1500, 8000 // 12 MB each, more than all buffers on the way
	var moved [clients]atomic.Uint64
	sum := func() (n uint64) {
		for i := range moved {
			n += moved[i].Load()
		}
		return n
	}
	var cs []*websocket.Conn
	for id := range clients {
		cs = append(cs, a.dial(ctx, id))
	}
	pid := a.app.cmd.Process.Pid
	_ = unix.Kill(pid, unix.SIGSTOP)
	if err := unix.Waitid(unix.P_PID, pid, nil, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for id, c := range cs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 1; n <= each; n++ {
				b := fmt.Appendf(nil, "%d %d quiet ", id, n)
				b = append(b, make([]byte, size-len(b))...)
				if err := c.Write(ctx, websocket.MessageBinary, b); err != nil {
					t.Errorf("client %d: %v", id, err)
					return
				}
				moved[id].Add(1)
			}
		}()
	}
	for before, calm := uint64(0), 0; calm < 20 || a.counter("app_waits") < clients; { // until TCP takes nothing more of anybody
		if time.Sleep(20 * time.Millisecond); ctx.Err() != nil {
			t.Fatalf("%d of %d connections wait for room", a.counter("app_waits"), clients)
		}
		if n := sum(); n != before {
			before, calm = n, 0
		} else {
			calm++
		}
	}
	held := sum()
	if held >= clients*each*3/4 {
		t.Errorf("%d of %d messages were taken while the application stood still", held, clients*each)
	}
	if n := a.counter("closed_timeout") + a.counter("closed_ws_client_too_slow"); n != 0 {
		t.Errorf("%d clients closed for it", n)
	}
	_ = unix.Kill(pid, unix.SIGCONT)
	wg.Wait()
	for id, c := range cs {
		if err := c.Write(ctx, websocket.MessageText, fmt.Appendf(nil, "%d last x", id)); err != nil {
			t.Fatal(err)
		}
		if _, b, err := c.Read(ctx); err != nil || string(b) != fmt.Sprint("last ", each) {
			t.Errorf("client %d: %q, %v; want %d", id, b, err, each)
		}
	}
	if n := a.log.wrong.Load() + a.log.repeats.Load(); n != 0 {
		t.Errorf("%d wrong or repeated messages", n)
	}
	t.Logf("%d of %d messages were on the way while it stood still", held, clients*each)

	a.endProc(a.app)
	resp, err := http.Get("http://" + a.addrs[0] + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("gone: %d %v", resp.StatusCode, resp.Header)
	}
	for id, c := range cs {
		_, _, err := c.Read(ctx)
		var ce websocket.CloseError
		if !errors.As(err, &ce) || ce.Code != websocket.StatusTryAgainLater || ce.Reason != CloseAppGone.String() {
			t.Errorf("client %d: %v", id, err)
		}
	}
}
