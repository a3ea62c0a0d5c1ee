package ctl

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tilewire/tilewire/wksp"
)

// badRowJSON is a row of the partition table that cannot be believed, as --json shows it. Its figures are what it says.
type badRowJSON struct {
	Row        uint32 `json:"row"`
	Lo         uint64 `json:"lo"`
	Hi         uint64 `json:"hi"`
	Tag        uint64 `json:"tag"`
	Name       string `json:"name"`
	Impossible bool   `json:"impossible"` // by itself; else it is in the way of another that may be the wrong one
	Why        string `json:"why"`
}

func badRowsJSON(bad []wksp.BadRow) []badRowJSON {
	out := []badRowJSON{}
	for _, b := range bad {
		out = append(out, badRowJSON{b.Row, b.Lo, b.Hi, b.Tag, b.Name, b.Impossible, b.Why})
	}
	return out
}

// badRows returns w's bad rows; none if somebody mutates without a pause, since a verb that reads does not wait for that.
func badRows(w *wksp.Wksp) ([]wksp.BadRow, error) {
	w.Patience = 100 * time.Millisecond
	bad, err := w.BadRows()
	if errors.Is(err, wksp.ErrBusy) {
		return nil, nil
	}
	return bad, err
}

// badRowsText writes a table of them below a line that says what they are; nothing if there are none.
func badRowsText(w io.Writer, what string, bad []badRowJSON) {
	if len(bad) == 0 {
		return
	}
	fmt.Fprintln(w, what)
	t := newTable(">ROW", ">LO", ">HI", ">TAG", "NAME", "WHY")
	for _, b := range bad {
		t.add(b.Row, hexText(b.Lo), hexText(b.Hi), hexText(b.Tag), b.Name, b.Why)
	}
	t.write(w)
}

// rebuild computes the indices anew, without the rows named and, with dropBad, those that are impossible.
func rebuild(w *wksp.Wksp, dropBad bool, rows []uint) (r wksp.Report, dropped []wksp.BadRow, err error) {
	var drop []uint32
	for _, n := range rows {
		if uint64(n) > wksp.MaxParts {
			return r, nil, usagef("--drop-row %d: rows are 1 to %d", n, uint64(wksp.MaxParts))
		}
		drop = append(drop, uint32(n))
	}
	if r, err = w.Check(); r.Rebuilt && err == nil && drop == nil {
		return r, nil, nil
	}
	if dropBad {
		bad, err := w.BadRows()
		if err != nil {
			return r, nil, err
		}
		for _, b := range bad {
			if b.Impossible && !slices.Contains(drop, b.Row) {
				drop = append(drop, b.Row)
			}
		}
	}
	if dropped, err = w.RebuildWithout(drop...); err == nil {
		err = w.Verify()
	}
	return r, dropped, err
}
