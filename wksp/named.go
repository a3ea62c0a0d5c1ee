package wksp

import (
	"cmp"
	"fmt"
	"slices"
)

// NewNamed is Alloc under a name: 1 to 40 of letters, digits and, after the first, '.', '_', '-', '/'. Name and memory
// appear together, by the store of the tag, and disappear together. Errors: ErrBadName, ErrExists (the name is
// taken), and Alloc's.
func (w *Wksp) NewNamed(name string, align, size, tag uint64) (Object, error) {
	k, err := packName(name)
	if err != nil {
		return Object{}, err
	}
	return w.alloc(request{align: align, size: size, tag: tag, name: k})
}

// Lookup returns the allocation of that name. Errors: ErrBadName, ErrNotFound, ErrLeft.
func (w *Wksp) Lookup(name string) (Object, error) {
	k, err := packName(name)
	if err != nil {
		return Object{}, err
	}
	if err := w.live(); err != nil {
		return Object{}, err
	}
	r, ok := w.find(
		func() (uint32, error) { return w.ceil(byName, k) },
		func(r row) bool { return r.name == k })
	if !ok {
		return Object{}, fmt.Errorf("%w: no object %s in workspace %s", ErrNotFound, name, w.name)
	}
	return w.object(r)
}

// Names returns the named allocations in order of their names; nil after Leave. Beside a mutator, the list is of
// no single instant.
func (w *Wksp) Names() []Object {
	list, _ := w.TagQuery()
	list = slices.DeleteFunc(list, func(o Object) bool { return o.Name == "" })
	slices.SortFunc(list, func(a, b Object) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
