package shmem

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Unlink takes the region's name away, on every mount that has it. Its memory goes when the last joiner has left.
// Unless force, a region that anybody is joined to, this process included, is refused with ErrJoined and the pids;
// joins that come meanwhile wait and then find nothing. With force the joiners go on with memory that nobody else
// can find.
//
// ErrBadName, ErrNotFound, ErrJoined, ErrPermission; without force also ErrNotRegion.
func Unlink(name string, force bool) error {
	if err := CheckName(name); err != nil {
		return err
	}
	found := false
	mounts := findMounts()
	for _, m := range mounts {
		path := regionPath(m.dir, name)
		if !exists(path) {
			continue
		}
		err := unlinkPath(path, force)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		found = found || err == nil
	}
	if !found {
		return fmt.Errorf("%w: %s on %s", ErrNotFound, name, dirs(mounts))
	}
	return nil
}

// UnlinkIn is Unlink on the directory dir alone, be it one where regions are looked for or not.
func UnlinkIn(dir, name string, force bool) error {
	if err := CheckName(name); err != nil {
		return err
	}
	path := regionPath(dir, name)
	if !exists(path) {
		return fmt.Errorf("%w: %s on %s", ErrNotFound, name, dir)
	}
	return unlinkPath(path, force)
}

func unlinkPath(path string, force bool) error {
	if !force {
		f, st, err := openRegular(path, ReadWrite)
		if err != nil {
			return err
		}
		defer f.Close() // ends the bar
		if ok, err := barJoins(int(f.Fd())); err != nil {
			return pathError("barring joins", path, err)
		} else if !ok {
			return joinedError(path)
		}
		if unlinked(path, st) {
			return fmt.Errorf("%w: %s", ErrNotFound, path)
		}
	}
	return pathError("unlinking", path, unix.Unlink(path))
}

func joinedError(path string) error {
	js, err := joinersOf(path)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrJoined, path)
	}
	who := make([]string, len(js))
	for i, j := range js {
		access := ReadWrite
		if j.ReadOnly {
			access = ReadOnly
		}
		who[i] = fmt.Sprintf("%d (%s)", j.Pid, access)
	}
	return fmt.Errorf("%w: %s by pid %s", ErrJoined, path, strings.Join(who, ", "))
}

// Reap unlinks the regions that nobody is joined to, which is what a crash of all of a region's processes leaves:
// all such, or those of the names given. It returns the names it unlinked. Without names, regions that are joined, or
// belong to others, and files that are no regions are passed over; a region that is meant to stay without joiners must be kept from it by its name.
//
// With names, each that was not unlinked is an error: ErrBadName, ErrNotFound, ErrJoined, ErrPermission, ErrNotRegion.
func Reap(names ...string) (reaped []string, err error) {
	infos, err := List()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, in := range infos {
		if len(names) > 0 && !slices.Contains(names, in.Name) {
			continue
		}
		seen[in.Name] = true
		e := in.Err
		if e == nil {
			e = unlinkPath(in.Path, false)
		}
		switch {
		case e == nil:
			reaped = append(reaped, in.Name)
		case len(names) == 0 && (in.Err != nil || errors.Is(e, ErrJoined) || errors.Is(e, ErrPermission) || errors.Is(e, ErrNotFound)):
		default:
			err = errors.Join(err, e)
		}
	}
	for _, n := range names {
		if e := CheckName(n); e != nil {
			err = errors.Join(err, e)
		} else if !seen[n] {
			err = errors.Join(err, fmt.Errorf("%w: %s on %s", ErrNotFound, n, dirs(findMounts())))
		}
	}
	return reaped, err
}

// Info describes a region by its file.
type Info struct {
	Name, Path string
	Size       uint64      // bytes
	PageSize   uint64      // of the file system; transparent huge pages show only in a join
	Backing    string      // for humans
	Mode       os.FileMode // permission bits
	Uid, Gid   int
	Joiners    []Joiner // nil: not known
	Err        error    // why, or what else is wrong: ErrPermission, ErrNotRegion
}

// List returns the regions of this host, mount by mount and by name. It joins nothing. Mounts that this user may not
// read are left out.
func List() ([]Info, error) {
	var out []Info
	for _, m := range findMounts() {
		infos, err := m.list()
		if errors.Is(err, ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, infos...)
	}
	return out, nil
}

// ListIn is List for one directory, be it one where regions are looked for or not. Errors: ErrPermission, the file system's.
func ListIn(dir string) ([]Info, error) {
	m, ok := examine(dir)
	if !ok {
		return nil, pathError("listing", dir, unix.ENOENT)
	}
	return m.list()
}

func (m mount) list() (out []Info, err error) {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return nil, pathError("listing", m.dir, errors.Unwrap(err))
	}
	for _, e := range entries {
		name, ok := regionName(e.Name())
		if !ok {
			continue
		}
		in := Info{Name: name, Path: regionPath(m.dir, name), PageSize: m.page, Backing: backingString(m.kind, m.page)}
		var st unix.Stat_t
		if unix.Lstat(in.Path, &st) != nil {
			continue // gone meanwhile
		}
		in.Size, in.Mode, in.Uid, in.Gid = uint64(st.Size), os.FileMode(st.Mode&0o777), int(st.Uid), int(st.Gid)
		in.Joiners, in.Err = joinersOf(in.Path)
		if in.Err == nil {
			in.Err = checkWhole(in.Path, m, st)
		}
		out = append(out, in)
	}
	return out, nil
}
