package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/httpsrv/ws"
)

// close comes, gets some of the stream, and takes leave by a closing handshake.
func (c *client) close() error {
	if err := c.open("/stream", 0); err != nil {
		return err
	}
	b := inbox{c: c}
	for n := 1 + c.rnd.IntN(100); n > 0; n-- {
		if _, err := b.next(c.stays); err != nil {
			return err
		}
	}
	if err := c.c.send(ws.OpClose, []byte{1000 >> 8, 1000 & 0xff, 'b', 'y', 'e'}, c.rnd.IntN(2) == 0); err != nil {
		return err
	}
	for {
		over, err := b.next(c.leaves)
		if err != nil {
			return err
		}
		if over {
			c.r.closes.Add(1)
			return c.c.eof()
		}
	}
}

// reset comes, and goes by a reset at any moment.
func (c *client) reset() error {
	path := []string{"", "/stream", "/quiet"}[c.rnd.IntN(3)]
	if err := c.open(path, 0); err != nil {
		return err
	}
	time.Sleep(time.Duration(c.rnd.IntN(50)) * time.Millisecond)
	return c.c.SetLinger(0)
}

// body returns a request whose answer is its own body.
func (c *client) body(n uint64) (head, body []byte) {
	body = make([]byte, swarm.PrefixSz+c.rnd.IntN(4000))
	swarm.FillPayload(body, n, c.who)
	return fmt.Appendf(nil, "POST /sum HTTP/1.1\r\nHost: survive\r\nContent-Length: %d\r\n\r\n", len(body)), body
}

func (c *client) answer(want []byte) error {
	_ = c.c.SetReadDeadline(time.Now().Add(patience))
	resp, err := http.ReadResponse(c.c.r, nil)
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("body of the answer: %w", err)
	case resp.StatusCode != 200:
		return fmt.Errorf("answer: %s", resp.Status)
	case !bytes.Equal(got, want):
		return fmt.Errorf("answer of %d bytes to %d differs", len(got), len(want))
	}
	c.r.answers.Add(1)
	return nil
}

// requests sends several on one connection, some of them before the answers are there.
func (c *client) requests() error {
	if err := c.open("", 0); err != nil {
		return err
	}
	for n := range uint64(1 + c.rnd.IntN(10)) {
		var bodies [][]byte
		var out []byte
		for i := range 1 + c.rnd.IntN(3) {
			h, b := c.body(n*10 + uint64(i))
			out = append(append(out, h...), b...)
			bodies = append(bodies, b)
		}
		if err := c.c.pieces(out); err != nil {
			return err
		}
		for _, b := range bodies {
			if err := c.answer(b); err != nil {
				return err
			}
		}
		time.Sleep(time.Duration(c.rnd.IntN(30)) * time.Millisecond)
	}
	return nil
}

// halfClose ends its side after the request and waits for the answer and the end.
func (c *client) halfClose() error {
	if err := c.open("", 0); err != nil {
		return err
	}
	h, b := c.body(1)
	if err := c.c.pieces(append(h, b...)); err != nil {
		return err
	}
	if err := c.c.CloseWrite(); err != nil {
		return err
	}
	if err := c.answer(b); err != nil {
		return err
	}
	return c.c.eof()
}
