// Package shmem gives named regions of shared memory on 1 GiB, 2 MiB or 4 KiB pages, and the typed memory in them. It is the
// only package of Tilewire that imports unsafe.
//
// # Model
//
// A region is a file tilewire.NAME on a hugetlbfs or tmpfs mount. Create makes it whole or not at all: the file has no
// name until its pages are there and its first object is formatted. Processes join a region with Open, work on its
// Mem, and Leave. Unlink takes the name away; the memory goes with the last joiner. Shortage of memory is an
// error at creation, with the figures and the command that mends it, never a SIGBUS later.
//
// A Mem is a slice of a region's bytes together with the lock space they belong to. An object in shared memory
// takes a Mem, overlays its structs with At, and locks bytes of itself for its roles. The same code runs on
// Heap memory in tests, where the race detector can see it.
//
// # Memory
//
//	region's file, offset = gaddr-like, the same everywhere; addresses differ per process
//
//	0                                              size       2^40      2^60              2^62
//	+----------------------------------------------+- - - - - -+- - - - -+- - - - - - - - -+- - - - - - - - - - - -+
//	| bytes, mapped shared; each byte can be locked|  no bytes | nothing | locks of joiners| locks: who holds a byte|
//	+----------------------------------------------+- - - - - -+- - - - -+- - - - - - - - -+- - - - - - - - - - - -+
//	  ^ Mem.Lock(off): a role                                   pid<<20|random   off<<22|pid
//
// The kernel keeps locks of open file descriptions beyond the end of a file as well as within it. So it alone knows,
// exactly and at every moment, who is joined and who holds which role, whatever crashed; nothing about it is
// written to memory.
//
// # Who writes what
//
// This package writes no byte of a region: a new region is zero, and Options.Init formats it. Who may write
// what is settled by the objects in it. A read-only join cannot write (the page tables forbid it) and
// cannot take a Lock.
//
// # Rules about descriptors
//
// A description that bears a lock is referred to by a mapping alone, which is MADV_DONTFORK: its descriptor is closed
// right after mmap. The one descriptor that a join keeps asks for locks (F_OFD_GETLK) and bears none. A forked child
// therefore never keeps a dead parent's lock alive.
//
// # Limits
//
// linux/amd64 (written for its memory order; arm64 is not proven). Regions up to 1 TiB. At most 2^20 joins by one pid.
// A process with write permission on the file can truncate it under the others, which is a SIGBUS for
// them: permissions (0600 by default) are the fence. A user with read permission can take read locks and so
// hold up roles: give read permission to those who may. pids are those of the joiner's PID namespace: names to
// show, never to decide by. Locks are opened anew by /proc/self/fd: /proc must be there, and the user the same as
// when the region was joined.
package shmem
