//go:build !race

package shmem

// SpecCopy copies len(src) bytes, at most len(dst), that another process may be overwriting at this moment:
// a speculative read. What it copied means nothing until the caller has checked afterwards that nobody wrote
// (a sequence number, a limit). It is the one place where such a race is meant; the race detector's build has
// a form of its own that it does not see.
func SpecCopy(dst, src []byte) { copy(dst, src) }
