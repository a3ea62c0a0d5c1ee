package h1

import "bytes"

// Parse reads the request head at the start of p.
//
// p holds the bytes of this request received so far, from its first; bytes of the body or of later requests may follow the head.
// from is 0 at first, then the next that the call before returned for the same request, so that a head arriving octet by octet costs time linear in its
// length. h is defined only when the verdict is OK.
//
//   - OK: next is h.Len, the length of the head.
//   - Incomplete: call again with more bytes and from = next.
//   - Failed: answer v.Status and close. next is meaningless.
//
// The verdict depends on the bytes only, never on how they were cut: a request is judged in the order of its octets, each rule of
// syntax as soon as the line it concerns is complete (the method and over-long request lines sooner), and the rules about the head as
// a whole (Host, Content-Length, Transfer-Encoding, method, target, Expect; in this order of precedence: 400, 501 for the coding, 501 or 405
// for the method, 400 for the target, 413, 411, 417) once it is complete.
func Parse(p []byte, from int, l *Limits, h *Head) (next int, v Verdict) {
	limit := l.maxHead()
	full := len(p) >= limit
	if full {
		p = p[:limit]
	}
	if from > 0 && from <= len(p) {
		v = rescan(p, from, l, h)
		if v.OK() {
			v = parse(p, l, h)
		}
	} else {
		v = parse(p, l, h)
	}
	if v.OK() {
		return h.Len, v
	}
	if v.Incomplete() && full {
		v = Verdict{431, ReasonLargeRequest, WhyHeadLong}
		if s, more := skipBlank(p); more || bytes.IndexByte(p[s:], '\n') < 0 {
			v.Status = 414
		}
	}
	return len(p), v
}

// parse judges p from its start and fills h.
func parse(p []byte, l *Limits, h *Head) Verdict {
	*h = Head{ContentLength: -1}
	var f facts
	a, more := skipBlank(p)
	if more {
		return incomplete
	}
	lf := index(p, a)
	v := requestLine(p, a, lf, l, h)
	if !v.OK() {
		return v
	}
	h.fieldOff = lf + 1
	maxFields := l.maxHeaders()
	for {
		a = lf + 1
		if lf = index(p, a); lf < 0 {
			return incomplete
		}
		colon, v := fieldLine(p, a, lf, h.FieldCount, maxFields)
		if !v.OK() {
			return v
		}
		if colon < 0 {
			h.Len = lf + 1
			return f.judge(h, l)
		}
		h.FieldCount++
		f.field(h, p[a:colon], trim(p[colon+1:lf-1]))
	}
}

// rescan judges the lines that were completed by the octets from p[from] on; all before were judged by the calls before. It returns
// OK when the empty line is among them.
func rescan(p []byte, from int, l *Limits, h *Head) Verdict {
	s, more := skipBlank(p)
	if more {
		return incomplete
	}
	from = max(from, s)
	lf := index(p, from)
	if lf < 0 {
		// Only a request line is judged before its end: its method at once, its length where it may get too long. Looking at it only
		// there, some 80 times at most, keeps the sum linear.
		method := from <= s+maxMethod+1
		long := len(p)-s-2 > l.maxPath() && from <= s+maxMethod+1+l.maxPath()+1+versionLine
		if (method || long) && bytes.IndexByte(p[s:from], '\n') < 0 {
			return requestLine(p, s, -1, l, h)
		}
		return incomplete
	}
	a := s + bytes.LastIndexByte(p[s:from], '\n') + 1
	count := -1 // field lines before a; -1 at the request line
	if a > s {
		count = bytes.Count(p[s:a], lfByte) - 1
	}
	maxFields := l.maxHeaders()
	for {
		if count < 0 {
			if v := requestLine(p, a, lf, l, h); !v.OK() {
				return v
			}
		} else if colon, v := fieldLine(p, a, lf, count, maxFields); !v.OK() || colon < 0 {
			return v
		}
		count++
		a = lf + 1
		if lf = index(p, a); lf < 0 {
			return incomplete
		}
	}
}

var lfByte = []byte{'\n'}

// index returns the offset of the first LF at or after a, -1 without one.
func index(p []byte, a int) int {
	i := bytes.IndexByte(p[a:], '\n')
	if i < 0 {
		return -1
	}
	return a + i
}

// skipBlank passes over up to maxBlank empty lines before the request line and returns its offset. more reports that p ends before it
// can be told whether the next line is empty.
func skipBlank(p []byte) (s int, more bool) {
	for range maxBlank {
		switch {
		case s == len(p) || s+1 == len(p) && p[s] == '\r':
			return s, true
		case p[s] != '\r' || p[s+1] != '\n':
			return s, false
		}
		s += 2
	}
	return s, s == len(p)
}

const versionLine = len("HTTP/1.1\r\n")

// requestLine judges the request line that starts at s and ends at lf, the offset of its LF, or -1 while it is incomplete (RFC 9112 3).
// What it says of an incomplete line it also says of every line that starts so.
func requestLine(p []byte, s, lf int, l *Limits, h *Head) Verdict {
	n := len(p)
	i := s
	for stop := min(n, s+maxMethod+1); i < stop && class[p[i]]&isToken != 0; i++ {
	}
	switch {
	case i > s+maxMethod:
		return Verdict{501, ReasonUnknownMethod, WhyMethodLong}
	case i == n:
		return incomplete
	case p[i] != ' ' || i == s:
		return bad(WhyMethodSyntax)
	}
	t := i + 1
	maxPath := l.maxPath()
	if lf < 0 && n-t <= maxPath {
		return incomplete
	}
	long := lf < 0 || lf-t > maxPath // the target is, unless a space ends it
	stop := lf
	if long {
		stop = t + maxPath + 1
	}
	sp := bytes.IndexByte(p[t:stop], ' ')
	switch {
	case sp < 0 && !long:
		return bad(WhyVersionSyntax) // HTTP/0.9
	case sp < 0:
		return Verdict{414, ReasonPathTooLong, WhyTargetLong}
	}
	u := t + sp + 1
	switch {
	case lf < 0 && n-u < versionLine:
		return incomplete
	case lf < 0 || lf-u >= versionLine:
		return bad(WhyVersionSyntax)
	case p[lf-1] != '\r':
		return bad(WhyBareLF)
	case lf-u < versionLine-1:
		return bad(WhyVersionSyntax)
	}
	target, major, minor := p[t:u-1], p[u+5], p[u+7]
	switch {
	case len(target) == 0 || !clean(target) || bytes.IndexByte(target, '\t') >= 0:
		return bad(WhyTargetSyntax)
	case string(p[u:u+5]) != "HTTP/" || p[u+6] != '.' || major-'0' > 9 || minor-'0' > 9:
		return bad(WhyVersionSyntax)
	case major != '1' || minor > '1':
		return Verdict{505, ReasonBadRequest, WhyVersion}
	}
	h.Method = methodOf(p[s:i])
	h.Target = target
	h.Minor = minor - '0'
	return Verdict{}
}

// fieldLine judges the field line from a to lf, the offset of its LF, with count field lines before it (RFC 9112 5). colon is the offset
// of its colon, -1 for the empty line that ends the head.
func fieldLine(p []byte, a, lf, count, maxFields int) (colon int, v Verdict) {
	if lf == a || p[lf-1] != '\r' {
		return -1, bad(WhyBareLF)
	}
	line := p[a : lf-1]
	if len(line) == 0 {
		return -1, Verdict{}
	}
	if count >= maxFields {
		return -1, Verdict{431, ReasonLargeRequest, WhyFieldCount}
	}
	i := 0
	for i < len(line) && class[line[i]]&isToken != 0 {
		i++
	}
	switch {
	case i == 0 && (line[0] == ' ' || line[0] == '\t'):
		return -1, bad(WhyFold)
	case i == 0 || i == len(line) || line[i] != ':':
		return -1, bad(WhyFieldName)
	case !clean(line[i+1:]):
		return -1, bad(WhyFieldValue)
	}
	return a + i, Verdict{}
}
