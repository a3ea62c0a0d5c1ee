package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// target is what an attack has at hand.
type target struct {
	*server
	t times
	r *record
}

// crowd runs f in n goroutines, again and again with a pause in between, until ctx is done.
func crowd(ctx context.Context, n int, pause time.Duration, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for sleep(ctx, pause*time.Duration(i)/time.Duration(n)); ctx.Err() == nil; sleep(ctx, pause) {
				f(i)
			}
		}()
	}
	wg.Wait()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// dial connects; it is closed when ctx is done, so that no attacker hangs. rcvBuf 0 is the kernel's choice.
func (t *target) dial(ctx context.Context, rcvBuf int) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, rc syscall.RawConn) error {
		if rcvBuf == 0 {
			return nil
		}
		return rc.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, rcvBuf) })
	}}
	c, err := d.DialContext(ctx, "tcp", t.addr)
	if err != nil {
		if ctx.Err() == nil {
			t.r.add("no connection")
		}
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return c.(*net.TCPConn), nil
}

// until sends what next returns, with a pause, until the server answers or closes; the
// answer's status is recorded. Those whom the end of the attack cuts off count for nothing.
func (t *target) until(ctx context.Context, c net.Conn, pause time.Duration, next func() []byte) {
	answer := make(chan string, 1)
	go func() { answer <- statusOf(c) }()
	for {
		if _, err := c.Write(next()); err != nil {
			break // its answer may be there all the same
		}
		select {
		case a := <-answer:
			if ctx.Err() == nil {
				t.r.add(a)
			}
			return
		case <-time.After(pause):
		}
	}
	if a := <-answer; ctx.Err() == nil {
		t.r.add(a)
	}
}

// statusOf reads a response's status, then to the end.
func statusOf(c net.Conn) string {
	b, err := io.ReadAll(io.LimitReader(c, 1<<20))
	f := strings.Fields(string(b[:min(len(b), 40)]))
	switch {
	case len(f) > 1 && f[0] == "HTTP/1.1":
		return f[1]
	case len(b) > 0:
		return fmt.Sprintf("%q", b[:min(len(b), 20)])
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	}
	return "close"
}

const handshake = "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// wsConn is a WebSocket of an attacker.
type wsConn struct {
	*net.TCPConn
	r *bufio.Reader
}

// ws connects and upgrades.
func (t *target) ws(ctx context.Context, rcvBuf int) (*wsConn, error) {
	c, err := t.dial(ctx, rcvBuf)
	if err != nil {
		return nil, err
	}
	w := &wsConn{c, bufio.NewReaderSize(c, 4096)}
	if _, err := io.WriteString(c, handshake); err != nil {
		c.Close()
		return nil, err
	}
	for first := true; ; first = false {
		line, err := w.r.ReadString('\n')
		if err == nil && first && !strings.HasPrefix(line, "HTTP/1.1 101 ") {
			t.r.add(strings.Fields(line + " x x")[1])
			err = errors.New(line)
		}
		if err != nil {
			c.Close()
			return nil, err
		}
		if line == "\r\n" {
			return w, nil
		}
	}
}

// frame is a client's frame with a mask of zeroes; n is the length that it claims, whatever p has.
func frame(b0 byte, n uint64, p []byte) []byte {
	b := []byte{b0}
	switch {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), n)
	}
	return append(append(b, 0, 0, 0, 0), p...)
}

// next reads a frame.
func (w *wsConn) next() (op byte, p []byte, err error) {
	var h [10]byte
	if _, err = io.ReadFull(w.r, h[:2]); err != nil {
		return 0, nil, err
	}
	n := uint64(h[1] & 0x7f)
	switch n {
	case 126:
		if _, err = io.ReadFull(w.r, h[2:4]); err != nil {
			return 0, nil, err
		}
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		if _, err = io.ReadFull(w.r, h[2:10]); err != nil {
			return 0, nil, err
		}
		n = binary.BigEndian.Uint64(h[2:])
	}
	p = make([]byte, n)
	_, err = io.ReadFull(w.r, p)
	return h[0] & 0xf, p, err
}

// closeCode reads on, and answers pings if it shall, until the close frame, whose
// code is recorded; an end without one as well.
func (t *target) closeCode(ctx context.Context, w *wsConn, pongs bool) {
	for {
		op, p, err := w.next()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, syscall.ECONNRESET):
			t.r.add("reset")
			return
		case err != nil:
			t.r.add("close")
			return
		case op == 9 && pongs:
			if _, err := w.Write(frame(0x8a, uint64(len(p)), p)); err != nil {
				continue
			}
		case op == 8 && len(p) >= 2:
			t.r.add(fmt.Sprint(binary.BigEndian.Uint16(p)))
			return
		}
	}
}

var filler = bytes.Repeat([]byte("x"), 1<<16)
