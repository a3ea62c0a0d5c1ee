package tile

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

// TestLayout is the golden table: whoever changes an offset changes the version.
func TestLayout(t *testing.T) {
	for _, c := range []struct {
		typ   reflect.Type
		size  uintptr
		field map[string]uintptr
	}{
		{reflect.TypeFor[header](), 24, map[string]uintptr{"magic": 0, "version": 8, "layout": 12, "size": 16}},
		{reflect.TypeFor[cncMem](), CncFootprint, map[string]uintptr{"header": 0, "kind": 24, "id": 40, "restarts": 44,
			"pid": 48, "cpu": 52, "start": 56, "signal": 64, "heartbeat": 128, "cause": 136}},
		{reflect.TypeFor[fseqMem](), FseqFootprint, map[string]uintptr{"seq0": 24, "seq": 32, "app": 40}},
		{reflect.TypeFor[bellMem](), BellFootprint, map[string]uintptr{"pathLen": 24, "path": 28, "sleeping": 256}},
		{reflect.TypeFor[countersMem](), countersNames, map[string]uintptr{"count": 24, "cells": 32, "names": 40}},
		{reflect.TypeFor[Cell](), 8, map[string]uintptr{"v": 0}},
	} {
		if c.typ.Size() != c.size {
			t.Errorf("%v: %d bytes, want %d", c.typ, c.typ.Size(), c.size)
		}
		for name, off := range c.field {
			if f, ok := c.typ.FieldByName(name); !ok || f.Offset != off {
				t.Errorf("%v.%s at %d, want %d", c.typ, name, f.Offset, off)
			}
		}
	}
	if layoutHash[struct{ a, b uint32 }]() == layoutHash[struct{ b, a uint32 }]() {
		t.Error("the layout hash does not see fields change places")
	}
}

// TestJoinNegative damages each object in each way that Join must find.
func TestJoinNegative(t *testing.T) {
	names := []string{"a_total", "b"}
	objects := map[string]struct {
		new  func(m shmem.Mem) error
		join func(m shmem.Mem) error
		del  func(m shmem.Mem) error
	}{
		"cnc": {func(m shmem.Mem) error { return CncNew(m, "net", 0) },
			func(m shmem.Mem) error { _, err := CncJoin(m); return err }, CncDelete},
		"fseq": {func(m shmem.Mem) error { return FseqNew(m, 7) },
			func(m shmem.Mem) error { _, err := FseqJoin(m); return err }, FseqDelete},
		"bell": {func(m shmem.Mem) error { return BellNew(m, "/nowhere/bell") },
			func(m shmem.Mem) error { _, err := BellJoin(m); return err }, BellDelete},
		"counters": {func(m shmem.Mem) error { return CountersNew(m, names) },
			func(m shmem.Mem) error { _, err := CountersJoin(m); return err }, CountersDelete},
	}
	for name, o := range objects {
		t.Run(name, func(t *testing.T) {
			overBoth(t, 1024, func(t *testing.T, m shmem.Mem) {
				check := func(what string, want error, err error) {
					t.Helper()
					if !errors.Is(err, want) {
						t.Errorf("%s: %v, want %v", what, err, want)
					}
				}
				check("join of zeroes", ErrMagic, o.join(m))
				check("new, misaligned", ErrAlign, o.new(slice(t, m, 64, 512)))
				check("new, short", ErrSize, o.new(slice(t, m, 0, 64)))
				check("new", nil, o.new(m))
				check("join", nil, o.join(m))
				check("join, misaligned", ErrAlign, o.join(slice(t, m, 64, 512)))
				check("join, short", ErrSize, o.join(slice(t, m, 0, 100)))
				damage := func(what string, off int, want error) {
					t.Helper()
					m.Bytes()[off] ^= 0x5a
					check(what, want, o.join(m))
					m.Bytes()[off] ^= 0x5a
				}
				damage("magic", 0, ErrMagic)
				damage("version", 8, ErrLayout)
				damage("layout", 12, ErrLayout)
				damage("size", 16, ErrSize)
				damage("size, huge", 23, ErrSize)
				check("join, mended", nil, o.join(m))
				check("delete", nil, o.del(m))
				check("join, deleted", ErrMagic, o.join(m))
				check("delete again", ErrMagic, o.del(m))
			})
		})
	}
}

func TestCncLife(t *testing.T) {
	overBoth(t, CncFootprint, func(t *testing.T, m shmem.Mem) {
		if err := CncNew(m, "net", 3); err != nil {
			t.Fatal(err)
		}
		c := must[*Cnc](t)(CncJoin(m))
		other := must[*Cnc](t)(CncJoin(m))
		if c.Name() != "net:3" || c.Signal() != SignalBoot || c.Held() || c.CPU() != Float || c.Heartbeat() != 0 {
			t.Fatalf("%s %v held %t cpu %d", c.Name(), c.Signal(), c.Held(), c.CPU())
		}
		if err := c.Raise(SignalUser); !errors.Is(err, ErrSignal) {
			t.Errorf("raise before run: %v", err)
		}
		role := must[*shmem.Lock](t)(c.Take())
		if !other.Held() || other.Pid() != os.Getpid() || other.Start() == 0 || other.Heartbeat() == 0 {
			t.Errorf("held %t pid %d", other.Held(), other.Pid())
		}
		_, err := other.Take()
		if !errors.Is(err, ErrHeld) {
			t.Errorf("second take: %v", err)
		}
		wantText(t, err, "net:3")
		if err := other.Reset(true); !errors.Is(err, ErrHeld) {
			t.Errorf("reset of a live tile: %v", err)
		}
		if err := CncNew(m, "net", 4); !errors.Is(err, ErrHeld) {
			t.Errorf("new over a live tile: %v", err)
		}
		if err := CncDelete(m); !errors.Is(err, ErrHeld) {
			t.Errorf("delete of a live tile: %v", err)
		}

		c.SetSignal(SignalRun)
		if err := other.Raise(SignalUser + 1); err != nil {
			t.Error(err)
		}
		if err := other.Raise(SignalUser); !errors.Is(err, ErrSignal) {
			t.Errorf("raise before ack: %v", err)
		}
		if !c.Ack(SignalUser+1) || c.Signal() != SignalRun {
			t.Errorf("after ack: %v", c.Signal())
		}
		other.Raise(SignalUser)
		other.Halt()
		if c.Ack(SignalUser) || c.Signal() != SignalHalt {
			t.Errorf("halt lost: %v", c.Signal())
		}
		if c.Cause() != "" {
			t.Errorf("cause without fail: %q", c.Cause())
		}
		long := strings.Repeat("no more. ", 30)
		c.Fail(errors.New(long))
		if other.Halt(); other.Signal() != SignalFail || other.Cause() != long[:120] {
			t.Errorf("%v %q", other.Signal(), other.Cause())
		}
		c.Fail(errors.New("short"))
		if other.Cause() != "short" {
			t.Errorf("cause %q", other.Cause())
		}
		role.Unlock()
		if other.Held() {
			t.Error("held after unlock")
		}

		// A halt asked before the start is kept; Reset is for who means to start.
		c.SetSignal(SignalHalt)
		must[*shmem.Lock](t)(c.Take()).Unlock()
		if c.Signal() != SignalHalt {
			t.Errorf("take dropped halt: %v", c.Signal())
		}
		if err := c.Reset(true); err != nil || c.Signal() != SignalBoot || c.Restarts() != 1 {
			t.Errorf("reset: %v %v %d", err, c.Signal(), c.Restarts())
		}
		if n := testing.AllocsPerRun(100, func() { c.Held(); c.Beat(1); c.Signal() }); n != 0 && !raceBuild {
			t.Errorf("%v allocations", n)
		}
		if got := c.Leave(); got.Len() != m.Len() {
			t.Error("leave gives other memory")
		}
	})
}

func TestKindAndSignalText(t *testing.T) {
	m := shmem.Heap(CncFootprint, 128)
	for _, kind := range []string{"", "seventeen-letters", "Net", "a b", "a\x00b", "ä"} {
		if err := CncNew(m, kind, 0); !errors.Is(err, ErrKind) {
			t.Errorf("kind %q: %v", kind, err)
		}
	}
	if err := CncNew(m, "net", -1); !errors.Is(err, ErrKind) {
		t.Error(err)
	}
	if err := CncNew(m, "sixteen-letters.", 1<<31-1); err != nil {
		t.Error(err)
	}
	for _, s := range []Signal{SignalBoot, SignalRun, SignalHalt, SignalFail, SignalUser, 77, 1<<32 - 1} {
		if got, err := ParseSignal(s.String()); err != nil || got != s {
			t.Errorf("%v: %v %v", s, got, err)
		}
	}
	if got, err := ParseSignal("5"); err != nil || got != 5 {
		t.Error(got, err)
	}
	for _, bad := range []string{"", "stop", "user-3", "user-", "-1", "4294967296", "HALT"} {
		if _, err := ParseSignal(bad); !errors.Is(err, ErrSignal) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
