package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"time"
)

// attack is one kind of abuse. Each is held to a rate that leaves the good clients
// their share of two CPUs: what is to be shown is that the server spends nothing
// much on it, not that a CPU can be filled.
type attack struct {
	name  string
	flags []string // of the server
	long  bool     // takes the time of a ping and its pong
	run   func(ctx context.Context, t *target)
	// check says whether the attackers met what they should; grew tells a counter's growth.
	check func(r *record, grew func(string) uint64) error
}

// some is an error unless each of the counters grew.
func some(grew func(string) uint64, names ...string) error {
	for _, n := range names {
		if grew(n) == 0 {
			return fmt.Errorf("counter %s did not move", n)
		}
	}
	return nil
}

// drip has 200 connections send first, then more again and again, so that their requests never end.
func drip(ctx context.Context, t *target, every time.Duration, first, more string) {
	crowd(ctx, 200, 50*time.Millisecond, func(int) {
		c, err := t.dial(ctx, 0)
		if err != nil {
			return
		}
		defer c.Close()
		next := first
		t.until(ctx, c, every, func() []byte {
			b := next
			next = more
			return []byte(b)
		})
	})
}

var attacks = []attack{
	{
		name: "slowloris", // heads that never end
		run: func(ctx context.Context, t *target) {
			drip(ctx, t, t.t.header/20, "GET / HTTP/1.1\r\nHost: x\r\n", "X: y\r\n")
		},
		check: func(r *record, grew func(string) uint64) error {
			return errors.Join(r.only("408"), some(grew, "closed_timeout"))
		},
	},
	{
		name: "slow body",
		run: func(ctx context.Context, t *target) {
			drip(ctx, t, t.t.body/20, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n", "z")
		},
		check: func(r *record, grew func(string) uint64) error {
			return errors.Join(r.only("408"), some(grew, "closed_timeout"))
		},
	},
	{
		name: "slow read", long: true, // WebSockets that read nothing at all, and pages that are read byte by byte
		run: func(ctx context.Context, t *target) {
			crowd(ctx, 100, 100*time.Millisecond, func(i int) {
				if i%2 == 0 {
					c, err := t.dial(ctx, 2048)
					if err != nil {
						return
					}
					defer c.Close()
					if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
						return
					}
					for b := make([]byte, 1); ; sleep(ctx, 20*time.Millisecond) {
						if _, err := c.Read(b); err != nil {
							return
						}
					}
				}
				w, err := t.ws(ctx, 2048)
				if err != nil {
					return
				}
				defer w.Close()
				sleep(ctx, t.t.ping+t.t.pong+t.t.pong/5)
				t.closeCode(ctx, w, false)
			})
		},
		check: func(r *record, grew func(string) uint64) error {
			err := r.only("4002", "4001", "reset")
			if grew("closed_no_pong") == 0 { // the stream filled their sockets first
				err = errors.Join(err, some(grew, "closed_ws_client_too_slow"))
			}
			return err
		},
	},
	{
		name: "flood, refusing", // connections that say nothing, more than there are places
		run: func(ctx context.Context, t *target) {
			crowd(ctx, 1000, 500*time.Millisecond, func(int) {
				c, err := t.dial(ctx, 0)
				if err != nil {
					return
				}
				defer c.Close()
				if a := statusOf(c); ctx.Err() == nil {
					t.r.add(a)
				}
			})
		},
		check: func(r *record, grew func(string) uint64) error {
			return errors.Join(r.only("503", "close"), some(grew, "rejected", "closed_timeout"))
		},
	},
	{
		name:  "flood, evicting", // the same, and everybody who asks for the page meanwhile gets it
		flags: []string{"--on-full", "evict"},
		run: func(ctx context.Context, t *target) {
			go crowd(ctx, 4, 20*time.Millisecond, func(int) {
				resp, err := http.Get("http://" + t.addr + "/")
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				switch {
				case ctx.Err() != nil:
				case err != nil:
					t.r.add("page: " + err.Error())
				default:
					t.r.add(fmt.Sprint("page ", resp.StatusCode))
				}
			})
			crowd(ctx, 1000, 500*time.Millisecond, func(int) {
				c, err := t.dial(ctx, 0)
				if err != nil {
					return
				}
				defer c.Close()
				_ = statusOf(c)
			})
		},
		check: func(r *record, grew func(string) uint64) error {
			return errors.Join(r.only("page 200"), some(grew, "closed_evicted"))
		},
	},
	{
		name:  "flood of one", // from one address, with a limit for it
		flags: []string{"--max-connections-per-ip", "60"},
		run: func(ctx context.Context, t *target) {
			crowd(ctx, 200, 200*time.Millisecond, func(int) {
				w, err := t.ws(ctx, 0)
				if err != nil {
					return
				}
				defer w.Close()
				t.closeCode(ctx, w, true)
			})
		},
		check: func(r *record, grew func(string) uint64) error {
			return errors.Join(r.only("429"), some(grew, "rejected_address"))
		},
	},
	{
		name: "giant header",
		run: func(ctx context.Context, t *target) {
			crowd(ctx, 20, 50*time.Millisecond, func(int) {
				c, err := t.dial(ctx, 0)
				if err != nil {
					return
				}
				defer c.Close()
				t.until(ctx, c, time.Second, func() []byte {
					return append([]byte("GET / HTTP/1.1\r\nHost: x\r\nX: "), filler...)
				})
			})
		},
		check: func(r *record, grew func(string) uint64) error {
			return errors.Join(r.only("431"), some(grew, "closed_large_request"))
		},
	},
	{
		name: "endless headers",
		run: func(ctx context.Context, t *target) {
			crowd(ctx, 20, 50*time.Millisecond, func(int) {
				c, err := t.dial(ctx, 0)
				if err != nil {
					return
				}
				defer c.Close()
				n := 0
				t.until(ctx, c, time.Millisecond, func() []byte {
					if n++; n == 1 {
						return []byte("GET / HTTP/1.1\r\nHost: x\r\n")
					}
					return []byte(strings.Repeat(fmt.Sprintf("X-%d: y\r\n", n), 5))
				})
			})
		},
		check: func(r *record, grew func(string) uint64) error {
			return errors.Join(r.only("431"), some(grew, "closed_large_request"))
		},
	},
	{
		name: "ping flood",
		run: func(ctx context.Context, t *target) {
			burst := []byte{}
			for range 50 {
				burst = append(burst, frame(0x89, 125, filler[:125])...)
			}
			crowd(ctx, 8, 0, func(i int) {
				w, err := t.ws(ctx, 0)
				if err != nil {
					return
				}
				defer w.Close()
				if i%2 == 0 { // the others never read
					go func() {
						for {
							op, p, err := w.next()
							if err != nil {
								return
							}
							if op == 10 && len(p) == 125 {
								t.r.add("pong")
							}
						}
					}()
				}
				for ctx.Err() == nil {
					if _, err := w.Write(burst); err != nil {
						return
					}
					sleep(ctx, 10*time.Millisecond)
				}
			})
		},
		check: func(r *record, grew func(string) uint64) error {
			return errors.Join(r.only("pong"), some(grew, "pings"))
		},
	},
	{
		name: "tiny fragments",
		run: func(ctx context.Context, t *target) {
			burst := frame(0x01, 1, []byte("a"))
			for range 500 {
				burst = append(burst, frame(0x00, 1, []byte("a"))...)
				burst = append(burst, frame(0x00, 0, nil)...)
			}
			burst = append(burst, frame(0x80, 1, []byte("a"))...)
			crowd(ctx, 8, 0, func(int) {
				w, err := t.ws(ctx, 0)
				if err != nil {
					return
				}
				defer w.Close()
				go t.closeCode(ctx, w, false) // bytes that come are life enough
				for ctx.Err() == nil {
					if _, err := w.Write(burst); err != nil {
						return
					}
					sleep(ctx, 50*time.Millisecond)
				}
			})
		},
		check: func(r *record, grew func(string) uint64) error {
			if n := r.String(); n != "nothing met" {
				return fmt.Errorf("they were ended: %s", n)
			}
			return some(grew, "messages")
		},
	},
	{
		name: "partial frames", long: true, // that hold buffers, more of them than there are
		run: func(ctx context.Context, t *target) {
			parts := [][]byte{{0x81}, frame(0x81, 1000, nil)[:3], frame(0x81, 1000, filler[:10]), frame(0x01, 5, filler[:5]), frame(0x89, 50, filler[:9])}
			crowd(ctx, 150, 100*time.Millisecond, func(i int) {
				w, err := t.ws(ctx, 0)
				if err != nil {
					return
				}
				defer w.Close()
				if _, err := w.Write(parts[i%len(parts)]); err != nil {
					return
				}
				t.closeCode(ctx, w, false)
			})
		},
		check: func(r *record, grew func(string) uint64) error {
			return r.only("4002", "1008", "reset", "close")
		},
	},
	{
		name: "half-open closes",
		run: func(ctx context.Context, t *target) {
			starts := []string{"", "GET", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", handshake, handshake[:50]}
			crowd(ctx, 60, 100*time.Millisecond, func(i int) {
				c, err := t.dial(ctx, 0)
				if err != nil {
					return
				}
				defer c.Close()
				if _, err := io.WriteString(c, starts[i%len(starts)]); err != nil {
					return
				}
				_ = c.CloseWrite()
				a := statusOf(c)
				if ctx.Err() == nil {
					t.r.add(a)
				}
			})
		},
		check: func(r *record, grew func(string) uint64) error {
			return errors.Join(r.only("200", "101", "close"), some(grew, "closed_expected_eof", "closed_ok"))
		},
	},
	{
		name: "reset storm",
		run: func(ctx context.Context, t *target) {
			starts := []string{"", "GET", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", handshake}
			crowd(ctx, 40, 25*time.Millisecond, func(i int) {
				c, err := t.dial(ctx, 0)
				if err != nil {
					return
				}
				_ = c.SetLinger(0)
				_, _ = io.WriteString(c, starts[i%len(starts)])
				sleep(ctx, time.Duration(i%5)*time.Millisecond)
				c.Close()
			})
		},
		check: func(r *record, grew func(string) uint64) error {
			if n := r.String(); n != "nothing met" {
				return errors.New(n)
			}
			return some(grew, "closed_peer_reset")
		},
	},
	{
		name: "64-bit lengths",
		run: func(ctx context.Context, t *target) {
			lengths := []uint64{1 << 16 * 16, 1 << 32, math.MaxInt64, math.MaxInt64 + 1, math.MaxUint64}
			crowd(ctx, 50, 50*time.Millisecond, func(i int) {
				w, err := t.ws(ctx, 0)
				if err != nil {
					return
				}
				defer w.Close()
				if _, err := w.Write(frame(0x82, lengths[i%len(lengths)], filler[:100])); err != nil {
					return
				}
				t.closeCode(ctx, w, true)
			})
		},
		check: func(r *record, grew func(string) uint64) error {
			return errors.Join(r.only("1009", "1002"), some(grew, "closed_ws_oversize_frame", "closed_protocol"))
		},
	},
}
