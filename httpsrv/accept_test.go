package httpsrv

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// With all slots taken a newcomer gets 503 at once; streams and requests have
// slots of their own; freed slots are used again.
func TestSlotsFull(t *testing.T) {
	p := rigParams()
	p.MaxConnectionCnt, p.MaxWsConnectionCnt = 3, 2
	rigEach(t, p, TileOptions{}, func(r *rig) {
		var waiting []*peer
		for range 3 {
			waiting = append(waiting, r.dial(0))
		}
		r.quiet()
		for range 3 {
			q := r.dial(0).send([]byte(req("GET", "/", "")))
			if a := q.answered(); a.status != 503 || a.field["retry-after"] != "1" || a.field["connection"] != "close" {
				r.Errorf("%q", a.head)
			}
		}
		if n := r.count("rejected"); n != 3 {
			r.Errorf("%d rejected", n)
		}
		// All three ask for a stream in one Poll; there are slots for two.
		for _, q := range waiting {
			if _, err := sysWrite(q.fd, []byte(handshake("/ws"))); err != nil {
				r.Fatal(err)
			}
		}
		r.quiet()
		got := map[string]int{}
		for _, q := range waiting {
			line, _, _ := bytes.Cut(q.in, []byte("\r\n"))
			got[string(line)]++
		}
		if got["HTTP/1.1 101 Switching Protocols"] != 2 || got["HTTP/1.1 503 Service Unavailable"] != 1 {
			r.Errorf("answers %v", got)
		}
		if err := r.tile.check(); err != nil {
			r.Error(err)
		}
		for range 2 { // requests are served as long as streams last
			if a := r.dial(0).send([]byte(req("GET", "/", ""))).answered(); a.status != 200 {
				r.Errorf("%q", a.head)
			}
		}
		for _, q := range waiting {
			q.close()
		}
		r.until("all are gone", func() bool { _, ws := r.tile.Conns(); return ws == 0 })
		r.dial(0).stream("/ws")
	})
}

// An id is never given twice, however often its slot is used.
func TestGenerations(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		for i := range r.tile.conns {
			r.tile.conns[i].gen.Store(0x7fffffff - 2) // near the end of the range
		}
		for range 20 {
			q := r.dial(0)
			r.until("accepted", func() bool { return r.count("conns_now") == 1 })
			q.close()
			r.until("gone", func() bool { return r.count("conns_now") == 0 })
		}
		for _, id := range r.opens {
			if g := id.Gen(); g == 0 || g > 0x7fffffff {
				r.Errorf("generation %d", g)
			}
		}
		if len(r.life) != 20 { // as a map's keys: all differ
			r.Errorf("%d ids for 20 connections", len(r.life))
		}
	})
}

// A tile's successor counts the connections that died with it, and serves on.
func TestTileLost(t *testing.T) {
	p := rigParams()
	rigMems(t, mustFootprint(t, p), func(t *testing.T, m shmem.Mem) {
		bell := t.TempDir() + "/bell"
		r := newRig(t, m, p, TileOptions{BellPath: bell})
		st := r.produce()
		for range 3 {
			r.dial(0).stream("/ws")
		}
		r.dial(0).send([]byte("GET"))
		r.until("all are in", func() bool { return r.count("accepted") == 4 })
		r.quiet()
		r.broadcast(st, "before")
		old := r.opens[0]
		// It dies: its descriptors close, its lock goes, its memory stays as it is.
		for i := range r.tile.conns {
			if c := &r.tile.conns[i]; c.state != stFree {
				unix.Close(int(c.fd))
			}
		}
		r.tile.StopListening()
		unix.Close(r.tile.ep)
		r.tile.bell.Leave()
		r.tile.lock.Unlock()
		for _, p := range r.peers { // nobody polls any more
			for !p.eof {
				p.pump()
			}
			p.close()
		}

		n := joinRig(t, m, TileOptions{BellPath: bell})
		if n.count("closed_tile_lost") != 4 || n.count("accepted") != 4 || n.count("conns_now") != 0 || n.count("ws_now") != 0 {
			t.Log(n.tile.cnt.Names(), n.tile.cnt.Snapshot(nil))
			t.Error("the lost connections are not counted")
		}
		if all := n.closed(); len(all) != 4 || all[0].Reason != CloseTileLost || !slices.ContainsFunc(all, func(c Closed) bool { return c.ID == old && c.Ws }) {
			t.Errorf("remembered: %+v", all)
		}
		if err := n.tile.check(); err != nil {
			t.Error(err)
		}
		q := n.dial(0).stream("/ws?tail=1")
		q.want(OpText, "before")
		r.broadcast(st, "after")
		q.want(OpText, "after")
		if err := n.tile.Close(old, CloseOperator); !errors.Is(err, ErrConn) {
			t.Error("a dead tile's id was taken:", err)
		}
		st.Close()
		n.end()
	})
}

// Release with connections resets them, counts them, and tells their callbacks.
func TestReleaseWithConnections(t *testing.T) {
	p := rigParams()
	rigMems(t, mustFootprint(t, p), func(t *testing.T, m shmem.Mem) {
		r := newRig(t, m, p, TileOptions{})
		ps := []*peer{r.dial(0).stream("/ws"), r.dial(0).send([]byte("GET"))}
		r.until("all are in", func() bool { return r.count("accepted") == 2 })
		cnt, err := r.s.Counters(0)
		if err != nil {
			t.Fatal(err)
		}
		r.tile.Release()
		for _, p := range ps {
			for !p.eof {
				p.pump()
			}
			p.close()
		}
		if n := cnt.Lookup("closed_shutdown").Load(); n != 2 || cnt.Lookup("conns_now").Load() != 0 || len(r.closes) != 2 {
			t.Error("closed", n, r.closes)
		}
		if now := openFds(t); len(now) != len(r.fds) {
			t.Errorf("descriptors leaked:\nbefore %q\nafter  %q", r.fds, now)
		}
	})
}

func TestPeerAddress(t *testing.T) {
	rigEach(t, rigParams(), TileOptions{}, func(r *rig) {
		v6, err := r.tile.Listen("[::1]:0")
		if err != nil {
			r.Skip("no IPv6 here:", err)
		}
		for _, to := range []string{r.addr, v6} {
			p := r.dialTo(to, 0)
			r.until("accepted", func() bool { return r.count("conns_now") == 1 })
			sa, err := unix.Getsockname(p.fd)
			if err != nil {
				r.Fatal(err)
			}
			c := &r.tile.conns[r.opens[len(r.opens)-1].Slot()]
			got := netip.AddrPortFrom(netip.AddrFrom16(c.peer).Unmap(), c.peerPort).String()
			if want := sockaddrString(sa); got != want {
				r.Errorf("peer %s, want %s", got, want)
			}
			p.close()
			r.until("gone", func() bool { return r.count("conns_now") == 0 })
		}
	})
}

const emfileEnv = "TILEWIRE_TEST_EMFILE"

// Without a descriptor left the tile goes on serving those it has, and answers
// newcomers with the one it holds in reserve, so that the backlog does not hang;
// once one is free they are served. In a process of its own: the limit is a process's.
func TestDescriptorsRunOut(t *testing.T) {
	if os.Getenv(emfileEnv) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestDescriptorsRunOut$", "-test.count=1")
		cmd.Env = append(os.Environ(), emfileEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	p := rigParams()
	r := newRig(t, shmem.Heap(mustFootprint(t, p), Align()), p, TileOptions{})
	first := r.dial(0).stream("/own")
	const crowd = 2*acceptBatch + 10
	var waits []*peer
	for range crowd {
		waits = append(waits, r.dial(0)) // in the backlog
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	top, err := unix.Dup(0) // the lowest free number
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(top)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(top), Max: old.Max}); err != nil {
		t.Skip("limit:", err)
	}
	for _, w := range waits {
		if a := w.answered(); a.status != 503 || a.field["retry-after"] == "" {
			t.Fatalf("%q", a.head)
		}
	}
	if n := r.count("accept_errors"); n < crowd || n > crowd+10 || r.count("rejected") != crowd {
		t.Errorf("%d failed accepts, %d refused, of %d", n, r.count("rejected"), crowd)
	}
	if r.tile.reserve < 0 || r.tile.refused.n != 0 {
		t.Errorf("reserve %d, %d sockets kept", r.tile.reserve, r.tile.refused.n)
	}
	first.send(textFrame("still here")).want(OpText, "still here")

	// Somebody else takes the reserve's place while it is closed: nobody can be
	// answered then, and the tile looks again after a while.
	next := waits[0]
	next.close()
	next = r.dial(0)
	unix.Close(r.tile.reserve)
	thief := waits[1]
	thief.close()
	r.tile.reserve = -1
	hold := []int{}
	for {
		fd, err := unix.Dup(0)
		if err != nil {
			break
		}
		hold = append(hold, fd)
	}
	before := r.count("accept_errors")
	for range 10 {
		r.forward(60 * time.Millisecond)
	}
	if n := r.count("accept_errors") - before; n < 5 || n > 15 || next.eof {
		t.Errorf("%d failed accepts in 600 ms", n)
	}
	if ms := r.tile.retryIn(-1); ms < 1 || ms > 51 {
		t.Errorf("sleeps %d ms while somebody waits", ms)
	}
	for _, fd := range hold {
		unix.Close(fd)
	}
	next.send([]byte(req("GET", "/", "")))
	if a := next.answered(); a.status != 200 {
		t.Errorf("%q", a.head)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	r.end()
	if r.tile.reserve >= 0 {
		t.Error("the reserve outlives the tile")
	}
}
