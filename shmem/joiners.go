package shmem

import (
	"cmp"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Joiner is one join of a region.
type Joiner struct {
	Pid      int  // in the PID namespace of the joiner
	ReadOnly bool // mapped for reading only
}

// Joiners returns who is joined to the region name at this moment, by pid; a process that joined twice is there twice.
// The kernel knows it from the joins' locks: a killed process is gone from the list at once, be it a zombie. Read
// permission suffices. Nil only beside an error.
//
// ErrBadName, ErrNotFound, ErrExists, ErrNotRegion, ErrPermission.
func Joiners(name string) ([]Joiner, error) {
	m, err := find(name)
	if err != nil {
		return nil, err
	}
	path := regionPath(m.dir, name)
	f, st, err := openRegular(path, ReadOnly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkWhole(path, m, st); err != nil {
		return nil, err
	}
	return joinersOfFile(f, path)
}

// joinersOf returns who is joined to the file, be it a whole region or not.
func joinersOf(path string) ([]Joiner, error) {
	f, _, err := openRegular(path, ReadOnly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return joinersOfFile(f, path)
}

func joinersOfFile(f *os.File, path string) ([]Joiner, error) {
	js, e := listJoins(int(f.Fd()))
	if e != 0 {
		return nil, pathError("asking for its locks", path, e)
	}
	return js, nil
}

// listJoins walks the join offsets. F_OFD_GETLK tells one lock of a range; left and right of it are ranges again.
func listJoins(fd int) (out []Joiner, e unix.Errno) {
	type span struct{ lo, hi int64 }
	out = []Joiner{} // nobody, which is not nil: not known
	for todo := []span{{joinBase, joinBase + 1<<joinBits}}; len(todo) > 0; {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		lk, found, e := conflict(fd, s.lo, s.hi-s.lo)
		if e != 0 {
			return nil, e
		}
		if !found {
			continue
		}
		lo, hi := max(lk.Start, s.lo), s.hi
		if lk.Len > 0 {
			hi = min(lk.Start+lk.Len, s.hi)
		}
		if hi-lo == 1 { // a longer one is an unlinker's bar
			out = append(out, Joiner{Pid: int((lo - joinBase) >> 20), ReadOnly: lk.Type == unix.F_RDLCK})
		}
		if s.lo < lo {
			todo = append(todo, span{s.lo, lo})
		}
		if hi < s.hi {
			todo = append(todo, span{hi, s.hi})
		}
	}
	slices.SortFunc(out, func(a, b Joiner) int { return cmp.Compare(a.Pid, b.Pid) })
	return out, 0
}
