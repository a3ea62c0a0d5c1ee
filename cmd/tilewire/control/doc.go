// Package control is how verbs talk to the supervisor of a running instance: a unix socket in its run directory, one
// request a connection, in lines of JSON.
//
//	verb ----------------> supervisor
//	{"verb":"reload"}      peer's user is checked (SO_PEERCRED): its own, or root
//	<--- {"exit":0,"changes":[...]}
//	<--- end of the connection, for `drain` and `stop`: the supervisor's process is gone
//
// The socket has mode 0600. Its path may be longer than an address of a unix socket takes (107 bytes): it is reached by
// way of a descriptor of its directory then. A socket that a crash left is replaced: who has the supervisor's role has the
// right to its name.
package control
