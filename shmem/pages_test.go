package shmem

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// BenchmarkPages measures what larger pages buy, the figures of hugepage.md:
//
//	go test -run '^$' -bench Pages ./shmem
//
// on a region of TILEWIRE_BENCH_MIB MiB (1024 if unset), on each backing that can be had here. Huge pages that are
// short are reserved for the time of the benchmark, which needs root, and given back.
//
//	create   Create, with every page allocated, cleared and mapped, one byte of each 4 KiB written; Leave; Unlink
//	rejoin   what a restart does: Open, one byte of each 4 KiB read; Leave
//	read     one load of 8 bytes at a random place, each waiting for the one before
//	copy16K  16 KiB from a random place copied to the same buffer
func BenchmarkPages(b *testing.B) {
	size := uint64(1) << 30
	if mib, err := strconv.ParseUint(os.Getenv("TILEWIRE_BENCH_MIB"), 10, 30); err == nil && IsPow2(mib) && mib >= 2 {
		size = mib << 20
	}
	for _, c := range []struct {
		name    string
		o       Options
		fs      string
		data    string
		reserve uint64 // page size of the pool
	}{
		{"4K", Options{Backing: BackingShm, MaxPageSize: PageNormal}, "", "", 0},
		{"THP2M", Options{Backing: BackingShm, MaxPageSize: PageHuge, Strict: true}, "", "", 0},
		{"hugetlb2M", Options{Backing: BackingHugetlbfs, MaxPageSize: PageHuge, Strict: true}, "hugetlbfs", "pagesize=2M", PageHuge},
		{"hugetlb1G", Options{Backing: BackingHugetlbfs, MaxPageSize: PageGigantic, Strict: true}, "hugetlbfs", "pagesize=1G", PageGigantic},
	} {
		b.Run(c.name, func(b *testing.B) {
			if c.reserve > 0 {
				reserve(b, c.reserve, (size+c.reserve-1)/c.reserve)
				b.Setenv(EnvDirs, mountFS(b, c.fs, c.data))
			}
			b.Run("create", func(b *testing.B) { benchCreate(b, size, c.o) })
			r, err := Create(fresh(b), size, c.o)
			if err != nil {
				b.Skip(err)
			}
			defer Unlink(r.Name(), true)
			defer r.Leave()
			b.Run("rejoin", func(b *testing.B) { benchRejoin(b, r.Name()) })
			b.Run("read", func(b *testing.B) { benchRead(b, r.Mem().Bytes()[:size]) })
			b.Run("copy16K", func(b *testing.B) { benchCopy(b, r.Mem().Bytes()[:size]) })
		})
	}
}

func benchCreate(b *testing.B, size uint64, o Options) {
	name := fresh(b)
	for b.Loop() {
		r, err := Create(name, size, o)
		if err != nil {
			b.Skip(err)
		}
		m := r.Mem().Bytes()
		for i := uint64(0); i < size; i += PageNormal {
			m[i] = 1
		}
		r.Leave()
		Unlink(name, true)
	}
}

func benchRejoin(b *testing.B, name string) {
	sum := byte(0)
	for b.Loop() {
		r, err := Open(name, ReadWrite)
		if err != nil {
			b.Fatal(err)
		}
		for m, i := r.Mem().Bytes(), 0; i < len(m); i += int(PageNormal) {
			sum += m[i]
		}
		r.Leave()
	}
	touched.Store(uint32(sum))
}

func benchRead(b *testing.B, m []byte) {
	x, mask := uint64(88172645463325252), uint64(len(m)-1)&^7
	for b.Loop() {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		x += loadZero(m, x&mask) // all is zero; the processor cannot know
	}
	touched.Store(uint32(x))
}

func benchCopy(b *testing.B, m []byte) {
	const n = 16 << 10
	dst := make([]byte, n)
	b.SetBytes(n)
	for b.Loop() {
		off := rand.Uint64N(uint64(len(m)-n+1)) &^ 63
		copy(dst, m[off:off+n])
	}
	touched.Store(uint32(dst[0]))
}

func loadZero(m []byte, off uint64) uint64 { return binary.NativeEndian.Uint64(m[off:]) }
