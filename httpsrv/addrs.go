package httpsrv

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// addrs counts connections by the client's address: an IPv4 address, or an IPv6
// /64, which is what one customer is given. It is this process's own and rebuilt
// from the connections. Open addressing over a table that is never more than
// half full, so that a look is O(1); the hash is keyed, so that clients can't
// choose addresses that meet.
type addrs struct {
	tab  []addrCount
	mask uint64
	key  [2]uint64
}

type addrCount struct {
	addr [2]uint64
	n    uint32 // 0: free
}

// newAddrs makes the table of the connections in conns that count (fwCounted).
func newAddrs(conns []conn) addrs {
	size := uint64(1) << bits.Len64(2*uint64(len(conns))|15)
	a := addrs{tab: make([]addrCount, size), mask: size - 1, key: [2]uint64{rand.Uint64() | 1, rand.Uint64()}}
	for i := range conns {
		if c := &conns[i]; c.state != stFree && c.fwd&fwCounted != 0 {
			a.add(&c.peer)
		}
	}
	return a
}

// addrKey is what of an address counts; false for none (a unix socket).
func addrKey(peer *[16]byte) (k [2]uint64, ok bool) {
	k[0], k[1] = binary.BigEndian.Uint64(peer[:8]), binary.BigEndian.Uint64(peer[8:])
	if k[0] != 0 { // not ::ffff:a.b.c.d
		k[1] = 0
	}
	return k, k != [2]uint64{}
}

func (a *addrs) home(k [2]uint64) uint64 {
	hi, lo := bits.Mul64(k[0]^a.key[0], a.key[1]|1)
	hi, lo = bits.Mul64(hi^lo^k[1]^a.key[1], a.key[0])
	return (hi ^ lo) & a.mask
}

// find returns where k is, or the free place where it would be.
func (a *addrs) find(k [2]uint64) uint64 {
	i := a.home(k)
	for a.tab[i].n != 0 && a.tab[i].addr != k {
		i = (i + 1) & a.mask
	}
	return i
}

// count returns how many connections peer's address has.
func (a *addrs) count(peer *[16]byte) int {
	k, ok := addrKey(peer)
	if !ok {
		return 0
	}
	return int(a.tab[a.find(k)].n)
}

func (a *addrs) add(peer *[16]byte) {
	if k, ok := addrKey(peer); ok {
		e := &a.tab[a.find(k)]
		e.addr = k
		e.n++
	}
}

// remove takes one connection off. Entries behind a place that becomes free move
// up, so that none is cut off from its home.
func (a *addrs) remove(peer *[16]byte) {
	k, ok := addrKey(peer)
	if !ok {
		return
	}
	i := a.find(k)
	if a.tab[i].n == 0 {
		return
	}
	if a.tab[i].n--; a.tab[i].n > 0 {
		return
	}
	for j := (i + 1) & a.mask; a.tab[j].n != 0; j = (j + 1) & a.mask {
		if h := a.home(a.tab[j].addr); (j-h)&a.mask >= (j-i)&a.mask {
			a.tab[i], a.tab[j].n = a.tab[j], 0
			i = j
		}
	}
}
