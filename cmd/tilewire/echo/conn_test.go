package echo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// limit bounds every wait.
const limit = 20 * time.Second

// server is the one that all cases run against.
var server *Server

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	var err error
	if server, err = New(Options{Listen: "127.0.0.1:0", MaxMessage: 16 << 20}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	code := m.Run()
	cancel()
	if err := <-ended; err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// event is what a server sends: a message, a pong, a close frame, or the end.
type event struct {
	op   byte // opcode; opEnd: the server ended the connection
	data string
}

const opEnd = 0x10

func (e event) String() string {
	s := e.data
	if len(s) > 40 {
		s = fmt.Sprintf("%q... (%d bytes)", s[:24], len(s))
	} else {
		s = fmt.Sprintf("%q", s)
	}
	switch {
	case e.op == opEnd:
		return "end of the connection"
	case e.op == ws.OpClose && len(e.data) >= 2:
		return fmt.Sprintf("close %d %q", binary.BigEndian.Uint16([]byte(e.data)), e.data[2:])
	}
	return fmt.Sprintf("opcode %#x %s", e.op, s)
}

func text(s string) event       { return event{ws.OpText, s} }
func binry(s string) event      { return event{ws.OpBinary, s} }
func pong(s string) event       { return event{ws.OpPong, s} }
func closed(c int) event        { return event{ws.OpClose, code(c)} }
func code(c int) string         { return string(binary.BigEndian.AppendUint16(nil, uint16(c))) }
func zero(n int) string         { return strings.Repeat("*", n) }
func fe(n int) string           { return strings.Repeat("\xfe", n) }
func end() event                { return event{op: opEnd} }
func events(e ...event) []event { return e }

// client is a WebSocket client on a plain socket.
type client struct {
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB) *client {
	t.Helper()
	c, err := net.Dial("tcp", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	return &client{c, bufio.NewReaderSize(c, 1<<16)}
}

// upgraded opens a WebSocket.
func upgraded(t testing.TB) *client {
	t.Helper()
	c := dial(t)
	if _, err := io.WriteString(c, "GET /any/path HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	head := ""
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := c.r.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, head)
		}
		head += line
	}
	if !strings.HasPrefix(head, "HTTP/1.1 101 ") || !strings.Contains(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
		t.Fatalf("handshake answered %q", head)
	}
	return c
}

// read awaits the server's next event, and an error for what no server may send.
func (c *client) read() (event, error) {
	var b [10]byte
	if _, err := io.ReadFull(c.r, b[:2]); err != nil {
		if errors.Is(err, io.EOF) {
			return end(), nil
		}
		return event{}, err
	}
	n := 2 + map[byte]int{126: 2, 127: 8}[b[1]]
	if _, err := io.ReadFull(c.r, b[2:n]); err != nil {
		return event{}, fmt.Errorf("frame header cut off: %w", err)
	}
	var h ws.Header
	if !ws.ParseHeader(b[:n], &h) || !h.Fin || h.Rsv != 0 || h.Masked || h.HdrLen != ws.HeaderLen(h.Len) || h.Len > 64<<20 {
		return event{}, fmt.Errorf("frame header % x", b[:n])
	}
	p := make([]byte, h.Len)
	if _, err := io.ReadFull(c.r, p); err != nil {
		return event{}, fmt.Errorf("payload of %d bytes cut off: %w", h.Len, err)
	}
	return event{h.Op, string(p)}, nil
}

// expect awaits these events and no others.
func (c *client) expect(want ...event) error {
	for i, w := range want {
		got, err := c.read()
		if err != nil {
			return fmt.Errorf("event %d: %w, want %v", i, err, w)
		}
		if got != w {
			return fmt.Errorf("event %d: got %v, want %v", i, got, w)
		}
	}
	return nil
}

// Frames of a client, masked with a key that changes from frame to frame.
type frame struct {
	b0    byte // FIN, RSV and opcode as they go out
	data  string
	plain bool // not masked
}

const fin = 0x80

func fr(b0 byte, data string) frame { return frame{b0: b0, data: data} }

var keys = rand.New(rand.NewPCG(1, 2))

func (f frame) bytes() []byte {
	b := make([]byte, ws.MaxHeaderLen+len(f.data))
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], keys.Uint32())
	var n int
	if f.plain {
		n = ws.PutHeader(b, 0, false, uint64(len(f.data)))
	} else {
		n = ws.PutClientHeader(b, 0, false, uint64(len(f.data)), key)
	}
	b[0] = f.b0
	copy(b[n:], f.data)
	if !f.plain {
		ws.UnmaskCopy(b[n:n+len(f.data)], b[n:n+len(f.data)], key, 0)
	}
	return b[:n+len(f.data)]
}

func wire(fs ...frame) []byte {
	var b bytes.Buffer
	for _, f := range fs {
		b.Write(f.bytes())
	}
	return b.Bytes()
}

// head is the frame's header alone, for n octets of payload.
func (f frame) head(n uint64) []byte {
	b := make([]byte, ws.MaxHeaderLen)
	b = b[:ws.PutClientHeader(b, 0, false, n, [4]byte{1, 2, 3, 4})]
	b[0] = f.b0
	return b
}

// awaitCounter waits until a counter of the server has reached a value, which a connection's end brings about.
func awaitCounter(t *testing.T, name string, atLeast uint64) {
	t.Helper()
	for begin := time.Now(); server.Counter(name) < atLeast; time.Sleep(time.Millisecond) {
		if time.Since(begin) > limit {
			t.Fatalf("%s stays at %d, want %d", name, server.Counter(name), atLeast)
		}
	}
}
