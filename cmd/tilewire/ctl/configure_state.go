package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// hostState remembers what init changed and how it was before, so that fini undoes exactly that. It is written before
// a change is made: a crash between the two leaves a note of a change that was not made, which fini can tell.
type hostState struct {
	Version int          `json:"version"`
	Pools   []poolState  `json:"pools"`
	Mounts  []mountState `json:"mounts"`
	Owners  []ownerState `json:"owners"`

	path string
	lock *os.File
}

// poolState: the pool of File was raised from Before to After pages.
type poolState struct {
	File   string `json:"file"`
	Before uint64 `json:"before"`
	After  uint64 `json:"after"`
}

// mountState: hugetlbfs was mounted on Dir, which was made for it if MadeDir.
type mountState struct {
	Dir     string `json:"dir"`
	MadeDir bool   `json:"made_dir"`
}

// ownerState: the group and the mode of a mount that was there were changed.
type ownerState struct {
	Dir        string `json:"dir"`
	GidBefore  uint32 `json:"gid_before"`
	GidAfter   uint32 `json:"gid_after"`
	ModeBefore uint32 `json:"mode_before"`
	ModeAfter  uint32 `json:"mode_after"`
}

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
	s := &hostState{Version: 1, path: filepath.Join(stateDir(), "configure.json")}
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
	if err == nil {
		err = json.Unmarshal(b, s)
	}
	if err == nil && s.Version != 1 {
		err = fmt.Errorf("version %d, this program knows 1", s.Version)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("what init did cannot be read from %s: %w; mend: undo it by hand, then remove the file", s.path, err)
	}
	return s, nil
}

func (s *hostState) close() {
	if s.lock != nil {
		s.lock.Close()
	}
}

// save writes the state, or removes it when there is nothing left to undo.
func (s *hostState) save() error {
	if len(s.Pools)+len(s.Mounts)+len(s.Owners) == 0 {
		if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	tmp := s.path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("remembering what is changed: %w", err)
	}
	return os.Rename(tmp, s.path)
}

// raised notes that the pool of file goes from before to after. What was before the first time counts.
func (s *hostState) raised(file string, before, after uint64) error {
	for i := range s.Pools {
		if p := &s.Pools[i]; p.File == file {
			p.After += after - before
			return s.save()
		}
	}
	s.Pools = append(s.Pools, poolState{file, before, after})
	return s.save()
}

// mounted notes a mount.
func (s *hostState) mounted(dir string, madeDir bool) error {
	s.Mounts = append(s.Mounts, mountState{dir, madeDir})
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
