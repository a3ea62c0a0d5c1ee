package steer

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func layoutOf(v any) string {
	t := reflect.TypeOf(v)
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d:", t.Name(), t.Size())
	for i := range t.NumField() {
		if f := t.Field(i); f.Type.Size() > 0 && f.Name != "_" {
			fmt.Fprintf(&b, " %s@%d+%d", f.Name, f.Offset, f.Type.Size())
		}
	}
	return b.String()
}

// The layout is fixed: programs and processes of several builds may meet in it.
func TestLayout(t *testing.T) {
	for _, g := range []struct {
		v    any
		want string
	}{
		{head{}, "head 384: magic@0+8 version@8+4 tiles@12+4 seed@16+8 mode@128+4 passed@256+8 fellBack@264+8 empty@272+8 other@280+8"},
		{tileCell{}, "tileCell 384: live@0+8 load@128+8 bias@136+8 sent@256+8 selected@264+8 migrated@272+8"},
	} {
		if got := layoutOf(g.v); got != g.want {
			t.Errorf("layout changed: raise sharedVersion\n got %s\nwant %s", got, g.want)
		}
		if n := reflect.TypeOf(g.v).Size(); n != cellSize {
			t.Errorf("a cell of %d bytes", n)
		}
	}
}

// C and Go mean the same: the generated struct comes from the types in the object.
func TestLayoutInC(t *testing.T) {
	same := func(c, g reflect.Type) {
		t.Helper()
		if c.Size() != g.Size() {
			t.Errorf("%s has %d bytes in C, %d in Go", g.Name(), c.Size(), g.Size())
		}
		for i := range g.NumField() {
			f := g.Field(i)
			if f.Name == "_" {
				continue
			}
			in, ok := c.FieldByName(strings.ToUpper(f.Name[:1]) + f.Name[1:])
			if !ok || in.Offset != f.Offset || in.Type.Size() != f.Type.Size() {
				t.Errorf("%s.%s: in C %v %d+%d, in Go %d+%d", g.Name(), f.Name, ok, in.Offset, in.Type.Size(), f.Offset, f.Type.Size())
			}
		}
	}
	same(reflect.TypeFor[programHead](), reflect.TypeFor[head]())
	same(reflect.TypeFor[programTile](), reflect.TypeFor[tileCell]())
	same(reflect.TypeFor[programCell](), reflect.TypeFor[struct{ head }]())
}
