package swarm

import "math/bits"

const (
	histSubBits = 6 // 64 buckets per power of two: at most 1.6 % wide
	histSub     = 1 << histSubBits
	histBuckets = (64 - histSubBits + 1) * histSub
)

// Histogram counts values in log-linear buckets: exact below 64, then 64 buckets per power of two.
// It covers all of uint64 in 30 KiB and never allocates. The zero value is empty. One goroutine.
//
// Idea: HdrHistogram (hdrhistogram.org).
type Histogram struct {
	count   uint64
	max     uint64
	buckets [histBuckets]uint64
}

// Record counts v. Negative values count as 0.
func (h *Histogram) Record(v int64) {
	u := uint64(max(v, 0))
	h.count++
	if u > h.max {
		h.max = u
	}
	h.buckets[histIndex(u)]++
}

// Count returns the number of values.
func (h *Histogram) Count() uint64 { return h.count }

// Max returns the greatest value, exact; 0 when empty.
func (h *Histogram) Max() uint64 { return h.max }

// Quantile returns the upper bound of the bucket that holds the value at rank q (0 < q <= 1), at most
// 1.6 % above it and never above Max; 0 when empty.
func (h *Histogram) Quantile(q float64) uint64 {
	if h.count == 0 {
		return 0
	}
	rank := uint64(q*float64(h.count) + 0.9999999)
	rank = min(max(rank, 1), h.count)
	var seen uint64
	for i, n := range h.buckets {
		if seen += n; seen >= rank {
			return min(histUpper(i), h.max)
		}
	}
	return h.max
}

// Add counts the values of o too.
func (h *Histogram) Add(o *Histogram) {
	h.count += o.count
	h.max = max(h.max, o.max)
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
}

// Reset forgets all values.
func (h *Histogram) Reset() { *h = Histogram{} }

func histIndex(v uint64) int {
	if v < histSub {
		return int(v)
	}
	exp := uint(bits.Len64(v)) - histSubBits - 1
	return int(exp)<<histSubBits + int(v>>exp)
}

// histUpper returns the greatest value of bucket i.
func histUpper(i int) uint64 {
	if i < histSub {
		return uint64(i)
	}
	exp := uint(i>>histSubBits) - 1
	return (uint64(i)-uint64(exp)<<histSubBits+1)<<exp - 1
}
