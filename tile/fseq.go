package tile

import (
	"fmt"
	"structs"
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
)

// Seq is a sequence number. It wraps: compare by Lt, Le and Diff, which hold while two numbers are less than 1<<63
// apart, never by <.
type Seq uint64

// Lt tells whether s comes before t.
func (s Seq) Lt(t Seq) bool { return int64(s-t) < 0 }

// Le tells whether s comes before t or is t.
func (s Seq) Le(t Seq) bool { return int64(s-t) <= 0 }

// Diff is how far s is ahead of t, negative if it is behind.
func (s Seq) Diff(t Seq) int64 { return int64(s - t) }

const (
	// FseqAlign and FseqFootprint are in bytes.
	FseqAlign     = pairSize
	FseqFootprint = pairSize

	// FseqApp is the number of words that a Fseq has for the reader's own use.
	FseqApp = 11

	fseqMagic   = 0x716553465f656c74 // "tle_FSeq"
	fseqVersion = 1
)

// fseqMem is one reader's place in a stream, for the stream's writer to see.
//
//	  0 header
//	 24 seq0  first number that the reader saw   writer: New
//	 32 seq   next number that it wants          writer: reader
//	 40 app   11 words, diagnostics              writer: reader
//	128
type fseqMem struct {
	_ structs.HostLayout
	header
	seq0 uint64
	seq  atomic.Uint64
	app  [FseqApp]atomic.Uint64
}

var fseqLayout = layoutHash[fseqMem]()

// Fseq is a process's join of a flow-control sequence. One process writes it, any reads it.
type Fseq struct {
	m shmem.Mem
	f *fseqMem
}

// FseqNew formats a fseq that stands at seq0 over m. Errors: ErrAlign, ErrSize.
func FseqNew(m shmem.Mem, seq0 Seq) error {
	if err := fit("fseq", m, FseqFootprint); err != nil {
		return err
	}
	f, err := shmem.At[fseqMem](m, 0)
	if err != nil {
		return fmt.Errorf("tile: fseq new: %w", err)
	}
	f.begin(m, fseqVersion, fseqLayout, FseqFootprint)
	f.seq0 = uint64(seq0)
	f.seq.Store(uint64(seq0))
	f.magic.Store(fseqMagic)
	return nil
}

// FseqJoin joins the fseq in m. Errors: ErrAlign, ErrSize, ErrMagic, ErrLayout.
func FseqJoin(m shmem.Mem) (*Fseq, error) {
	if err := fit("fseq", m, FseqFootprint); err != nil {
		return nil, err
	}
	f, err := shmem.At[fseqMem](m, 0)
	if err != nil {
		return nil, fmt.Errorf("tile: fseq join: %w", err)
	}
	size, err := f.check("fseq", fseqMagic, fseqVersion, fseqLayout, m)
	if err != nil {
		return nil, err
	}
	if size != FseqFootprint {
		return nil, fmt.Errorf("%w: fseq says %d bytes, is %d", ErrSize, size, FseqFootprint)
	}
	return &Fseq{m: m, f: f}, nil
}

// Leave ends the join and gives the memory back.
func (f *Fseq) Leave() shmem.Mem {
	m := f.m
	f.m, f.f = shmem.Mem{}, nil
	return m
}

// FseqDelete clears the magic. A fseq has no role of its own: that nobody uses it is for the owner of the object that
// it belongs to to know. Errors: those of FseqJoin.
func FseqDelete(m shmem.Mem) error {
	f, err := FseqJoin(m)
	if err != nil {
		return err
	}
	f.f.magic.Store(0)
	return nil
}

// Seq0 is where the reader began.
func (f *Fseq) Seq0() Seq { return Seq(f.f.seq0) }

// Seq is the number that the reader wants next, as last published.
func (f *Fseq) Seq() Seq { return Seq(f.f.seq.Load()) }

// Update publishes s, 5 ns: in housekeeping rather than per message. Writer: reader.
func (f *Fseq) Update(s Seq) { f.f.seq.Store(uint64(s)) }

// App is word i of the reader's own (0 to FseqApp-1). Writer: reader.
func (f *Fseq) App(i int) *atomic.Uint64 { return &f.f.app[i] }
