package feed

import "testing"

func TestHub(t *testing.T) {
	h := NewHub[int]()
	a, b := h.Join(), h.Join()
	h.Leave(b)
	h.Leave(b)
	if _, ok := <-b.Queue; ok {
		t.Fatal("left, and still served")
	}
	for i := range queueCnt {
		h.Publish(i)
	}
	h.Publish(queueCnt) // finds the queue full
	n := 0
	for v := range a.Queue {
		if v != n {
			t.Fatalf("%d after %d messages", v, n)
		}
		n++
	}
	if n != queueCnt || len(h.members) != 0 {
		t.Fatalf("%d messages, %d members", n, len(h.members))
	}
}
