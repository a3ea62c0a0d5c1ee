// Package echo is the server under test: httpsrv with an application that gives back what it gets, and nothing between
// a client and the server's own rules. `tilewire echo` runs it; its tests are the conformance suite of WebSocket, by the
// numbers of Autobahn's cases (docs/websocket.md).
//
//	GET, HEAD, OPTIONS on any path    200 and "OK"
//	POST, PUT on any path             200 and the request's body
//	an upgrade on any path            each message back, with its type
//
// One process, one network tile, memory of its own (no region: nobody joins it). An echo lies in the tile's reply ring
// until its client has taken it; while that is full, nobody is read from who might need more of it (TCP holds the clients
// back), so that no echo is lost or overtaken. Who keeps others waiting for longer than replyWait is closed.
package echo
