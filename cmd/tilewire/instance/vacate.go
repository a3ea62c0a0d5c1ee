package instance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tilewire/tilewire/shmem"
	"github.com/tilewire/tilewire/wksp"
)

// vacate removes what a crash left of an instance called name: nobody is joined to it, and it was not made to be run
// later. It may be of another build, as long as the workspace tells what it is. Whatever else has the name stays as it
// is. Errors: ErrForeign for what is no instance, ErrTaken for memory made by hand, both with the mend. What cannot be
// opened, is joined or another user's, shmem.Create finds.
func vacate(name string) error {
	reg, err := shmem.Open(name, shmem.ReadOnly)
	if err != nil {
		return nil
	}
	keep, err := kept(reg)
	if e := reg.Leave(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if keep {
		if js, err := shmem.Joiners(name); err == nil && len(js) == 0 {
			return fmt.Errorf("%w: memory of an instance called %q was made by hand; `tilewire run --name %s` runs it, "+
				"`tilewire server delete --name %s` removes it; or choose another --name", ErrTaken, name, name, name)
		}
		return nil
	}
	_, _ = shmem.Reap(name) // what stays of that name, shmem.Create finds
	return nil
}

// ofAnotherBuild reports whether what Join refused with err is an instance that a crash left, of another build.
func ofAnotherBuild(name string, err error) bool {
	if !errors.Is(err, ErrForeign) {
		return false
	}
	reg, err := shmem.Open(name, shmem.ReadOnly)
	if err != nil {
		return false
	}
	keep, err := kept(reg)
	return errors.Join(err, reg.Leave()) == nil && !keep
}

// kept reports whether the instance in reg was made to be run later, or with ErrForeign that it is none.
func kept(reg *shmem.Region) (bool, error) {
	name := reg.Name()
	foreign := func(what, remove string) error {
		return fmt.Errorf("%w: %s %s; remove it with `tilewire %s %s`, or choose another --name", ErrForeign, reg.Path(), what, remove, name)
	}
	w, err := wksp.Join(reg.Mem())
	switch {
	case errors.Is(err, wksp.ErrVersion), errors.Is(err, wksp.ErrLayout):
		return false, foreign("is a workspace of another build ("+err.Error()+")", "wksp delete")
	case err != nil:
		return false, foreign("holds no workspace ("+err.Error()+")", "shmem unlink")
	}
	defer w.Leave()
	obj, err := w.Lookup("instance")
	if err != nil || obj.Tag != tagInstance {
		return false, foreign("is a workspace for something else", "wksp delete")
	}
	var info Info
	b, _, _ := bytes.Cut(obj.Mem.Bytes(), []byte{0})
	if err := json.Unmarshal(b, &info); err != nil || info.Name != name {
		return false, foreign("does not tell which instance it is", "server delete --name")
	}
	if life, err := w.Lookup("life"); err == nil && life.Tag == tagLife {
		if l, err := lifeJoin(life.Mem); err == nil && l.Generation() != 0 {
			return false, nil // it was run, and crashed
		}
	}
	return info.Keep, nil
}
