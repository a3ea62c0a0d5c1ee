package wksp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Checkpt writes every allocation (gaddr, size, tag, name, bytes) to the file path, for Restore. It reads through the
// mapping, since hugetlbfs files cannot be read and written by system calls alike. The file gets its name when it is whole and
// synced, so that path is the old file or the new one whatever happens (ckpttemp.go). Mode 0600.
//
// What is written is what was allocated at one moment. The owner lock is held only for that moment: others allocate and
// free while the bytes are copied. If one of the allocations is freed before its bytes are in the file, it begins
// anew; when that has happened ckptTries-1 times, it holds the lock to the end. The bytes of an allocation are
// whoever's who holds it: one who writes while they are read gets some of both into the file.
//
// Errors: ErrNotCheckpt (path is there and no regular file), ErrReadOnly, ErrBusy, ErrLeft, ErrCorrupt, and the
// file system's, in which case path is untouched.
func (w *Wksp) Checkpt(path string) (info CheckptInfo, err error) {
	if fi, err := os.Lstat(path); err == nil && !fi.Mode().IsRegular() {
		return info, fmt.Errorf("%w: %s is there and is no regular file; it is not replaced", ErrNotCheckpt, path)
	}
	if w.m.ReadOnly() { // before a file is made
		return info, fmt.Errorf("%w: %s", ErrReadOnly, OpCheckpt)
	}
	f, err := newCkptTemp(path)
	if err != nil {
		return info, fmt.Errorf("wksp: checkpoint: %w", err)
	}
	defer f.drop()
	if info, err = w.checkptTo(f, f.rewind); err != nil {
		return info, err
	}
	if err := f.publish(); err != nil {
		return info, fmt.Errorf("wksp: checkpoint: %w", err)
	}
	return info, nil
}

// ckptTries is how often the bytes are copied, the last time under the owner lock.
const ckptTries = 4

// ckptSource is an allocation as the table of a checkpoint has it, and the row and generation it was found with.
type ckptSource struct {
	ckptRow
	i, gen uint32
}

// checkptTo writes the checkpoint to f; again empties f for another try.
func (w *Wksp) checkptTo(f io.Writer, again func() error) (info CheckptInfo, err error) {
	var table []ckptSource
	take := func() (err error) {
		info, table, err = w.ckptTable()
		return err
	}
	write := func() error { return w.ckptWrite(f, info, table) }
	for range ckptTries - 1 {
		if err = w.own(OpCheckpt, take); err == nil {
			err = write()
		}
		if !errors.Is(err, errGone) {
			return info, err
		}
		if err = again(); err != nil {
			return info, fmt.Errorf("wksp: checkpoint: %w", err)
		}
	}
	err = w.own(OpCheckpt, func() error {
		if err := take(); err != nil {
			return err
		}
		return write()
	})
	return info, err
}

// ckptTable returns what is allocated. Nobody mutates: the caller is the owner.
func (w *Wksp) ckptTable() (CheckptInfo, []ckptSource, error) {
	info := CheckptInfo{
		Name: w.name, PartMax: w.partMax, DataMax: w.dataHi - w.dataLo, Size: w.size, Seed: w.seed,
		Taken: time.Now().Round(0),
	}
	used, err := w.survey()
	if err != nil {
		return info, nil, err
	}
	var table []ckptSource
	for _, s := range used {
		p := w.p(s.row)
		size := s.hi - s.lo - uint64(p.slack.Load())
		table = append(table, ckptSource{ckptRow{s.lo, size, p.tag.Load(), w.key(byName, s.row)}, s.row, p.gen.Load()})
		info.Allocs++
		info.Bytes += size
	}
	info.FileLen, _ = ckptLen(info.Allocs, info.Bytes)
	return info, table, nil
}

// ckptWrite writes header, table, bytes and trailer. errGone if an allocation was freed before its bytes were copied.
func (w *Wksp) ckptWrite(f io.Writer, info CheckptInfo, table []ckptSource) error {
	name, err := packName(w.name)
	if err != nil {
		return err
	}
	head := info.header(name)
	c := &ckptWriter{w: f, buf: make([]byte, 0, ckptBlock+4)}
	step(pointFile)
	if _, err = f.Write(head); err == nil {
		err = w.ckptBody(c, table)
	}
	if errors.Is(err, errGone) || errors.Is(err, ErrLeft) {
		return err
	}
	if err == nil {
		step(pointFile)
		_, err = f.Write(trailer(head, info.FileLen, c.n, c.all))
	}
	if err != nil {
		return fmt.Errorf("wksp: checkpoint: %w", err)
	}
	return nil
}

func (w *Wksp) ckptBody(c *ckptWriter, table []ckptSource) error {
	for _, s := range table {
		row := binary.LittleEndian.AppendUint64(nil, s.lo)
		row = binary.LittleEndian.AppendUint64(row, s.size)
		row = binary.LittleEndian.AppendUint64(row, s.tag)
		for _, v := range s.name {
			row = binary.LittleEndian.AppendUint64(row, v)
		}
		if _, err := c.Write(row); err != nil {
			return err
		}
	}
	for _, s := range table {
		m, err := w.m.Slice(s.lo, s.size)
		if err != nil {
			return err
		}
		if _, err := c.Write(m.Bytes()); err != nil {
			return err
		}
		// The generation goes up before a tag is set: the same two after the bytes were read mean that they are this allocation's.
		if p := w.p(s.i); p.tag.Load() != s.tag || p.gen.Load() != s.gen {
			if err := w.live(); err != nil {
				return err
			}
			return errGone
		}
	}
	if err := c.flush(); err != nil {
		return err
	}
	return w.live() // formatted anew, it may have had the same tags and generations
}
