package ctl

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// hostState remembers what init changed and how it was before, so that fini undoes exactly that. It is written before
// a change is made: a crash between the two leaves a note of a change that was not made, which fini can tell.
//
// scripts/hugepages.sh keeps the same file, so that either undoes what the other did. Hence lines, paths last:
//
//	version 1
//	pool BEFORE AFTER FILE
//	mount LEVELS DIR
//	owner GID_BEFORE GID_AFTER MODE_BEFORE MODE_AFTER DIR
//
// Lines that begin with # are for people. Changes of one kind stand in the order in which they were made, and are undone in the opposite one:
// owners, mounts, pools. Both hold a lock (flock(2)) on the directory while they change something.
type hostState struct {
	Pools  []poolState
	Mounts []mountState
	Owners []ownerState

	path string
	lock *os.File
}

// poolState: the pool of File was raised from Before to After pages.
type poolState struct {
	File          string
	Before, After uint64
}

// mountState: hugetlbfs was mounted on Dir, of which the last Levels directories were made for it.
type mountState struct {
	Dir    string
	Levels int
}

// ownerState: the group and the mode of a mount that was there were changed.
type ownerState struct {
	Dir                   string
	GidBefore, GidAfter   uint32
	ModeBefore, ModeAfter uint32
}

const stateHead = "# What `tilewire configure init` or scripts/hugepages.sh changed on this host; `tilewire configure fini` or\n" +
	"# `hugepages.sh release` undoes it.\nversion 1\n"

// stateDir is where the state is kept.
func stateDir() string {
	if dir := os.Getenv("TILEWIRE_RUN_DIR"); dir != "" {
		return dir
	}
	return "/run/tilewire"
}

// loadState reads the state; an empty one if there is none, and beside ErrPermission. With hold, others that ask so wait until close; this needs
// the right to write there.
func loadState(hold bool) (*hostState, error) {
	s := &hostState{path: filepath.Join(stateDir(), "configure.state")}
	if hold {
		if err := os.MkdirAll(stateDir(), 0o755); err != nil {
			return nil, fmt.Errorf("remembering what is changed: %w (TILEWIRE_RUN_DIR chooses another directory)", err)
		}
		f, err := os.Open(stateDir())
		if err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			return nil, fmt.Errorf("locking %s: %w", stateDir(), err)
		}
		s.lock = f
	}
	b, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return s, fmt.Errorf("%w: what init did is for root to read: %w", ErrNotConfigured, err)
	}
	var fi unix.Stat_t
	if err == nil && os.Geteuid() == 0 && unix.Stat(s.path, &fi) == nil && fi.Uid != 0 { // root writes where it says
		err = fmt.Errorf("it belongs to uid %d, not to root", fi.Uid)
	}
	if err == nil {
		err = s.parse(string(b))
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("what init did cannot be read from %s: %w; mend: undo it by hand, then remove the file", s.path, err)
	}
	return s, nil
}

func (s *hostState) parse(text string) error {
	known := false
	for line := range strings.Lines(text) {
		if line = strings.TrimSuffix(line, "\n"); line == "" || line[0] == '#' {
			continue
		}
		var version int
		var p poolState
		var m mountState
		var o ownerState
		at := -1 // where the path begins
		if n, _ := fmt.Sscanf(line, "version %d", &version); n == 1 {
			if version != 1 {
				return fmt.Errorf("version %d, this program knows 1", version)
			}
			known = true
			continue
		} else if n, _ := fmt.Sscanf(line, "pool %d %d", &p.Before, &p.After); n == 2 {
			at = 3
		} else if n, _ := fmt.Sscanf(line, "mount %d", &m.Levels); n == 1 && m.Levels >= 0 {
			at = 2
		} else if n, _ := fmt.Sscanf(line, "owner %d %d %o %o", &o.GidBefore, &o.GidAfter, &o.ModeBefore, &o.ModeAfter); n == 4 {
			at = 5
		}
		f := strings.SplitN(line, " ", max(at, 0)+1)
		if !known || at < 0 || len(f) != at+1 || !filepath.IsAbs(f[at]) {
			return fmt.Errorf("line %q", line)
		}
		switch path := f[at]; f[0] {
		case "pool":
			p.File = path
			s.Pools = append(s.Pools, p)
		case "mount":
			m.Dir = path
			s.Mounts = append(s.Mounts, m)
		case "owner":
			o.Dir = path
			s.Owners = append(s.Owners, o)
		}
	}
	if !known {
		return errors.New("no line 'version 1'")
	}
	return nil
}

func (s *hostState) empty() bool { return len(s.Pools)+len(s.Mounts)+len(s.Owners) == 0 }

func (s *hostState) text() []byte {
	b := bytes.NewBufferString(stateHead)
	for _, p := range s.Pools {
		fmt.Fprintf(b, "pool %d %d %s\n", p.Before, p.After, p.File)
	}
	for _, m := range s.Mounts {
		fmt.Fprintf(b, "mount %d %s\n", m.Levels, m.Dir)
	}
	for _, o := range s.Owners {
		fmt.Fprintf(b, "owner %d %d %04o %04o %s\n", o.GidBefore, o.GidAfter, o.ModeBefore, o.ModeAfter, o.Dir)
	}
	return b.Bytes()
}

func (s *hostState) close() {
	if s.lock != nil {
		s.lock.Close()
	}
}

// save writes the state, or removes it when there is nothing left to undo.
func (s *hostState) save() error {
	if s.empty() {
		if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	tmp := s.path + ".new"
	if err := os.WriteFile(tmp, s.text(), 0o644); err != nil {
		return fmt.Errorf("remembering what is changed: %w", err)
	}
	return os.Rename(tmp, s.path)
}

// raised notes that the pool of file goes from before to after. What was before the first time counts.
func (s *hostState) raised(file string, before, after uint64) error {
	for i := range s.Pools {
		if p := &s.Pools[i]; p.File == file {
			if p.After += after - before; p.After == p.Before { // nothing to undo
				drop(&s.Pools, *p)
			}
			return s.save()
		}
	}
	s.Pools = append(s.Pools, poolState{file, before, after})
	return s.save()
}

// mounted notes a mount, replacing a note of one that is not there any more.
func (s *hostState) mounted(dir string, levels int) error {
	for i := range s.Mounts {
		if m := &s.Mounts[i]; m.Dir == dir {
			m.Levels = max(m.Levels, levels)
			return s.save()
		}
	}
	s.Mounts = append(s.Mounts, mountState{dir, levels})
	return s.save()
}

// owned notes a change of group and mode.
func (s *hostState) owned(o ownerState) error {
	for i := range s.Owners {
		if p := &s.Owners[i]; p.Dir == o.Dir {
			p.GidAfter, p.ModeAfter = o.GidAfter, o.ModeAfter
			return s.save()
		}
	}
	s.Owners = append(s.Owners, o)
	return s.save()
}

// drop takes x out of list, one of the state's.
func drop[T comparable](list *[]T, x T) {
	*list = slices.DeleteFunc(*list, func(y T) bool { return x == y })
}
