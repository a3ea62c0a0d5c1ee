package httpsrv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// peer is a client on a raw nonblocking socket, driven by its rig.
type peer struct {
	r     *rig
	fd    int
	in    []byte // received and not consumed
	total int    // received
	eof   bool
	reset bool
	stall bool // reads nothing
	buf   [16384]byte
}

// dial connects a client to the rig. rcvBuf bounds what it takes in without reading; 0: the kernel's choice.
func (r *rig) dial(rcvBuf int) *peer {
	r.Helper()
	return r.dialTo(r.addr, rcvBuf)
}

func (r *rig) dialTo(addr string, rcvBuf int) *peer {
	r.Helper()
	family, sa := unix.AF_UNIX, unix.Sockaddr(&unix.SockaddrUnix{Name: strings.TrimPrefix(addr, "unix:")})
	if !strings.HasPrefix(addr, "unix:") {
		ap, err := netip.ParseAddrPort(addr)
		if err != nil {
			r.Fatal(err)
		}
		if ap.Addr().Is4() {
			family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
		} else {
			family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
		}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		r.Fatal(err)
	}
	if rcvBuf > 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, rcvBuf); err != nil {
			r.Fatal(err)
		}
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // a unix socket has none
	if err := unix.Connect(fd, sa); err != nil {                      // the backlog takes it at once
		r.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		r.Fatal(err)
	}
	return r.adopt(fd)
}

func (r *rig) adopt(fd int) *peer {
	p := &peer{r: r, fd: fd}
	r.peers = append(r.peers, p)
	return p
}

// pump reads what has come, unless the client stalls.
func (p *peer) pump() {
	buf := &p.buf
	for p.fd >= 0 && !p.eof && !p.stall {
		n, err := unix.Read(p.fd, buf[:])
		switch {
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR:
		case err != nil:
			p.eof, p.reset = true, true
		case n == 0:
			p.eof = true
		default:
			p.in = append(p.in, buf[:n]...)
			p.total += n
		}
	}
}

// send writes all of b, while the tile works.
func (p *peer) send(b ...[]byte) *peer {
	p.r.Helper()
	rest := bytes.Join(b, nil)
	p.r.until("the client's bytes are taken", func() bool {
		for len(rest) > 0 {
			n, err := unix.SendmsgN(p.fd, rest, nil, nil, unix.MSG_NOSIGNAL)
			if err == unix.EAGAIN {
				return false
			}
			if err != nil { // closed by the server: the test looks at what it said
				return true
			}
			rest = rest[n:]
		}
		return true
	})
	return p
}

// shut ends the client's side.
func (p *peer) shut() { _ = unix.Shutdown(p.fd, unix.SHUT_WR) }

func (p *peer) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
		p.fd = -1
	}
}

// closed awaits the end of the stream.
func (p *peer) closed() {
	p.r.Helper()
	p.r.until("the server ends the connection", func() bool { return p.eof })
}

// answer is a parsed response.
type answer struct {
	status int
	head   string
	field  map[string]string // names in lower case
	body   string
}

// answered awaits the end of the connection and takes the one response apart.
func (p *peer) answered() answer {
	p.r.Helper()
	p.closed()
	a, err := parseAnswer(p.in)
	if err != nil {
		p.r.Fatalf("%v in %q", err, p.in)
	}
	return a
}

func parseAnswer(b []byte) (a answer, err error) {
	head, body, ok := strings.Cut(string(b), "\r\n\r\n")
	if !ok {
		return a, fmt.Errorf("no whole head")
	}
	lines := strings.Split(head, "\r\n")
	a = answer{head: head, field: map[string]string{}, body: body}
	if _, err := fmt.Sscanf(lines[0], "HTTP/1.1 %d", &a.status); err != nil {
		return a, err
	}
	for _, l := range lines[1:] {
		name, value, ok := strings.Cut(l, ": ")
		if !ok {
			return a, fmt.Errorf("field %q", l)
		}
		a.field[strings.ToLower(name)] = value
	}
	return a, nil
}

const goodKey = "dGhlIHNhbXBsZSBub25jZQ=="

// handshake is an opening handshake for target.
func handshake(target string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
		goodKey + "\r\n\r\n"
}

// stream makes p a WebSocket.
func (p *peer) stream(target string) *peer {
	p.r.Helper()
	p.send([]byte(handshake(target)))
	stalled := p.stall
	p.stall = false
	p.r.until("101", func() bool { return p.eof || bytes.Contains(p.in, []byte("\r\n\r\n")) })
	p.stall = stalled
	head, rest, _ := bytes.Cut(p.in, []byte("\r\n\r\n"))
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) || !bytes.Contains(head, []byte("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) {
		p.r.Fatalf("handshake answered %q", head)
	}
	p.in = rest
	return p
}

// frame is a client's frame.
func frame(op byte, fin bool, payload string) []byte {
	b := make([]byte, ws.MaxHeaderLen+len(payload))
	key := [4]byte{0x12, 0xfe, 0x00, 0x77}
	n := ws.PutClientHeader(b, op, fin, uint64(len(payload)), key)
	ws.UnmaskCopy(b[n:n+len(payload)], []byte(payload), key, 0)
	return b[:n+len(payload)]
}

func textFrame(s string) []byte { return frame(OpText, true, s) }

func closeFrame(code uint16, text string) []byte {
	return frame(ws.OpClose, true, string(binary.BigEndian.AppendUint16(nil, code))+text)
}

// take consumes one whole frame of the server, if there is one.
func (p *peer) take() (op byte, payload string, ok bool) {
	p.r.Helper()
	var h ws.Header
	if !ws.ParseHeader(p.in, &h) || uint64(len(p.in)-h.HdrLen) < h.Len {
		return 0, "", false
	}
	if !h.Fin || h.Rsv != 0 || h.Masked || h.HdrLen != ws.HeaderLen(h.Len) {
		p.r.Fatalf("frame header %+v", h)
	}
	payload = string(p.in[h.HdrLen : h.HdrLen+int(h.Len)])
	p.in = p.in[h.HdrLen+int(h.Len):]
	return h.Op, payload, true
}

// next awaits the server's next frame.
func (p *peer) next() (op byte, payload string) {
	p.r.Helper()
	ok := false
	p.r.until("a frame", func() bool {
		op, payload, ok = p.take()
		return ok || p.eof
	})
	if !ok {
		p.r.Fatalf("the stream ended (reset %v) with %q, want a frame", p.reset, short(string(p.in)))
	}
	return op, payload
}

// want awaits frames with these payloads.
func (p *peer) want(op byte, payloads ...string) {
	p.r.Helper()
	for _, w := range payloads {
		if o, got := p.next(); o != op || got != w {
			p.r.Fatalf("frame %#x %q, want %#x %q", o, short(got), op, short(w))
		}
	}
}

// wantClose awaits a close frame, the first among other frames, answers it, and
// awaits the end.
func (p *peer) wantClose(code uint16) (text string) {
	p.r.Helper()
	for {
		op, payload := p.next()
		if op != ws.OpClose {
			continue
		}
		if len(payload) < 2 || binary.BigEndian.Uint16([]byte(payload)) != code {
			p.r.Fatalf("close frame %q, want code %d", payload, code)
		}
		_, _ = sysWrite(p.fd, frame(ws.OpClose, true, payload[:2])) // who closed first does not read it
		p.closed()
		if len(p.in) != 0 {
			p.r.Errorf("%q after the close frame", short(string(p.in)))
		}
		return payload[2:]
	}
}

func short(s string) string {
	if len(s) > 80 {
		return s[:40] + "..." + s[len(s)-20:] + " (" + strconv.Itoa(len(s)) + " bytes)"
	}
	return s
}
