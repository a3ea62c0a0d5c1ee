//go:build explore

package main

import (
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv"
	"github.com/tilewire/tilewire/tile/keeper"
)

// momentsEnv names the file to which a network tile writes at which moment it dies.
const momentsEnv = "SURVIVE_MOMENTS"

// planOnlyEnv, if it is set, breaks the recovery: a run that must fail.
const planOnlyEnv = "SURVIVE_PLAN_ONLY"

// moments are points of the code where something is half done. Those of a takeover come once in a process's life.
var moments = []string{"accepted", "received", "answered", "sending", "sent", "queued", "ponged", "event", "closed", "pinned",
	"checked", "unpinned", "desc-read", "takeover", "forked", "told"}

const takeoverMoments = 3

// dieAtMoment chooses one of them, at which this process will be killed.
func dieAtMoment() {
	path := os.Getenv(momentsEnv)
	if path == "" {
		return
	}
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	i, left := rand.IntN(len(moments)), 1
	if i < len(moments)-takeoverMoments {
		left += int(rand.ExpFloat64() * 40)
	}
	die := func(moment string) {
		if moment != moments[i] {
			return
		}
		if left--; left > 0 {
			return
		}
		_, _ = unix.Write(fd, []byte(moment+"\n"))
		_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGKILL)
		select {}
	}
	httpsrv.PlanOnly = os.Getenv(planOnlyEnv) != ""
	httpsrv.OnStep(die)
	keeper.OnStep = die
}
