package wksp

import (
	"cmp"
	"slices"
)

// Usage says how full a workspace is. All of it is computed from the tagged rows, so that it is right also on what
// a crash left.
type Usage struct {
	Name        string
	Size        uint64 // bytes, header to end of data
	PartMax     uint64 // rows of the partition table
	Used        uint64 // allocations
	Named       uint64 // of these, with a name
	Free        uint64 // free partitions
	Idle        uint64 // rows left for further splits
	Bad         uint64 // rows with a tag that cannot be believed: see BadRows. Beside a mutator, those that are impossible by themselves
	DataMax     uint64 // bytes of data
	UsedBytes   uint64 // of these, in allocations, rounded up to Granule
	AskedBytes  uint64 // of these, asked for
	FreeBytes   uint64 // DataMax - UsedBytes
	LargestFree uint64 // bytes of the largest free partition
	Rebuilt     uint64 // how often the workspace was rebuilt
	Tags        []TagUsage
}

// TagUsage is the part of one tag, in order of tags.
type TagUsage struct {
	Tag, Count, Bytes uint64 // bytes rounded up to Granule
}

// Usage reports how full the workspace is. Linear in partMax; takes no lock. Errors: ErrLeft.
func (w *Wksp) Usage() (Usage, error) {
	if err := w.live(); err != nil {
		return Usage{}, err
	}
	u := Usage{Name: w.name, Size: w.size, PartMax: w.partMax, DataMax: w.dataHi - w.dataLo, Rebuilt: w.hdr.rebuilt.Load()}
	var rows []row
	tags := map[uint64]*TagUsage{}
	for i := uint32(1); w.valid(i); i++ {
		r, ok := w.read(i)
		if r.bad {
			u.Bad++
		}
		if !ok {
			continue
		}
		rows = append(rows, r)
		t := tags[r.tag]
		if t == nil {
			t = &TagUsage{Tag: r.tag}
			tags[r.tag] = t
		}
		t.Count++
		t.Bytes += r.end() - r.lo
		u.AskedBytes += r.size
		if r.name != (words{}) {
			u.Named++
		}
	}
	for _, t := range tags {
		u.Tags = append(u.Tags, *t)
	}
	slices.SortFunc(u.Tags, func(a, b TagUsage) int { return cmp.Compare(a.Tag, b.Tag) })
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.lo, b.lo) })
	at := w.dataLo
	gap := func(to uint64) {
		if to > at {
			u.Free++
			u.FreeBytes += to - at
			u.LargestFree = max(u.LargestFree, to-at)
		}
	}
	for _, r := range rows {
		gap(r.lo)
		at = max(at, r.end())
	}
	gap(w.dataHi)
	u.Used = uint64(len(rows))
	u.UsedBytes = u.DataMax - u.FreeBytes
	u.Idle = w.partMax - min(w.partMax, u.Used+u.Free+u.Bad)
	var bad []BadRow
	if calm := w.glance(func(dirty uint64) { bad = w.badRows(dirty) }); calm {
		u.Bad = uint64(len(bad))
	}
	return u, nil
}

// end is the first gaddr beyond the row's partition.
func (r row) end() uint64 { return (r.lo + r.size + Granule - 1) &^ (Granule - 1) }
