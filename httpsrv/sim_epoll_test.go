//go:build explore

package httpsrv

import "golang.org/x/sys/unix"

// simEpoll is an epoll instance (fs/eventpoll.c): what is woken goes on the ready
// list, once; a wait asks each what its state is now, and forgets it, since all
// are edge-triggered.
type simEpoll struct {
	w     *simWorld
	tile  *simTile
	ready []*simItem
}

type simItem struct {
	ep    *simEpoll
	ev    unix.EpollEvent
	mask  func() uint32
	ready bool
	gone  bool
}

// wake puts the item on the ready list if it asked for one of the events; 0: any.
func (it *simItem) wake(key uint32) {
	if it.ready || it.gone || key != 0 && key&it.ev.Events == 0 {
		return
	}
	it.ready = true
	it.ep.ready = append(it.ep.ready, it)
}

// collect writes events, in any order and perhaps not all there are.
func (e *simEpoll) collect(ev []unix.EpollEvent) (n int) {
	r := e.ready
	if e.w.chance(0.3) {
		e.w.rnd.Shuffle(len(r), func(i, j int) { r[i], r[j] = r[j], r[i] })
	}
	keep := make([]*simItem, 0, len(r))
	for _, it := range r {
		switch {
		case it.gone:
		case n == len(ev) || n > 0 && !e.w.calm && e.w.chance(0.1):
			keep = append(keep, it)
		default:
			it.ready = false
			if m := it.mask() & (it.ev.Events | unix.EPOLLERR | unix.EPOLLHUP); m != 0 {
				ev[n] = it.ev
				ev[n].Events = m
				n++
			}
		}
	}
	e.ready = keep
	return n
}
