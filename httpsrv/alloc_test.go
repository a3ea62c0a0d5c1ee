package httpsrv

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/shmem"
)

// The whole path of a message allocates nothing: staging, publishing, the
// tile's pass over its clients, also over one that is blocked and comes back,
// messages to one client, and pings answered.
func TestPathAllocatesNothing(t *testing.T) {
	if rigRace {
		t.Skip("the race detector allocates")
	}
	p := rigParams()
	rigEach(t, p, TileOptions{SndBuf: 8 << 10}, func(r *rig) {
		const clients = 8
		var own ConnID
		r.onWsOpen = func(c ConnID) { own = c }
		for range clients {
			r.dial(0).stream("/ws")
		}
		st := r.produce()
		defer st.Close()
		msg := bytes.Repeat([]byte("x"), 700)
		ping := []byte{0x89, 0x82, 0, 0, 0, 0, 'h', 'i'}
		var waste [64 << 10]byte
		drain := func(from int) {
			for _, c := range r.peers[from:] {
				for {
					if n, _ := shmem.Recv(c.fd, waste[:]); n <= 0 {
						break
					}
				}
			}
		}
		turn := 0
		once := func() {
			turn++
			if _, err := st.Write(msg); err != nil {
				t.Fatal(err)
			}
			copy(st.Append(50), msg)
			st.Commit(50)
			if _, err := st.WsBroadcast(OpBinary); err != nil {
				t.Fatal(err)
			}
			_, _ = st.Write(msg[:90])
			if _, err := st.WsSend(own, OpText); err != nil {
				t.Fatal(err)
			}
			if e := unix.Send(r.peers[1].fd, ping, unix.MSG_NOSIGNAL); e != nil {
				t.Fatal(e)
			}
			for range 3 {
				r.tile.Poll(shmem.Monotonic(), 0)
			}
			if turn%60 != 0 {
				drain(1)
			} else {
				drain(0) // the first client reads seldom, and is blocked meanwhile
			}
		}
		for range 300 {
			once()
		}
		n := testing.AllocsPerRun(1200, once)
		if n != 0 {
			t.Errorf("%v allocations a message", n)
		}
		if d, b := r.count("delivered"), r.count("sends_blocked")+r.count("sends_partial"); d < 1500*(clients-1) || b == 0 || r.count("pings") < 1000 {
			t.Errorf("%d delivered, %d sends came back short, %d pings: not what was to be measured", d, b, r.count("pings"))
		}
		if ev := r.count("closed_ws_client_too_slow"); ev != 0 {
			t.Errorf("%d clients evicted", ev)
		}
		drain(0)
		r.until("everybody has everything", func() bool {
			r.tile.Poll(shmem.Monotonic(), 0)
			drain(0)
			return r.count("blocked_now") == 0
		})
	})
}

// Refusing a newcomer, and evicting for one, allocates nothing either: a flood must
// not set the garbage collector on.
func TestRefusalsAllocateNothing(t *testing.T) {
	if rigRace {
		t.Skip("the race detector allocates")
	}
	p := rigParams()
	p.MaxConnectionCnt = 2
	for _, o := range []TileOptions{{}, {MaxConnectionsPerIP: 1}, {OnFull: EvictSlowest}} {
		rigEach(t, p, o, func(r *rig) {
			r.tile.cb = Callbacks{}
			ap, err := netip.ParseAddrPort(r.addr)
			if err != nil {
				r.Fatal(err)
			}
			to := &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
			var fds [8]int
			n := 0
			once := func() {
				if old := fds[n%8]; old != 0 {
					unix.Close(old)
				}
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				if err := unix.Connect(fd, to); err != nil {
					t.Fatal(err)
				}
				fds[n%8] = fd
				n++
				r.tile.Poll(shmem.Monotonic(), 0)
			}
			for range 100 {
				once()
			}
			if a := testing.AllocsPerRun(500, once); a != 0 {
				t.Errorf("%+v: %v allocations a newcomer", o.OnFull, a)
			}
			if r.count("rejected")+r.count("rejected_address")+r.count("closed_evicted") < 100 {
				t.Error("nobody was refused")
			}
			for _, fd := range fds {
				unix.Close(fd)
			}
		})
	}
}
