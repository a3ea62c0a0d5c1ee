package httpsrv

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tilewire/tilewire/shmem"
)

func TestStatic(t *testing.T) {
	p := tinyParams() // 4,096 bytes for static bodies
	rigMems(t, mustFootprint(t, p), func(t *testing.T, m shmem.Mem) {
		if err := New(m, p); err != nil {
			t.Fatal(err)
		}
		a, err := Join(m)
		if err != nil {
			t.Fatal(err)
		}
		b, err := Join(m) // another process of the instance
		if err != nil {
			t.Fatal(err)
		}
		x, err := a.AddStatic("x", []byte("body"))
		if err != nil || x.Len() != 4 {
			t.Fatal(x, err)
		}
		if y, err := b.AddStatic("x", []byte("body")); err != nil || y != x {
			t.Error("the same again:", y, err)
		}
		for what, f := range map[string]func() (Static, error){
			"another body": func() (Static, error) { return b.AddStatic("x", []byte("bodY")) },
			"no name":      func() (Static, error) { return b.AddStatic("", []byte("b")) },
			"long name":    func() (Static, error) { return b.AddStatic(strings.Repeat("n", 49), []byte("b")) },
			"no body":      func() (Static, error) { return b.AddStatic("e", nil) },
			"too much":     func() (Static, error) { return b.AddStatic("big", make([]byte, 4096)) },
		} {
			if _, err := f(); !errors.Is(err, ErrStatic) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := a.AddStatic(strings.Repeat("n", 48), []byte("b")); err != nil {
			t.Error(err)
		}
		n := 2
		for ; err == nil; n++ {
			_, err = a.AddStatic(fmt.Sprint("s", n), []byte("s"))
		}
		if !errors.Is(err, ErrStatic) || n != staticMax+1 {
			t.Errorf("after %d: %v", n-1, err)
		}
		if err := New(m, p); err != nil { // formatted anew: all gone
			t.Fatal(err)
		}
		if _, err := a.AddStatic("x", make([]byte, 4096)); err != nil {
			t.Error(err)
		}
	})
}
