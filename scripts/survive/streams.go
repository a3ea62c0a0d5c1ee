package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tilewire/tilewire/cmd/tilewire/swarm"
	"github.com/tilewire/tilewire/httpsrv/ws"
	"github.com/tilewire/tilewire/shmem"
)

// whoMost: where a broadcast has its publish time in ns, a client's own message has the client's number.
const whoMost = 1 << 30

// inbox verifies what a WebSocket gets.
type inbox struct {
	c      *client
	seq    uint64 // of the last broadcast
	echo   atomic.Uint64
	pong   atomic.Uint64
	pinged *atomic.Uint64
	want   []byte
	prompt bool // it reads at once: how late a broadcast comes tells of the server
	pace   func(published int64)
}

// next takes one frame; over says that it was the server's close.
func (b *inbox) next(closing func() bool) (over bool, err error) {
	op, p, err := b.c.c.frame()
	if err != nil {
		return false, fmt.Errorf("%w, after seq %d, echo %d", err, b.seq, b.echo.Load())
	}
	switch op {
	case ws.OpText, ws.OpBinary:
		return false, b.data(p)
	case ws.OpPong:
		n := binary.LittleEndian.Uint64(append(p, make([]byte, 8)...))
		if len(p) != 8 || b.pinged == nil || n <= b.pong.Load() || n > b.pinged.Load() {
			return false, fmt.Errorf("pong % x after %d", p, b.pong.Load())
		}
		b.pong.Store(n)
		b.c.r.pongs.Add(1)
		return false, nil
	case ws.OpClose:
		code, _, _ := ws.ParseClose(p)
		if !closing() || code != 1000 {
			return true, fmt.Errorf("closed with %d %q, after seq %d", code, p[min(2, len(p)):], b.seq)
		}
		return true, nil
	}
	return false, fmt.Errorf("opcode %d", op)
}

func (b *inbox) data(p []byte) error {
	if len(p) < swarm.PrefixSz {
		return fmt.Errorf("message of %d bytes", len(p))
	}
	n, at := swarm.ReadStamp(p)
	b.want = append(b.want[:0], p...)
	swarm.FillPayload(b.want, n, at)
	if !bytes.Equal(b.want, p) {
		return fmt.Errorf("message %d, after broadcast %d and echo %d: wrong bytes", n, b.seq, b.echo.Load())
	}
	if at < whoMost {
		if at != b.c.who || n != b.echo.Load()+1 {
			return fmt.Errorf("echo %d of client %d after %d", n, at, b.echo.Load())
		}
		b.echo.Store(n)
		b.c.r.echoed.Add(1)
		return nil
	}
	if b.seq != 0 && n != b.seq+1 || len(p) != b.c.o.size {
		return fmt.Errorf("broadcast %d of %d bytes after %d", n, len(p), b.seq)
	}
	b.seq = n
	b.c.r.messages.Add(1)
	b.c.r.bytes.Add(uint64(len(p)))
	if b.prompt {
		b.c.r.late(shmem.Monotonic() - at)
	}
	if b.pace != nil {
		b.pace(at)
	}
	b.c.up()
	return nil
}

// follow reads until the end of the run, then takes leave: say is called once, in
// a goroutine of its own, and returns when nothing is on its way any more.
func (b *inbox) follow(say func() error) error {
	said := make(chan error, 1)
	go func() {
		err := error(nil)
		if say != nil {
			err = say()
		} else {
			<-b.c.end
		}
		if err == nil {
			err = b.c.c.send(ws.OpClose, []byte{1000 >> 8, 1000 & 0xff}, false)
		}
		said <- err
	}()
	for {
		over, err := b.next(b.c.ending)
		if err != nil {
			return err
		}
		if over {
			break
		}
	}
	if err := <-said; err != nil {
		return err
	}
	b.c.r.closes.Add(1)
	return b.c.c.eof()
}

// read is a client that keeps up.
func (c *client) read() error {
	if err := c.open("/stream", 0); err != nil {
		return err
	}
	b := inbox{c: c, prompt: true}
	return b.follow(nil)
}

// slow reads one message at a time with pauses, so that sends to it are partial, until it is seconds behind; then it catches up.
func (c *client) slow() error {
	if err := c.open("/stream", 4096); err != nil {
		return err
	}
	b := inbox{c: c}
	hurry := false
	b.pace = func(at int64) {
		switch behind := shmem.Monotonic() - at; {
		case behind > 3e9:
			hurry = true
		case behind < 1e8:
			hurry = false
		}
		if !hurry && !c.ending() {
			time.Sleep(8 * time.Millisecond)
		}
	}
	return b.follow(nil)
}

// talk sends messages and gets each back from the application.
func (c *client) talk() error { return c.converse("/quiet", false) }

// fragment does so in fragments and pieces, while it gets the stream as well.
func (c *client) fragment() error { return c.converse("/stream", true) }

// window is how many messages of a client may be under way.
const window = 8

func (c *client) converse(path string, cut bool) error {
	if err := c.open(path, 0); err != nil {
		return err
	}
	b := inbox{c: c}
	c.up()
	return b.follow(func() error {
		p := make([]byte, 48<<10)
		sent := uint64(0)
		until := func(n uint64) error { // n echoes are there
			for begin := time.Now(); b.echo.Load() < n; time.Sleep(time.Millisecond) {
				if time.Since(begin) > patience {
					return fmt.Errorf("message %d is not echoed; %d are", n, b.echo.Load())
				}
			}
			return nil
		}
		for !c.ending() {
			c.c.mu.Lock() // rnd is the connection's
			n, pause := swarm.PrefixSz+c.rnd.IntN(1500), time.Duration(c.rnd.IntN(100))*time.Millisecond
			if c.rnd.IntN(50) == 0 {
				n = 1500 + c.rnd.IntN(len(p)-1500)
			}
			c.c.mu.Unlock()
			sent++
			swarm.FillPayload(p[:n], sent, c.who)
			if err := c.c.send(ws.OpBinary, p[:n], cut); err != nil {
				return err
			}
			c.r.sent.Add(1)
			if sent > window {
				if err := until(sent - window); err != nil {
					return err
				}
			}
			select {
			case <-c.end:
			case <-time.After(pause):
			}
		}
		return until(sent)
	})
}

// ping sends pings while it gets the stream. The server may answer the latest only (RFC 6455 section 5.5.3).
func (c *client) ping() error {
	if err := c.open("/stream", 0); err != nil {
		return err
	}
	var sent atomic.Uint64
	b := inbox{c: c, pinged: &sent, prompt: true}
	return b.follow(func() error {
		for !c.ending() {
			n := sent.Add(1)
			if err := c.c.send(ws.OpPing, binary.LittleEndian.AppendUint64(nil, n), false); err != nil {
				return err
			}
			select {
			case <-c.end:
			case <-time.After(30 * time.Millisecond):
			}
		}
		for begin := time.Now(); b.pong.Load() < sent.Load(); time.Sleep(time.Millisecond) {
			if time.Since(begin) > patience {
				return fmt.Errorf("ping %d has no pong; %d has", sent.Load(), b.pong.Load())
			}
		}
		return nil
	})
}
