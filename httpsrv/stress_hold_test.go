//go:build explore

package httpsrv

import (
	"math/rand/v2"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// stressHold has a tile's process descheduled now and then at the worst place:
// after a send's bytes, which the producer is about to overwrite, were found to
// be there, and before the kernel reads them. TILEWIRE_BREAK=n breaks rule n of
// rules.go in all processes, to see whether the clients notice.
func stressHold(t *NetTile) {
	stressBreak()
	rd := t.rd[0]
	stepHook = func(p point) {
		if pin := rd.pinned[areaBroadcast]; p == ptChecked && pin != noPin &&
			pin-rd.r.hdr.limit[areaBroadcast].Load() < 64<<10 && rand.IntN(4) == 0 {
			_ = unix.Nanosleep(&unix.Timespec{Nsec: 2e6}, nil)
		}
	}
}

func stressBreak() {
	n, _ := strconv.Atoi(os.Getenv("TILEWIRE_BREAK"))
	brokenRule = rule(n)
}
