//go:build explore

package httpsrv

import (
	"errors"
	"fmt"
	"strings"
)

// simNoise is what messages and bodies are made of.
var simNoise = []byte(strings.Repeat("The quick brown fox jumps over the lazy dog; 0123456789, and so on. ", 300))

// simProducer stages, publishes, drops, and keeps the log of what was published.
// It never waits: ring space in use by a send is an error at once (ErrBusy), and
// the message is not in the log.
type simProducer struct {
	w    *simWorld
	st   *Stage
	data []byte // of the message in hand
	done int    // of it staged
	op   byte
	dest *simClient
}

func newSimProducer(w *simWorld) *simProducer {
	p := &simProducer{w: w}
	w.log = append(w.log, simMessage{}) // the sentinel
	p.take()
	return p
}

func (p *simProducer) take() {
	st, err := p.w.srv.Produce(0, 0)
	if err != nil {
		p.w.fail("%v", err)
	}
	p.st, p.data = st, nil
}

func (p *simProducer) step() {
	w := p.w
	switch {
	case p.data == nil:
		p.begin()
	case p.done < len(p.data):
		p.stage()
	case w.chance(0.04):
		w.tell("producer drops its message")
		p.st.Unstage()
		p.data = nil
	default:
		p.publish()
	}
	if w.chance(0.01) {
		if p.st.corked {
			p.st.Uncork()
		} else {
			p.st.Cork()
		}
	}
	if w.chance(0.002) {
		w.tell("producer goes, another takes the role")
		if err := p.st.Close(); err != nil {
			w.fail("%v", err)
		}
		p.take()
	}
	p.checkRung()
	for _, t := range w.tiles {
		t.lap()
	}
}

// begin thinks of a message.
func (p *simProducer) begin() {
	w, r := p.w, p.w.rnd
	most := p.st.Max()
	n := r.IntN(min(most, 40) + 1)
	switch r.IntN(12) {
	case 0:
		n = r.IntN(most + 1)
	case 1:
		n = r.IntN(most/3 + 1)
	case 2:
		n = min(most, 120+r.IntN(12))
	}
	p.dest = nil
	if r.IntN(4) == 0 {
		if c := w.active[r.IntN(len(w.active))]; c != nil && c.id != 0 {
			p.dest = c
			n = max(6, min(n, int(w.plan.p.SideBufferSz)-4)) // so that it is told from others
		}
	}
	head := fmt.Sprintf("B%x.", len(w.log)) // to all
	if p.dest != nil {
		head = fmt.Sprintf("S%x.", len(w.log)) // to one
	}
	p.data, p.done = append([]byte(head)[:min(len(head), n)], simNoise[:n-min(len(head), n)]...), 0
	p.op = []byte{OpText, OpBinary}[r.IntN(2)]
	if n == 0 {
		p.data = []byte{}
	}
}

// stage stages some of it, by any of the ways.
func (p *simProducer) stage() {
	r := p.w.rnd
	n := 1 + r.IntN(len(p.data)-p.done)
	if r.IntN(3) > 0 {
		n = len(p.data) - p.done
	}
	part := p.data[p.done : p.done+n]
	switch r.IntN(5) {
	case 0:
		p.st.Printf("%s", part)
	case 1:
		_, _ = p.st.WriteString(string(part))
	case 2:
		if b := p.st.Append(n); b != nil {
			copy(b, part)
			p.st.Commit(n)
		}
	case 3: // too much, and back
		_, _ = p.st.Write(part)
		if len(p.data) < p.st.Max()-3 {
			_, _ = p.st.Write([]byte("xyz"))
			p.st.Trunc(p.st.Len() - min(3, p.st.Len()))
			if p.st.Err() == nil && p.st.Len() != p.done+n {
				p.w.fail("%d bytes are staged, want %d", p.st.Len(), p.done+n)
			}
		}
	default:
		_, _ = p.st.Write(part)
	}
	p.done += n
}

func (p *simProducer) publish() {
	w := p.w
	m := simMessage{op: p.op, data: p.data}
	var seq Seq
	var err error
	if c := p.dest; c != nil {
		m.dest = c.id
		ws, ok := c.role.(*simWs)
		m.sure = ok && ws.joined && c.tile.life[c.id] == 2
		seq, err = p.st.WsSend(c.id, p.op)
	} else {
		seq, err = p.st.WsBroadcast(p.op)
	}
	p.data = nil
	if err != nil {
		w.tell("producer: %v", err)
		if !errors.Is(err, ErrBusy) {
			w.fail("producer: %v", err)
		}
		return
	}
	if uint64(seq) != w.plan.seq0+uint64(len(w.log)) {
		w.fail("message %d has seq %d", len(w.log), uint64(seq)-w.plan.seq0)
	}
	w.tell("producer publishes %d: %d bytes to %v", len(w.log), len(m.data), m.dest)
	w.log = append(w.log, m)
}

// checkRung: no tile sleeps on what was published, unless the bells are held.
func (p *simProducer) checkRung() {
	for _, t := range p.w.tiles {
		if !p.st.corked && t.up && t.t.bell.Asleep() && t.t.rd[0].behind() {
			p.w.fail("tile %d sleeps, and was not woken for what is published", t.id)
		}
	}
}
