//go:build explore

package httpsrv

import "github.com/tilewire/tilewire/shmem"

// stepHook is called at every point; nil lets the code run through.
var stepHook func(point)

var pointNames = map[point]string{
	ptLimitRaised: "limit-raised", ptPinRead: "pin-read", ptPinWait: "pin-wait", ptReclaimed: "reclaimed",
	ptStaged: "staged", ptDescCleared: "desc-cleared", ptDescWritten: "desc-written", ptPublished: "published",
	ptPinned: "pinned", ptChecked: "checked", ptSending: "sending", ptUnpinned: "unpinned", ptLookup: "lookup",
	ptDescRead: "desc-read", ptTakeover: "takeover", ptSent: "sent", ptReceived: "received", ptAnswered: "answered",
	ptQueued: "queued", ptPonged: "ponged", ptAccepted: "accepted", ptClosed: "closed", ptEvent: "event",
}

// OnStep has f called at every point, with its name: for a program that is to die there.
func OnStep(f func(point string)) { stepHook = func(p point) { f(pointNames[p]) } }

// PlanOnly has successors trust the plan in shared memory, and not the kernel's count: clients must notice.
var PlanOnly bool

func counted(n uint64) uint64 {
	if PlanOnly {
		return 0
	}
	return n
}

// brokenRule is the rule that the code shall break, or 0.
var brokenRule rule

func step(p point) {
	if stepHook != nil {
		stepHook(p)
	}
}

// inTaking is who took each tile's role last.
var inTaking [256]*NetTile

func taking(t *NetTile) { inTaking[t.id] = t }

// inTakingApp is who took an application's role last, and the role.
var inTakingApp struct {
	a    *App
	lock *shmem.Lock
}

func takingApp(a *App, lock *shmem.Lock) { inTakingApp.a, inTakingApp.lock = a, lock }

func holds(r rule) bool { return r != brokenRule }
