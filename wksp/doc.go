// Package wksp formats a workspace inside shared memory: named, tagged, aligned allocations that several
// processes see, that survive the death of any of them, and that can be verified and rebuilt.
//
// # Model
//
// A workspace is a table of partitions over one range of data. A partition is used (its tag is not 0), free
// (part of the data that nobody holds) or idle (a row of the table that stands for nothing). An address inside
// a workspace is a gaddr: the byte's offset from the start of the workspace, the same in every process; 0 is
// null. Laddr turns a gaddr into a shmem.Mem of this process, which is a slice of the region's Mem, so that
// its lock bytes are bytes of the region's file.
//
//	0        512                 +64*partMax         +64*partMax  (to 4096)           size
//	+--------+-------------------+-------------------+-----------+--------------------+
//	| header | partition rows    | name rows         |    gap    | data (dataMax)     |
//	+--------+-------------------+-------------------+-----------+--------------------+
//	  constants, then the owner's words          row i names partition i
//
// # The one source of truth
//
// The tag of a row. Range, size and name of a row are written while its tag is 0 and never change while it is
// not; an allocation sets the tag as the last store, a free clears it as the first. So at any instant, between
// any two stores, the rows with a tag are exactly what is allocated, and a named allocation gets and loses its
// name in the same store as its memory. Everything else is derived and can be computed anew from those rows,
// which is what Rebuild does without touching range, size or tag of such a row: free partitions (the gaps between the
// used ones), the list of partitions by address, the stack of idle rows, and four treaps: free by size, free by
// size when aligned to 4096, used by gaddr, names.
//
// A workspace has one mutator at a time, the owner. It holds a kernel lock (OFD) on one byte of the header,
// which frees itself when its holder dies, and keeps the header's dirty word set while it changes something.
// An owner that finds the dirty word set took over from a dead one and rebuilds before it does anything else.
//
// # Who writes what
//
//	header constants, magic   New (magic last), Delete (magic first)
//	everything else           the owner
//	data                      whoever holds the allocation; of this package only Restore
//
// Reading (Lookup, Names, Tag, TagQuery, Laddr, Usage, Owner) takes no lock, works on a read-only join and on
// what a crash left, and never waits: a row is read between two loads of its tag and of its generation, and a
// miss in an index counts only if no mutation was under way, otherwise the rows themselves are searched.
//
// # Cost
//
// Alloc, Free, NewNamed, Lookup, Laddr: logarithmic in the number of partitions, plus the system calls of the
// owner lock for those that change something. Names, TagQuery, TagFree, Usage, Verify, BadRows, Rebuild, Reset: linear.
// Checkpt and Restore: linear in the bytes allocated; Restore reads its file twice.
//
// # Limits
//
// Linux/amd64 (stores are seen in program order; arm64 is unproven). The layout is little-endian. Partitions
// are multiples of 128 bytes, so that no two allocations share a line pair. Memory is handed out as it is,
// neither zeroed nor wiped. Corrupt bytes, whoever wrote them, give errors: walks are bounded and every index
// is checked before its use. A process that writes anywhere in the region can of course destroy what is in it;
// Verify finds that, Rebuild mends all but overlapping or impossible tagged ranges, which it refuses to guess:
// BadRows shows them, RebuildWithout drops those that it is told to.
// An allocation whose owner died after the tag was set and before it learned the gaddr is found by TagQuery.
//
// # Checkpoints
//
// Checkpt writes what is allocated to a file, Restore puts it back at the same gaddrs, in the same workspace or in
// another that has room there. Both go through the mapping, since files of hugetlbfs cannot be written. Others allocate and
// free while a checkpoint is written. The file has a
// format of its own (ckptfile.go) with a checksum for each MiB, holds no more than the bytes that were asked for, and
// is believed only after all of it was verified. A restore that dies leaves an empty workspace, never half of two.
//
// Later, with room left in the layout (header, 256 bytes; each row, 8 and 16 bytes) and in the file's header: reading
// older layouts, and checkpoints that change the geometry.
package wksp
