// Package feed is what all servers of the benchmark that are written in Go have in common: their
// flags, the line that says they are ready, and the publisher's clock. What differs, and is
// measured, is how a server brings a published message to its clients.
//
// # The protocol between runner, server and load generator
//
//	SERVER --listen ADDR:PORT --size BYTES --rate N --credits FIFO [--fill]
//
// The server prints one line `listening ADDR:PORT` to stdout when it accepts, serves WebSocket
// upgrades on every path, broadcasts to those that came in on /ws and nothing to the others, and ends
// at SIGTERM. It may print one line `stats JSON` before it ends.
//
// Messages are those of package swarm (seq from 1 on, CLOCK_MONOTONIC, filler) and BYTES long. Without --fill
// the filler may be written once into a template.
//
// FIFO is a named pipe that exists already. The server opens it read-write (so that it never sees an end) and
// reads little-endian uint64 values: each is the highest seq that it may publish from now on. They
// only grow; only the last one read counts. Nothing is published before the first one, which comes when all
// clients are connected. Out of credits the publisher sleeps in its read or its epoll.
//
// With --rate N > 0 it publishes N messages a second from the first credit on (the value is then the
// greatest possible), whatever the clients do. Each is stamped with the time at which it was due (Options.Stamp).
package feed
