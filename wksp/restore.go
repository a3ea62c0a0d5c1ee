package wksp

import (
	"fmt"
	"io"
	"os"
)

// ReadCheckpt verifies the whole checkpoint in the file path and says what it holds. Errors: as Restore's about the file.
func ReadCheckpt(path string) (CheckptInfo, error) {
	f, n, err := openRegular(path)
	if err != nil {
		return CheckptInfo{}, err
	}
	defer f.Close()
	info, _, err := verifyCkpt(f, n)
	if err != nil {
		return info, fmt.Errorf("%s: %w", path, err)
	}
	return info, nil
}

// Restore replaces everything allocated by what the checkpoint in the file path holds, each allocation at the gaddr,
// with the size, tag and name it had. The workspace may have other figures than the one the checkpoint was taken of, if only
// each allocation lies within its data and its table has rows for them and the gaps between: a greater dataMax always
// will do, a greater partMax as long as the data does not begin behind the first allocation. The workspace keeps its
// own name and seed. Objects and Mems that joins hold of the time before point to what is there now: see that nobody uses any.
//
// The whole file is verified before the first byte of the workspace is touched; a file that is refused harms nothing.
// Then the workspace is emptied, filled, and its contents appear with the last store: to readers without the lock it is
// as before, empty, or as restored. A process that dies in the middle leaves OpRestore in the dirty word, readers find
// nothing, Verify gives ErrDirty, and the next owner, or Check, makes it an empty workspace; so it does after the error
// (ErrCheckpt) of a file that changed while it was read. What Rebuild refuses is no hindrance.
//
// Errors, nothing harmed: ErrNotCheckpt (a foreign file), ErrCheckpt (truncated or altered; where), ErrVersion,
// ErrLayout (both named), ErrGeometry (does not fit; figures), ErrReadOnly, ErrBusy, ErrLeft, and the file system's.
func (w *Wksp) Restore(path string) (CheckptInfo, error) {
	if w.m.ReadOnly() {
		return CheckptInfo{}, fmt.Errorf("%w: %s", ErrReadOnly, OpRestore)
	}
	f, n, err := openRegular(path)
	if err != nil {
		return CheckptInfo{}, err
	}
	defer f.Close()
	info, err := w.restoreFrom(f, n)
	if err != nil {
		return info, fmt.Errorf("%s: %w", path, err)
	}
	return info, nil
}

// openRegular opens a file that is one: a FIFO would hang, a device may act.
func openRegular(path string) (*os.File, uint64, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, 0, fmt.Errorf("wksp: checkpoint: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%w: %s is no regular file", ErrNotCheckpt, path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("wksp: checkpoint: %w", err)
	}
	if fi, err = f.Stat(); err != nil || !fi.Mode().IsRegular() {
		f.Close()
		return nil, 0, fmt.Errorf("%w: %s is no regular file", ErrNotCheckpt, path)
	}
	return f, uint64(fi.Size()), nil
}

// verifyCkpt reads all of a checkpoint and returns its table.
func verifyCkpt(r io.ReaderAt, fileLen uint64) (CheckptInfo, []ckptRow, error) {
	c, err := openCkpt(r, fileLen)
	if err != nil {
		return CheckptInfo{}, nil, err
	}
	rows, err := c.rows()
	if err != nil {
		return c.info, nil, err
	}
	return c.info, rows, c.drain()
}

// restoreFrom is Restore of the fileLen bytes of r, which must stay the same; it is read twice.
func (w *Wksp) restoreFrom(r io.ReaderAt, fileLen uint64) (CheckptInfo, error) {
	info, rows, err := verifyCkpt(r, fileLen)
	if err != nil {
		return info, err
	}
	if err := w.fits(info, rows); err != nil {
		return info, err
	}
	return info, w.own(OpRestore, func() error { return w.restore(r, fileLen, rows) })
}

// fits gives ErrGeometry unless every row lies in this workspace's data and there are rows enough.
func (w *Wksp) fits(info CheckptInfo, rows []ckptRow) error {
	at, need := w.dataLo, uint64(0)
	for _, r := range rows {
		if !w.rangeOK(r.lo, r.hi()) {
			return fmt.Errorf("%w: it has %d bytes at gaddr %#x, this workspace has data [%#x,%#x); one of partMax %d and dataMax %d, as it was taken of, has room",
				ErrGeometry, r.size, r.lo, w.dataLo, w.dataHi, info.PartMax, info.DataMax)
		}
		if r.lo > at {
			need++
		}
		need, at = need+1, r.hi()
	}
	if at < w.dataHi {
		need++
	}
	if need > w.partMax {
		return fmt.Errorf("%w: its %d allocations need %d rows, this workspace has partMax %d; it was taken of one with %d",
			ErrGeometry, len(rows), need, w.partMax, info.PartMax)
	}
	return nil
}

// restore fills the workspace; rows have been found right and fitting. Until end, the dirty word says OpRestore, and
// whoever finds it so empties the workspace.
func (w *Wksp) restore(r io.ReaderAt, fileLen uint64, rows []ckptRow) error {
	w.begin(OpRestore, 0)
	w.clearTags()
	if err := w.restoreBytes(r, fileLen, rows); err != nil {
		if e := w.rebuild(); e != nil {
			return e
		}
		return err
	}
	for k, row := range rows {
		i := uint32(k + 1)
		w.setRange(i, row.lo, row.hi())
		put32(&w.p(i).slack, row.slack(), pointRange)
		put32(&w.p(i).gen, w.p(i).gen.Load()+1, pointRange)
		putName(&w.names[k].name, row.name, pointName)
	}
	for k, row := range rows {
		put64(&w.parts[k].tag, row.tag, pointTag)
	}
	used, err := w.survey()
	if err != nil {
		return err
	}
	if err := w.reindex(used); err != nil {
		return err
	}
	w.end()
	return nil
}

// restoreBytes copies the bytes of all rows to their places. The second reading is verified like the first.
func (w *Wksp) restoreBytes(r io.ReaderAt, fileLen uint64, rows []ckptRow) error {
	c, err := openCkpt(r, fileLen)
	if err != nil {
		return err
	}
	again, err := c.rows()
	if err != nil {
		return err
	}
	if len(again) != len(rows) {
		return fmt.Errorf("%w: it changed while it was read", ErrCheckpt)
	}
	for i, row := range rows {
		if again[i] != row {
			return fmt.Errorf("%w: it changed while it was read", ErrCheckpt)
		}
		m, err := w.m.Slice(row.lo, row.size)
		if err != nil {
			return err
		}
		for dst := m.Bytes(); len(dst) > 0; {
			p, err := c.some(uint64(len(dst)))
			if err != nil {
				return midBody(err)
			}
			step(pointData)
			dst = dst[copy(dst, p):]
		}
	}
	return c.drain()
}
