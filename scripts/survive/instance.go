package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/instance"
	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/tile"
)

// server is a running `tilewire run`, whose producer is this program's feed.
type server struct {
	cmd  *exec.Cmd
	addr string
	in   *instance.Instance
	net  *tile.Cnc
	cnt  *tile.Counters
	log  sync.WaitGroup

	mu   sync.Mutex
	tail []string // of its log
	said chan struct{}
}

func startInstance(o options) (_ *server, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{said: make(chan struct{})}
	name := fmt.Sprintf("survive-%d", os.Getpid())
	args := append([]string{"run", "--name", name, "--listen", "127.0.0.1:0", "--frame", "len32", "--restart-max", "1000", "--keep-alive",
		"--write-timeout", "30s", "--ping-interval", "2s"}, o.args...)
	args = append(args, "--", self, "-feed", fmt.Sprintf("%d:%d", o.rate, o.size))
	s.cmd = exec.Command(o.program, args...)
	if o.moments != "" {
		s.cmd.Env = append(os.Environ(), "SURVIVE_MOMENTS="+o.moments)
		if o.plan {
			s.cmd.Env = append(s.cmd.Env, "SURVIVE_PLAN_ONLY=1")
		}
	}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
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
	page := regexp.MustCompile(`live page +http://([^/\s]+)`)
	s.log.Add(1)
	go func() {
		defer s.log.Done()
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			if o.verbose {
				fmt.Fprintln(os.Stderr, sc.Text())
			}
			s.mu.Lock()
			if m := page.FindStringSubmatch(sc.Text()); m != nil && s.addr == "" {
				s.addr = m[1]
				close(s.said)
			}
			s.tail = append(s.tail, sc.Text())
			s.tail = s.tail[max(0, len(s.tail)-20):]
			s.mu.Unlock()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.addr == "" {
			close(s.said)
		}
	}()
	<-s.said
	if s.addr == "" {
		return nil, fmt.Errorf("%v: %s", s.cmd.Args, strings.Join(s.tail, "\n"))
	}
	if s.in, err = instance.Join(name, shmem.ReadWrite); err != nil {
		return nil, err
	}
	m, err := s.in.Cnc(instance.Tile{Kind: "net"})
	if err != nil {
		return nil, err
	}
	if s.net, err = tile.CncJoin(m); err != nil {
		return nil, err
	}
	s.cnt, err = s.in.Server.Counters(0)
	return s, err
}

func (s *server) lastWords() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.tail, "\n")
}

// stop ends the instance as an operator does.
func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	end := time.AfterFunc(20*time.Second, func() { _ = s.cmd.Process.Kill() })
	s.log.Wait()
	_ = s.cmd.Wait()
	end.Stop()
	if s.in != nil {
		_ = s.in.Leave()
	}
}
