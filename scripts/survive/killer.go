package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/tile"
)

// killer kills the network tile at random moments and awaits its successor.
type killer struct {
	o   options
	s   *server
	r   *report
	rnd *rand.Rand
}

const successorWithin = 10 * time.Second

// run ends early when hurt is closed: a client noticed something.
func (k *killer) run(ctx context.Context, hurt <-chan struct{}) error {
	for i := 1; i <= k.o.kills; i++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-hurt:
			return nil
		case <-time.After(k.o.pause/2 + time.Duration(k.rnd.Int64N(int64(k.o.pause)+1))):
		}
		hasty := k.o.hasty > 0 && i%k.o.hasty == 0
		if err := k.kill(hasty); err != nil {
			return fmt.Errorf("death %d: %w; the instance said:\n%s", i, err, k.s.lastWords())
		}
	}
	select { // what the last one did must show as well
	case <-ctx.Done():
	case <-hurt:
	case <-time.After(k.o.calm):
	}
	return nil
}

// kill is one death; hasty has the successor die as well, somewhere in its taking over.
func (k *killer) kill(hasty bool) error {
	pid := k.s.net.Pid()
	k.r.kill()
	if k.o.restart {
		if out, err := exec.Command(k.o.program, "restart", "net:0", "--name", k.s.in.Info.Name).CombinedOutput(); err != nil {
			return fmt.Errorf("restart: %w: %s", err, out)
		}
		_, err := k.await(pid, true)
		return err
	}
	if k.o.unkept {
		for _, keeper := range keepers(k.s.cmd.Process.Pid) {
			if err := unix.Kill(keeper, unix.SIGKILL); err != nil {
				return err
			}
		}
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("kill network tile %d: %w", pid, err)
	}
	if hasty {
		next, err := k.await(pid, false)
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(k.rnd.Int64N(int64(15 * time.Millisecond)))) // anywhere in its taking over
		k.r.hasty()
		if err := unix.Kill(next, unix.SIGKILL); err != nil {
			return fmt.Errorf("kill successor %d: %w", next, err)
		}
		pid = next
	}
	_, err := k.await(pid, true)
	return err
}

// keepers lists the keepers among the children of pid.
func keepers(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, l := range lists {
		b, _ := os.ReadFile(l)
		for _, f := range strings.Fields(string(b)) {
			if comm, _ := os.ReadFile("/proc/" + f + "/comm"); strings.HasPrefix(string(comm), "tw keep") {
				if n, err := strconv.Atoi(f); err == nil {
					pids = append(pids, n)
				}
			}
		}
	}
	return pids
}

// await waits until another process than old is the tile, and runs if that is asked.
func (k *killer) await(old int, running bool) (int, error) {
	for begin := time.Now(); time.Since(begin) < successorWithin; time.Sleep(200 * time.Microsecond) {
		if pid := k.s.net.Pid(); pid != old && k.s.net.Held() && (!running || k.s.net.Signal() == tile.SignalRun) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("no successor of %d within %v (signal %v, pid %d)", old, successorWithin, k.s.net.Signal(), k.s.net.Pid())
}
