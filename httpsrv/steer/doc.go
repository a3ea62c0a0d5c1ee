// Package steer chooses, for network tiles that share a port by SO_REUSEPORT, which of them a new connection goes to, by a
// BPF program in the kernel. What each mode is for, how to get the right to it, and figures: docs/steering.md.
//
// # Model
//
//	SYN ----> program ----> listeners[port][tile] ----> tile's backlog
//	            |  ^
//	     counts v  | mode, live tiles, loads
//	          shared array  <---- supervisor: SetMode, SetLive
//	                        <---- tiles: SetLoad, Took, Drained
//
// The supervisor, who has CAP_BPF, calls Load, and Insert for each tile's listener at each address; SetLive when a tile is
// ready, drains, stands still or has died. A tile inherits the descriptor of the shared array and calls Join, which
// needs no right and no bpf(2), only mmap; its hot path is a store when its number of connections changes and one when it has
// taken a connection.
//
// The program (program.c, type sk_reuseport, attached as select-or-migrate) is asked for each SYN, and when a listener is
// closed, for each connection that waits there: it moves to a live tile instead of being reset.
//
// # What happens when
//
//	no CAP_BPF             Load gives ErrPermission; the kernel spreads connections by a hash; ClassicCPU is for anybody
//	no program             a listener's end resets who waits there, unless net.ipv4.tcp_migrate_req is 1
//	chosen tile has none   (closed, and not yet known to be dead) up to two other live tiles are tried, then the kernel's hash
//	no live tile           the kernel's hash, over all listeners
//	tile stands still      Least counts what was sent to it and not taken: it gets its share and no more
//	supervisor dies        all goes on as it was said last; tiles go on telling their loads
//
// # Who writes what
//
// The shared array is cells of 384 bytes, three line pairs, each with one writer (shared.go). Tiles trust nothing in it,
// and what a tile writes can only steer connections to the wrong tile.
//
// # Limits
//
// Linux 5.14, little-endian, TCP without MPTCP. 255 tiles; CPUs up to 1023. All sockets of a group belong to one user (bind
// gives EADDRINUSE to another) and are in one network namespace. A socket stands in one table only.
package steer

//go:generate ../../scripts/generate.sh
