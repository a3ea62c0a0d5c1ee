package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNobody: nobody takes requests there: the instance has no supervisor, or one that serves a pipe or a demo.
var ErrNobody = errors.New("nobody takes orders")

// Refused is a reply with an error.
type Refused struct {
	Exit int
	Text string
}

func (r *Refused) Error() string { return r.Text }

// Client is a connection to a supervisor, good for one request.
type Client struct{ c net.Conn }

// Dial connects to the supervisor of the instance whose run directory is dir. Errors: ErrNobody, that of the system, ctx's.
func Dial(ctx context.Context, dir string) (*Client, error) {
	path := filepath.Join(dir, SocketName)
	addr, done, err := address(path)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("%w at %s", ErrNobody, path)
	}
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := new(net.Dialer).DialContext(ctx, "unix", addr)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("%w at %s", ErrNobody, path)
	case err != nil:
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return &Client{c}, nil
}

// Ask sends the request and returns the reply. Errors: *Refused, that of the connection, ctx's.
func (c *Client) Ask(ctx context.Context, q Request) (Reply, error) {
	defer c.until(ctx)()
	var r Reply
	err := json.NewEncoder(c.c).Encode(q)
	line := []byte(nil)
	if err == nil {
		line, err = bufio.NewReader(c.c).ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	switch {
	case ctx.Err() != nil:
		return r, ctx.Err()
	case err != nil:
		return r, fmt.Errorf("the supervisor's answer to %s: %w", q.Verb, err)
	case r.Error != "" || r.Exit != 0:
		return r, &Refused{r.Exit, r.Error}
	}
	return r, nil
}

// Ended waits for the end of the supervisor's process. Errors: ctx's.
func (c *Client) Ended(ctx context.Context) error {
	defer c.until(ctx)()
	_, _ = c.c.Read(make([]byte, 1)) // nothing more is said
	return ctx.Err()
}

// Close ends the connection.
func (c *Client) Close() { c.c.Close() }

// until has reads and writes end with ctx.
func (c *Client) until(ctx context.Context) (done func()) {
	_ = c.c.SetDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = c.c.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}
