// Package proxy reads what a proxy tells of the client behind it: a header of the PROXY protocol, versions 1 and 2, in front of a
// connection's first request (haproxy, doc/proxy-protocol.txt), and X-Forwarded-For in a request. It holds no state and does no IO:
// bytes in, a verdict out, nothing allocated.
//
//	| PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n | GET / HTTP/1.1\r\n ...
//	0                                                Header.Len
//
// Who may be believed is a Trust, a list of addresses; whom to ask is the caller's: bytes of anybody else are never given to Parse.
//
// An address is 16 bytes, IPv4 as ::ffff:a.b.c.d; all zero stands for a client without one, on a unix socket.
package proxy
