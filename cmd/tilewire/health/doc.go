// Package health judges an instance from its shared memory alone, read-only: no
// message to anybody, no daemon, no lock taken. What it looks at:
//
//	role locks    held by a live process? exactly, from the kernel
//	cncs          signal, heartbeat, pid, restarts: what tiles say of themselves
//	Life          starting, ready, draining or stopping: what the supervisor says
//
// The same verdict is given by /healthz and /readyz of the admin tile and of the
// public listeners, and by the read verbs, so that they do not contradict each other.
//
//	live    the supervisor is there, and not every network tile has got stuck: starting
//	        it anew would mend nothing
//	ready   live, its state is ready, every network tile runs, and no other tile that was
//	        started is stuck, failed, or dead and waiting to be started again
//
// A tile that has done its work (a source whose command ended) and the admin tile,
// whose absence costs no client anything, make no instance unready; the latter makes
// it degraded.
package health
