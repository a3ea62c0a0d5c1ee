//go:build explore

package wksp

import "testing"

// stepper runs op in a goroutine that stands still before each of its stores until it is let go.
type stepper struct {
	next chan bool // true: one more store
	at   chan bool // false: op has ended
}

func newStepper(op func()) *stepper {
	s := &stepper{make(chan bool), make(chan bool)}
	go func() {
		<-s.next
		stepHook = func(point) {
			s.at <- true
			<-s.next
		}
		op()
		stepHook = nil
		close(s.at)
	}()
	return s
}

// run lets op go on for n stores, or to its end if n < 0. It tells whether op has not ended.
func (s *stepper) run(n int) bool {
	for ; n != 0; n-- {
		select {
		case s.next <- true:
		case <-s.at:
			return false
		}
		if !<-s.at {
			return false
		}
	}
	return true
}

// TestReadBesideReuse: a reader without a lock, and a mutator that frees the row it reads and gives it, same tag, to
// another allocation, interleaved in every way in which the mutator goes on at two points of the read. The reader
// gets the old allocation, the new one, or none; never something of both.
func TestReadBesideReuse(t *testing.T) {
	const peeks = 6
	kinds := map[string]int{}
	for first := range peeks {
		for second := first; second < peeks; second++ {
			for k, more := 1, true; more; k++ {
				for l := 1; ; l++ {
					before, after := readBeside(t, first, k, second, l, kinds)
					more = before
					if !after {
						break
					}
				}
			}
		}
	}
	t.Logf("%v", kinds)
}

// readBeside lets the mutator make k stores before load first and l more before load second (loads from 0, the first
// of the tag not counted). It tells whether it had not ended after each.
func readBeside(t *testing.T, first, k, second, l int, kinds map[string]int) (before, after bool) {
	w := format(t, heap, 8, 1<<14)
	o, err := w.NewNamed("old/name/that/is/long", 1, 1000, 5)
	ok(t, err)
	i, _ := w.usedAt(o.Gaddr)
	s := newStepper(func() {
		ok(t, w.Free(o.Gaddr))
		n, err := w.NewNamed("new/name/that/is/longer/still", 2048, 3000, 5)
		ok(t, err)
		if row, _ := w.usedAt(n.Gaddr); row != i {
			t.Errorf("row %d was not used again but %d", i, row)
		}
	})
	n := 0
	peekHook = func() {
		if n == first {
			before = s.run(k)
			after = before
		}
		if n == second && before {
			after = s.run(l)
		}
		n++
	}
	r, good := w.read(i)
	peekHook = nil
	if after {
		s.run(-1)
	}
	name, _ := r.name.unpack()
	switch {
	case !good:
		kinds["none"]++
	case r.lo == o.Gaddr && r.size == 1000 && name == "old/name/that/is/long":
		kinds["old"]++
	case r.lo%2048 == 0 && r.size == 3000 && name == "new/name/that/is/longer/still":
		kinds["new"]++
	default:
		t.Fatalf("mutator makes %d stores before load %d and %d before %d: %+v %s", k, first, l, second, r, name)
	}
	return before, after
}
