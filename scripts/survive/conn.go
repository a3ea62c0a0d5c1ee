package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tilewire/tilewire/httpsrv/ws"
)

// patience is how long a client waits for anything: far beyond any outage.
const patience = 15 * time.Second

// conn is a client's connection.
type conn struct {
	*net.TCPConn
	r   *bufio.Reader
	buf []byte

	mu  sync.Mutex // a frame is written whole before the next
	out []byte
	rnd *rand.Rand // under mu
}

// dial connects; rcvBuf bounds the socket's receive buffer unless it is 0.
func dial(addr string, rcvBuf int, rnd *rand.Rand) (*conn, error) {
	d := net.Dialer{Timeout: patience}
	if rcvBuf > 0 {
		d.ControlContext = func(_ context.Context, _, _ string, rc syscall.RawConn) error {
			var err error
			cerr := rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, rcvBuf) })
			return errors.Join(err, cerr)
		}
	}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	tc := nc.(*net.TCPConn)
	return &conn{TCPConn: tc, r: bufio.NewReaderSize(tc, 16<<10), rnd: rnd}, nil
}

// upgrade makes it a WebSocket at path.
func (c *conn) upgrade(path string) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	req := "GET " + path + " HTTP/1.1\r\nHost: survive\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
	if err := c.pieces([]byte(req)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return fmt.Errorf("answer to the upgrade: %w", err)
	}
	if a := resp.Header.Get("Sec-WebSocket-Accept"); resp.StatusCode != 101 || a != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		return fmt.Errorf("answer to the upgrade: %s, accept %q", resp.Status, a)
	}
	return nil
}

// pieces writes p, now and then in two or three pieces with a pause between.
func (c *conn) pieces(p []byte) error {
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	for cuts := c.rnd.IntN(3); cuts > 0 && len(p) > 1; cuts-- {
		n := 1 + c.rnd.IntN(len(p)-1)
		if _, err := c.Write(p[:n]); err != nil {
			return err
		}
		p = p[n:]
		time.Sleep(time.Duration(c.rnd.IntN(20)) * time.Millisecond)
	}
	_, err := c.Write(p)
	return err
}

// send writes a message or control frame; fragment cuts a message in two frames, and
// has the bytes go out in pieces.
func (c *conn) send(op byte, p []byte, fragment bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for first := true; ; first = false {
		n := len(p)
		if fragment && first && n > 2 && op < ws.OpClose {
			n = 1 + c.rnd.IntN(n-1)
		}
		var head [14]byte
		var key [4]byte
		binary.LittleEndian.PutUint32(key[:], c.rnd.Uint32())
		h := ws.PutClientHeader(head[:], op, n == len(p), uint64(n), key)
		c.out = append(c.out[:0], head[:h]...)
		for i, b := range p[:n] {
			c.out = append(c.out, b^key[i&3])
		}
		if fragment {
			if err := c.pieces(c.out); err != nil {
				return err
			}
		} else {
			_ = c.SetWriteDeadline(time.Now().Add(patience))
			if _, err := c.Write(c.out); err != nil {
				return err
			}
		}
		if p, op = p[n:], ws.OpCont; len(p) == 0 {
			return nil
		}
	}
}

// frame reads the next frame; p is valid until the next call. Pings are answered.
func (c *conn) frame() (op byte, p []byte, err error) {
	for {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		var h [10]byte
		if _, err = io.ReadFull(c.r, h[:2]); err != nil {
			return 0, nil, err
		}
		n := int(h[1])
		switch {
		case h[0]&0xf0 != 0x80, n > 127:
			return 0, nil, fmt.Errorf("frame header % x", h[:2])
		case n == 126:
			_, err = io.ReadFull(c.r, h[2:4])
			n = int(binary.BigEndian.Uint16(h[2:]))
		case n == 127:
			_, err = io.ReadFull(c.r, h[2:10])
			n = int(binary.BigEndian.Uint64(h[2:]))
		}
		if err != nil {
			return 0, nil, err
		}
		if n < 0 || n > 1<<20 {
			return 0, nil, fmt.Errorf("frame of %d bytes", n)
		}
		if cap(c.buf) < n {
			c.buf = make([]byte, n)
		}
		p = c.buf[:n]
		if _, err = io.ReadFull(c.r, p); err != nil {
			return 0, nil, err
		}
		if op = h[0] & 0xf; op != ws.OpPing {
			return op, p, nil
		}
		if err = c.send(ws.OpPong, p, false); err != nil {
			return 0, nil, err
		}
	}
}

// eof wants the stream to end here, in order.
func (c *conn) eof() error {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	b, err := c.r.ReadByte()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return fmt.Errorf("byte %#x after the end", b)
	}
	return err
}
