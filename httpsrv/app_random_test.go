package httpsrv

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// died is how an application ends in the middle of a callback.
type died struct{}

// Random schedules of clients, tile and application, which dies between and in
// the middle of events, comes again at once, later, or too late: each message is
// handled once, in order, or once more where a death was in its middle; each
// request is answered once, by 200 or 503; WebSockets end with 1013 only when it
// was gone for longer than the grace.
func TestAppRandomSchedules(t *testing.T) {
	seeds := []uint64{1, 2, 3, 4, 5, 6, 7, 8}
	if v, err := strconv.ParseUint(os.Getenv("TILEWIRE_SEED"), 10, 64); err == nil {
		seeds = []uint64{v}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint("TILEWIRE_SEED=", seed), func(t *testing.T) { appRandom(t, rand.New(rand.NewPCG(seed, 5))) })
	}
}

func appRandom(t *testing.T, rnd *rand.Rand) {
	p := appParams()
	p.MaxConnectionCnt, p.MaxWsConnectionCnt, p.MsgBufCnt, p.RecvBufCnt = 12, 12, 4, 4
	p.MaxRequestLen, p.MaxWsRecvFrameLen = 1024, 2048
	keep := rnd.IntN(2) == 0
	appEach(t, p, TileOptions{AppGrace: 5 * time.Second, AppTimeout: time.Hour, RequestTimeout: time.Hour, KeepAlive: keep}, func(a *appRig) {
		a.onRequest = func(q *Request) Response { return Response{Forward: true, Close: !q.Headers.UpgradeWebsocket} }
		alive, mid := true, false // mid: the next callback dies in its middle
		var repeats uint64
		var later []ConnID
		handled := map[ConnID]int{}
		last := map[ConnID]uint64{} // end offset, kept across deaths
		die := func() {
			if mid {
				mid = false
				panic(died{})
			}
		}
		a.request = func(q *Request) Response {
			die()
			switch {
			case q.Headers.UpgradeWebsocket:
				return Response{UpgradeWebsocket: true, Ring: NoRing, Tag: uint64(q.Conn)}
			case rnd.IntN(3) == 0:
				later = append(later, q.Conn)
				return Response{Later: true}
			}
			return a.text(Response{}, string(q.Path))
		}
		a.message = func(c ConnID, _ byte, data []byte) {
			a.ends[c] = 0 // a successor may see the last one again
			ev := a.app.Event()
			if ev.Tag != uint64(c) {
				t.Errorf("tag %x of %v", ev.Tag, c)
			}
			if ev.End <= last[c] {
				repeats++
				return
			}
			last[c] = ev.End
			head, _, _ := strings.Cut(string(data), " ")
			if n, err := strconv.Atoi(head); err != nil || n != handled[c] {
				t.Errorf("%v: message %q, want %d", c, head, handled[c])
			}
			handled[c]++
			die()
		}
		deaths, midDeaths, gone := 0, 0, 0
		work := func() {
			defer func() {
				if r := recover(); r != nil {
					if r != (died{}) {
						panic(r)
					}
					a.die()
					alive = false
					midDeaths++
				}
			}()
			a.app.Poll(0)
		}
		type ws struct {
			p    *peer
			id   ConnID
			next int
			rest []byte
		}
		type asked struct {
			p    *peer
			path string
		}
		var streams []*ws
		var requests []asked
		answered := map[int]int{}
		settle := func() {
			rest := requests[:0]
			for _, q := range requests {
				if !q.p.eof {
					rest = append(rest, q)
					continue
				}
				r, err := parseAnswer(q.p.in)
				if err != nil || r.status != 503 && (r.status != 200 || r.body != q.path && r.body != "later") {
					t.Errorf("%s got %q, %v", q.path, short(string(q.p.in)), err)
				}
				answered[r.status]++
				q.p.close()
			}
			requests = rest
		}
		goneFor := time.Duration(0)
		for step := range 1500 {
			switch n := rnd.IntN(20); {
			case n < 6:
				a.poll()
			case n < 9 && alive:
				work()
			case n < 13 && len(streams) > 0:
				s := streams[rnd.IntN(len(streams))]
				if len(s.rest) == 0 {
					head := strconv.Itoa(s.next) + " "
					if s.rest = textFrame(head + strings.Repeat("x", rnd.IntN(2000))); rnd.IntN(3) == 0 { // ends with an empty frame
						s.rest = append(frame(OpText, false, head+"in two"), frame(0, true, "")...)
					}
					s.next++
				}
				if n, _ := sysWrite(s.p.fd, s.rest[:1+rnd.IntN(len(s.rest))]); n > 0 {
					s.rest = s.rest[n:]
				}
			case n == 13 && len(requests) < 5:
				path := fmt.Sprint("/", step)
				requests = append(requests, asked{a.dial(0), path})
				_, _ = sysWrite(requests[len(requests)-1].p.fd, []byte("POST "+path+" HTTP/1.1\r\nHost: h\r\nContent-Length: 700\r\n\r\n"+strings.Repeat("b", 700)))
			case n == 14 && alive && len(streams) < 6:
				pe := a.dial(0)
				pe.send([]byte(handshake("/ws")))
				for i := 0; i < 200 && alive && !pe.eof && !bytes.Contains(pe.in, []byte("\r\n\r\n")); i++ {
					work()
					a.poll()
				}
				if head, rest, ok := bytes.Cut(pe.in, []byte("\r\n\r\n")); ok && bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
					pe.in = rest
					streams = append(streams, &ws{p: pe, id: a.opens[len(a.opens)-1]})
				} else {
					pe.close()
				}
			case n == 15 && alive && len(later) > 0:
				id := later[0]
				later = later[1:]
				r := a.text(Response{}, "later")
				_ = a.app.Respond(id, &r) // may be gone
			case n == 16 && alive && rnd.IntN(4) == 0:
				a.die()
				alive = false
				deaths++
			case n == 17 && alive:
				mid = true
			case n == 18 && !alive:
				a.join()
				later = nil
				alive, goneFor, mid = true, 0, false
			case n == 19 && !alive:
				d := time.Duration(rnd.IntN(100)) * time.Millisecond
				if rnd.IntN(30) == 0 {
					d = 6 * time.Second
				}
				goneFor += d
				a.forward(d)
				if goneFor > 5*time.Second { // the tile saw it gone for that long: all are closed
					a.forward(6 * time.Second)
					a.quiet()
					for _, s := range streams {
						s.p.wantClose(1013)
						s.p.close()
						gone++
					}
					streams = nil
				}
			}
			settle()
			if err := a.tile.check(); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
		}
		if !alive {
			a.join()
			alive, later = true, nil
		}
		mid = false
		for _, s := range streams {
			a.until("the last bytes are taken", func() bool {
				a.app.Poll(0)
				if n, _ := sysWrite(s.p.fd, s.rest); n > 0 {
					s.rest = s.rest[n:]
				}
				return len(s.rest) == 0
			})
		}
		a.settle(func() bool {
			settle()
			for ; len(later) > 0; later = later[1:] {
				r := a.text(Response{}, "later")
				_ = a.app.Respond(later[0], &r)
			}
			for _, s := range streams {
				if handled[s.id] != s.next {
					return false
				}
			}
			return len(requests) == 0
		})
		if repeats > uint64(midDeaths) {
			t.Errorf("%d events came again, %d deaths in the middle of one", repeats, midDeaths)
		}
		t.Logf("%d streams left, %d ended by 1013, answers %v, %d deaths, %d in the middle of an event, %d repeats, %d waits for room",
			len(streams), gone, answered, deaths, midDeaths, repeats, a.count("app_waits"))
	})
}
