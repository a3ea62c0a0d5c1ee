package httpsrv

import (
	"github.com/tilewire/tilewire/httpsrv/h1"
)

// Those who are refused at accept get an answer before they have said anything.
// Their request is on its way; were the socket closed at once, it would be met
// by a reset, which may take the answer along. So the last few sockets refused
// are kept for a moment, our side shut down. They have no slot and no state: who
// succeeds this tile lets them go.

const (
	refusedMax  = 32
	refusedKeep = 500e6 // ns
)

// refusals are the sockets last refused, oldest first, in a circle.
type refusals struct {
	fd   [refusedMax]int
	till [refusedMax]int64
	from int
	n    int
}

// refuseSocket answers status to somebody for whom there is no slot.
func (t *NetTile) refuseSocket(fd, status int) {
	var buf [512]byte
	r := h1.RespHead{Status: status, RetryAfter: 1, Date: t.today()}
	if b, ok := h1.AppendError(buf[:0], &r, false); ok {
		_, _ = sys.send(fd, b) // a fresh socket takes it whole
	}
	_ = sys.shutWr(fd)
	q := &t.refused
	if q.n == refusedMax {
		q.pop()
	}
	i := (q.from + q.n) % refusedMax
	q.fd[i], q.till[i] = fd, t.now+refusedKeep
	q.n++
}

// pop closes the oldest. What has come is read first, as far as that is little.
func (q *refusals) pop() {
	var waste [4096]byte
	_, _ = sys.recv(q.fd[q.from], waste[:])
	sys.close(q.fd[q.from])
	q.from = (q.from + 1) % refusedMax
	q.n--
}

// expire closes those whose time is up; all when now is 0.
func (q *refusals) expire(now int64) {
	for q.n > 0 && (now == 0 || q.till[q.from] <= now) {
		q.pop()
	}
}
