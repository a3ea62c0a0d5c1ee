package httpsrv

import "github.com/tilewire/tilewire/shmem"

// reader is a tile's side of a ring: it walks new descriptors once, pins what
// a send reads, and turns cursors into slices. A cursor is a stream offset
// into the broadcast area.
//
// The order of the steps is the protocol (docs/reclaim.md): pin, then limit,
// then bytes. A pin covers one send.
type reader struct {
	r    *ring
	line *pinLine
	seen uint64 // last descriptor walked
	end  uint64 // broadcast offset up to which messages are published, as of seen
	from uint64 // where the messages found by the last walk begin (end of before, less a gap)
	prev uint64 // end before the last walk
	last uint64 // where the last message begins
	side uint64 // end of the side area, as of seen

	pinned   [areaCnt]uint64 // what line holds
	msgs     uint64          // broadcasts walked
	doubt    bool            // the next message to a single client may be one that a predecessor had dealt with, and died
	own      bool            // messages to single clients went by with those that a predecessor had not read
	overruns uint64          // walks that found descriptors reused
	walking  message         // the descriptor that walk shows; here, so that it isn't allocated
}

// newReader returns the reader of tile's slot, standing at what is published
// now, with no pin. The caller holds the tile's role.
func newReader(r *ring, tile int) *reader {
	rd := &reader{r: r, line: r.pins[tile]}
	rd.unpin()
	rd.toHead()
	return rd
}

// resumeReader returns the reader of a tile that carries on what its predecessor
// left: it stands where that one's walk stood. Where those descriptors are gone
// it stands at the head and has overruns to be dealt with.
func resumeReader(r *ring, tile int) *reader {
	rd := &reader{r: r, line: r.pins[tile]}
	rd.unpin()
	m := &rd.walking
	if seq := rd.line.seen; r.hdr.head.Load()-seq <= r.mask && r.read(seq, m) {
		rd.stand(seq, m)
		rd.doubt = true
		return rd
	}
	side := rd.line.side
	rd.toHead()
	rd.overruns++
	rd.own = rd.side != side
	return rd
}

// toHead has the reader stand at what is published now.
func (rd *reader) toHead() {
	for {
		head := rd.r.hdr.head.Load()
		step(ptLookup)
		if rd.r.read(head, &rd.walking) {
			rd.stand(head, &rd.walking)
			rd.settled()
			return
		}
	}
}

func (rd *reader) stand(seq uint64, m *message) {
	rd.seen, rd.end, rd.side = seq, m.end[areaBroadcast], m.end[areaSide]
	rd.from, rd.prev, rd.last = rd.end, rd.end, rd.end
}

// settled writes down how far the walk has come, once all is done that the
// descriptors up to there ask for and before any cursor passes their ends.
func (rd *reader) settled() { rd.line.side, rd.line.seen = rd.side, rd.seen }

// behind reports whether messages were published that have not been walked.
func (rd *reader) behind() bool { return rd.r.hdr.head.Load() != rd.seen }

// walk visits every descriptor published since the last walk, and calls side
// for those that are not broadcast. It returns the number of messages
// published since. When descriptors were reused before they were read, it
// counts an overrun and goes on at the head; the tile then treats its clients
// by the slow-client policy, since side messages may have gone by.
func (rd *reader) walk(side func(*message)) (n uint64) {
	head := rd.r.hdr.head.Load()
	if head == rd.seen {
		return 0
	}
	n = head - rd.seen
	rd.prev, rd.from = rd.end, rd.end
	first := true
	m := &rd.walking
	for s := rd.seen + 1; s != head+1; s++ {
		if !rd.r.read(s, m) {
			rd.overruns++
			for !rd.r.read(head, m) {
				head = rd.r.hdr.head.Load()
				step(ptLookup)
			}
			rd.seen, rd.end, rd.side = head, m.end[areaBroadcast], m.end[areaSide]
			rd.last = m.start()
			return n
		}
		if m.area == areaBroadcast {
			rd.msgs++
			rd.last = m.off
			if first {
				rd.from, first = m.off, false
			}
		} else if side != nil {
			side(m)
			rd.line.seen = s
			rd.doubt = false
		}
		rd.seen, rd.end, rd.side = s, m.end[areaBroadcast], m.end[areaSide]
	}
	rd.settled()
	return n
}

// pin declares that broadcast bytes from cursor on are about to be read, and
// reports whether they are still there. On false nothing of them may be read.
func (rd *reader) pin(cursor uint64) bool {
	if !holds(rulePinThenLimit) {
		ok := cursor >= rd.r.hdr.limit[areaBroadcast].Load()
		step(ptChecked)
		rd.line.pin[areaBroadcast].Store(cursor)
		rd.pinned[areaBroadcast] = cursor
		return ok
	}
	if rd.pinned[areaBroadcast] != cursor {
		rd.pinned[areaBroadcast] = cursor
		rd.line.pin[areaBroadcast].Store(cursor)
		step(ptPinned)
	}
	ok := cursor >= rd.r.hdr.limit[areaBroadcast].Load()
	step(ptChecked)
	return ok
}

// pinSide does the same for the side area.
func (rd *reader) pinSide(off uint64) bool {
	if rd.pinned[areaSide] != off {
		rd.pinned[areaSide] = off
		rd.line.pin[areaSide].Store(off)
		step(ptPinned)
	}
	ok := off >= rd.r.hdr.limit[areaSide].Load()
	step(ptChecked)
	return ok || !holds(ruleSideLimit)
}

// unpin ends the send.
func (rd *reader) unpin() {
	for a := range rd.pinned {
		if rd.pinned[a] != noPin {
			rd.pinned[a] = noPin
			rd.line.pin[a].Store(noPin)
		}
	}
	step(ptUnpinned)
}

// skipGap moves a cursor that stands where a lap ended to the start of the
// next lap, if to lies there.
func (rd *reader) skipGap(cursor, to uint64) uint64 {
	lap := cursor >> rd.r.shift
	if to>>rd.r.shift != lap && cursor == rd.r.hdr.gap[lap%gapLaps].Load() {
		return (lap + 1) << rd.r.shift
	}
	return cursor
}

// slices adds the bytes from cursor up to the offset to (a frame's end, at most
// one lap ahead) to v: one slice, or two across a wrap. The cursor is pinned.
func (rd *reader) slices(cursor, to uint64, v *shmem.Iovs) {
	d, sh := rd.r.data[areaBroadcast], rd.r.shift
	if cursor == to {
		return
	}
	lap := cursor >> sh
	a, b := rd.r.phys(areaBroadcast, cursor), rd.r.phys(areaBroadcast, to)
	if to>>sh == lap {
		v.Add(d[a:b])
		return
	}
	if g := rd.r.hdr.gap[lap%gapLaps].Load(); g > cursor {
		v.Add(d[a : a+min(g-cursor, uint64(len(d))-a)])
	}
	if b != 0 {
		v.Add(d[:b])
	}
}

// after returns the cursor n bytes on, wherever the send that took them went
// up to: over the gap of its lap, if that has one.
func (rd *reader) after(cursor, n uint64) uint64 {
	if n == 0 {
		return cursor
	}
	return rd.advance(cursor, rd.end, n)
}

// advance returns the cursor n bytes on, over a gap if one lies between.
func (rd *reader) advance(cursor, to, n uint64) uint64 {
	lap := cursor >> rd.r.shift
	if to>>rd.r.shift != lap {
		if g := rd.r.hdr.gap[lap%gapLaps].Load(); cursor+n >= g {
			return (lap+1)<<rd.r.shift + (n - (g - cursor))
		}
	}
	return cursor + n
}

// find copies the first descriptor whose message ends at or after cursor into
// m, and false when it has been reused. Cost: log2(depth).
func (rd *reader) find(cursor uint64, m *message) bool {
	lo, hi := rd.r.oldest(rd.seen), rd.seen
	for lo != hi {
		mid := lo + (hi-lo)/2
		if !rd.r.read(mid, m) || m.end[areaBroadcast] < cursor {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return rd.r.read(lo, m) && m.end[areaBroadcast] >= cursor
}

// boundary returns the first frame boundary at or after cursor, and false when
// the descriptors that would tell have been reused.
func (rd *reader) boundary(cursor uint64) (uint64, bool) {
	if cursor == rd.end {
		return cursor, true
	}
	var m message
	switch {
	case !rd.find(cursor, &m):
		return 0, false
	case m.end[areaBroadcast] == cursor:
		return cursor, true
	case m.area != areaBroadcast:
		return 0, false // the frame's own descriptor is gone
	case m.off >= cursor:
		// Where a frame begins, or in the gap before it; or within a frame
		// whose descriptor was reused, which had raised the limit above it.
		return cursor, cursor >= rd.r.hdr.limit[areaBroadcast].Load() || !holds(ruleBoundaryLimit)
	}
	return m.end[areaBroadcast], true
}

// newest returns the cursor of the last message, or of what is published now if its descriptor is gone. Cost: log2(depth).
func (rd *reader) newest() uint64 {
	var m message
	if !rd.find(rd.end, &m) {
		return rd.end
	}
	return m.start()
}

// history returns the cursor of the n-th last message (1: the last one), or of
// the oldest one still in the ring when fewer are left. n == 0 gives what is
// published now. Nothing is pinned: the send that follows pins and checks, and
// a joiner that got nothing yet and finds its place reclaimed gets what is left
// of its history (NetTile.lost).
func (rd *reader) history(n uint64) (cursor uint64) {
	if n == 0 {
		return rd.end
	}
	hi := rd.seen + 1
	lo := hi - min(n, hi-rd.r.oldest(rd.seen))
	limit := rd.r.hdr.limit[areaBroadcast].Load()
	var m message
	for lo != hi { // the first message that is not reclaimed
		mid := lo + (hi-lo)/2
		if !rd.r.read(mid, &m) || m.start() < limit {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	step(ptLookup)
	if lo == rd.seen+1 || !rd.r.read(lo, &m) {
		return rd.end
	}
	return m.start()
}

// lagAt returns the broadcast offset before which a cursor is more than n
// messages behind.
func (rd *reader) lagAt(n uint64) uint64 {
	var m message
	if rd.seen-rd.r.hdr.seq0 <= n || !rd.r.read(rd.seen-n, &m) {
		return rd.r.hdr.limit[areaBroadcast].Load()
	}
	return m.end[areaBroadcast]
}
