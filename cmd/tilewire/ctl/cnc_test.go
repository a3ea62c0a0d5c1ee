package ctl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// instanceOfTwo makes an instance called cnc with the tiles mine:2, whose cnc it returns, and net:0.
func instanceOfTwo() (*instance.Instance, *tile.Cnc, error) {
	p := httpsrv.Params{
		MaxConnectionCnt: 2, MaxWsConnectionCnt: 2, MaxRequestLen: 1024, MaxWsRecvFrameLen: 1024, OutgoingBufferSz: 1 << 12,
		RingDepth: 64, ReplyDepth: 64, TileCnt: 1, RingCnt: 1, RecvBufCnt: 2, MsgBufCnt: 1, PendingCnt: 4, StaticSz: 64,
	}
	tiles := []instance.Tile{{Kind: "mine", ID: 2}, {Kind: "net"}}
	in, err := instance.Create(instance.Info{Name: "cnc"}, p, tiles, shmem.Options{})
	if err != nil {
		return nil, nil, err
	}
	c, err := cncJoin(in, tiles[0])
	return in, c, err
}

func playing(args []string) int {
	in, c, err := instanceOfTwo()
	if err == nil {
		_, err = c.Take()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "playing:", err)
		return 99
	}
	c.SetSignal(tile.SignalRun)
	c.Beat(shmem.Monotonic())
	code := runs(args)
	if err := in.Remove(); err != nil {
		fmt.Fprintln(os.Stderr, "playing:", err)
		return 99
	}
	return code
}

// cnc runs a verb and returns what it wrote.
func cnc(args ...string) (string, error) {
	cmd := CncCmd()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	err := cmd.Execute()
	return out.String(), err
}

func TestCnc(t *testing.T) {
	shm, err := os.MkdirTemp("/dev/shm", "tilewire-test-")
	if err != nil {
		shm = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(shm) })
	t.Setenv("TILEWIRE_SHM_DIR", shm)
	t.Setenv("TILEWIRE_RUN_DIR", filepath.Join(t.TempDir(), "run"))
	if _, err := cnc("query"); !errors.Is(err, instance.ErrNone) || ExitCode(err) != 5 {
		t.Errorf("without an instance: %v", err)
	}
	in, c, err := instanceOfTwo()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Remove()

	query := func(want string, args ...string) {
		t.Helper()
		out, err := cnc(append([]string{"query"}, args...)...)
		if ok, _ := regexp.MatchString(want, out); !ok || err != nil {
			t.Errorf("%v: %v\n%swant %s", args, err, out, want)
		}
	}
	query(`^tile +pid +held +signal +heartbeat +cpu +restarts +cause\nmine:2 +0 +no +boot +- +float +0 +-\nnet:0 +0 +no +boot +.*\n$`)
	if _, err := cnc("signal", "mine:2", "halt"); err == nil || !strings.Contains(err.Error(), "mine:2 of cnc is not running") {
		t.Errorf("a tile that does not run: %v", err)
	}
	l, err := c.Take()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Unlock()
	c.SetSignal(tile.SignalRun)
	query(`^tile.*\nmine:2 +\d+ +yes +run +\d+\.\d{3}s +float +0 +-\n$`, "mine:2", "--name", "cnc")

	signal := func(want tile.Signal, args ...string) {
		t.Helper()
		if _, err := cnc(append([]string{"signal", "mine:2"}, args...)...); err != nil || c.Signal() != want {
			t.Errorf("%v: %v, %v; want %v", args, err, c.Signal(), want)
		}
	}
	signal(7, "user", "7")
	if _, err := cnc("signal", "mine:2", "user-5"); !errors.Is(err, tile.ErrSignal) || c.Signal() != 7 {
		t.Errorf("while the last one waits: %v, %v", err, c.Signal())
	}
	c.Ack(7)
	signal(5, "user-5")
	signal(tile.SignalHalt, "halt")
	c.Fail(errors.New("it hurts"))
	out, err := cnc("query", "mine:2", "--json")
	var rows []cncJSON
	if e := json.Unmarshal([]byte(out), &rows); e != nil || err != nil || len(rows) != 1 {
		t.Fatalf("%v, %v: %s", err, e, out)
	}
	if r := rows[0]; r.Tile != "mine:2" || r.Kind != "mine" || r.ID != 2 || r.Pid != os.Getpid() || !r.Held || r.Signal != "fail" || r.Cause != "it hurts" || r.Heartbeat == nil || r.CPU != nil {
		t.Errorf("%+v", r)
	}
	for _, bad := range [][]string{
		{"query", "mine:0"}, {"query", "a", "b"}, {"signal", "mine:2"}, {"signal", "mine:2", "run"}, {"signal", "mine:2", "user", "3"}, {"signal", "mine:2", "user"},
		{"signal", "net:1", "halt"}, {"other"},
	} {
		if _, err := cnc(bad...); !errors.Is(err, ErrUsage) || ExitCode(err) != 2 {
			t.Errorf("%v: %v", bad, err)
		}
	}
}
