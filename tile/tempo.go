package tile

import "time"

// Tempo says when housekeeping is due: at intervals uniform in [min, 2*min). Random, because tiles that keep house at
// a fixed interval fall into step with each other and with what they serve (the lesson is Firedancer's).
// It is for one goroutine and does not allocate.
type Tempo struct {
	min   int64
	next  int64
	state uint64
}

// NewTempo starts a tempo at now (shmem.Monotonic, ns): the first Due comes within 2*min of it. min is at least 1 ns.
func NewTempo(min time.Duration, seed uint64, now int64) Tempo {
	t := Tempo{min: max(int64(min), 1), state: seed}
	t.next = now + t.interval()
	return t
}

// Due tells whether it is time, and if so sets the next time, counted from now.
func (t *Tempo) Due(now int64) bool {
	if now < t.next {
		return false
	}
	t.next = now + t.interval()
	return true
}

// Next is when Due will say true, in ns.
func (t *Tempo) Next() int64 { return t.next }

// interval draws from [min, 2*min): splitmix64, reduced by modulo, whose bias is below 2^-20 for any min up to hours.
func (t *Tempo) interval() int64 {
	t.state += 0x9e3779b97f4a7c15
	z := t.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return t.min + int64(z%uint64(t.min))
}
