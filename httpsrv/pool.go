package httpsrv

// pool hands out the buffers of one kind in a tile's memory. Which are held is
// written in the connections; the free list is this process's and is rebuilt
// from them.
type pool struct {
	mem  []byte
	size uint64
	free []uint32 // indices + 1, the last one is handed out next: its lines are warm
	cnt  uint32
}

func newPool(mem []byte, size uint64, cnt uint32) pool {
	p := pool{mem: mem, size: size, cnt: cnt, free: make([]uint32, 0, cnt)}
	for i := cnt; i > 0; i-- {
		p.free = append(p.free, i)
	}
	return p
}

// claim takes index + 1 i out of those that are free, before any is handed out.
// held has what was claimed so far. false: it is no buffer, or another's.
func (p *pool) claim(held map[uint32]bool, i uint32) bool {
	if i == 0 || i > p.cnt || held[i] {
		return i == 0
	}
	held[i] = true
	return true
}

// keep takes what is held out of the free list.
func (p *pool) keep(held map[uint32]bool) {
	free := p.free[:0]
	for _, i := range p.free {
		if !held[i] {
			free = append(free, i)
		}
	}
	p.free = free
}

// get returns a buffer's index + 1, or 0 when all are held.
func (p *pool) get() uint32 {
	n := len(p.free)
	if n == 0 {
		return 0
	}
	i := p.free[n-1]
	p.free = p.free[:n-1]
	return i
}

// put gives back *i, if it is one, and clears it.
func (p *pool) put(i *uint32) {
	if *i != 0 {
		p.free = append(p.free, *i)
		*i = 0
	}
}

// buf returns the buffer with index + 1 i.
func (p *pool) buf(i uint32) []byte {
	b := uint64(i-1) * p.size
	return p.mem[b : b+p.size : b+p.size]
}
