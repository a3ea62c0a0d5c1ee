// Package ws is the WebSocket protocol (RFC 6455) as functions over the caller's bytes: frame headers, their validation, masking, UTF-8,
// the accept value of the handshake and close frames. No IO, no allocation, no extension; all state is plain data of a few bytes
// that can lie in shared memory, so that a connection can be carried on by another process in the middle of a frame.
//
// # Model
//
// The network tile reads a client's bytes and keeps, per connection, the message in progress:
//
//	+----+----+---------+----------+------------------------+
//	| b0 | b1 | length  | mask (4) | payload, masked        |
//	+----+----+---------+----------+------------------------+
//	ParseHeader           ^Mask     UnmaskCopy(dst, src, Mask, phase): any number of pieces, phase kept
//	CheckStart (2 octets), Check   UTF8.Write(dst): text only, state kept from fragment to fragment
//
//	             first fragment, no FIN                    continuation, no FIN
//	msgOp == 0 --------------------------> msgOp == op ----+   (control frames may come between)
//	    ^                                    |   ^---------+
//	    +------------------------------------+
//	       continuation with FIN: UTF8.Done, message delivered, UTF8.Reset
//
// A Fault maps to the close code to answer with; the caller maps it to its close reason as well.
//
// # Who writes what
//
// UnmaskCopy, PutHeader, PutClose and Accept write to the dst they are given and to nothing else. UTF8 is written by the tile that has
// the connection.
//
// # Limits
//
// linux/amd64 is where the word loops were measured; they are portable Go (encoding/binary) and right anywhere. The largest frame is
// the caller's choice; lengths with bit 63 set, and lengths not in their shortest form, are protocol errors.
package ws
