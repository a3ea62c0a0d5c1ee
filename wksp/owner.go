package wksp

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tilewire/tilewire/shmem"
)

// Op is what an owner is doing, or was doing when it died.
type Op uint8

const (
	OpNone Op = iota
	OpAlloc
	OpFree
	OpTagFree
	OpReset
	OpRebuild
	OpCheck
	OpVerify
	OpRestore
	OpCheckpt // never in the dirty word, like OpVerify: it changes nothing
)

// String returns the operation's name, "unknown" for anything else.
func (o Op) String() string {
	names := [...]string{"none", "alloc", "free", "tagfree", "reset", "rebuild", "check", "verify", "restore", "checkpt"}
	if int(o) < len(names) {
		return names[o]
	}
	return "unknown"
}

// Owner tells who mutates a workspace.
type Owner struct {
	Held  bool      // somebody holds the owner lock; exact, from the kernel
	Pid   int       // the holder's pid in its own namespace; with !Held: of the one that died holding it; 0 none or unknown
	Since time.Time // for people: since when
	Op    Op        // what is in progress; with !Held: what a dead owner left unfinished
	Row   uint32    // the row it is about, 0 several
}

const ownerOpShift = 32

// Owner tells who holds the owner lock and what is in progress or was left unfinished. Takes no lock.
func (w *Wksp) Owner() (Owner, error) {
	if err := w.live(); err != nil {
		return Owner{}, err
	}
	return owner(w.m, w.hdr), nil
}

func owner(m shmem.Mem, h *header) Owner {
	d := h.dirty.Load()
	o := Owner{Pid: m.Holder(lockOff), Op: Op(d), Row: uint32(d >> 32)}
	who := h.ownerPid.Load()
	if o.Held = o.Pid != 0; o.Held && o.Op == OpNone {
		o.Op = Op(who >> ownerOpShift)
	}
	if o.Pid <= 0 {
		o.Pid = int(who & (1<<31 - 1))
	}
	if ns := h.ownerSince.Load(); ns != 0 {
		o.Since = time.Unix(0, int64(ns))
	}
	return o
}

// busy says who holds the lock of the workspace in m, as far as the header tells.
func busy(m shmem.Mem) error {
	h, err := shmem.At[header](m, 0)
	if err != nil {
		return ErrBusy
	}
	o := owner(m, h)
	return fmt.Errorf("%w: held by pid %d since %s, in %s", ErrBusy, o.Pid, o.Since.Format(time.RFC3339Nano), o.Op)
}

// own runs fn as the owner. What a dead owner left is rebuilt first, unless op is about that itself. If fn meets a
// broken index, the workspace is rebuilt and fn runs once more; fn must be ready for that. A panic in fn drops
// the lock and leaves the dirty word, just as a death would.
func (w *Wksp) own(op Op, fn func() error) error {
	if w.m.ReadOnly() {
		return fmt.Errorf("%w: %s", ErrReadOnly, op)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.live(); err != nil {
		return err
	}
	lk, err := w.m.LockWait(lockOff, w.Patience)
	if err != nil {
		if errors.Is(err, shmem.ErrLocked) {
			return fmt.Errorf("%s: waited %v: %w", op, w.Patience, busy(w.m))
		}
		return fmt.Errorf("wksp: owner lock: %w", err)
	}
	defer lk.Unlock()
	if err := w.live(); err != nil { // deleted while we waited
		return err
	}
	put64(&w.hdr.ownerPid, uint64(os.Getpid())|uint64(op)<<ownerOpShift, pointOwner)
	put64(&w.hdr.ownerSince, uint64(time.Now().UnixNano()), pointOwner)
	err = w.ownLocked(op, fn)
	put64(&w.hdr.ownerSince, 0, pointOwner)
	put64(&w.hdr.ownerPid, 0, pointOwner)
	step(pointUnlock)
	return err
}

func (w *Wksp) ownLocked(op Op, fn func() error) error {
	mends := op == OpReset || op == OpRebuild || op == OpCheck || op == OpVerify || op == OpRestore
	if !mends && w.hdr.dirty.Load() != 0 {
		if err := w.rebuild(); err != nil {
			return err
		}
	}
	err := fn()
	if errors.Is(err, errIndex) && op != OpVerify {
		if err = w.rebuild(); err == nil {
			err = fn()
		}
	}
	if errors.Is(err, errIndex) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// begin announces a mutation: dirty first, then the count, so that a reader that finds dirty clear and the count
// unchanged around its search knows that nothing changed in between.
func (w *Wksp) begin(op Op, row uint32) {
	put64(&w.hdr.dirty, uint64(op)|uint64(row)<<32, pointDirty)
	put64(&w.hdr.seq, w.hdr.seq.Load()+1, pointDirty)
}

// end says that all is consistent again.
func (w *Wksp) end() { put64(&w.hdr.dirty, 0, pointDirty) }
