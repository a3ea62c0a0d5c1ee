package instance

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/wksp"
)

// remake tries to make an instance called a.
func remake() error {
	in, err := Create(Info{Name: "a"}, params(), tiles, shmem.Options{})
	if err != nil {
		return err
	}
	return in.Remove()
}

// What is no instance is refused with the command that removes it, and stays to the byte; joined or not.
func TestVacateForeign(t *testing.T) {
	for _, c := range []struct {
		what, mend string
		init       func(m shmem.Mem) error
	}{
		{"plain", "`tilewire shmem unlink a`", nil},
		{"workspace", "`tilewire wksp delete a`", func(m shmem.Mem) error { return wksp.New(m, "a", 8, 1<<16, 1) }},
		{"workspace with such a name", "`tilewire wksp delete a`", func(m shmem.Mem) error { return named(m, tagInstance+1) }},
		{"instance of no name", "`tilewire server delete --name a`", func(m shmem.Mem) error { return named(m, tagInstance) }},
		{"workspace of another build", "`tilewire wksp delete a`", func(m shmem.Mem) error {
			if err := wksp.New(m, "a", 8, 1<<16, 1); err != nil {
				return err
			}
			m.Bytes()[8] ^= 0x80 // the version
			return nil
		}},
	} {
		shm, _ := dirs(t)
		reg, err := shmem.Create("a", 1<<18, shmem.Options{Init: c.init})
		if err != nil {
			t.Fatal(c.what, err)
		}
		was := bytes.Clone(reg.Mem().Bytes())
		for _, joined := range []bool{true, false} {
			if err := remake(); !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), c.mend) {
				t.Errorf("%s, joined %v: %v", c.what, joined, err)
			}
			if joined {
				if err := reg.Leave(); err != nil {
					t.Error(err)
				}
			}
		}
		if now, err := os.ReadFile(shm + "/tilewire.a"); err != nil || !bytes.Equal(now, was) {
			t.Errorf("%s: changed, or %v", c.what, err)
		}
	}
}

// named makes a workspace with an object called instance.
func named(m shmem.Mem, tag uint64) error {
	if err := wksp.New(m, "a", 8, 1<<16, 1); err != nil {
		return err
	}
	w, err := wksp.Join(m)
	if err != nil {
		return err
	}
	defer w.Leave()
	_, err = w.NewNamed("instance", 8, infoSz, tag)
	return err
}

// What a crash left is replaced, be its server of another build; memory made by hand is not.
func TestVacateInstance(t *testing.T) {
	dirs(t)
	in := create(t, "a")
	obj, err := in.Wksp.Lookup("server")
	if err != nil {
		t.Fatal(err)
	}
	clear(obj.Mem.Bytes()[:64])
	if err := in.Leave(); err != nil {
		t.Fatal(err)
	}
	if _, err := Join("a", shmem.ReadOnly); !errors.Is(err, ErrForeign) {
		t.Fatalf("Join of another build's: %v", err)
	}
	if all, err := All(); err != nil || len(all) != 1 || all[0].Name != "a" || all[0].State != "of another build" {
		t.Errorf("%+v, %v", all, err)
	}
	if err := remake(); err != nil {
		t.Errorf("over another build's: %v", err)
	}
	in = create(t, "a")
	if obj, err = in.Wksp.Lookup("server"); err != nil {
		t.Fatal(err)
	}
	clear(obj.Mem.Bytes()[:64])
	if names, err := Clean(); err != nil || len(names) != 0 {
		t.Errorf("while it is joined: %v, %v", names, err)
	}
	if err := in.Leave(); err != nil {
		t.Fatal(err)
	}
	if names, err := Clean(); err != nil || len(names) != 1 || names[0] != "a" {
		t.Errorf("%v, %v", names, err)
	}

	in, err = Create(Info{Name: "a", Keep: true}, params(), tiles, shmem.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := remake(); !errors.Is(err, ErrTaken) || strings.Contains(err.Error(), "server delete") {
		t.Errorf("over memory made by hand that is run: %v", err)
	}
	if err := in.Leave(); err != nil {
		t.Fatal(err)
	}
	if err := remake(); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "`tilewire server delete --name a`") {
		t.Errorf("over memory made by hand: %v", err)
	}
	if err := Delete("a", false); err != nil {
		t.Fatal(err)
	}
	if err := remake(); err != nil {
		t.Error(err)
	}
}

// When its memory was reaped, Delete still removes the run directory.
func TestDeleteReaped(t *testing.T) {
	_, run := dirs(t)
	in := create(t, "a")
	if err := syscall.Mkfifo(in.Bell(0), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := in.Leave(); err != nil {
		t.Fatal(err)
	}
	if _, err := shmem.Reap("a"); err != nil {
		t.Fatal(err)
	}
	if err := Delete("a", false); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(run + "/a"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("run directory: %v", err)
	}
	if err := Delete("a", false); !errors.Is(err, ErrNone) {
		t.Errorf("once more: %v", err)
	}
}
