// Package swarm is thousands of real WebSocket clients over TCP in one thread, each of which
// verifies every message it gets. `tilewire demo`, `tilewire bench` and the benchmark in
// scripts/bench use it to prove that nothing is lost, doubled, torn or late.
//
// # Model
//
// Run locks its thread, opens one edge-triggered epoll and as many non-blocking sockets as clients
// are wanted. There is no goroutine and no receive buffer per client: all read into one shared
// buffer, whole frames are verified where they lie, and of a frame that is cut by the end of a
// read only a few words stay behind (header, first 16 bytes, position). After the connecting phase
// nothing is allocated as long as nothing goes wrong.
//
//	         +-- client 0: fd, state, last seq --+
//	epoll -> |   client 1 ...                    | -> shared buffer -> frame -> message -> verify
//	         +-- client N-1 ---------------------+                                          |
//	                                                    progress (lowest seq of all) <------+
//	                                                    Histogram, Faults            <------+
//
// # Message
//
//	0        8            16
//	+--------+------------+---------------------------------+
//	| seq LE | publish ns | filler: word k = base + k*step  |
//	+--------+------------+---------------------------------+
//
// seq is consecutive per publisher and begins at 1 or above (0 stands for 'nothing yet' in
// OnProgress); publish ns is CLOCK_MONOTONIC (shmem.Monotonic), which all processes of a host share.
// A client's first seq is its start, afterwards each must be its predecessor's successor.
// ModeFull verifies each byte; ModeSeq verifies seq, length and order.
//
// # Roles
//
// Healthy clients read at once and decide the progress. Stalling clients stop reading after
// Options.StallAfter messages, slow ones read a bounded number of bytes per interval; idle ones
// upgrade on a path of their own and expect nothing. Their ends are recorded (close code and reason,
// end of stream, or reset), but they neither hold the progress up nor enter the latency.
//
// # Limits
//
// Linux. One descriptor per client (RLIMIT_NOFILE). One source address gives at most 28,232
// connections to one port; Run takes further addresses of 127.0.0.0/8 by itself. No TLS, no
// extensions. Frames are at most 1 GiB long.
package swarm
