package httpsrv

import (
	"reflect"
	"testing"
)

// What lies in shared memory has these offsets; another process, built from
// other sources, may be looking at it.
func TestLayoutGolden(t *testing.T) {
	for _, g := range []struct {
		v    any
		size uintptr
		at   map[string]uintptr
	}{
		{ringHdr{}, ringHdrSz, map[string]uintptr{"role": 0, "head": 128, "limit": 256, "gap": 272, "pid": 384}},
		{pinLine{}, linePair, map[string]uintptr{"pin": 0, "seen": 16, "side": 24}},
		{desc{}, descSz, map[string]uintptr{"seq": 0, "off": 8, "end": 16, "time": 32, "dest": 40, "key": 48, "len": 56, "op": 60}},
		{conn{}, connSz, map[string]uintptr{"gen": 0, "fd": 4, "tx": 8, "done": 40, "txGen": 47, "pendHead": 52, "tag": 56, "rx": 64, "app": 188, "fwd": 191, "cursor": 208, "deadline": 256, "peer": 288}},
		{pending{}, pendingSz, map[string]uintptr{"next": 0, "off": 8, "start": 16, "after": 24, "len": 32}},
		{tileSlot{}, linePair, map[string]uintptr{"role": 0}},
		{appSlot{}, linePair, map[string]uintptr{"pid": 0, "runs": 8}},
		{evqHdr{}, evqHdr0, map[string]uintptr{"size": 0, "head": 128, "want": 136, "walked": 144, "last": 152, "tail": 256, "run": 264, "from": 272}},
		{event{}, evSz, map[string]uintptr{"pos": 0, "conn": 8, "end": 16, "tag": 24, "len": 32, "kind": 36, "op": 37, "reason": 38, "keep": 39}},
		{staticEntry{}, staticEntrySz, map[string]uintptr{"len": 0, "off": 8, "name": 16}},
		{closedHdr{}, closedHdrSz, map[string]uintptr{"head": 0}},
		{closedRec{}, closedSz, map[string]uintptr{"seq": 0, "id": 8, "at": 24, "peer": 64, "port": 80, "reason": 86}},
		{txPos{}, 16, nil},
		{rxPos{}, 56, nil},
	} {
		ty := reflect.TypeOf(g.v)
		if ty.Size() != g.size {
			t.Errorf("%s is %d bytes, want %d", ty.Name(), ty.Size(), g.size)
		}
		for name, want := range g.at {
			f, ok := ty.FieldByName(name)
			if !ok || f.Offset != want {
				t.Errorf("%s.%s at %d, want %d", ty.Name(), name, f.Offset, want)
			}
		}
	}
}
