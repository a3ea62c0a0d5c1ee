// Package sandbox takes from a tile's process what it does not need: capabilities, the way to new ones, and the system
// calls that its work does without.
//
// # Two steps
//
//	supervisor's starting thread          tile process
//	DropPrivileges                        all threads: no capability in any set, no_new_privs
//	  |                                   (born so: credentials are a thread's own, exec hands them on)
//	  +--- fork, setuid, exec ----------> Verify
//	                                      opens what it needs: memory, locks, doorbell, listeners; pins
//	                                      Filter(NetCalls()) ... all threads, for ever
//	                                      first accept
//
// DropPrivileges works on the calling thread alone, since that is what Linux' credentials belong to, and a Go program
// cannot visit all of its threads once cgo is linked in (syscall.AllThreadsSyscall refuses). So it is called where
// there is one thread to be had: on the one that starts tiles (topo.Spec.Confined), before fork. What is exec'ed there
// has lost everything before its first instruction. Steps that must come after the drop and before the filter (taking
// over a predecessor's sockets) lie between Verify and Filter.
//
// Filter lays a seccomp program over all threads at once (TSYNC). It is an allow-list: what is not listed returns
// EPERM. It does not kill: a call that some rare path of the runtime or of ours makes unforeseen is then an error
// value, which is handled and counted as any other, and not the end of ten thousand connections; to an intruder EPERM is
// as closed a door. Calls by another ABI (32-bit, x32), which nothing of ours ever makes, end the process.
//
// # What the lists were made from
//
// From traces of each kind of tile after its filter was laid, under the end-to-end tests, with and without cgo; a list
// holds what was seen there, what the Go runtime does on paths that such a run need not meet (crash, signals, timers,
// thread creation), and nothing else. docs/privileges.md has the table.
//
// # Cost
//
// The kernel keeps a bitmap of calls that are allowed whatever their arguments (Linux 5.11): sendto, sendmsg, recvfrom,
// accept4, epoll_pwait are among them, and pay a test of one bit.
package sandbox
