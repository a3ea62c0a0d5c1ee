package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// server is a running `tilewire pipe`, fed with a steady stream of verifiable messages.
type server struct {
	cmd  *exec.Cmd
	addr string
	name string
	net  int // pid of the network tile
	in   *instance.Instance
	cnt  *tile.Counters
	end  chan struct{} // stops the feeder
	fed  sync.WaitGroup
	err  atomic.Pointer[error]
}

var serverNr atomic.Uint32

func startServer(o options, t times, flags []string) (_ *server, err error) {
	s := &server{name: fmt.Sprintf("abuse-%d-%d", os.Getpid(), serverNr.Add(1)), end: make(chan struct{})}
	args := append([]string{"pipe", "--frame", "len32", "--listen", "127.0.0.1:0", "--name", s.name,
		"--header-timeout", t.header.String(), "--body-timeout", t.body.String(), "--write-timeout", t.write.String(),
		"--ping-interval", t.ping.String(), "--pong-timeout", t.pong.String()}, flags...)
	s.cmd = exec.Command(o.program, args...)
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	page, said := regexp.MustCompile(`live page +http://([^/\s]+)`), ""
	sc := bufio.NewScanner(out)
	for s.addr == "" && sc.Scan() {
		said += sc.Text() + "\n"
		if m := page.FindStringSubmatch(said); m != nil {
			s.addr = m[1]
		}
	}
	if s.addr == "" {
		return nil, fmt.Errorf("%v: %s", s.cmd.Args, said)
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if s.in, err = instance.Join(s.name, shmem.ReadOnly); err != nil {
		return nil, err
	}
	if s.cnt, err = s.in.Server.Counters(0); err != nil {
		return nil, err
	}
	if s.net, err = child(s.cmd.Process.Pid, "tw net:0"); err != nil {
		return nil, err
	}
	s.fed.Add(1)
	go s.feed(in, o)
	return s, nil
}

// feed writes rate messages a second.
func (s *server) feed(in io.WriteCloser, o options) {
	defer s.fed.Done()
	defer in.Close()
	b := make([]byte, 4+o.size)
	binary.BigEndian.PutUint32(b, uint32(o.size))
	tick := time.NewTicker(time.Second / time.Duration(o.rate))
	defer tick.Stop()
	for seq := uint64(1); ; seq++ {
		select {
		case <-s.end:
			return
		case <-tick.C:
		}
		swarm.FillPayload(b[4:], seq, shmem.Monotonic())
		if _, err := in.Write(b); err != nil {
			s.err.Store(&err)
			return
		}
	}
}

func (s *server) stop() {
	close(s.end)
	s.fed.Wait()
	ended := make(chan struct{})
	go func() {
		_ = s.cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(15 * time.Second):
		_ = s.cmd.Process.Kill()
		<-ended
	}
	if s.in != nil {
		_ = s.in.Leave()
	}
}

// counts are the tile's counters, by name.
func (s *server) counts() map[string]uint64 {
	m := map[string]uint64{}
	for i, n := range s.cnt.Names() {
		m[n] = s.cnt.Cell(i).Load()
	}
	return m
}

// idle waits until all connections are gone.
func (s *server) idle(ctx context.Context, t times) error {
	limit := 10*time.Second + t.header + t.body + t.write + t.ping + t.pong
	for begin := time.Now(); ; {
		if e := s.err.Load(); e != nil {
			return fmt.Errorf("the server ended: %w", *e)
		}
		if s.cnt.Lookup("conns_now").Load() == 0 {
			time.Sleep(700 * time.Millisecond) // sockets that were refused are kept for a moment, and no counter tells
			return nil
		}
		if time.Since(begin) > limit {
			return fmt.Errorf("%d connections are left after %v", s.cnt.Lookup("conns_now").Load(), limit)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// holds returns the tile's descriptors and the bytes of memory that are its own:
// the shared ones are set aside at the start, whoever attacks.
func (s *server) holds() (fds int, anon int64, err error) {
	dir := fmt.Sprintf("/proc/%d/", s.net)
	ents, err := os.ReadDir(dir + "fd")
	if err != nil {
		return 0, 0, err
	}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return 0, 0, err
	}
	m := regexp.MustCompile(`RssAnon:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		return 0, 0, errors.New("no RssAnon in " + dir + "status")
	}
	kb, err := strconv.ParseInt(string(m[1]), 10, 64)
	return len(ents), kb << 10, err
}

// child finds the process called name that pid has started.
func child(pid int, name string) (int, error) {
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(5 * time.Millisecond) {
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, l := range lists {
			b, _ := os.ReadFile(l)
			for _, c := range strings.Fields(string(b)) {
				if comm, _ := os.ReadFile("/proc/" + c + "/comm"); strings.TrimSpace(string(comm)) == name {
					return strconv.Atoi(c)
				}
			}
		}
	}
	return 0, fmt.Errorf("process %d has no child %q", pid, name)
}
