package instance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// dirs gives the test memory and run directories of its own.
func dirs(t *testing.T) (shm, run string) {
	t.Helper()
	shm, err := os.MkdirTemp("/dev/shm", "tilewire-test-")
	if err != nil {
		shm = t.TempDir() // a disk will do
	}
	t.Cleanup(func() { os.RemoveAll(shm) })
	run = filepath.Join(t.TempDir(), "run")
	t.Setenv("TILEWIRE_SHM_DIR", shm)
	t.Setenv("TILEWIRE_RUN_DIR", run)
	return shm, run
}

func params() httpsrv.Params {
	return httpsrv.Params{
		MaxConnectionCnt: 2, MaxWsConnectionCnt: 2, MaxRequestLen: 1024, MaxWsRecvFrameLen: 1024, OutgoingBufferSz: 1 << 12,
		RingDepth: 64, ReplyDepth: 64, TileCnt: 1, RingCnt: 1, RecvBufCnt: 2, MsgBufCnt: 1, PendingCnt: 4, StaticSz: 64,
	}
}

var tiles = []Tile{{Kind: "net"}, {Kind: "source", ID: 3}}

func create(t *testing.T, name string) *Instance {
	t.Helper()
	in, err := Create(Info{Name: name, Listen: []string{"127.0.0.1:1"}, Topics: []Topic{{Name: "a", History: 7}}, Pid: os.Getpid()}, params(), tiles, shmem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestLifecycle(t *testing.T) {
	shm, run := dirs(t)
	if live, err := Live(); err != nil || len(live) != 0 {
		t.Errorf("Live: %v, %v", live, err)
	}
	if _, err := Join("", shmem.ReadOnly); !errors.Is(err, ErrNone) {
		t.Errorf("Join of the only one when there is none: %v", err)
	}
	a := create(t, "a")
	if _, err := Create(Info{Name: "a"}, params(), tiles, shmem.Options{}); !errors.Is(err, ErrTaken) {
		t.Errorf("Create of a taken name: %v", err)
	}
	b, err := Join("", shmem.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if i := b.Info; i.Name != "a" || i.Listen[0] != "127.0.0.1:1" || i.Topics[0] != (Topic{Name: "a", History: 7}) || i.Pid != os.Getpid() || i.RunDir != run+"/a" {
		t.Errorf("Info: %+v", i)
	}
	if b.Bell(2) != run+"/a/net.2.bell" {
		t.Errorf("Bell: %s", b.Bell(2))
	}
	if got := fmt.Sprint(b.Tiles()); got != "[net:0 source:3]" {
		t.Errorf("Tiles: %s", got)
	}
	for _, want := range tiles {
		m, err := b.Cnc(want)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := tile.CncJoin(m); err != nil || c.Name() != want.String() {
			t.Errorf("Cnc of %v: %v, %v", want, c, err)
		}
	}
	if _, err := b.Cnc(Tile{"net", 1}); err == nil {
		t.Error("Cnc of a tile that is not there")
	}
	if !b.Owned() || b.Own() == nil || b.Ended() {
		t.Error("the second join owns it, or it is nobody's, or ended")
	}
	if err := Delete("a", false); !errors.Is(err, shmem.ErrJoined) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("Delete while joined: %v", err)
	}

	c := create(t, "c")
	if _, err := Join("", shmem.ReadOnly); !errors.Is(err, ErrMany) || !strings.Contains(err.Error(), "a, c") {
		t.Errorf("Join of the only one of two: %v", err)
	}
	if err := c.Remove(); err != nil {
		t.Error(err)
	}
	if err := a.Remove(); err != nil { // b is still joined
		t.Error(err)
	}
	if !b.Ended() || b.Owned() {
		t.Error("not ended, or owned, after Remove")
	}
	if st, err := b.Server.Produce(0, 0); err != nil {
		t.Errorf("its memory is gone: %v", err)
	} else if _, err := st.WsBroadcast(httpsrv.OpText); err != nil {
		t.Errorf("publish: %v", err)
	} else {
		st.Close()
	}
	again := create(t, "a") // the name is free
	if !b.Ended() {
		t.Error("another instance of the same name is taken for it")
	}
	if err := b.Leave(); err != nil {
		t.Error(err)
	}
	if err := again.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := Join("a", shmem.ReadOnly); !errors.Is(err, ErrNone) {
		t.Errorf("Join after Remove: %v", err)
	}
	for _, d := range []string{shm, run} {
		if left, _ := filepath.Glob(d + "/*"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
}

// What a crash leaves is replaced; what producers are joined to is taken over.
func TestStale(t *testing.T) {
	_, run := dirs(t)
	in := create(t, "a")
	if err := syscall.Mkfifo(in.Bell(0), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := in.Leave(); err != nil { // as after a crash: memory, run directory, bell
		t.Fatal(err)
	}
	in = create(t, "a")
	prod, err := Join("a", shmem.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Leave(); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(Info{Name: "a"}, params(), tiles, shmem.Options{}); !errors.Is(err, ErrTaken) {
		t.Errorf("Create over a producer: %v", err)
	}
	if err := os.RemoveAll(run); err != nil { // a cleaner of temporary files came by
		t.Fatal(err)
	}
	if in, err = Join("a", shmem.ReadWrite); err != nil {
		t.Fatal(err)
	}
	if err := in.Own(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(in.Info.RunDir); err != nil {
		t.Error(err)
	}
	if err := prod.Leave(); err != nil {
		t.Error(err)
	}
	if err := in.Remove(); err != nil {
		t.Error(err)
	}

	in = create(t, "b")
	bell := in.Bell(0)
	if err := syscall.Mkfifo(bell, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := in.Leave(); err != nil {
		t.Fatal(err)
	}
	if err := Delete("b", false); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(bell); err == nil {
		t.Error("Delete left the bell")
	}
	if err := Delete("b", false); !errors.Is(err, ErrNone) {
		t.Errorf("second Delete: %v", err)
	}
}

// Sweep takes what crashes left under names with a pid, and nothing else.
func TestSweep(t *testing.T) {
	shm, run := dirs(t)
	for _, name := range []string{"demo-1", "demo", "demo-x", "demo-", "demo-1-1", "bench-1"} {
		if err := create(t, name).Leave(); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := Create(Info{Name: "demo-2", Keep: true}, params(), tiles, shmem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Leave(); err != nil {
		t.Fatal(err)
	}
	lives := create(t, "demo-3")
	if err := os.WriteFile(filepath.Join(shm, "tilewire.demo-4"), []byte("no region"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Sweep("demo"); err != nil {
		t.Error(err)
	}
	left, _ := filepath.Glob(filepath.Join(shm, "tilewire.*"))
	if len(left) != 8 {
		t.Errorf("left: %v", left)
	}
	for _, gone := range []string{filepath.Join(shm, "tilewire.demo-1"), filepath.Join(run, "demo-1")} {
		if _, err := os.Lstat(gone); err == nil {
			t.Errorf("%s is left", gone)
		}
	}
	if err := lives.Remove(); err != nil {
		t.Error(err)
	}
}

// Nothing but its own doorbells is removed from a run directory, whatever the region says.
func TestRemoveTouchesNothingElse(t *testing.T) {
	_, run := dirs(t)
	in := create(t, "a")
	file := filepath.Join(run, "a", "precious")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in.Bell(9), nil, 0o600); err != nil { // no FIFO
		t.Fatal(err)
	}
	bell := in.Bell(9)
	if err := in.Remove(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{file, bell} {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
}

func TestRunDir(t *testing.T) {
	_, run := dirs(t)
	if err := os.MkdirAll(run, 0o700); err != nil {
		t.Fatal(err)
	}
	bad := func(what string) {
		t.Helper()
		if in, err := Create(Info{Name: "a"}, params(), tiles, shmem.Options{}); err == nil || !strings.Contains(err.Error(), "TILEWIRE_RUN_DIR") {
			t.Errorf("%s: %v", what, err)
			if err == nil {
				_ = in.Remove()
			}
		}
		if err := os.RemoveAll(run + "/a"); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(run+"/a", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bad("a file")
	if err := os.Symlink(t.TempDir(), run+"/a"); err != nil {
		t.Fatal(err)
	}
	bad("a link")
	if err := os.Mkdir(run+"/a", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(run+"/a", 0o777); err != nil {
		t.Fatal(err)
	}
	bad("others may write")
	if os.Geteuid() == 0 {
		if err := os.Mkdir(run+"/a", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(run+"/a", 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(run+"/a/theirs", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		bad("another user's, in use")
		if err := os.Mkdir(run+"/a", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(run+"/a", 65534, 65534); err != nil {
			t.Fatal(err)
		}
		if err := create(t, "a").Remove(); err != nil { // what a crash of an instance with a user left
			t.Error(err)
		}
	}
}

// A region of another user may be joined, if its mode allows, but not be owned.
func TestOwnForeign(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	dirs(t)
	in := create(t, "a")
	path := in.Region.Path()
	if err := in.Leave(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	in, err := Join("a", shmem.ReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Own(); !errors.Is(err, ErrForeign) {
		t.Errorf("Own: %v", err)
	}
	_ = in.Leave()
}

// TestHostile damages an instance's region and joins it: a typed error or an instance, never a panic.
func TestHostile(t *testing.T) {
	shm, _ := dirs(t)
	in := create(t, "a")
	path := in.Region.Path()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Leave(); err != nil {
		t.Fatal(err)
	}
	seed := uint64(os.Getpid())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	at := strings.Index(string(whole), `{"name"`)
	if at < 0 {
		t.Fatal("no Info in the region")
	}
	join := func(what string, b []byte) error {
		t.Helper()
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		in, err := Join("a", shmem.ReadWrite)
		if err == nil {
			in.Tiles()
			_, _ = in.Cnc(tiles[0])
			if err := in.Leave(); err != nil {
				t.Errorf("%s: Leave: %v", what, err)
			}
			return nil
		}
		if !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v is no ErrForeign", what, err)
		}
		return err
	}
	if err := join("whole", whole); err != nil {
		t.Errorf("undamaged: %v", err)
	}
	for _, s := range []string{`{"name":"b"`, `{"name":7  `, `[          `, "\x00\x00\x00\x00\x00\x00\x00\x00\x00"} {
		b := append([]byte(nil), whole...)
		copy(b[at:], s)
		if join(s, b) == nil {
			t.Errorf("joined with %q", s)
		}
	}
	for _, n := range []int{0, 1, 4095, 4096, len(whole) / 2 &^ 4095} {
		if join(fmt.Sprintf("cut to %d", n), whole[:n]) == nil {
			t.Errorf("joined with %d bytes of %d", n, len(whole))
		}
	}
	for i := range 300 {
		b := append([]byte(nil), whole...)
		for range 1 + rng.IntN(20) {
			k := rng.IntN(len(b))
			if i%2 == 0 {
				k = rng.IntN(16 << 10) // where the headers are
			}
			b[k] ^= byte(1 + rng.IntN(255))
		}
		_ = join(fmt.Sprintf("damage %d of seed %d", i, seed), b)
	}
	if err := os.RemoveAll(shm); err != nil {
		t.Fatal(err)
	}
}

// TestTakenByOther: a name under which lies what is none of ours is taken, and the error says by what.
func TestTakenByOther(t *testing.T) {
	shm, _ := dirs(t)
	if err := os.Mkdir(shm+"/tilewire.a", 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Create(Info{Name: "a"}, params(), tiles, shmem.Options{})
	if !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "not a region: "+shm+"/tilewire.a") {
		t.Error(err)
	}
}

// What a crash left in a tile's cnc is gone when the next run begins; who lives is left alone.
func TestRest(t *testing.T) {
	dirs(t)
	in := create(t, "rest")
	defer in.Remove()
	cnc := func(of Tile) *tile.Cnc {
		m, err := in.Cnc(of)
		if err != nil {
			t.Fatal(err)
		}
		c, err := tile.CncJoin(m)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	dead, alive := cnc(tiles[0]), cnc(tiles[1])
	dead.Fail(errors.New("an error"))
	l, err := alive.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	alive.SetSignal(tile.SignalRun)
	if err := in.Rest(); err != nil {
		t.Fatal(err)
	}
	if dead.Signal() != tile.SignalBoot || dead.Restarts() != 0 || alive.Signal() != tile.SignalRun {
		t.Errorf("dead one %v, restarts %d; one alive %v", dead.Signal(), dead.Restarts(), alive.Signal())
	}
}
