package httpsrv

// bucket is a token bucket: rate per second, as many at once.
type bucket struct {
	rate int64 // 0: no limit
	full int64 // ns at which it will be full again
}

// take takes a token; else it returns the ns to wait for the next one.
func (b *bucket) take(now int64) (wait int64) {
	if b.rate <= 0 {
		return 0
	}
	cost := int64(1e9) / b.rate
	full := max(b.full, now)
	if over := full + cost - now - max(int64(1e9), cost); over > 0 {
		return over
	}
	b.full = full + cost
	return 0
}

// put gives a token back that was not used.
func (b *bucket) put() {
	if b.rate > 0 {
		b.full -= int64(1e9) / b.rate
	}
}
