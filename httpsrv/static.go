package httpsrv

import (
	"bytes"
	"fmt"
	"structs"
	"sync/atomic"

	"github.com/tilewire/tilewire/shmem"
)

// staticEntry describes a body that outlives every request. writer: AddStatic
type staticEntry struct {
	_    structs.HostLayout
	len  atomic.Uint64 // 0: free; written last
	off  uint64        // in the data behind the entries
	name [48]byte
}

const staticEntrySz = 64

// Static names a body registered in the server's memory.
type Static struct{ off, len uint64 }

// Len returns the body's bytes.
func (b Static) Len() int { return int(b.len) }

// AddStatic registers body under name (1 to 48 bytes) in the server's memory,
// for as long as the server lives, and returns it. The same body again under
// the same name is the same one: every process of an instance may register what
// it needs. ErrStatic: another body has the name, or there is no room.
func (s *Server) AddStatic(name string, body []byte) (Static, error) {
	if name == "" || len(name) > 48 || len(body) == 0 {
		return Static{}, fmt.Errorf("%w %q: name of %d bytes (1 to 48), body of %d", ErrStatic, name, len(name), len(body))
	}
	if s.mem.ReadOnly() {
		return Static{}, ErrReadOnly
	}
	lock, err := s.mem.LockWait(s.lay.static, staticLockWait)
	if err != nil {
		return Static{}, fmt.Errorf("%w %q: %w", ErrStatic, name, err)
	}
	defer lock.Unlock()
	es, err := shmem.SliceAt[staticEntry](s.mem, s.lay.static, staticMax)
	if err != nil {
		return Static{}, err
	}
	data := s.staticData()
	free := uint64(0)
	var key [48]byte
	copy(key[:], name)
	for i := range es {
		e := &es[i]
		n := e.len.Load()
		if n == 0 {
			if free+uint64(len(body)) > uint64(len(data)) {
				return Static{}, fmt.Errorf("%w %q: %d bytes into %d free ones (Params.StaticSz)", ErrStatic, name, len(body), uint64(len(data))-free)
			}
			copy(data[free:], body)
			e.off, e.name = free, key
			e.len.Store(uint64(len(body)))
			return Static{free, uint64(len(body))}, nil
		}
		if e.off+n > uint64(len(data)) || e.off+n < e.off {
			return Static{}, fmt.Errorf("%w: static entry %d", ErrCorrupt, i)
		}
		if e.name == key {
			if !bytes.Equal(data[e.off:e.off+n], body) {
				return Static{}, fmt.Errorf("%w %q: another body has this name", ErrStatic, name)
			}
			return Static{e.off, n}, nil
		}
		free = max(free, shmem.Align(e.off+n, 64))
	}
	return Static{}, fmt.Errorf("%w %q: all %d entries are taken", ErrStatic, name, staticMax)
}

const staticLockWait = 1e9 // ns; registering takes microseconds

func (s *Server) staticData() []byte {
	b := s.lay.static + staticMax*staticEntrySz
	return s.mem.Bytes()[b : b+s.params.StaticSz]
}
