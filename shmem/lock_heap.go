package shmem

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// heapTable is the lock space of heap-backed memory: a table of held bytes. Releasing an entry is what death does in
// the kernel's table, so tests play a holder's death by Unlock.
type heapTable struct {
	mu   sync.Mutex
	held map[uint64]struct{}
}

func newHeapSpace() *space { return &space{heap: &heapTable{held: map[uint64]struct{}{}}} }

func (t *heapTable) lock(off uint64, d time.Duration) (func() error, error) {
	ok, _ := poll(d, func() (bool, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if _, held := t.held[off]; held {
			return false, nil
		}
		t.held[off] = struct{}{}
		return true, nil
	})
	if !ok {
		return nil, fmt.Errorf("%w: byte %d is held in this process (pid %d)", ErrLocked, off, os.Getpid())
	}
	return func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.held, off)
		return nil
	}, nil
}

// holder returns this process's pid if the byte is held, else 0.
func (t *heapTable) holder(off uint64) int {
	t.mu.Lock()
	_, held := t.held[off]
	t.mu.Unlock()
	if held {
		return pid
	}
	return 0
}

var pid = os.Getpid()
