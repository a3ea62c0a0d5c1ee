package httpsrv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"structs"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// The stress test's processes: the test binary run again with stressEnv set to
// "PART REGION ARG". They end when their stdin does.
const stressEnv = "TILEWIRE_STRESS_CHILD"

func TestMain(m *testing.M) {
	if v := os.Getenv(stressEnv); v != "" {
		if err := stressChild(strings.Fields(v)); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// stressCtl lies behind the server in the region: what the test and its
// producers tell each other. writer: as named
type stressCtl struct {
	_       structs.HostLayout
	acked   atomic.Uint64 // test: what every fast client has got
	stop    atomic.Uint64 // test: publish no more
	pause   atomic.Uint64 // test: stop in the middle of staging, to be killed there
	paused  atomic.Uint64 // producer: does so
	target  uint64        // test: bytes to publish
	bound   uint64        // test: ns
	offset  atomic.Uint64 // producer: broadcast bytes published
	busy    atomic.Uint64 // producer: sends that failed with ErrBusy
	maxWall atomic.Uint64 // producer: ns that the slowest message took to stage and publish
	maxNet  atomic.Uint64 // producer: the same less the time it was runnable and not running
	sides   atomic.Uint64 // producer: messages to single clients
	done    atomic.Uint64 // producer: target reached
	conns   [64]atomic.Uint64
}

const (
	stressCtlSz = 4096
	stressHead  = 24        // bytes of a payload before the pattern: seq, broadcast before it, destination
	stressMax   = 70000     // greatest payload
	stressAhead = 384 << 10 // bytes that the producer may be ahead of the slowest fast client
)

var stressTable = func() []byte {
	b := make([]byte, 1<<16+stressMax)
	r := rand.New(rand.NewPCG(7, 7))
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}()

// stressLen is the payload length of message seq; a few are long.
func stressLen(seq uint64) int {
	h := (seq + 1) * 0x9e3779b97f4a7c15
	switch h >> 56 & 63 {
	case 0:
		return stressHead + int(h>>20)%(stressMax-stressHead)
	case 1, 2, 3:
		return stressHead + int(h>>20)%100
	}
	return stressHead + int(h>>20)%4000
}

func stressBody(seq uint64, n int) []byte {
	at := seq * 7919 & 0xffff
	return stressTable[at : at+uint64(n)]
}

func stressParams() Params {
	return Params{
		MaxConnectionCnt: 128, MaxWsConnectionCnt: 64, MaxRequestLen: 2048, MaxWsRecvFrameLen: 4096,
		OutgoingBufferSz: 1 << 20, SideBufferSz: 64 << 10, RingDepth: 4096, TileCnt: 2, RingCnt: 1,
	}
}

func stressOpen(name string) (*shmem.Region, *Server, *stressCtl, error) {
	r, err := shmem.Open(name, shmem.ReadWrite)
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := Join(r.Mem())
	if err != nil {
		return nil, nil, nil, err
	}
	c, err := shmem.At[stressCtl](r.Mem(), s.lay.total)
	return r, s, c, err
}

func stressChild(arg []string) error {
	if arg[0] == "app" || arg[0] == "apptile" {
		return appChild(arg)
	}
	_, s, ctl, err := stressOpen(arg[1])
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
	if arg[0] == "tile" {
		return stressTile(s, ctl, int(arg[2][0]-'0'), arg[3], arg[4], &ended)
	}
	return stressProducer(s, ctl, &ended)
}

// stressTile is a network tile; it says where it listens.
func stressTile(s *Server, ctl *stressCtl, id int, bell, addr string, ended *atomic.Bool) error {
	open := func(c ConnID) *atomic.Uint64 { return &ctl.conns[id*32+int(c.Slot())%32] }
	t, err := s.TakeTile(id, TileOptions{BellPath: bell, PingInterval: 50 * time.Millisecond, PongTimeout: time.Hour, Callbacks: Callbacks{
		Request: func(q *Request) Response {
			r := Response{UpgradeWebsocket: true}
			if string(q.Path) == "/tail" { // sends from where the producer is about to overwrite
				r.History = uint32(s.params.RingDepth)
			}
			return r
		},
		WsOpen:  func(c ConnID) { open(c).Store(uint64(c)) },
		WsClose: func(c ConnID, _ CloseReason) { open(c).CompareAndSwap(uint64(c), 0) },
	}})
	if err != nil {
		return err
	}
	if addr, err = t.Listen(addr); err != nil {
		return err
	}
	fmt.Println(addr)
	stressHold(t)
	for !ended.Load() {
		t.Poll(shmem.Monotonic(), 20)
	}
	t.Drain(CodeGoingAway, "", CloseShutdown, time.Second)
	for n, _ := t.Conns(); n > 0; n, _ = t.Conns() {
		t.Poll(shmem.Monotonic(), 20)
	}
	t.Release()
	return nil
}

// stressProducer publishes until the target is reached, never further ahead of
// the fast clients than stressAhead.
func stressProducer(s *Server, ctl *stressCtl, ended *atomic.Bool) error {
	st, err := s.Produce(0, time.Duration(ctl.bound))
	if err != nil {
		return err
	}
	stressBreak()
	fmt.Println("producing after", uint64(st.Seq()))
	r := s.rings[0]
	prev := st.seq // the last broadcast, which the producer before us published
	for m := (message{}); prev != r.hdr.seq0; prev-- {
		if !r.read(prev, &m) || m.area == areaBroadcast {
			break
		}
	}
	sched, err := os.Open(fmt.Sprintf("/proc/self/task/%d/schedstat", unix.Gettid()))
	if err != nil {
		return err
	}
	var offs [1 << 16]uint64 // where broadcasts end, by seq
	offs[prev&0xffff] = st.end[areaBroadcast]
	first := st.seq
	rnd := rand.New(rand.NewPCG(first, 1))
	for ctl.stop.Load() == 0 && !ended.Load() {
		if st.end[areaBroadcast] >= ctl.target {
			ctl.done.Store(1)
		}
		// The test says how far the fast clients are. There is nothing to be
		// awaited but its word in shared memory.
		for i := 0; ctl.stop.Load() == 0 && !ended.Load(); i++ {
			if a := ctl.acked.Load(); a >= first && st.end[areaBroadcast]-offs[a&0xffff] < stressAhead || st.seq-first < 8 {
				break
			}
			if i > 100 {
				time.Sleep(20 * time.Microsecond)
			}
		}
		seq := st.seq + 1
		var to ConnID
		if rnd.IntN(16) == 0 {
			to = ConnID(ctl.conns[rnd.IntN(len(ctl.conns))].Load())
		}
		n := stressLen(seq)
		if to != 0 {
			n = min(n, 8000)
		}
		for ctl.stop.Load() == 0 && !ended.Load() {
			runnable, begin := stressWaited(sched), shmem.Monotonic()
			var head [stressHead]byte
			binary.LittleEndian.PutUint64(head[:], seq)
			binary.LittleEndian.PutUint64(head[8:], prev)
			binary.LittleEndian.PutUint64(head[16:], uint64(to))
			_, _ = st.Write(head[:])
			body := stressBody(seq, n-stressHead)
			if ctl.pause.Load() != 0 {
				p := st.Append(stressMax) // overwrites all it was granted, and raises the limit for it
				for i := range p {
					p[i] = 0xdd
				}
				ctl.paused.Store(1)
				select {} // killed here
			}
			_, _ = st.Write(body[:len(body)/2])
			if p := st.Append(len(body) - len(body)/2); p != nil {
				st.Commit(copy(p, body[len(body)/2:]))
			}
			if to != 0 {
				_, err = st.WsSend(to, OpBinary)
			} else {
				_, err = st.WsBroadcast(OpBinary)
			}
			wall := shmem.Monotonic() - begin
			stressMaxOf(&ctl.maxWall, uint64(wall))
			stressMaxOf(&ctl.maxNet, uint64(max(wall-(stressWaited(sched)-runnable), 0)))
			if !errors.Is(err, ErrBusy) {
				break
			}
			ctl.busy.Add(1)
		}
		if errors.Is(err, ErrBusy) {
			break
		}
		if err != nil {
			return err
		}
		if to == 0 {
			prev = seq
		} else {
			ctl.sides.Add(1)
		}
		offs[seq&0xffff] = st.end[areaBroadcast]
		ctl.offset.Store(st.end[areaBroadcast])
	}
	return st.Close()
}

func stressMaxOf(w *atomic.Uint64, v uint64) {
	if v > w.Load() {
		w.Store(v)
	}
}

// stressWaited returns the ns that this thread was runnable and not running.
func stressWaited(f *os.File) int64 {
	var b [96]byte
	n, _ := f.ReadAt(b[:], 0)
	var ran, waited int64
	_, _ = fmt.Sscan(string(b[:n]), &ran, &waited)
	return waited
}
