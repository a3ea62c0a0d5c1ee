package httpsrv

import "time"

// lagLimits bound how far a client may be behind its ring besides what the ring
// holds and Params.MaxWsSendFrameCnt. All of them are held by the sweep over the
// blocked clients, so that they cost the delivery pass nothing.
type lagLimits struct {
	sweepBytes uint64 // published between two sweeps, at most: by MaxLagBytes
	next       int64  // ns of the next sweep for MaxLag
}

const never = int64(1<<63 - 1)

func (t *NetTile) lagInit() {
	t.lag = lagLimits{sweepBytes: ^uint64(0), next: never}
	if n := t.opt.MaxLagBytes; n > 0 {
		t.lag.sweepBytes = max(n/8, 1)
	}
	if t.opt.MaxLag > 0 {
		t.lag.next = t.now
	}
}

// lagCut returns the broadcast offset before which a cursor is too far behind by
// MaxLagBytes or MaxLag. A message larger than MaxLagBytes evicts nobody who has
// got all before it.
func (t *NetTile) lagCut(rd *reader) (cut uint64) {
	if n := t.opt.MaxLagBytes; n > 0 && rd.end > n {
		cut = min(rd.end-n, rd.last)
	}
	if t.opt.MaxLag > 0 {
		cut = max(cut, rd.before(t.now-t.opt.MaxLag.Nanoseconds()))
	}
	return cut
}

// lagDue sweeps for MaxLag, which passes also when nothing is published.
func (t *NetTile) lagDue() {
	t.lag.next = t.now + min(t.opt.MaxLag/8, time.Second).Nanoseconds()
	for i := range t.groups {
		if len(t.groups[i].lists[listBlocked]) > 0 {
			t.sweep(i)
		}
	}
}

// before returns the broadcast offset at which the messages end that were
// published before time (CLOCK_MONOTONIC ns). Cost: log2(depth).
func (rd *reader) before(time int64) uint64 {
	var m message
	if !rd.r.read(rd.seen, &m) || m.time <= time {
		return rd.end
	}
	lo, hi := rd.r.oldest(rd.seen), rd.seen // the first message that is not older
	for lo != hi {
		mid := lo + (hi-lo)/2
		if !rd.r.read(mid, &m) || m.time <= time {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if rd.r.read(lo-1, &m) {
		return m.end[areaBroadcast]
	}
	return rd.r.hdr.limit[areaBroadcast].Load()
}
