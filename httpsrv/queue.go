package httpsrv

import "slices"

// queues hold connections in the order of their age: those that count against
// MaxConnectionCnt, and streams. A connection is in one of them. O(1) each; this
// process's own, rebuilt from the connections' times.
type queues struct {
	next, prev []uint32 // slot + 1, 0: none
	first      [queueCnt]uint32
	last       [queueCnt]uint32
}

const (
	queueHTTP = iota
	queueWs
	queueCnt
)

// newQueues makes the queues of the connections in conns.
func newQueues(conns []conn) queues {
	q := queues{next: make([]uint32, len(conns)), prev: make([]uint32, len(conns))}
	var slots []uint32
	for i := range conns {
		if conns[i].state != stFree {
			slots = append(slots, uint32(i))
		}
	}
	slices.SortFunc(slots, func(a, b uint32) int { return int(max(min(conns[a].opened-conns[b].opened, 1), -1)) })
	for _, s := range slots {
		q.push(conns[s].queue(), s)
	}
	return q
}

func (c *conn) queue() int {
	if c.flags&flStreams != 0 {
		return queueWs
	}
	return queueHTTP
}

// push makes slot the youngest.
func (q *queues) push(k int, slot uint32) {
	q.prev[slot], q.next[slot] = q.last[k], 0
	if l := q.last[k]; l != 0 {
		q.next[l-1] = slot + 1
	} else {
		q.first[k] = slot + 1
	}
	q.last[k] = slot + 1
}

func (q *queues) remove(k int, slot uint32) {
	n, p := q.next[slot], q.prev[slot]
	if p != 0 {
		q.next[p-1] = n
	} else {
		q.first[k] = n
	}
	if n != 0 {
		q.prev[n-1] = p
	} else {
		q.last[k] = p
	}
	q.next[slot], q.prev[slot] = 0, 0
}

// renew makes slot the youngest again.
func (q *queues) renew(k int, slot uint32) {
	q.remove(k, slot)
	q.push(k, slot)
}

// oldest returns the connection that has been there longest.
func (q *queues) oldest(k int) (slot uint32, ok bool) { return q.first[k] - 1, q.first[k] != 0 }
