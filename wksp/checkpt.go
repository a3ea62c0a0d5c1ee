package wksp

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Checkpt writes every allocation (gaddr, size, tag, name, bytes) to the file path, for Restore. It reads through the
// mapping, since hugetlbfs files cannot be read and written by system calls alike. The file is written under another name in
// path's directory, synced, and renamed, so that path is the old file or the whole new one whatever happens; a process that
// is killed may leave the other, path's base name with a leading '.' and a trailing '.tmp'. Mode 0600.
//
// The owner lock is held to the end: mutators wait (as long as their Patience), readers go on. The bytes of an
// allocation are whoever's who holds it: one who writes while they are read gets some of both into the file.
//
// Errors: ErrNotCheckpt (path is there and no regular file), ErrReadOnly, ErrBusy, ErrLeft, ErrCorrupt, and the
// file system's, in which case path is untouched.
func (w *Wksp) Checkpt(path string) (CheckptInfo, error) {
	var info CheckptInfo
	if fi, err := os.Lstat(path); err == nil && !fi.Mode().IsRegular() {
		return info, fmt.Errorf("%w: %s is there and is no regular file; it is not replaced", ErrNotCheckpt, path)
	}
	err := w.own(OpCheckpt, func() (err error) {
		info, err = w.checkptFile(path)
		return err
	})
	return info, err
}

// checkptFile is Checkpt for the owner.
func (w *Wksp) checkptFile(path string) (info CheckptInfo, err error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	step(pointFile)
	f, err := os.CreateTemp(dir, "."+base+".*.tmp")
	if err != nil {
		return info, fmt.Errorf("wksp: checkpoint: %w", err)
	}
	defer func() {
		if f != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if info, err = w.checkptTo(f); err != nil {
		return info, err
	}
	step(pointFile)
	if err := f.Sync(); err != nil {
		return info, fmt.Errorf("wksp: checkpoint: %w", err)
	}
	step(pointFile)
	if err := os.Rename(f.Name(), path); err != nil {
		return info, fmt.Errorf("wksp: checkpoint: %w", err)
	}
	f.Close()
	f = nil
	step(pointFile)
	return info, syncDir(dir)
}

// syncDir makes a rename last. A file system that cannot sync directories (EINVAL) has nothing to lose there.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("wksp: checkpoint: %w", err)
	}
	defer d.Close()
	if err := unix.Fsync(int(d.Fd())); err != nil && err != unix.EINVAL {
		return fmt.Errorf("wksp: checkpoint: syncing %s: %w", dir, err)
	}
	return nil
}

// checkptTo writes the checkpoint. Nobody mutates: the caller is the owner.
func (w *Wksp) checkptTo(f io.Writer) (CheckptInfo, error) {
	info := CheckptInfo{
		Name: w.name, PartMax: w.partMax, DataMax: w.dataHi - w.dataLo, Size: w.size, Seed: w.seed,
		Taken: time.Now().Round(0),
	}
	used, err := w.survey()
	if err != nil {
		return info, err
	}
	for _, s := range used {
		info.Allocs++
		info.Bytes += s.hi - s.lo - uint64(w.p(s.row).slack.Load())
	}
	info.FileLen, _ = ckptLen(info.Allocs, info.Bytes)
	name, err := packName(w.name)
	if err != nil {
		return info, err
	}
	head := info.header(name)
	step(pointFile)
	if _, err := f.Write(head); err != nil {
		return info, fmt.Errorf("wksp: checkpoint: %w", err)
	}
	c := &ckptWriter{w: f, buf: make([]byte, 0, ckptBlock+4)}
	if err := w.checkptBody(c, used); err != nil {
		return info, fmt.Errorf("wksp: checkpoint: %w", err)
	}
	step(pointFile)
	if _, err := f.Write(trailer(head, info.FileLen, c.n, c.all)); err != nil {
		return info, fmt.Errorf("wksp: checkpoint: %w", err)
	}
	return info, nil
}

func (w *Wksp) checkptBody(c *ckptWriter, used []span) error {
	for _, s := range used {
		p := w.p(s.row)
		row := binary.LittleEndian.AppendUint64(nil, s.lo)
		row = binary.LittleEndian.AppendUint64(row, s.hi-s.lo-uint64(p.slack.Load()))
		row = binary.LittleEndian.AppendUint64(row, p.tag.Load())
		for _, v := range w.key(byName, s.row) {
			row = binary.LittleEndian.AppendUint64(row, v)
		}
		if _, err := c.Write(row); err != nil {
			return err
		}
	}
	for _, s := range used {
		m, err := w.m.Slice(s.lo, s.hi-s.lo-uint64(w.p(s.row).slack.Load()))
		if err != nil {
			return err
		}
		if _, err := c.Write(m.Bytes()); err != nil {
			return err
		}
	}
	return c.flush()
}
