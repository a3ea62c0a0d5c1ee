//go:build explore

package httpsrv

// stepHook is called at every point; nil lets the code run through.
var stepHook func(point)

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

func holds(r rule) bool { return r != brokenRule }
