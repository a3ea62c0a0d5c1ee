package shmem

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Open joins the region name. Its pages are mapped at once, so that nothing faults later. What lies in it is not
// looked at: the objects' Join does that.
//
// ErrBadName; ErrNotFound; ErrExists if two mounts hold the name; ErrNotRegion for a file that is no whole region;
// ErrPermission; ErrNoMemory when there is no address space or no memory for page tables.
func Open(name string, access Access) (*Region, error) {
	if access > ReadOnly {
		return nil, fmt.Errorf("%w: access %d", ErrBadOption, access)
	}
	for range 200 {
		m, err := find(name)
		if err != nil {
			return nil, err
		}
		r, err := openAt(m, name, access)
		if err == errGone { // unlinked since, perhaps made anew, or just about to be
			time.Sleep(time.Millisecond)
			continue
		}
		return r, err
	}
	return nil, fmt.Errorf("%w: %s (it is being unlinked)", ErrNotFound, name)
}

// errGone: the file lost its name between finding and joining it.
var errGone = fmt.Errorf("%w: gone", ErrNotFound)

// find returns the one mount that holds name.
func find(name string) (mount, error) {
	if err := CheckName(name); err != nil {
		return mount{}, err
	}
	var at []mount
	all := findMounts()
	for _, m := range all {
		if exists(regionPath(m.dir, name)) {
			at = append(at, m)
		}
	}
	switch len(at) {
	case 1:
		return at[0], nil
	case 0:
		return mount{}, fmt.Errorf("%w: %s on %s", ErrNotFound, name, dirs(all))
	}
	return mount{}, fmt.Errorf("%w: %s is found twice, on %s; unlink it, that removes both", ErrExists, name, dirs(at))
}

func dirs(ms []mount) string {
	s := ""
	if len(ms) == 0 {
		if s = "no directory: no tmpfs at " + defaultShm; os.Getenv(EnvDirs) != "" {
			s = "no directory: " + EnvDirs + "=" + os.Getenv(EnvDirs) + " is not there"
		}
	}
	for i, m := range ms {
		if i > 0 {
			s += ", "
		}
		s += m.dir
	}
	return s
}

func openAt(m mount, name string, access Access) (*Region, error) {
	path := regionPath(m.dir, name)
	f, st, err := openRegular(path, access)
	if err != nil {
		return nil, err
	}
	size := uint64(st.Size)
	if err := checkWhole(path, m, st); err != nil {
		f.Close()
		return nil, err
	}
	align := m.page
	if m.kind == kindTmpfs && size >= PageHuge {
		align = PageHuge // else the creator's huge pages would be mapped as small ones
	}
	r := &Region{name: name, path: path, access: access, kind: m.kind, page: m.page}
	if err := r.join(f, size, align, m.page); err != nil {
		if errors.Is(err, errJoinBarred) || unlinked(path, st) {
			return nil, errGone
		}
		return nil, err
	}
	// Joined: from here on nobody unlinks it without force. Was it done before?
	if unlinked(path, st) {
		r.drop()
		return nil, errGone
	}
	if err := r.mp.populate(access); err != nil {
		r.drop()
		return nil, mapError(path, size, err)
	}
	if align == PageHuge && m.kind == kindTmpfs && r.mp.isHuge() {
		r.page = PageHuge
	}
	return r, nil
}

// unlinked reports whether path does not name the file of st any more.
func unlinked(path string, st unix.Stat_t) bool {
	var now unix.Stat_t
	err := unix.Lstat(path, &now)
	return err != nil || now.Ino != st.Ino || now.Dev != st.Dev
}

// openRegular opens path, which must be a regular file and no symbolic link. It looks before it opens, since opening
// a FIFO would hang and a device may act.
func openRegular(path string, access Access) (*os.File, unix.Stat_t, error) {
	var st unix.Stat_t
	p, err := ignoringEINTR(func() (int, error) { return unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, st, pathError("opening", path, err)
	}
	defer unix.Close(p)
	if err := unix.Fstat(p, &st); err != nil {
		return nil, st, pathError("stat", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, st, fmt.Errorf("%w: %s is no regular file (mode %#o)", ErrNotRegion, path, st.Mode)
	}
	flags := unix.O_RDWR
	if access == ReadOnly {
		flags = unix.O_RDONLY
	}
	fd, err := reopen(p, flags)
	if err != nil {
		return nil, st, pathError(fmt.Sprintf("opening %s as uid %d (owner %d, group %d, mode %#o)", access,
			os.Geteuid(), st.Uid, st.Gid, st.Mode&0o777), path, err)
	}
	return os.NewFile(uintptr(fd), path), st, nil
}

// checkWhole returns ErrNotRegion unless the file can be a whole region: it would be a SIGBUS else.
func checkWhole(path string, m mount, st unix.Stat_t) error {
	size := uint64(st.Size)
	switch {
	case st.Size <= 0 || size > MaxSize:
		return fmt.Errorf("%w: %s has %d bytes", ErrNotRegion, path, st.Size)
	case size%m.page != 0:
		return fmt.Errorf("%w: %s has %d bytes, no multiple of its pages of %d", ErrNotRegion, path, st.Size, m.page)
	case m.kind != kindDisk && uint64(st.Blocks)*512 < size:
		return fmt.Errorf("%w: %s has holes: %d of %d bytes are there", ErrNotRegion, path, st.Blocks*512, st.Size)
	}
	return nil
}
