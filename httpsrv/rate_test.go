package httpsrv

import "testing"

func TestBucket(t *testing.T) {
	now := int64(5e9)
	if b := (bucket{}); b.take(now) != 0 {
		t.Error("no limit limits")
	}
	for _, rate := range []int64{1, 3, 100, 10000} {
		b := bucket{rate: rate}
		n := int64(0)
		for ; b.take(now) == 0; n++ {
		}
		if n != rate {
			t.Errorf("rate %d: %d at once", rate, n)
		}
		b.put()
		if b.take(now) != 0 || b.take(now) == 0 {
			t.Errorf("rate %d: a token given back is not one", rate)
		}
		end := now + 10e9
		for ; now < end; now += 1e6 {
			for b.take(now) == 0 {
				n++
			}
		}
		if n < 11*rate-1-rate/1000 || n > 11*rate {
			t.Errorf("rate %d: %d in 10 s", rate, n)
		}
		for b.take(now) == 0 {
		}
		wait := b.take(now)
		if wait <= 0 || wait > 1e9/rate {
			t.Errorf("rate %d: waits %d ns", rate, wait)
		}
		if b.take(now+wait) != 0 {
			t.Errorf("rate %d: nothing after the wait", rate)
		}
		now += 100e9
	}
}
