package httpsrv

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/ws"
	"github.com/tilewire/tilewire/shmem"
)

// stress is a server shared by a producer's process, two network tiles'
// processes and this one, which holds the clients.
type stress struct {
	*testing.T
	name  string
	dir   string
	s     *Server
	ctl   *stressCtl
	tiles [2]*stressProc
	prod  *stressProc

	mu      sync.Mutex
	turn    *sync.Cond // something may have changed
	clients []*stressFan
	over    bool // the last message is published
	left    bool // the region is no longer mapped

	frames, bytes, sides      atomic.Uint64
	sessions, lagged, cut     atomic.Uint64
	fastLagged, exposed, late atomic.Uint64
}

// stressProc is a child process, or a succession of them that play one part.
type stressProc struct {
	cmd       *exec.Cmd
	in        io.WriteCloser
	out       *bufio.Reader
	addr      string
	up        bool
	stopped   bool
	disturbed uint64 // times it was killed or stopped
}

func (b *stress) spawn(p *stressProc, arg ...string) string {
	b.Helper()
	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Env = append(os.Environ(), stressEnv+"="+strings.Join(arg, " "))
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // the test is locked to its thread
	p.in, _ = p.cmd.StdinPipe()
	out, _ := p.cmd.StdoutPipe()
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	line, err := p.out.ReadString('\n')
	if err != nil || strings.HasPrefix(line, "error") {
		b.Fatalf("%v: %q %v", arg, line, err)
	}
	return strings.TrimSpace(line)
}

func (b *stress) startTile(i int) {
	p := b.tiles[i]
	if p.addr == "" {
		p.addr = "127.0.0.1:0"
	}
	p.addr = b.spawn(p, "tile", b.name, fmt.Sprint(i), filepath.Join(b.dir, fmt.Sprint("bell", i)), p.addr)
	b.change(func() { p.up = true })
}

func (b *stress) startProducer() { b.spawn(b.prod, "producer", b.name) }

// kill ends a process by SIGKILL and waits for its death.
func (b *stress) kill(p *stressProc) {
	b.change(func() { p.up = false; p.stopped = false; p.disturbed++ })
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// change changes what others await.
func (b *stress) change(f func()) {
	b.mu.Lock()
	f()
	b.ack()
	b.mu.Unlock()
	b.turn.Broadcast()
}

// await waits until cond, looking whenever something has changed.
func (b *stress) await(what string, d time.Duration, cond func() bool) bool {
	b.Helper()
	end := time.Now().Add(d)
	b.mu.Lock()
	defer b.mu.Unlock()
	for !cond() {
		if time.Now().After(end) {
			if what != "" {
				b.Fatalf("no %s after %v (published %d bytes, busy %d)", what, d, b.ctl.offset.Load(), b.ctl.busy.Load())
			}
			return false
		}
		b.turn.Wait()
	}
	return true
}

// ack tells the producer what all fast clients have got that are connected to
// a tile that runs. The caller holds mu.
func (b *stress) ack() {
	if b.left {
		return
	}
	low := uint64(b.s.Ring(0).Head)
	for _, c := range b.clients {
		if p := b.tiles[c.tile]; c.kind == 'f' && c.here && p.up && !p.stopped {
			low = min(low, c.last)
		}
	}
	b.ctl.acked.Store(low)
}

// stop stops a tile in the middle of a send: it holds a pin while it is stopped.
func (b *stress) stop(i int) {
	p := b.tiles[i]
	pid := p.cmd.Process.Pid
	b.change(func() { p.stopped = true; p.disturbed++ })
	for range 5000 {
		_ = unix.Kill(pid, unix.SIGSTOP)
		var si unix.Siginfo
		for unix.Waitid(unix.P_PID, pid, &si, unix.WSTOPPED, nil) == unix.EINTR {
		}
		if b.s.rings[0].pins[i].pin[areaBroadcast].Load() != noPin {
			return
		}
		b.change(func() { p.stopped = false })
		_ = unix.Kill(pid, unix.SIGCONT)
		// Until it has taken something on, it may be asleep.
		off := b.ctl.offset.Load()
		b.await("progress", time.Minute, func() bool { return b.ctl.offset.Load() > off })
		b.change(func() { p.stopped = true })
	}
	b.late.Add(1)
	b.Log("tile was never met with a pin")
}

func (b *stress) cont(i int) {
	p := b.tiles[i]
	_ = unix.Kill(p.cmd.Process.Pid, unix.SIGCONT)
	b.change(func() { p.stopped = false; p.disturbed++ })
}

// published waits until n more bytes are published.
func (b *stress) published(n uint64) {
	b.Helper()
	to := b.ctl.offset.Load() + n
	b.await("progress", time.Minute, func() bool { return b.ctl.offset.Load() >= to || b.ctl.done.Load() != 0 })
}

// stressFan is a client. kind: f reads at once, s slowly, p pauses until it is
// overtaken and then goes on, n reads nothing until the end.
type stressFan struct {
	b    *stress
	id   int
	tile int
	kind byte

	here   bool   // connected
	last   uint64 // seq got
	joined uint64 // head when it had been let in: it gets at least what comes after that
}

// run is one connection after the other until the test is over.
func (c *stressFan) run() {
	b := c.b
	for {
		var up bool
		b.await("tile", time.Minute, func() bool { up = b.tiles[c.tile].up; return up || b.over })
		if !up {
			return
		}
		b.mu.Lock()
		addr, before := b.tiles[c.tile].addr, b.tiles[c.tile].disturbed
		b.mu.Unlock()
		code, err := c.session(addr)
		var calm, over bool
		b.change(func() {
			c.here = false
			p := b.tiles[c.tile]
			calm = p.disturbed == before && !p.stopped
			over = b.over
		})
		b.sessions.Add(1)
		if c.kind != 'f' || !calm {
			b.exposed.Add(1)
		}
		switch {
		case code == CodeGoingAway && over:
			return
		case code == CodeLagged:
			b.lagged.Add(1)
			if c.kind == 'f' {
				b.fastLagged.Add(1)
			}
		case code != 0:
			b.Errorf("client %d (%c): close code %d", c.id, c.kind, code)
			return
		case errors.Is(err, errStress):
			b.Errorf("client %d (%c): %v", c.id, c.kind, err)
			return
		default:
			b.cut.Add(1)
		}
		if c.kind == 'f' && calm {
			b.Errorf("client %d read all the time, and was closed with %d: %v", c.id, code, err)
			return
		}
		if over && (c.kind != 'f' || code == 0) {
			return
		}
	}
}

var errStress = errors.New("wrong bytes")

// session is one connection; it ends with a close frame's code or an error.
func (c *stressFan) session(addr string) (code uint16, err error) {
	b := c.b
	d := net.Dialer{Timeout: 10 * time.Second, Control: func(_, _ string, rc syscall.RawConn) error {
		return rc.Control(func(fd uintptr) {
			if c.kind != 'f' {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 32<<10)
			}
		})
	}}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(10 * time.Minute))
	path := "/ws"
	if c.kind != 'f' {
		path = "/tail"
	}
	_, err = io.WriteString(nc, "GET "+path+" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 256<<10)
	lo, hi := 0, 0
	for {
		n, err := nc.Read(buf[hi:])
		hi += n
		if i := bytes.Index(buf[:hi], []byte("\r\n\r\n")); i >= 0 {
			if !bytes.HasPrefix(buf, []byte("HTTP/1.1 101 ")) {
				return 0, fmt.Errorf("%w: %q", errStress, buf[:i])
			}
			lo = i + 4
			b.change(func() { c.joined = uint64(b.s.Ring(0).Head) })
			break
		}
		if err != nil {
			return 0, err
		}
	}
	var lastB, own, taken uint64
	pauseAt := b.ctl.offset.Load() + uint64(c.id)*20000
	for {
		var f ws.Header
		for ws.ParseHeader(buf[lo:hi], &f) {
			if f.Masked || !f.Fin || f.Rsv != 0 || f.Len > stressMax || f.Op != OpBinary && f.Op != ws.OpClose && f.Op != ws.OpPing {
				return 0, fmt.Errorf("%w: frame header %+v after seq %d", errStress, f, c.last)
			}
			if uint64(hi-lo-f.HdrLen) < f.Len {
				break
			}
			p := buf[lo+f.HdrLen : lo+f.HdrLen+int(f.Len)]
			lo += f.HdrLen + int(f.Len)
			if f.Op == ws.OpClose {
				if lo != hi || len(p) < 2 {
					return 0, fmt.Errorf("%w: %d bytes after the close frame", errStress, hi-lo)
				}
				return binary.BigEndian.Uint16(p), nil
			}
			if f.Op == ws.OpPing {
				if _, err := nc.Write(frame(ws.OpPong, true, string(p))); err != nil {
					return 0, err
				}
				continue
			}
			if err := c.message(p, &lastB, &own); err != nil {
				return 0, err
			}
			taken += f.Len
		}
		hi = copy(buf, buf[lo:hi])
		lo = 0
		switch {
		case c.kind == 's' && taken > 0:
			time.Sleep(3 * time.Millisecond) // what makes it slow
		case c.kind == 'p' && b.ctl.offset.Load() > pauseAt:
			to := b.ctl.offset.Load() + 2<<20
			b.await("overtaking", time.Minute, func() bool { return b.ctl.offset.Load() >= to || b.over })
			pauseAt = to + 4<<20
		case c.kind == 'n' && taken > 0:
			b.await("end", 30*time.Minute, func() bool { return b.over })
		}
		room := buf[hi:]
		if c.kind == 's' {
			room = room[:min(len(room), max(16<<10, 0))]
		}
		n, err := nc.Read(room)
		hi += n
		if err != nil {
			return 0, err
		}
	}
}

// message verifies every byte of a message, its order and that none is missing.
func (c *stressFan) message(p []byte, lastB, own *uint64) error {
	if len(p) < stressHead {
		return fmt.Errorf("%w: %d bytes of payload after seq %d", errStress, len(p), c.last)
	}
	seq, prev, dest := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint64(p[16:])
	want := stressLen(seq)
	if dest != 0 {
		want = min(want, 8000)
	}
	if len(p) != want || !bytes.Equal(p[stressHead:], stressBody(seq, len(p)-stressHead)) {
		return fmt.Errorf("%w: torn message %d of %d bytes after seq %d", errStress, seq, len(p), c.last)
	}
	if *lastB != 0 && (prev != *lastB || seq <= *lastB) {
		return fmt.Errorf("%w: message %d follows broadcast %d, got %d before (to %x)", errStress, seq, prev, *lastB, dest)
	}
	if dest == 0 {
		*lastB = seq
	} else {
		if *own != 0 && *own != dest {
			return fmt.Errorf("%w: message %d is for %v, this is %v", errStress, seq, ConnID(dest), ConnID(*own))
		}
		*own = dest
		c.b.sides.Add(1)
	}
	c.b.frames.Add(1)
	c.b.bytes.Add(uint64(len(p)))
	c.b.mu.Lock()
	c.last, c.here = seq, true
	c.b.ack()
	c.b.mu.Unlock()
	return nil
}

// TestStress: 50 clients of two tiles, a ring of 1 MiB that wraps about 100
// times (TILEWIRE_STRESS=full: 2,000), processes killed and stopped meanwhile,
// and every byte of every frame verified.
func TestStress(t *testing.T) {
	if rigRace {
		t.Skip("the race detector is blind on memory shared by processes, and slows the clients down to eviction")
	}
	laps, cycles := uint64(100), 1
	switch os.Getenv("TILEWIRE_STRESS") {
	case "full":
		laps, cycles = 2000, 10
	default:
		if testing.Short() {
			laps = 30
		}
	}
	runtime.LockOSThread() // children die with this thread
	p := stressParams()
	size, err := Footprint(p)
	if err != nil {
		t.Fatal(err)
	}
	b := &stress{T: t, dir: t.TempDir(), name: fmt.Sprintf("stress.%d", os.Getpid()), prod: &stressProc{}}
	b.turn = sync.NewCond(&b.mu)
	r, err := shmem.Create(b.name, size+stressCtlSz, shmem.Options{Init: func(m shmem.Mem) error { return New(m, p) }})
	if err != nil {
		t.Skip("no region to be had here:", err)
	}
	defer func() {
		b.mu.Lock()
		b.left = true
		b.mu.Unlock()
		if err := r.Leave(); err != nil {
			t.Error(err)
		}
		if err := shmem.Unlink(b.name, true); err != nil {
			t.Error(err)
		}
	}()
	if b.s, err = Join(r.Mem()); err != nil {
		t.Fatal(err)
	}
	b.ctl = shmem.MustAt[stressCtl](r.Mem(), b.s.lay.total)
	bound := 20 * time.Millisecond
	b.ctl.bound, b.ctl.target = uint64(bound), laps<<20
	for i := range b.tiles {
		b.tiles[i] = &stressProc{}
	}
	defer func() {
		for _, p := range []*stressProc{b.tiles[0], b.tiles[1], b.prod} {
			if p.cmd != nil && p.cmd.ProcessState == nil {
				_ = p.cmd.Process.Kill()
				_ = p.cmd.Wait()
			}
		}
	}()
	begin := time.Now()
	b.startTile(0)
	b.startTile(1)
	var wg sync.WaitGroup
	for i := range 50 {
		c := &stressFan{b: b, id: i, tile: i & 1, kind: 'f'}
		switch {
		case i >= 46:
			c.kind = 'n'
		case i >= 41:
			c.kind = 'p'
		case i >= 34:
			c.kind = 's'
		}
		b.clients = append(b.clients, c)
	}
	// The words in shared memory ring no bell here.
	tick := time.NewTicker(2 * time.Millisecond)
	over := make(chan struct{})
	var ticks sync.WaitGroup
	ticks.Go(func() {
		for {
			select {
			case <-tick.C:
				b.change(func() {})
			case <-over:
				return
			}
		}
	})
	defer func() { // it looks into the region, which is left after this
		tick.Stop()
		close(over)
		ticks.Wait()
	}()
	for _, c := range b.clients {
		wg.Go(c.run)
	}
	b.await("clients", time.Minute, func() bool { return b.ws() == 50 })
	b.startProducer()

	for cycle := range cycles {
		from := b.ctl.target / uint64(cycles) * uint64(cycle)
		at := func(part uint64) {
			to := from + b.ctl.target/uint64(cycles)*part/8
			b.await("progress", 5*time.Minute, func() bool { return b.ctl.offset.Load() >= to })
		}
		at(1) // a tile dies, and another takes its place
		b.kill(b.tiles[0])
		b.published(64 << 10)
		b.startTile(0)

		at(2) // a tile is stopped in the middle of a send, and goes on later
		b.stop(1)
		busy := b.ctl.busy.Load()
		off := b.ctl.offset.Load()
		if !b.await("", 10*time.Second, func() bool {
			return b.ctl.busy.Load() >= busy+3 || b.ctl.offset.Load() > off+4<<20
		}) {
			t.Errorf("a stopped tile holds the producer up for longer than its bound: %d bytes, %d busy", b.ctl.offset.Load()-off, b.ctl.busy.Load()-busy)
		}
		b.cont(1)

		at(4) // a producer dies in the middle of staging, and another goes on
		b.ctl.pause.Store(1)
		b.await("pause", time.Minute, func() bool { return b.ctl.paused.Load() != 0 })
		b.kill(b.prod)
		b.ctl.pause.Store(0)
		b.ctl.paused.Store(0)
		head := b.s.Ring(0).Head
		b.startProducer()
		b.await("message of the new producer", time.Minute, func() bool { return b.s.Ring(0).Head != head })

		at(5) // a tile dies with a pin, which must hold nobody up
		b.stop(0)
		b.kill(b.tiles[0])
		b.published(3 << 20)
		b.startTile(0)

		at(6) // a producer dies anywhere
		b.kill(b.prod)
		b.startProducer()

		at(7) // a tile dies while the other goes on
		b.kill(b.tiles[1])
		b.startTile(1)
	}
	b.await("end", 10*time.Minute, func() bool { return b.ctl.done.Load() != 0 })
	b.ctl.stop.Store(1)
	if err := b.prod.cmd.Wait(); err != nil {
		out, _ := io.ReadAll(b.prod.out)
		t.Errorf("producer: %v %s", err, out)
	}
	took := time.Since(begin)
	m := message{}
	final := uint64(b.s.Ring(0).Head)
	for ; !b.s.rings[0].read(final, &m) || m.area != areaBroadcast; final-- {
	}
	b.await("last message at every fast client", time.Minute, func() bool {
		for _, c := range b.clients {
			if c.kind == 'f' && c.last < final && c.joined < final {
				return false
			}
		}
		return true
	})
	b.change(func() { b.over = true })
	for _, p := range b.tiles {
		_ = p.in.Close()
	}
	wg.Wait()
	for i, p := range b.tiles {
		if err := p.cmd.Wait(); err != nil {
			t.Errorf("tile %d: %v", i, err)
		}
	}

	var slow, lost uint64
	for i := range b.tiles {
		cs, err := b.s.Counters(i)
		if err != nil {
			t.Fatal(err)
		}
		slow += cs.Cell(cntClosed0 + int(CloseWsClientTooSlow)).Load()
		lost += cs.Cell(cntClosed0 + int(CloseTileLost)).Load()
	}
	wall, net := time.Duration(b.ctl.maxWall.Load()), time.Duration(b.ctl.maxNet.Load())
	t.Logf("%d laps in %v: %d messages, %d frames (%d to one client), %.1f GB verified; %d connections, %d got 4001, %d were cut; "+
		"counters: %d too slow, %d lost with their tile; slowest publish %v (%v without time on the run queue), bound %v, %d busy, %d waits",
		b.ctl.offset.Load()>>20, took.Round(time.Millisecond), b.s.Ring(0).Head, b.frames.Load(), b.sides.Load(), float64(b.bytes.Load())/1e9,
		b.sessions.Load(), b.lagged.Load(), b.cut.Load(), slow, lost, wall, net, bound, b.ctl.busy.Load(), b.s.Ring(0).Waits)
	if slow == 0 || slow < b.lagged.Load() {
		t.Errorf("%d evictions counted, %d clients saw theirs", slow, b.lagged.Load())
	}
	if slow > b.exposed.Load() {
		t.Errorf("%d evictions of %d connections that were slow or whose tile was disturbed", slow, b.exposed.Load())
	}
	if lost == 0 {
		t.Error("no connection was lost with its tile")
	}
	// The bound, and what a machine with two CPUs and five busy processes adds.
	if net > bound+500*time.Millisecond || wall > bound+5*time.Second {
		t.Errorf("a publish took %v (%v without time on the run queue), the bound is %v", wall, net, bound)
	}
}

// ws returns how many clients stream.
func (b *stress) ws() (n uint64) {
	for i := range b.tiles {
		if cs, err := b.s.Counters(i); err == nil {
			n += cs.Cell(cntWsNow).Load()
		}
	}
	return n
}
