//go:build explore

package httpsrv

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// simFault is a change of the code that the simulation must notice. Where old
// stands, once, in the file, there comes new; FAULT is true in it while this fault is
// looked for.
type simFault struct {
	what, file, old, new string
}

var simFaults = []simFault{
	{"a pong goes in the middle of a frame", "frames.go", `at, ok := t.frameEnd(c)`,
		`at, ok := t.frameEnd(c); if FAULT { at, ok = c.ringPos(), true }`},
	{"a close frame goes in the middle of a frame", "closing.go", `stop, ok := t.frameEnd(c)`,
		`stop, ok := t.frameEnd(c); if FAULT { stop, ok = c.ringPos(), true }`},
	{"an EPOLLOUT is lost", "poll.go", `if ev.Events&unix.EPOLLOUT != 0 && c.flags&flBlocked != 0 {`,
		`if ev.Events&unix.EPOLLOUT != 0 && c.flags&flBlocked != 0 && !(FAULT && c.gen.Load()%2 == 1) {`},
	{"a client's FIN is forgotten once what came before it is read", "poll.go", `c.flags |= flPeerEOF`, `if !(FAULT) { c.flags |= flPeerEOF }`},
	{"a client skips ahead in the middle of a frame", "skip.go", `if end != cur {`, `if end != cur && !(FAULT) {`},
	{"a client that has skipped is not sent the last message", "skip.go", `if c.flags&flBlocked == 0 {`, `if c.flags&flBlocked == 0 && !(FAULT) {`},
	{"a send that met ENOBUFS is not made again", "deliver.go", `c.flags |= flRetry`, `if !(FAULT) { c.flags |= flRetry }`},
	{"a cursor does not pass the gap after a short write", "reader.go", `return (lap+1)<<rd.r.shift + (n - (g - cursor))`,
		`if FAULT { return cursor + n }; return (lap+1)<<rd.r.shift + (n - (g - cursor))`},
	{"the bytes of a short write are sent again", "deliver.go", `c.commit(txPos{pos: p.pos + uint64(n), at: rd.advance(cur, to, uint64(n))})`,
		`if FAULT { n = n / 2 }; c.commit(txPos{pos: p.pos + uint64(n), at: rd.advance(cur, to, uint64(n))})`},
	{"a message to one client goes before the broadcasts before it", "deliver.go", `after := m.end[areaBroadcast]`,
		`after := m.end[areaBroadcast]; if FAULT { after = 0 }`},
	{"the limit is not looked at before a send", "reader.go", `return ok
}

// pinSide`, `return ok || FAULT
}

// pinSide`},
	{"a send from the ring is not pinned", "reader.go", `rd.line.pin[areaBroadcast].Store(cursor)
		step(ptPinned)`, `if !(FAULT) { rd.line.pin[areaBroadcast].Store(cursor) }
		step(ptPinned)`},
	{"a pin outlives its send", "send.go", `if rd != nil {
		rd.unpin()`, `if rd != nil && !(FAULT) {
		rd.unpin()`},
	{"a response's body begins a byte late", "http.go", `ok = t.enqueue(slot, int16(t.replyRing()), r.bodyOff, r.bodyLen, 0)`,
		`ok = t.enqueue(slot, int16(t.replyRing()), r.bodyOff, r.bodyLen, 0); if FAULT && ok { t.pend[c.pendTail-1].off++ }`},
	{"a response's head buffer is freed before it is sent", "http.go", `c.ctlLen[ctlHead] = uint16(n)`,
		`c.ctlLen[ctlHead] = uint16(n); if FAULT { t.head.free = append(t.head.free, c.headBuf) }`},
	{"a connection is closed at once after its response", "http.go", `	t.linger(slot, c)`, `	if FAULT { t.drop(slot, c.reason); return }; t.linger(slot, c)`},
	{"received bytes count before they are there", "frames.go", `n, stop := t.read(slot, space)`,
		`if FAULT { rx.end += uint64(len(space)) }; n, stop := t.read(slot, space); if FAULT { rx.end -= uint64(len(space)) }`},
	{"a mask begins anew in the middle of a payload", "frames.go", `rx.left -= n
		rx.done += n`, `if FAULT { rx.phase = 0 }; rx.left -= n
		rx.done += n`},
	{"a buffer is not moved, its offsets are", "frames.go", `copy(buf[:end-at], buf[at:end])`, `if !(FAULT) { copy(buf[:end-at], buf[at:end]) }`},
	{"who awaits a buffer is not told of it", "send.go", `t.freed = true`, `t.freed = !(FAULT)`},
	{"what came in while replies waited is not read", "send.go", `			t.list(slot, listActive)
		}
		if c.flags&flMore != 0 {`, `			t.list(slot, listActive)
		}
		if c.flags&flMore != 0 && !(FAULT) {`},
	{"a descriptor is closed twice", "closing.go", `sys.close(int(c.fd))`, `sys.close(int(c.fd)); if FAULT { sys.close(int(c.fd)) }`},
	{"a buffer is never given back", "closing.go", `t.putBuf(&t.msg, &c.msgBuf)
	step(ptClosed)`, `if FAULT { c.msgBuf = 0 }; t.putBuf(&t.msg, &c.msgBuf)
	step(ptClosed)`},
	{"a tile sleeps without a last look", "poll.go", `if t.behind() || t.roomCame() {`, `if !(FAULT) && t.behind() || t.roomCame() {`},
	{"a shortage ends accepting", "accept.go", `default: // ENOMEM, ENOBUFS`, `default: // ENOMEM, ENOBUFS
			if FAULT { l.more = false; return n }`},
	{"a pong is queued behind the close frame", "frames.go", `if c.ctlLen[ctlClose] != 0 || c.flags&flSentClose != 0 {`,
		`if (c.ctlLen[ctlClose] != 0 || c.flags&flSentClose != 0) && !(FAULT) {`},
	{"replies of one turn overwrite each other", "replies.go", `if st.seq != p.goneSeq && (`, `if st.seq != p.goneSeq && !(FAULT) && (`},
	{"an event is forgotten for a request that is there already", "poll.go", `c.flags |= flMore
		}`, `c.flags |= flMore
			if FAULT { c.flags &^= flMore }
		}`},
	{"a successor trusts the plan, and not the kernel's count", "mend.go", `n := counted(took - p.pos)`, `n := counted(took - p.pos); if FAULT { n = 0 }`},
	{"a successor forgets the bytes that were received last", "mend.go", `r.end = got`, `if !(FAULT) { r.end = got }`},
	{"a successor answers a ping again", "mend.go", `end, ok := t.answeredPing(c, piece); ok && `, `end, ok := t.answeredPing(c, piece); !(FAULT) && ok && `},
	{"a successor has a message sent again", "deliver.go", `e.ring == ring && e.off == off {`, `e.ring == ring && e.off == off && !(FAULT) {`},
	{"a successor does not walk what its predecessor died before", "reader.go", `side(m)
			rd.line.seen = s`, `if FAULT { rd.line.seen = s }; side(m)
			rd.line.seen = s`},
	{"a successor does not know that a client stands inside a frame", "mend.go", `ok && b == cur {`, `FAULT || ok && b == cur {`},
	{"a proxy's header counts as read before its address is there", "proxied.go", `	switch {
	case h.Own:`, `	if FAULT { early := rx; early.done = uint64(h.Len); c.rxCommit(&early); step(ptAnswered) }
	switch {
	case h.Own:`},
	{"a proxy's header ends a byte early where nothing is behind it", "proxied.go", `rx.done, rx.scan = uint64(h.Len), 0`,
		`rx.done, rx.scan = uint64(h.Len), 0; if FAULT && rx.end == rx.done { rx.done-- }`},
	{"a kept connection stays with the client of its last request", "keepalive.go", `		c.goBack()
		t.count(c)`, `		if !(FAULT) { c.goBack() }
		t.count(c)`},
	{"a successor takes a proxy's client for the proxy", "proxied.go", `		c.goBack() // its request is looked at again`,
		`		if !(FAULT) { c.goBack() } else { c.fwd &^= fwVia } // its request is looked at again`},
	{"an answer's state comes before its bytes", "http.go", `	ok = true
	switch {`, `	ok = true
	if FAULT { c.state = stRespond; step(ptAnswered) }
	switch {`},
	{"the last event of a connection is taken for that of its request", "mend.go", `e.end > c.rxNow().done {`, `(FAULT || e.end > c.rxNow().done) {`},
	{"a successor puts an event again", "mend.go", `	e := &h.tagOf[c.app-1]
	if e.conn`, `	e := &h.tagOf[c.app-1]; if FAULT { return }
	if e.conn`},
	{"a successor does not put what its predecessor died before", "adopt.go", `case c.state == stAwait && c.tag == noTag:`, `case c.state == stAwait && c.tag == noTag && !(FAULT):`},
	{"a successor does not tell an application who opened", "adopt.go", `c.evUnits == evUnitsBound {`, `c.evUnits == evUnitsBound && !(FAULT) {`},
	{"an application skips an event that its predecessor did not handle", "app.go", `q.tail = q.hdr.tail.Load()`, `if FAULT { q.hdr.tail.Store(from) }; q.tail = q.hdr.tail.Load()`},
	{"an application answers what a predecessor was asked", "appevent.go", `if int64(e.pos-t.from) < 0 {`, `if int64(e.pos-t.from) < 0 && !(FAULT) {`},
	{"a successor does not wake an application", "port.go", `if q.head != q.tail {`, `if q.head != q.tail && !(FAULT) {`},
	{"what comes while a request waits for room is forgotten", "receive.go", `if c.state == stAwait {`, `if c.state == stAwait && !(FAULT) {`},
	{"urgent bytes are left out of the stream", "listen.go", `_ = sys.setsockopt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)`,
		`if !(FAULT) { _ = sys.setsockopt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1) }`},
	{"what stands behind an urgent byte is not read", "poll.go", `c.flags |= flUrgent`, `if !(FAULT) { c.flags |= flUrgent }`},
	{"a pipelined request is answered twice", "keepalive.go", `rx.done += rx.left`, `if !(FAULT && rx.end > rx.done+rx.left) { rx.done += rx.left }`},
}

// simFaultRuns is within how many runs a fault must be noticed.
const simFaultRuns = 40000

var simFoundAfter = regexp.MustCompile(`(?s)\n *([^\n]*)\n *after (\d+) runs; again: TILEWIRE_SIM=`)

// TestExploreSimulationFaults: with any of the faults the simulation fails. All are
// built into one program, which has one of them at a time.
func TestExploreSimulationFaults(t *testing.T) {
	if rigRace {
		t.Skip("finds the same, and takes ten times as long to")
	}
	program := simBuildFaults(t)
	for i, f := range simFaults {
		t.Run(f.what, func(t *testing.T) {
			cmd := exec.Command(program, "-test.run=^TestExploreSimulation$", "-test.timeout=5m")
			cmd.Env = append(os.Environ(), "TILEWIRE_SEED=1", "TILEWIRE_SIM=", fmt.Sprintf("TILEWIRE_SIM_RUNS=%d", simFaultRuns), fmt.Sprintf("TILEWIRE_SIM_FAULT=%d", i+1))
			out, err := cmd.CombinedOutput()
			m := simFoundAfter.FindSubmatch(out)
			if err == nil || m == nil {
				t.Fatalf("not noticed in %d runs (%v): %s", simFaultRuns, err, out[max(0, len(out)-2000):])
			}
			t.Logf("noticed after %s runs: %.200s", m[2], m[1])
		})
	}
}

// simBuildFaults builds this package's tests with the faults in place of the
// sources they change, which stay as they are (go build -overlay).
func simBuildFaults(t *testing.T) (program string) {
	tmp := t.TempDir()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	changed := map[string]string{"simfault.go": `//go:build explore

package httpsrv

import (
	"os"
	"strconv"
)

var simFaultNow, _ = strconv.Atoi(os.Getenv("TILEWIRE_SIM_FAULT"))
`}
	for i, f := range simFaults {
		src, ok := changed[f.file]
		if !ok {
			b, err := os.ReadFile(f.file)
			if err != nil {
				t.Fatal(err)
			}
			src = string(b)
		}
		if n := strings.Count(src, f.old); n != 1 {
			t.Fatalf("%s: what the fault %q changes is there %d times: give it the text of today:\n%s", f.file, f.what, n, f.old)
		}
		changed[f.file] = strings.Replace(src, f.old, strings.ReplaceAll(f.new, "FAULT", "simFaultNow == "+strconv.Itoa(i+1)), 1)
	}
	overlay := map[string]map[string]string{"Replace": {}}
	for name, src := range changed {
		to := filepath.Join(tmp, name)
		if err := os.WriteFile(to, []byte(src), 0o644); err != nil {
			t.Fatal(err)
		}
		overlay["Replace"][filepath.Join(dir, name)] = to
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(tmp, "overlay.json")
	if err := os.WriteFile(list, b, 0o644); err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(tmp, "faults.test")
	if out, err := exec.Command("go", "test", "-c", "-tags", "explore", "-vet=off", "-overlay", list, "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}
