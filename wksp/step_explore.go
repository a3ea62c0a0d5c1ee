//go:build explore

package wksp

// stepHook, when set, is called before each store to shared memory that matters: a test dies there.
var stepHook func(point)

func step(p point) {
	if stepHook != nil {
		stepHook(p)
	}
}

// peekHook, when set, is called before each load of a read that takes no lock: a test lets a mutator run there.
var peekHook func()

func peek() {
	if peekHook != nil {
		peekHook()
	}
}
