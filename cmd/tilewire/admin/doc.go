// Package admin answers operators' questions about an instance over HTTP, from its
// shared memory alone: no network tile takes note of a request, however slow or
// frequent. docs/admin.md has the endpoints and the keys of their JSON.
//
//	Server     the handlers, for an instance that this process has joined
//	Clients    the table of connections, also for verbs that need no server
//	Limits     of requests and of those who ask: see server.go
//
// Nothing here needs more than read-only memory, but for POST /publish/{topic}, which
// takes the producer's role of a ring for as long as one message takes.
package admin
