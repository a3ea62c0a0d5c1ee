package swarm

import (
	"bufio"
	"encoding/binary"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// testServer accepts upgrades and hands each connection to serve, in the order of acceptance.
type testServer struct {
	addr  string
	ln    net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

func serve(t testing.TB, network, addr string, f func(n int, c *net.TCPConn, r *bufio.Reader, path string)) *testServer {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Skipf("no listener on %s: %v", addr, err)
	}
	s := &testServer{addr: ln.Addr().String(), ln: ln}
	s.wg.Add(1)
	go func() {
		defer s.wg.Done()
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, c)
			s.mu.Unlock()
			s.wg.Add(1)
			go func() {
				defer s.wg.Done()
				defer c.Close()
				r := bufio.NewReader(c)
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				if req.URL.Path == "/no" {
					c.Write([]byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"))
					return
				}
				accept := upgradeAccept([]byte(req.Header.Get("Sec-WebSocket-Key")))
				if req.URL.Path == "/bad" {
					accept[0] ^= 1
				}
				// In two pieces, so that the answer arrives in two reads now and then.
				c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n"))
				c.Write([]byte("Connection: keep-alive, Upgrade\r\nSec-WebSocket-Accept: " + string(accept[:]) + "\r\n\r\n"))
				f(n, c.(*net.TCPConn), r, req.URL.Path)
			}()
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

// appendServerFrame appends an unmasked frame.
func appendServerFrame(dst []byte, b0 byte, p []byte) []byte {
	dst = append(dst, b0)
	switch {
	case len(p) < 126:
		dst = append(dst, byte(len(p)))
	case len(p) < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, 126), uint16(len(p)))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 127), uint64(len(p)))
	}
	return append(dst, p...)
}

// message returns the payload of seq.
func message(seq uint64, size int) []byte {
	p := make([]byte, size)
	FillPayload(p, seq, shmem.Monotonic())
	return p
}

// frame returns the whole frame of seq.
func frame(seq uint64, size int) []byte { return appendServerFrame(nil, 0x82, message(seq, size)) }

// closeFrame returns a close frame.
func closeFrame(code uint16, reason string) []byte {
	return appendServerFrame(nil, 0x88, append(binary.BigEndian.AppendUint16(nil, code), reason...))
}

// untilEOF reads until the peer is gone.
func untilEOF(r *bufio.Reader) {
	for {
		if _, err := r.ReadByte(); err != nil {
			return
		}
	}
}
