package feed

import "sync"

// queueCnt is how many messages may wait for a client: above the greatest window, so that nobody
// is dropped while credits are the rule.
const queueCnt = 256

// Hub is the usual fan-out of a Go server: a queue and a writing goroutine per client. A client whose queue is
// full is dropped.
type Hub[T any] struct {
	mu      sync.Mutex
	members map[*Member[T]]struct{}
}

// Member is one client of a Hub.
type Member[T any] struct {
	Queue chan T // closed when the hub has dropped the client, or it has left
}

// NewHub returns an empty hub.
func NewHub[T any]() *Hub[T] { return &Hub[T]{members: map[*Member[T]]struct{}{}} }

// Join adds a client.
func (h *Hub[T]) Join() *Member[T] {
	m := &Member[T]{Queue: make(chan T, queueCnt)}
	h.mu.Lock()
	h.members[m] = struct{}{}
	h.mu.Unlock()
	return m
}

// Leave takes a client out; idempotent.
func (h *Hub[T]) Leave(m *Member[T]) {
	h.mu.Lock()
	h.drop(m)
	h.mu.Unlock()
}

// Publish queues v for every client.
func (h *Hub[T]) Publish(v T) {
	h.mu.Lock()
	for m := range h.members {
		select {
		case m.Queue <- v:
		default:
			h.drop(m)
		}
	}
	h.mu.Unlock()
}

func (h *Hub[T]) drop(m *Member[T]) {
	if _, ok := h.members[m]; ok {
		delete(h.members, m)
		close(m.Queue)
	}
}
