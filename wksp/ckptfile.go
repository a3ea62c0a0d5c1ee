package wksp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"
)

// This file is the format of a checkpoint. All words are little-endian, all checksums CRC-32C (RFC 3720, B.4).
//
//	0         512               512 + blocks                              length-64   length
//	+---------+-----------------+---- - - - - - - - - - - - - - - - - ----+-----------+
//	| header  | block 0  | crc  | block 1  | crc | ...  block n-1  | crc  | trailer   |
//	+---------+-----------------+---- - - - - - - - - - - - - - - - - ----+-----------+
//	           the blocks, put together, are the body:
//	           allocs × 64 bytes: gaddr, size, tag, name (40), by gaddr
//	           then the bytes of each allocation, in the same order, as many as were asked for
//
// A block has ckptBlock bytes, the last one what remains. Its checksum covers its number too, so that blocks cannot
// change places. The trailer has a checksum of all the others, so that blocks of two files cannot be mixed. The length
// follows from the header, and a file must have exactly that.
const (
	ckptMagic     uint64 = 0x7f02_74706b63_5754 // "TWckpt" and two bytes that no text has
	ckptTail      uint64 = 0x7f03_646e65_2e5754 // "TW.end" likewise
	ckptVersion   uint32 = 1
	ckptHdrSz            = 512
	ckptRowSz            = 64
	ckptBlock            = 1 << 20
	ckptTrailerSz        = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CheckptInfo says what a checkpoint holds.
type CheckptInfo struct {
	Name    string    // of the workspace it was taken of
	PartMax uint64    // of that workspace
	DataMax uint64    // of that workspace, bytes
	Size    uint64    // of that workspace: Footprint(PartMax, DataMax)
	Seed    uint64    // of that workspace
	Taken   time.Time // when
	Allocs  uint64    // allocations in it
	Bytes   uint64    // of these, asked for
	FileLen uint64    // bytes of the file
}

// ckptRow is an allocation as a checkpoint has it.
type ckptRow struct {
	lo, size, tag uint64
	name          words
}

func (r ckptRow) hi() uint64    { return (r.lo + r.size + Granule - 1) &^ (Granule - 1) }
func (r ckptRow) slack() uint32 { return uint32(r.hi() - r.lo - r.size) }

// ckptLen returns the length of a file with allocs rows and n bytes of allocations; false if that is beyond all bounds.
func ckptLen(allocs, n uint64) (uint64, bool) {
	if allocs > MaxParts || n > MaxData {
		return 0, false
	}
	body := allocs*ckptRowSz + n
	return ckptHdrSz + body + 4*((body+ckptBlock-1)/ckptBlock) + ckptTrailerSz, true
}

func (c *CheckptInfo) header(name words) []byte {
	b := make([]byte, ckptHdrSz)
	le := binary.LittleEndian
	le.PutUint64(b[0:], ckptMagic)
	le.PutUint32(b[8:], ckptVersion)
	le.PutUint32(b[12:], ckptHdrSz)
	le.PutUint32(b[16:], Version)
	le.PutUint32(b[20:], ckptBlock)
	le.PutUint64(b[24:], LayoutHash)
	le.PutUint64(b[32:], c.PartMax)
	le.PutUint64(b[40:], c.DataMax)
	le.PutUint64(b[48:], c.Size)
	le.PutUint64(b[56:], c.Seed)
	le.PutUint64(b[64:], uint64(c.Taken.UnixNano()))
	le.PutUint64(b[72:], c.Allocs)
	le.PutUint64(b[80:], c.Bytes)
	le.PutUint64(b[88:], c.FileLen)
	for i, v := range name {
		le.PutUint64(b[96+8*i:], v)
	}
	le.PutUint32(b[ckptHdrSz-4:], crc32.Checksum(b[:ckptHdrSz-4], castagnoli))
	return b
}

// parseCkpt reads a header. Foreign files are told from altered ones, and other versions named, before anything else is believed.
func parseCkpt(b []byte, fileLen uint64) (c CheckptInfo, err error) {
	le := binary.LittleEndian
	if len(b) < 8 || le.Uint64(b) != ckptMagic {
		return c, fmt.Errorf("%w: it does not begin as one", ErrNotCheckpt)
	}
	if len(b) < ckptHdrSz {
		return c, fmt.Errorf("%w: it ends within the header, after %d of %d bytes", ErrCheckpt, fileLen, ckptHdrSz)
	}
	if got, want := le.Uint32(b[ckptHdrSz-4:]), crc32.Checksum(b[:ckptHdrSz-4], castagnoli); got != want {
		return c, fmt.Errorf("%w: header: checksum %#08x, its bytes give %#08x", ErrCheckpt, got, want)
	}
	if v := le.Uint32(b[8:]); v != ckptVersion {
		return c, fmt.Errorf("%w: the checkpoint has file format %d, this program has %d", ErrVersion, v, ckptVersion)
	}
	if v := le.Uint32(b[16:]); v != Version {
		return c, fmt.Errorf("%w: the checkpoint has version %d, this program has %d", ErrVersion, v, Version)
	}
	if v := le.Uint64(b[24:]); v != LayoutHash {
		return c, fmt.Errorf("%w: the checkpoint has %#x, this program has %#x (both version %d)", ErrLayout, v, LayoutHash, Version)
	}
	c = CheckptInfo{
		PartMax: le.Uint64(b[32:]), DataMax: le.Uint64(b[40:]), Size: le.Uint64(b[48:]), Seed: le.Uint64(b[56:]),
		Taken: time.Unix(0, int64(le.Uint64(b[64:]))), Allocs: le.Uint64(b[72:]), Bytes: le.Uint64(b[80:]), FileLen: le.Uint64(b[88:]),
	}
	var name words
	for i := range name {
		name[i] = le.Uint64(b[96+8*i:])
	}
	text, ok := name.unpack()
	c.Name = text
	size, err := Footprint(c.PartMax, c.DataMax)
	n, sane := ckptLen(c.Allocs, c.Bytes)
	if !ok || err != nil || size != c.Size || c.DataMax%Granule != 0 || !sane || n != c.FileLen || c.Allocs > c.PartMax || c.Bytes > c.DataMax ||
		le.Uint32(b[12:]) != ckptHdrSz || le.Uint32(b[20:]) != ckptBlock {
		return c, fmt.Errorf("%w: header: its figures contradict each other", ErrCheckpt)
	}
	if fileLen != c.FileLen {
		return c, fmt.Errorf("%w: it has %d bytes of %d", ErrCheckpt, fileLen, c.FileLen)
	}
	return c, nil
}

// ckptWriter writes the body in blocks.
type ckptWriter struct {
	w   io.Writer
	buf []byte // block under way, room for its checksum behind it
	n   uint64 // blocks written
	all uint32 // checksum of the checksums
}

func blockSum(n uint64, block []byte) uint32 {
	var num [8]byte
	binary.LittleEndian.PutUint64(num[:], n)
	return crc32.Update(crc32.Checksum(num[:], castagnoli), castagnoli, block)
}

func (c *ckptWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		k := min(ckptBlock-len(c.buf), len(rest))
		c.buf = append(c.buf, rest[:k]...)
		rest = rest[k:]
		if len(c.buf) == ckptBlock {
			if err := c.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

// flush writes the block under way, if any. The checksum is of the copy in buf, so that it is right even if somebody
// writes to the allocation meanwhile.
func (c *ckptWriter) flush() error {
	if len(c.buf) == 0 {
		return nil
	}
	sum := binary.LittleEndian.AppendUint32(nil, blockSum(c.n, c.buf))
	c.all = crc32.Update(c.all, castagnoli, sum)
	c.n++
	step(pointFile)
	_, err := c.w.Write(append(c.buf, sum...))
	c.buf = c.buf[:0]
	return err
}

func trailer(head []byte, fileLen, blocks uint64, all uint32) []byte {
	b := make([]byte, ckptTrailerSz)
	le := binary.LittleEndian
	le.PutUint64(b[0:], ckptTail)
	le.PutUint64(b[8:], fileLen)
	le.PutUint64(b[16:], blocks)
	le.PutUint32(b[24:], all)
	le.PutUint32(b[28:], le.Uint32(head[ckptHdrSz-4:]))
	le.PutUint32(b[ckptTrailerSz-4:], crc32.Checksum(b[:ckptTrailerSz-4], castagnoli))
	return b
}

// ckptReader gives the body of a checkpoint, of which no byte comes out before its block's checksum was found right.
type ckptReader struct {
	r    io.ReaderAt
	info CheckptInfo
	head []byte
	off  uint64 // of the next block in the file
	body uint64 // bytes of the body that no block was read of
	n    uint64 // blocks read
	all  uint32 // checksum of the checksums
	buf  []byte
	rest []byte // of the last block, not yet given
}

// openCkpt reads the header of a checkpoint in the fileLen bytes of r.
func openCkpt(r io.ReaderAt, fileLen uint64) (*ckptReader, error) {
	head := make([]byte, min(ckptHdrSz, fileLen))
	if err := readAt(r, head, 0); err != nil {
		return nil, err
	}
	info, err := parseCkpt(head, fileLen)
	if err != nil {
		return nil, err
	}
	body := info.Allocs*ckptRowSz + info.Bytes
	return &ckptReader{r: r, info: info, head: head, off: ckptHdrSz, body: body, buf: make([]byte, min(ckptBlock, body)+4)}, nil
}

func readAt(r io.ReaderAt, b []byte, off uint64) error {
	n, err := r.ReadAt(b, int64(off))
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it ends at byte %d", ErrCheckpt, off+uint64(n))
	}
	return fmt.Errorf("wksp: reading the checkpoint: %w", err)
}

// next reads a block. io.EOF after the last one, and then the trailer is right too.
func (c *ckptReader) next() error {
	if c.body == 0 {
		return c.end()
	}
	k := min(ckptBlock, c.body)
	b := c.buf[:k+4]
	if err := readAt(c.r, b, c.off); err != nil {
		return err
	}
	if got, want := binary.LittleEndian.Uint32(b[k:]), blockSum(c.n, b[:k]); got != want {
		return fmt.Errorf("%w: block %d (%d bytes at %d): checksum %#08x, its bytes give %#08x", ErrCheckpt, c.n, k, c.off, got, want)
	}
	c.all = crc32.Update(c.all, castagnoli, b[k:])
	c.n++
	c.off += k + 4
	c.body -= k
	c.rest = b[:k]
	return nil
}

func (c *ckptReader) end() error {
	var b [ckptTrailerSz]byte
	if err := readAt(c.r, b[:], c.off); err != nil {
		return err
	}
	if want := trailer(c.head, c.info.FileLen, c.n, c.all); string(b[:]) != string(want) {
		return fmt.Errorf("%w: the trailer does not fit the %d blocks before it", ErrCheckpt, c.n)
	}
	return io.EOF
}

// some returns 1 to n verified bytes, valid until the next call. io.EOF at the body's end.
func (c *ckptReader) some(n uint64) ([]byte, error) {
	if len(c.rest) == 0 {
		if err := c.next(); err != nil {
			return nil, err
		}
	}
	k := min(n, uint64(len(c.rest)))
	b := c.rest[:k]
	c.rest = c.rest[k:]
	return b, nil
}

// rows reads the table and checks what each row says for itself and against the ones before.
func (c *ckptReader) rows() ([]ckptRow, error) {
	var rows []ckptRow // grows as the file gives: a header that lies cannot make it greater than the file
	names := map[words]bool{}
	lo, hi := dataOff(c.info.PartMax), c.info.Size
	at, sum := lo, uint64(0)
	var b [ckptRowSz]byte
	for i := range c.info.Allocs {
		for got := b[:0]; len(got) < ckptRowSz; {
			p, err := c.some(ckptRowSz - uint64(len(got)))
			if err != nil {
				return nil, midBody(err)
			}
			got = append(got, p...)
		}
		le := binary.LittleEndian
		r := ckptRow{lo: le.Uint64(b[0:]), size: le.Uint64(b[8:]), tag: le.Uint64(b[16:])}
		for j := range r.name {
			r.name[j] = le.Uint64(b[24+8*j:])
		}
		if r.tag == 0 || r.lo < at || r.lo%Granule != 0 || r.lo >= hi || r.size == 0 || r.size > hi-r.lo || r.hi() > hi {
			return nil, fmt.Errorf("%w: allocation %d: tag %#x, %d bytes at %#x after %#x in data [%#x,%#x)", ErrCheckpt, i, r.tag, r.size, r.lo, at, lo, hi)
		}
		if r.name != (words{}) {
			if _, ok := r.name.unpack(); !ok || names[r.name] {
				return nil, fmt.Errorf("%w: allocation %d: its name is none, or is there twice", ErrCheckpt, i)
			}
			names[r.name] = true
		}
		at = r.hi()
		sum += r.size
		rows = append(rows, r)
	}
	if sum != c.info.Bytes {
		return nil, fmt.Errorf("%w: its allocations have %d bytes, the header says %d", ErrCheckpt, sum, c.info.Bytes)
	}
	return rows, nil
}

// midBody turns an end of the body where more was due into what it is.
func midBody(err error) error {
	if err == io.EOF {
		return fmt.Errorf("%w: its body ends early", ErrCheckpt)
	}
	return err
}

// drain reads all that is left, trailer included.
func (c *ckptReader) drain() error {
	for {
		if _, err := c.some(ckptBlock); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
