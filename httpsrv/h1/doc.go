// Package h1 reads the heads of HTTP/1.1 requests and writes the heads of responses, in bytes that belong to the caller: no IO, no
// allocation, no state between calls but one offset, so that a connection's parse state can lie in shared memory.
//
// # Model
//
// The network tile collects the bytes of a connection in a buffer and calls Parse after each read:
//
//	received so far                       p
//	+-----------------------------------+---------------- - -
//	| GET /ws HTTP/1.1\r\nHost: exa     |  not yet arrived
//	+-----------------------------------+---------------- - -
//	0                                   next              Limits.MaxHead
//	            Parse -> Incomplete, next (kept by the caller: the next from)
//
//	+------------------------------------------+----------+- - -
//	| GET /ws HTTP/1.1\r\n ... \r\n\r\n        | body     | next request (pipelined)
//	+------------------------------------------+----------+- - -
//	0            Head's slices point here      Len        Len+BodyLen
//	            Parse -> OK, next = Len
//
// A refusal is a Verdict: the status to answer with, the class from which the server takes its close reason, and the rule broken. The
// verdict depends on the bytes alone, not on how the network cut them. The tests try every case cut at every offset and octet by octet.
//
// # Strictness
//
// One reading of a request, or none: whatever another party might read differently is refused (RFC 9112 11.2). Only CRLF ends a line,
// nothing folds, names are tokens with the colon right behind, values have no control octets, Host comes exactly once, Content-Length is
// digits and agrees with itself, Transfer-Encoding is not served. What is let through beyond the grammar: up to two empty lines before
// the request line (RFC 9112 2.2), octets over 127 in targets and values, a fragment in the target (cut off), equal Content-Length
// fields. diff_test.go has the table of differences from net/http, found by fuzzing.
//
// # Who writes what
//
// Parse writes its Head and nothing else; AppendHead, AppendError and Append101 write between the length and the capacity of dst.
// The bytes under a Head must not change while it is used: they belong to the tile that reads the connection.
//
// # Limits
//
// Limits bounds head, target, number of fields and head + body. Bodies are not read here, there are no trailers, and chunked coding is
// neither read nor written. Repeated fields are kept once in Head: the first, but the last of X-Forwarded-For; Next gives all.
package h1
