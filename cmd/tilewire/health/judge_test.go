package health_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/health"
	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// made is an instance of four tiles, none of which runs, and a judge who has joined it read-only.
func made(t *testing.T) (*instance.Instance, *health.Judge, map[string]*tile.Cnc) {
	t.Helper()
	shm, err := os.MkdirTemp("/dev/shm", "tilewire-test-")
	if err != nil {
		shm = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(shm) })
	t.Setenv("TILEWIRE_SHM_DIR", shm)
	t.Setenv("TILEWIRE_RUN_DIR", filepath.Join(t.TempDir(), "run"))
	p := httpsrv.Params{
		MaxConnectionCnt: 2, MaxWsConnectionCnt: 2, MaxRequestLen: 1024, MaxWsRecvFrameLen: 1024, OutgoingBufferSz: 1 << 12,
		RingDepth: 64, ReplyDepth: 64, TileCnt: 2, RingCnt: 1, RecvBufCnt: 2, MsgBufCnt: 1, PendingCnt: 4, StaticSz: 64,
	}
	tiles := []instance.Tile{{Kind: "admin"}, {Kind: "net"}, {Kind: "net", ID: 1}, {Kind: "source"}}
	in, err := instance.Create(instance.Info{Name: "judged"}, p, tiles, shmem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cncs := map[string]*tile.Cnc{}
	for _, ti := range tiles {
		m, err := in.Cnc(ti)
		if err != nil {
			t.Fatal(err)
		}
		if cncs[ti.String()], err = tile.CncJoin(m); err != nil {
			t.Fatal(err)
		}
	}
	ro, err := instance.Join("judged", shmem.ReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	j, err := health.New(ro)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ro.Leave(); err != nil {
			t.Error(err)
		}
		if err := in.Remove(); err != nil {
			t.Error(err)
		}
	})
	return in, j, cncs
}

// take makes this process the tile, and have it run.
func take(t *testing.T, c *tile.Cnc) *shmem.Lock {
	t.Helper()
	l, err := c.Take()
	if err != nil {
		t.Fatal(err)
	}
	c.SetSignal(tile.SignalRun)
	return l
}

// An instance's life, and what befalls its tiles, in the words of the verdict.
func TestJudge(t *testing.T) {
	in, j, cncs := made(t)
	now := shmem.Monotonic()
	verdict := func(word string, live, ready bool, why string) {
		t.Helper()
		v := j.Look(now)
		if v.Word() != word || v.Live != live || v.Ready != ready {
			t.Errorf("%s, %+v; want %s, live %v, ready %v", v.Word(), v, word, live, ready)
		}
		if ok, _ := regexp.MatchString("^"+why+"$", v.Why); !ok {
			t.Errorf("%q, want %q", v.Why, why)
		}
	}
	verdict("starting", true, false, "the instance is starting")
	locks := map[string]*shmem.Lock{}
	for name, c := range cncs {
		if name != "source:0" {
			locks[name] = take(t, c)
		}
	}
	defer func() {
		for _, l := range locks {
			_ = l.Unlock()
		}
	}()
	in.Life().SetState(instance.Ready)
	now = shmem.Monotonic()
	verdict("ok", true, true, "") // the source was never started

	// Heartbeats grow old, by the built-in timeout and by the settings'.
	beat := func(names ...string) {
		for _, n := range names {
			cncs[n].Beat(now)
		}
	}
	beat("admin:0", "net:0", "net:1")
	now += 2e9
	beat("admin:0", "net:0")
	verdict("ok", true, true, "")
	now += 1
	verdict("unready", true, false, `net:1 \(process \d+\) is stuck: its heartbeat is 2\.0 s old`)
	now += 1e9
	beat("net:0", "net:1")
	verdict("ok", true, true, "")
	now += 1e9
	beat("net:0", "net:1")
	verdict("degraded", true, true, `admin:0 \(process \d+\) is stuck: .*`)
	if _, err := in.Life().SetSettings(instance.Settings{HeartbeatTimeout: 5 * time.Second}); err != nil {
		t.Fatal(err)
	}
	verdict("ok", true, true, "")
	now += 6e9
	verdict("down", false, false, `net:0 .* is stuck: .*`) // both of them
	beat("admin:0", "net:0", "net:1")

	// One from the future is fresh while it moves.
	cncs["net:1"].Beat(1 << 62)
	verdict("ok", true, true, "")
	now += 6e9
	beat("admin:0", "net:0")
	verdict("unready", true, false, `net:1 .* is stuck: its heartbeat is 6\.0 s old`)
	beat("net:1")

	// A tile of its own signals is well; one that is told to halt, that died, failed, or ended is not.
	cncs["net:1"].SetSignal(tile.SignalUser)
	verdict("ok", true, true, "")
	cncs["net:1"].SetSignal(tile.SignalHalt)
	verdict("degraded", true, true, `net:1 \(process \d+\) is ending`) // net:0 serves
	cncs["net:1"].SetSignal(tile.SignalBoot)
	verdict("degraded", true, true, `net:1 \(process \d+\) is starting`)
	_ = locks["net:1"].Unlock()
	verdict("degraded", true, true, `net:1 does not run`)
	cncs["net:1"].SetSignal(tile.SignalRun)
	verdict("degraded", true, true, `net:1 \(process \d+\) died and has not been started again yet`)
	_ = locks["net:0"].Unlock() // nobody is left
	verdict("unready", true, false, `net:. \(process \d+\) died and has not been started again yet`)
	locks["net:0"] = take(t, cncs["net:0"])
	beat("net:0")
	cncs["net:1"].Fail(os.ErrClosed)
	verdict("unready", true, false, `net:1 failed: file already closed`)
	_ = locks["net:0"].Unlock()
	cncs["net:0"].Fail(os.ErrClosed)
	verdict("down", false, false, `net:0 failed: .*`)
	for _, n := range []string{"net:0", "net:1"} {
		locks[n] = take(t, cncs[n])
	}
	now = shmem.Monotonic()
	cncs["admin:0"].Beat(now)
	verdict("ok", true, true, "")

	// A source may end; while it is dead nobody gets anything.
	src := take(t, cncs["source:0"])
	verdict("ok", true, true, "")
	_ = src.Unlock()
	verdict("unready", true, false, `source:0 .* died .*`)
	cncs["source:0"].SetSignal(tile.SignalBoot)
	verdict("ok", true, true, "")
	_ = locks["admin:0"].Unlock()
	verdict("degraded", true, true, `admin:0 .* died .*`)

	in.Life().SetState(instance.Draining)
	verdict("draining", true, false, "the instance is draining")
	in.Life().SetState(instance.Stopping)
	verdict("stopping", true, false, "the instance is stopping")
	in.Life().SetState(77)
	verdict("unknown", true, false, "the instance is unknown")
}

// A supervisor that is gone is told, whatever it said last.
func TestJudgeNoSupervisor(t *testing.T) {
	in, j, cncs := made(t)
	for _, n := range []string{"net:0", "net:1"} {
		defer take(t, cncs[n]).Unlock()
	}
	in.Life().SetState(instance.Ready)
	if v := j.Look(shmem.Monotonic()); !v.Ready {
		t.Fatalf("%+v", v)
	}
	other, err := instance.Join("judged", shmem.ReadWrite) // so that the memory stays
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Leave(); err != nil {
		t.Fatal(err)
	}
	if v := j.Look(shmem.Monotonic()); v.Live || v.Ready || v.Why != "the instance has no supervisor" || v.Word() != "down" {
		t.Errorf("%+v", v)
	}
	if err := other.Own(); err != nil {
		t.Fatal(err)
	}
	*in = *other // for the cleanup
}

// Who is asked often looks seldom, but tells at once what the supervisor says, and allocates nothing while all is well.
func TestAsk(t *testing.T) {
	in, j, cncs := made(t)
	locks := []*shmem.Lock{take(t, cncs["net:0"]), take(t, cncs["net:1"])}
	in.Life().SetState(instance.Ready)
	now := shmem.Monotonic()
	if v := j.Ask(now); !v.Ready {
		t.Fatalf("%+v", v)
	}
	_ = locks[0].Unlock() // they die
	_ = locks[1].Unlock()
	if v := j.Ask(now + 99e6); !v.Ready {
		t.Errorf("looked after 99 ms: %+v", v)
	}
	if v := j.Ask(now + 100e6); v.Ready {
		t.Errorf("not looked after 100 ms: %+v", v)
	}
	locks[0], locks[1] = take(t, cncs["net:0"]), take(t, cncs["net:1"])
	defer locks[0].Unlock()
	defer locks[1].Unlock()
	now = shmem.Monotonic() + 200e6
	if v := j.Ask(now); !v.Ready {
		t.Errorf("%+v", v)
	}
	if n := testing.AllocsPerRun(100, func() {
		now += 100e6
		cncs["net:0"].Beat(now)
		cncs["net:1"].Beat(now)
		j.Ask(now)
	}); n != 0 {
		t.Errorf("%v allocations a look", n)
	}
	in.Life().SetState(instance.Draining)
	if v := j.Ask(now); v.Ready || v.Word() != "draining" {
		t.Errorf("%+v", v)
	}
}
