package swarm

import (
	"encoding/binary"

	"github.com/tilewire/tilewire/shmem"
)

// feed takes the bytes p that client i received at now and verifies what they complete. It returns
// false when the client reads no further: it stalls from now on, or it was ended.
func (s *swarm) feed(i int, c *client, p []byte, now int64) bool {
	for len(p) > 0 && c.state != stalled {
		if !c.body {
			if c.hn == 0 && !c.inMsg && c.state == streaming {
				if p = s.whole(i, c, p, now); len(p) == 0 || c.state == stalled {
					break
				}
			}
			var ok bool
			if p, ok = s.header(i, c, p); !ok {
				return false
			}
			if !c.body {
				continue // an empty frame, or no more bytes
			}
		}
		n := min(c.left, uint64(len(p)))
		q := p[:n]
		p = p[n:]
		c.left -= n
		if !s.payload(i, c, q, now) {
			return false
		}
	}
	if c.state == stalled {
		c.part = append(c.part[:0], p...) // what was read beyond; the autopsy takes it up
		return false
	}
	return c.state != ended
}

// whole is the hot path: it takes the whole, unfragmented data frames at the start of p and
// returns the rest. What it does not understand it leaves to the slow path.
func (s *swarm) whole(i int, c *client, p []byte, now int64) []byte {
	size := s.o.Size
	for len(p) >= 2 && c.state == streaming {
		if p[0] != 0x80|opBinary && p[0] != 0x80|opText {
			break
		}
		h, n := 2, int(p[1])
		if n > 125 {
			if n != 126 || len(p) < 4 {
				break
			}
			h, n = 4, int(binary.BigEndian.Uint16(p[2:]))
			if n < 126 {
				break
			}
		}
		if len(p)-h < n {
			break
		}
		m := p[h : h+n]
		p = p[h+n:]
		if s.o.Unwrap != nil {
			if !s.unwrap(i, c, m, now) {
				return p
			}
			continue
		}
		if n < PrefixSz || size != 0 && n != size {
			s.wrongLength(i, c, uint64(n))
			continue
		}
		seq, at := ReadStamp(m)
		if s.o.Mode == ModeFull {
			if at := checkFiller(m[PrefixSz:], seq, 0); at >= 0 {
				s.wrongByte(i, c, seq, uint64(at)+PrefixSz)
			}
		}
		s.accept(i, c, seq, at, n, now)
	}
	return p
}

// header gathers a frame header byte by byte; ok is false when it is one that ends the client.
func (s *swarm) header(i int, c *client, p []byte) (rest []byte, ok bool) {
	for {
		need := headerSz(c.hdr[:c.hn])
		if int(c.hn) == need {
			break
		}
		if len(p) == 0 {
			return p, true
		}
		n := copy(c.hdr[c.hn:need], p)
		c.hn += uint8(n)
		p = p[n:]
	}
	op, fin, n, fault := parseHeader(c.hdr[:c.hn], c.inMsg)
	if fault != "" {
		s.faults.add(&s.faults.Torn, i, c, "frame header % x: %s; last seq %d", c.hdr[:c.hn], fault, c.last)
		s.end(i, End{Kind: EndProtocol, Reason: fault})
		return p, false
	}
	c.body, c.op, c.fin, c.left = true, op, fin, n
	if op == opText || op == opBinary {
		c.inMsg, c.pn, c.pos, c.badFill = true, 0, 0, false
		c.part = c.part[:0]
	}
	if n == 0 { // feed would wait for a byte of it
		return p, s.payload(i, c, nil, 0)
	}
	return p, true
}

// payload takes the next bytes q of the frame in progress; c.left counts those still to come. It
// returns false when the client was ended.
func (s *swarm) payload(i int, c *client, q []byte, now int64) bool {
	if c.op >= opClose {
		if len(c.ctl) > 0 || c.left > 0 {
			c.ctl = append(c.ctl, q...)
			q = c.ctl
		}
		if c.left > 0 {
			return true
		}
		c.hn, c.body, c.ctl = 0, false, c.ctl[:0]
		return s.control(i, c, c.op, q)
	}
	s.data(i, c, q)
	if c.left > 0 {
		return true
	}
	c.hn, c.body = 0, false
	if !c.fin {
		return true
	}
	c.inMsg = false
	if now == 0 {
		now = shmem.Monotonic()
	}
	if s.o.Unwrap != nil {
		return s.unwrap(i, c, c.part, now)
	}
	if c.pos < PrefixSz || s.o.Size != 0 && c.pos != uint64(s.o.Size) {
		s.wrongLength(i, c, c.pos)
		return true
	}
	seq, at := ReadStamp(c.prefix[:])
	s.accept(i, c, seq, at, int(c.pos), now)
	return true
}

// data takes payload bytes of a message that arrives in pieces: the first PrefixSz are kept, the
// filler is verified at once, so that nothing else must be.
func (s *swarm) data(i int, c *client, q []byte) {
	if s.o.Unwrap != nil {
		c.part = append(c.part, q...)
		return
	}
	if c.pn < PrefixSz {
		n := copy(c.prefix[c.pn:], q)
		c.pn += uint8(n)
		c.pos += uint64(n)
		q = q[n:]
	}
	if len(q) == 0 {
		return
	}
	if s.o.Mode == ModeFull && !c.badFill {
		seq, _ := ReadStamp(c.prefix[:])
		if at := checkFiller(q, seq, c.pos-PrefixSz); at >= 0 {
			c.badFill = true
			s.wrongByte(i, c, seq, c.pos+uint64(at))
		}
	}
	c.pos += uint64(len(q))
}

// unwrap takes the messages out of a frame with an envelope.
func (s *swarm) unwrap(i int, c *client, frame []byte, now int64) bool {
	for len(frame) > 0 {
		m, rest, ok := s.o.Unwrap(frame)
		if !ok {
			s.faults.add(&s.faults.Torn, i, c, "envelope of %d bytes not understood; last seq %d", len(frame), c.last)
			s.end(i, End{Kind: EndProtocol, Reason: "envelope not understood"})
			return false
		}
		frame = rest
		switch {
		case m == nil:
		case len(m) < PrefixSz || s.o.Size != 0 && len(m) != s.o.Size:
			s.wrongLength(i, c, uint64(len(m)))
		default:
			seq, at := ReadStamp(m)
			if s.o.Mode == ModeFull {
				if at := checkFiller(m[PrefixSz:], seq, 0); at >= 0 {
					s.wrongByte(i, c, seq, uint64(at)+PrefixSz)
				}
			}
			s.accept(i, c, seq, at, len(m), now)
		}
	}
	return true
}

// accept counts a message of n bytes that was published at published, and checks its place.
func (s *swarm) accept(i int, c *client, seq uint64, published int64, n int, now int64) {
	if seq != c.last+1 && c.started || c.state >= closing || c.role == Idle {
		if !s.outOfPlace(i, c, seq) {
			return
		}
	}
	c.started = true
	c.last = seq
	c.msgs++
	if c.role == Healthy {
		s.cnt.deliveries++
		s.cnt.payload += uint64(n)
		s.hist.Record(now - published)
		return
	}
	s.cnt.others++
	if c.role == Stalling && !c.autopsy && c.msgs >= s.o.StallAfter {
		c.state = stalled
	}
}

// outOfPlace counts what is wrong with seq and says whether the message counts nevertheless.
func (s *swarm) outOfPlace(i int, c *client, seq uint64) bool {
	f := &s.faults
	switch {
	case c.state == leaving:
		return false
	case c.state == closing:
		f.add(&f.AfterClose, i, c, "seq %d after the server's close frame", seq)
		return false
	case c.role == Idle:
		f.add(&f.Unwanted, i, c, "seq %d to an idle client", seq)
		return false
	case seq <= c.last:
		f.add(&f.Doubles, i, c, "seq %d after %d", seq, c.last)
		return false
	}
	f.Missing += seq - c.last - 1
	f.add(&f.Gaps, i, c, "seq %d after %d: %d missing", seq, c.last, seq-c.last-1)
	return true
}

func (s *swarm) wrongByte(i int, c *client, seq, at uint64) {
	s.faults.add(&s.faults.WrongBytes, i, c, "seq %d: payload byte %d is wrong", seq, at)
}

func (s *swarm) wrongLength(i int, c *client, n uint64) {
	s.faults.add(&s.faults.WrongLength, i, c, "%d bytes, not %d (at least %d); last seq %d", n, s.o.Size, PrefixSz, c.last)
}
