package swarm

import (
	"encoding/binary"
	"slices"

	"github.com/tilewire/tilewire/shmem"
)

// EndKind says how a client ended before the swarm closed it.
type EndKind string

const (
	EndClosed   EndKind = "closed"   // the server's close frame: Code (1005 when it has none) and Reason
	EndOfStream EndKind = "eof"      // end of the stream without a close frame
	EndReset    EndKind = "reset"    // a socket error: Reason names it
	EndRefused  EndKind = "refused"  // no upgrade: Code is the HTTP status (1: no HTTP), Reason its line or what was wrong
	EndConnect  EndKind = "connect"  // no connection: Reason names the error
	EndTimeout  EndKind = "timeout"  // not connected within ConnectTimeout
	EndProtocol EndKind = "protocol" // a torn frame; the swarm closed it
)

// End describes how one client ended.
type End struct {
	Client   int     `json:"client"`
	Role     Role    `json:"role"`
	Kind     EndKind `json:"kind"`
	Code     int     `json:"code,omitempty"`
	Reason   string  `json:"reason,omitempty"`
	LastSeq  uint64  `json:"last_seq"`
	Messages uint64  `json:"messages"`
	MidFrame bool    `json:"mid_frame,omitempty"` // inside a frame or message: its rest never came
	Seconds  float64 `json:"seconds"`             // since the start of Run
}

// EndGroup counts the ends of one role, kind and code.
type EndGroup struct {
	Role   Role    `json:"role"`
	Kind   EndKind `json:"kind"`
	Code   int     `json:"code,omitempty"`
	Reason string  `json:"reason,omitempty"` // of the first
	Count  int     `json:"count"`
}

// groupEnds counts ends that are alike, in the order of their first appearance.
func groupEnds(ends []End) []EndGroup {
	var gs []EndGroup
	for _, e := range ends {
		k := slices.IndexFunc(gs, func(g EndGroup) bool { return g.Role == e.Role && g.Kind == e.Kind && g.Code == e.Code })
		if k < 0 {
			k = len(gs)
			gs = append(gs, EndGroup{Role: e.Role, Kind: e.Kind, Code: e.Code, Reason: e.Reason})
		}
		gs[k].Count++
	}
	return gs
}

// control acts on a complete control frame; false when the client was ended.
func (s *swarm) control(i int, c *client, op byte, p []byte) bool {
	switch op {
	case opPing:
		s.out = appendFrame(s.out[:0], opPong, p, s.mask())
		s.cnt.pings++
		send(c.fd, s.out) // a pong that finds no room is lost; the server will judge
	case opClose:
		e := End{Kind: EndClosed, Code: 1005} // RFC 6455 section 7.1.5: no code in the frame
		if len(p) >= 2 {
			e.Code, e.Reason = int(binary.BigEndian.Uint16(p)), string(p[2:])
		}
		s.out = appendFrame(s.out[:0], opClose, p[:min(len(p), 2)], s.mask())
		send(c.fd, s.out)
		if c.state == leaving {
			s.end(i, e)
			return false
		}
		s.record(i, c, e)
		c.state = closing // the server closes the stream (section 7.1.1)
	}
	return true
}

// record notes the end of client i, once, and takes it out of all counts.
func (s *swarm) record(i int, c *client, e End) {
	if c.state >= closing {
		return
	}
	e.Client, e.Role, e.LastSeq, e.Messages = i, c.role, c.last, c.msgs
	e.MidFrame = c.midFrame()
	e.Seconds = float64(shmem.Monotonic()-s.started) / 1e9
	s.ends = append(s.ends, e)
	s.forget(i, c)
}

// forget takes client i out of all counts.
func (s *swarm) forget(i int, c *client) {
	switch {
	case c.state == waiting:
		s.left--
	case !c.arrived:
		s.pending--
		s.left--
	default:
		s.open--
	}
	s.alive[c.role]--
	if c.role == Healthy {
		s.prog.drop(i)
	}
}

// end records the end of client i and closes its socket.
func (s *swarm) end(i int, e End) {
	c := &s.clients[i]
	s.record(i, c, e)
	c.state = ended
	s.shut(c)
}
