package instance

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// ErrUser: tiles cannot be run as this user: there is none of the name, or the supervisor is not root.
var ErrUser = errors.New("user of the tiles")

// User is whose processes the tiles are. The zero User stands for the supervisor's own.
type User struct {
	Name, Home string
	Uid, Gid   uint32
	Groups     []uint32 // supplementary
}

// Set tells whether u is not zero.
func (u User) Set() bool { return u.Name != "" }

// LookupUser finds a user by name or number; the zero User for "", and for root's own name when root asks. ErrUser: there
// is none, or this process, not being root, could not become another.
func LookupUser(name string) (User, error) {
	if name == "" {
		return User{}, nil
	}
	found, err := user.Lookup(name)
	if err != nil {
		if byID, e := user.LookupId(name); e == nil {
			found, err = byID, nil
		}
	}
	if err != nil {
		return User{}, fmt.Errorf("%w: there is no user %q on this host; mend: useradd --system %s, or leave the user out", ErrUser, name, name)
	}
	u := User{Name: found.Username, Home: found.HomeDir}
	if u.Uid, err = number(found.Uid); err == nil {
		u.Gid, err = number(found.Gid)
	}
	if err != nil {
		return User{}, fmt.Errorf("%w: %s: %w", ErrUser, name, err)
	}
	switch euid := os.Geteuid(); {
	case int(u.Uid) == euid:
		return User{}, nil // it is that user already
	case euid != 0:
		return User{}, fmt.Errorf("%w: only root can run tiles as %q, and this is user %d; start it as %s, or leave the user out", ErrUser, name, euid, name)
	}
	ids, err := found.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf("%w: groups of %s: %w", ErrUser, name, err)
	}
	for _, id := range ids {
		if g, err := number(id); err == nil {
			u.Groups = append(u.Groups, g)
		}
	}
	return u, nil
}

func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}

// Give makes the instance's region and its run directory u's, so that tiles of that user can join and make their
// doorbells. The supervisor of a root that gave them goes on as root: what it then reads from the region is another
// user's word. Errors: those of the system; ErrUser if a directory on the way is closed to u.
func (in *Instance) Give(u User) error {
	if !u.Set() {
		return nil
	}
	base := filepath.Dir(in.Info.RunDir)
	if fi, err := os.Lstat(base); err == nil && owner(fi) == os.Geteuid() && fi.Mode().Perm()&0o011 != 0o011 {
		if err := os.Chmod(base, fi.Mode().Perm()|0o011); err != nil {
			return fmt.Errorf("%w: %w", ErrUser, err)
		}
	}
	for _, path := range []string{in.Info.RunDir, in.Region.Path()} {
		if err := os.Lchown(path, int(u.Uid), int(u.Gid)); err != nil {
			return fmt.Errorf("%w: %w", ErrUser, err)
		}
	}
	for _, path := range []string{in.Info.RunDir, in.Region.Path()} {
		if dir := u.closed(filepath.Dir(path)); dir != "" {
			return fmt.Errorf("%w: %s may not search %s, where %s lies; mend: chmod o+x %s, or another place (a hugetlbfs mount: "+
				"remount it with uid=%d, or --backing shm; the run directory: TILEWIRE_RUN_DIR)", ErrUser, u.Name, dir, path, dir, u.Uid)
		}
	}
	return nil
}

// closed returns the first directory on the way to dir, itself included, that u may not search; "" if there is none. By
// mode bits only: access lists may say otherwise, and then the tile does.
func (u User) closed(dir string) string {
	if parent := filepath.Dir(dir); parent != dir {
		if c := u.closed(parent); c != "" {
			return c
		}
	}
	fi, err := os.Stat(dir)
	if err != nil || u.may(fi, 0o1) {
		return ""
	}
	return dir
}

// may tells whether the mode bits give u the access (1: search or execute).
func (u User) may(fi os.FileInfo, bit os.FileMode) bool {
	uid, gid := owner(fi), group(fi)
	switch {
	case uid == int(u.Uid):
		bit <<= 6
	case gid == int(u.Gid) || hasGroup(u.Groups, gid):
		bit <<= 3
	}
	return fi.Mode().Perm()&bit == bit
}

func hasGroup(groups []uint32, gid int) bool {
	for _, g := range groups {
		if int(g) == gid {
			return true
		}
	}
	return false
}
