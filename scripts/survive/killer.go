package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
		if k.o.moments != "" {
			if err := k.dies(ctx, hurt); err != nil {
				return fmt.Errorf("death %d: %w; the instance said:\n%s", i, err, k.s.lastWords())
			}
			if i = len(diedAt(k.o.moments)); i == 0 {
				return fmt.Errorf("%s was not built with -tags explore", k.o.program)
			}
			continue
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

// dies waits until the tile has died by itself, at a moment of its own choice, and kills it if that does not come.
func (k *killer) dies(ctx context.Context, hurt <-chan struct{}) error {
	pid := k.s.net.Pid()
	for end := time.Now().Add(5 * k.o.pause); k.s.net.Pid() == pid && k.s.net.Held(); time.Sleep(200 * time.Microsecond) { // a cnc rings nobody
		if time.Now().After(end) {
			_ = unix.Kill(pid, unix.SIGKILL)
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-hurt:
			return nil
		default:
		}
	}
	k.r.kill()
	_, err := k.await(pid, true)
	return err
}

// diedAt lists the moments at which tiles died.
func diedAt(file string) []string {
	b, _ := os.ReadFile(file)
	return strings.Fields(string(b))
}

// momentsText sums them up.
func momentsText(file string) string {
	n, all := map[string]int{}, diedAt(file)
	for _, m := range all {
		n[m]++
	}
	var parts []string
	for _, m := range slices.Sorted(maps.Keys(n)) {
		parts = append(parts, fmt.Sprintf("%s %d", m, n[m]))
	}
	return fmt.Sprintf("%d died at %d moments: %s", len(all), len(n), strings.Join(parts, ", "))
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
